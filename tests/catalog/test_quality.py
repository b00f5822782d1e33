import io
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont

from sameitem.catalog.quality import measure, perceptual_hash
from sameitem.core.errors import ShapeError
from sameitem.core.records import Pixels

WORDS = ["SALE", "free", "shipping", "best", "quality", "优质纯棉", "新款上市", "包邮", "size", "chart", "24 hours"]


def page(*, size: int, ink: str = "black", ground: str = "white", share: float = 1.0) -> Pixels:
    generator = np.random.default_rng(size)
    picture = Image.new("RGB", (384, 384), ground)
    draw = ImageDraw.Draw(picture)
    for top in range(4, int(384 * share) - size, int(size * 1.4)):
        draw.text((4, top), " ".join(generator.choice(WORDS, 14)), font=ImageFont.load_default(size), fill=ink)
    return np.asarray(picture)


def scene(seed: int, *, width: int = 384, height: int = 384) -> Pixels:
    """A busy photo: soft blobs and noise from edge to edge."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (9, 9, 3)).astype(np.uint8)
    picture = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    noise = generator.normal(0, 6, (height, width, 1))
    return np.clip(np.asarray(picture) + noise, 0, 255).astype(np.uint8)


def stripes(period: int) -> Pixels:
    row = (np.arange(384) // period % 2 * 200).astype(np.uint8)
    return np.broadcast_to(row[None, :, None], (384, 384, 3)).copy()


def checks(period: int) -> Pixels:
    cell = np.arange(384) // period
    board = ((cell[:, None] + cell[None, :]) % 2 * 200).astype(np.uint8)
    return np.repeat(board[..., None], 3, axis=2)


def dots(radius: int) -> Pixels:
    picture = Image.new("RGB", (384, 384), "white")
    draw = ImageDraw.Draw(picture)
    for x in range(radius, 384, 4 * radius):
        for y in range(radius, 384, 4 * radius):
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill="navy")
    return np.asarray(picture)


def lamp() -> Pixels:
    """A product in the middle of a white picture."""
    picture = Image.new("RGB", (384, 384), "white")
    draw = ImageDraw.Draw(picture)
    draw.polygon([(130, 60), (250, 60), (290, 180), (90, 180)], fill="goldenrod")
    draw.rectangle((183, 180, 197, 320), fill="dimgrey")
    draw.ellipse((130, 305, 250, 345), fill="dimgrey")
    return np.asarray(picture)


def side_by_side(*pictures: Pixels, gutter: int = 0) -> Pixels:
    white = np.full((len(pictures[0]), gutter, 3), 255, np.uint8)
    parts: list[NDArray[np.uint8]] = [pictures[0]]
    for picture in pictures[1:]:
        parts += [white, picture]
    return np.concatenate(parts, axis=1)


def test_brightness_contrast_and_sharpness_of_small_pictures_are_as_worked_out_by_hand() -> None:
    even = measure(np.full((10, 20, 3), 100, np.uint8))
    assert (even.sharpness, even.contrast) == (0.0, 0.0)
    assert even.brightness == pytest.approx(100, abs=0.001)
    halves = np.zeros((4, 4, 3), np.uint8)
    halves[:, 2:] = 200
    measured = measure(halves)
    assert measured.brightness == pytest.approx(100, abs=0.001)
    assert measured.contrast == pytest.approx(100, abs=0.001)
    assert measured.sharpness == pytest.approx(200**2, abs=1)  # the Laplacian is +200 and -200 in the 2 x 2 inside


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 255), st.integers(0, 9999))
def test_every_measure_of_any_picture_is_within_its_bounds(height: int, width: int, level: int, seed: int) -> None:
    noise = np.random.default_rng(seed).integers(0, level + 1, (height, width, 3)).astype(np.uint8)
    for pixels in (noise, np.kron(noise, np.ones((40, 40, 1), np.uint8))):
        measured = measure(pixels)
        assert all(np.isfinite(astuple(measured)))
        assert 0 <= measured.brightness <= 255.01
        assert 0 <= measured.contrast <= 127.6
        assert all(0 <= s <= 1 for s in (measured.text_share, measured.collage_share, measured.subject_share))
        assert 0 <= perceptual_hash(pixels) < 2**64


def test_blur_lowers_sharpness() -> None:
    sharp = Image.fromarray(lamp())
    soft = [measure(np.asarray(sharp.filter(ImageFilter.GaussianBlur(radius)))).sharpness for radius in (0, 1, 2, 4, 8)]
    assert soft == sorted(soft, reverse=True)
    assert soft[0] > 50 * soft[-1]


def test_the_subject_share_is_the_area_that_is_not_background() -> None:
    pixels = np.full((100, 200, 3), 240, np.uint8)
    pixels[20:70, 40:120] = (200, 30, 30)
    assert measure(pixels).subject_share == pytest.approx(0.2)


@pytest.mark.parametrize("size", [10, 14, 20, 28, 40])
def test_a_page_of_text_is_mostly_text(size: int) -> None:
    assert measure(page(size=size)).text_share > 0.8
    assert measure(page(size=size, ink="white", ground="darkred")).text_share > 0.8


def test_the_text_share_follows_the_area_of_the_banner() -> None:
    shares = [measure(page(size=16, share=share)).text_share for share in (0.0, 0.25, 0.5, 0.75)]
    assert shares == pytest.approx([0.0, 0.25, 0.5, 0.75], abs=0.12)


PLAIN = {
    "a lamp": lamp(),
    "a photo": scene(1),
    "noise": np.random.default_rng(2).integers(0, 256, (384, 384, 3)).astype(np.uint8),
    **{f"stripes of {period} px": stripes(period) for period in (3, 8, 30)},
    **{f"lying stripes of {period} px": stripes(period).transpose(1, 0, 2) for period in (3, 8, 30)},
    **{f"checks of {period} px": checks(period) for period in (4, 12, 40)},
    **{f"dots of {radius} px": dots(radius) for radius in (3, 8, 20)},
}


@pytest.mark.parametrize("name", PLAIN)
def test_a_product_or_a_pattern_is_neither_text_nor_a_collage(name: str) -> None:
    measured = measure(np.ascontiguousarray(PLAIN[name]))
    assert measured.text_share <= 0.25
    assert measured.collage_share <= 0.3


@pytest.mark.parametrize("gutter", [0, 12])
def test_four_photos_put_together_are_a_collage(gutter: int) -> None:
    side = 192 - gutter // 2
    photos = [scene(seed, width=side, height=side) for seed in range(3, 7)]
    rows = [side_by_side(*photos[:2], gutter=gutter), side_by_side(*photos[2:], gutter=gutter)]
    white = np.full((gutter, rows[0].shape[1], 3), 255, np.uint8)
    assert measure(np.concatenate([rows[0], white, rows[1]])).collage_share > 0.7


def test_two_photos_side_by_side_are_more_of_a_collage_than_one() -> None:
    pair = side_by_side(scene(3, width=180), scene(4, width=190))
    assert measure(pair).collage_share > 0.3 > measure(scene(3)).collage_share


def test_a_photo_padded_to_a_square_is_no_collage() -> None:
    white = np.full((384, 80, 3), 255, np.uint8)
    assert measure(np.concatenate([white, scene(5, width=224), white], axis=1)).collage_share == 0.0


def edits(pixels: Pixels) -> dict[str, Pixels]:
    picture = Image.fromarray(pixels)
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=40)
    return {
        "encoded again": np.asarray(Image.open(stream).convert("RGB")),
        "half the size": np.asarray(picture.resize((picture.width // 2, picture.height // 2))),
        "a third of the size": np.asarray(picture.resize((picture.width // 3, picture.height // 3))),
        "brighter": np.asarray(ImageEnhance.Brightness(picture).enhance(1.08)),
        "more contrast": np.asarray(ImageEnhance.Contrast(picture).enhance(1.1)),
    }


@pytest.mark.parametrize("pixels", [lamp(), scene(6), page(size=28)], ids=["lamp", "photo", "text"])
def test_the_hash_of_an_edited_picture_is_near(pixels: Pixels) -> None:
    own = perceptual_hash(pixels)
    assert {
        name: (own ^ perceptual_hash(edit)).bit_count() <= 6 for name, edit in edits(pixels).items()
    } == dict.fromkeys(edits(pixels), True)


def test_hashes_of_different_photos_are_far_apart() -> None:
    hashes = [perceptual_hash(scene(seed)) for seed in range(20)]
    distances = [(a ^ b).bit_count() for place, a in enumerate(hashes) for b in hashes[:place]]
    assert min(distances) > 12


def test_every_even_picture_has_the_hash_zero() -> None:
    assert {perceptual_hash(np.full((50, 70, 3), level, np.uint8)) for level in (0, 100, 255)} == {0}


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 4), (0, 4, 3)])
def test_what_is_not_an_rgb_picture_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"need \(height, width, 3\) uint8"):
        measure(np.zeros(shape, np.uint8))
