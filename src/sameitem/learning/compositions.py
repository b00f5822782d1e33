"""User photos made of catalogue images: the item cut off its plain backdrop and set somewhere on a real photo.

The true box comes with each photo for measuring; no trainer is ever given it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter

from sameitem.core.records import Pixels
from sameitem.features.colour import subject_mask, to_lab

CUT_PX = 176  # longest side of a cut-out
_SHARES = (0.06, 0.8)  # of the picture that a subject covers; outside, the cut has failed
_SCALES = (0.3, 0.95)  # longest side of the item, as a share of the photo's
_CENTRED = 0.5  # share of photos whose item stands about in the middle, as people hold a camera
_BEND = 0.12  # how far a corner moves, as a share of the item's sides
_TURN = 25.0  # degrees
_PATCHES = 0.3  # share of photos that also get a patch of another background, so that seams mean nothing
_COVERED = 0.2  # share of photos whose item is partly covered


@dataclass(frozen=True, slots=True)
class Composition:
    """A made photo and where its subject is."""

    photo: Pixels  # (side_px, side_px, 3)
    box: tuple[float, float, float, float]  # left, top, right, bottom as shares of the side


def cut_out(pixels: Pixels) -> NDArray[np.uint8] | None:
    """Cut the subject off an even backdrop.

    Returns:
        (height, width, 4) RGBA, tight around the subject, longest side at most 176 px; None where there is no even
        backdrop, or the rest is too small or too large to be a subject.
    """
    picture = Image.fromarray(pixels)
    picture.thumbnail((CUT_PX, CUT_PX), Image.Resampling.BILINEAR)
    small = np.asarray(picture)
    mask = subject_mask(to_lab(small))
    if not _SHARES[0] <= mask.mean() <= _SHARES[1]:
        return None
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    eroded = Image.fromarray(mask[window].astype(np.uint8) * 255).filter(ImageFilter.MinFilter(3))
    return np.dstack([small[window], np.asarray(eroded)])


def compose(
    item: NDArray[np.uint8], background: Pixels, other: Pixels, generator: np.random.Generator, *, side_px: int
) -> Composition | None:
    """Set a cut-out on a background: perspective, turn, scale, place, light, seams, now and then something in front.

    Args:
        item: what `cut_out` returned.
        background: a real photo.
        other: another one, of which patches are taken.
        generator: of this photo alone.
        side_px: of the square photo.

    Returns:
        None where too little of the item is left.
    """
    scene = _square_part(background, generator, side_px)
    if generator.random() < _PATCHES:
        _set_patch(scene, other, generator)
    subject = _moved(Image.fromarray(item, "RGBA"), generator, side_px)
    box = subject.getchannel("A").point(_opaque).getbbox()
    if box is None:
        return None
    subject = subject.crop(box)
    left, top = _place(subject.size, generator, side_px)
    alpha = subject.getchannel("A")
    if generator.random() < 0.7:
        alpha = alpha.filter(ImageFilter.GaussianBlur(generator.uniform(0.3, 1.0)))
    colours = _towards(np.asarray(subject.convert("RGB")), scene, (left, top), generator)
    scene.paste(Image.fromarray(colours), (left, top), alpha)
    if generator.random() < _COVERED:
        _cover(scene, other, (left, top, *subject.size), generator)
    photo = np.asarray(_relight(scene, generator))
    sides = (left, top, left + subject.width, top + subject.height)
    return Composition(photo, (sides[0] / side_px, sides[1] / side_px, sides[2] / side_px, sides[3] / side_px))


def _place(size: tuple[int, int], generator: np.random.Generator, side_px: int) -> tuple[int, int]:
    """Return left and top of an item: anywhere, or about in the middle."""
    if generator.random() >= _CENTRED:
        return int(generator.integers(0, side_px - size[0] + 1)), int(generator.integers(0, side_px - size[1] + 1))
    off = generator.normal(0, 0.08 * side_px, 2)
    left, top = ((side_px - side) / 2 + move for side, move in zip(size, off, strict=True))
    return int(np.clip(left, 0, side_px - size[0])), int(np.clip(top, 0, side_px - size[1]))


def _opaque(alpha: int) -> int:
    return 255 if alpha > 127 else 0


def _square_part(pixels: Pixels, generator: np.random.Generator, side_px: int) -> Image.Image:
    height, width = pixels.shape[:2]
    side = max(1, int(min(height, width) * generator.uniform(0.45, 1)))
    left, top = int(generator.integers(0, width - side + 1)), int(generator.integers(0, height - side + 1))
    part = Image.fromarray(pixels[top : top + side, left : left + side]).resize((side_px, side_px))
    return part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if generator.random() < 0.5 else part


def _moved(item: Image.Image, generator: np.random.Generator, side_px: int) -> Image.Image:
    """Return the item seen from another side, at its size in the photo."""
    if generator.random() < 0.5:
        item = item.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    width, height = item.size
    bend = generator.uniform(-_BEND, _BEND, (4, 2)) * (width, height)
    corners = np.array([(0, 0), (0, height), (width, height), (width, 0)]) + bend
    item = item.transform(item.size, Image.Transform.QUAD, tuple(corners.ravel().tolist()), Image.Resampling.BILINEAR)
    if generator.random() < 0.7:
        item = item.rotate(generator.uniform(-_TURN, _TURN), Image.Resampling.BILINEAR, expand=True)
    scale = generator.uniform(*_SCALES) * side_px / max(item.size)
    stretch = generator.uniform(0.85, 1.0, 2)
    size = tuple(max(4, int(side * scale * part)) for side, part in zip(item.size, stretch, strict=True))
    return item.resize((size[0], size[1]), Image.Resampling.BILINEAR, reducing_gap=2.0)


def _towards(
    colours: NDArray[np.uint8], scene: Image.Image, place: tuple[int, int], generator: np.random.Generator
) -> NDArray[np.uint8]:
    """Shift the item's light part of the way to that of the place where it will stand."""
    height, width = colours.shape[:2]
    around = np.asarray(scene.crop((place[0], place[1], place[0] + width, place[1] + height)), np.float32)
    shift = (around.mean((0, 1)) - colours.mean((0, 1))) * generator.uniform(0, 0.35)
    shifted = (colours + shift) * generator.uniform(0.75, 1.1)
    return np.asarray(shifted.clip(0, 255), np.uint8)


