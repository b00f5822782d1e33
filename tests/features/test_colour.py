import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.strategies import integers, sampled_from
from numpy.typing import NDArray
from PIL import Image

from sameitem.core.errors import ShapeError
from sameitem.features.colour import COLOURS, PALETTE, describe_colour, to_lab

NAMES = list(PALETTE)


def item_on(backdrop: tuple[int, int, int], item: tuple[int, int, int], *, side: int = 120) -> NDArray[np.uint8]:
    pixels = np.empty((side, side, 3), np.uint8)
    pixels[:] = backdrop
    pixels[side // 3 : 2 * side // 3, side // 3 : 2 * side // 3] = item
    return pixels


def rgb(name: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(PALETTE[name])
    return red, green, blue


@pytest.mark.parametrize(
    ("colour", "expected"),
    [
        ((255, 255, 255), (100.0, 0.0, 0.0)),
        ((0, 0, 0), (0.0, 0.0, 0.0)),
        ((255, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 255, 0), (87.73, -86.18, 83.18)),
        ((0, 0, 255), (32.30, 79.19, -107.86)),
        ((119, 119, 119), (50.03, 0.0, 0.0)),
    ],
)
def test_lab_agrees_with_published_values(colour: tuple[int, int, int], expected: tuple[float, float, float]) -> None:
    assert to_lab(np.array([colour], np.uint8))[0] == pytest.approx(expected, abs=0.02)


@settings(deadline=None)
@given(seed=integers(0, 999), width=integers(1, 90), height=integers(1, 90))
def test_shares_are_not_negative_and_sum_to_one(seed: int, width: int, height: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    shares = describe_colour(pixels)
    assert shares.shape == (COLOURS,) == (24,)
    assert shares.dtype == np.float32
    assert (shares >= 0).all()
    assert shares.sum() == pytest.approx(1, abs=1e-5)


@given(name=sampled_from(NAMES))
def test_a_picture_of_one_palette_colour_is_mostly_that_colour(name: str) -> None:
    pixels = np.empty((40, 40, 3), np.uint8)
    pixels[:] = rgb(name)
    assert NAMES[int(describe_colour(pixels).argmax())] == name


@given(item=sampled_from(NAMES), backdrop=sampled_from(["white", "light grey", "black"]))
def test_an_even_backdrop_does_not_count(item: str, backdrop: str) -> None:
    shares = describe_colour(item_on(rgb(backdrop), rgb(item)))
    assert NAMES[int(shares.argmax())] == item


def test_a_white_item_whose_outline_shows_stays_white_on_a_white_backdrop() -> None:
    pixels = item_on((252, 252, 252), (150, 150, 150))
    pixels[44:76, 44:76] = 252
    shares = dict(zip(NAMES, describe_colour(pixels), strict=True))
    assert shares["white"] > 0.5


def test_the_same_item_on_two_backdrops_is_nearer_than_another_item() -> None:
    red_white, red_grey, blue_white = (
        describe_colour(item_on(backdrop, item))
        for backdrop, item in [
            ((255, 255, 255), (200, 30, 40)),
            ((190, 190, 190), (200, 30, 40)),
            ((255, 255, 255), (40, 90, 200)),
        ]
    )
    assert np.abs(red_white - red_grey).sum() < 0.3 < np.abs(red_white - blue_white).sum()


def test_size_and_compression_hardly_change_the_shares() -> None:
    rng = np.random.default_rng(5)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    large = np.asarray(coarse.resize((384, 384), Image.Resampling.BICUBIC))
    small = np.asarray(Image.fromarray(large).resize((150, 150), Image.Resampling.BILINEAR))
    assert np.abs(describe_colour(large) - describe_colour(small)).sum() < 0.1


def test_what_is_no_rgb_picture_is_refused() -> None:
    with pytest.raises(ShapeError, match="height, width, 3"):
        describe_colour(np.zeros((5, 5), np.uint8))


@pytest.mark.slow
def test_a_thumbnail_takes_less_than_three_milliseconds() -> None:
    pixels = item_on((255, 255, 255), (200, 30, 40), side=384)
    times = []
    for _ in range(30):
        started = time.process_time()
        describe_colour(pixels)
        times.append(time.process_time() - started)
    assert min(times) < 0.003