def _set_patch(scene: Image.Image, other: Pixels, generator: np.random.Generator) -> None:
    """Paste a turned piece of another background with soft seams."""
    side = scene.width
    size = tuple(int(side * generator.uniform(0.2, 0.6)) for _ in range(2))
    patch = _square_part(other, generator, max(size)).resize((size[0], size[1])).convert("RGBA")
    patch = patch.rotate(generator.uniform(-_TURN, _TURN), Image.Resampling.BILINEAR, expand=True)
    left, top = (int(generator.integers(-side // 4, side - side // 8)) for _ in range(2))
    scene.paste(patch.convert("RGB"), (left, top), patch.getchannel("A").filter(ImageFilter.GaussianBlur(0.6)))


def _cover(scene: Image.Image, other: Pixels, place: tuple[int, int, int, int], generator: np.random.Generator) -> None:
    """Put a small piece of something else over the item."""
    left, top, width, height = place
    size = (max(2, int(width * generator.uniform(0.2, 0.45))), max(2, int(height * generator.uniform(0.2, 0.45))))
    piece = _square_part(other, generator, max(size)).resize(size)
    scene.paste(piece, (int(left + generator.uniform(0, 0.9) * width), int(top + generator.uniform(0, 0.9) * height)))


def _relight(picture: Image.Image, generator: np.random.Generator) -> Image.Image:
    picture = ImageEnhance.Brightness(picture).enhance(generator.uniform(0.65, 1.3))
    picture = ImageEnhance.Color(picture).enhance(generator.uniform(0.7, 1.3))
    picture = ImageEnhance.Contrast(picture).enhance(generator.uniform(0.75, 1.25))
    if generator.random() < 0.35:
        picture = picture.filter(ImageFilter.GaussianBlur(generator.uniform(0.3, 1.0)))
    return picture
