"""From a crop of any size to what a graph takes; training and serving both call `to_square`."""

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sameitem.core.errors import InputError, ShapeError
from sameitem.core.records import Box, Pixels

SIDES_PX = (16, 1024)  # smallest and largest square that a graph may take


class Fit(StrEnum):
    """How a crop that is not square becomes one."""

    PAD = "pad"  # the whole crop, bars of the fill colour beside it
    STRETCH = "stretch"  # the whole crop, its proportions lost
    CROP = "crop"  # the middle square


class Layout(StrEnum):
    """The order of a graph's input: images, then channels first or last."""

    NCHW = "NCHW"
    NHWC = "NHWC"


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """What a graph expects: (RGB 0..255 - mean) / std of a square of `side_px`."""

    side_px: int
    fit: Fit
    fill: int  # grey level of the bars, 0..255
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    layout: Layout

    def __post_init__(self) -> None:
        if not SIDES_PX[0] <= self.side_px <= SIDES_PX[1]:
            raise InputError(f"need a side_px of {SIDES_PX[0]}-{SIDES_PX[1]}, got {self.side_px}", field="side_px")
        if not 0 <= self.fill <= 255:
            raise InputError(f"need a fill of 0-255, got {self.fill}", field="fill")
        if not np.isfinite(self.mean).all():
            raise InputError(f"need a mean of finite numbers, got {self.mean}", field="mean")
        if not (np.isfinite(self.std).all() and np.greater(self.std, 0).all()):
            raise InputError(f"need a std of positive numbers, got {self.std}", field="std")


def crop(pixels: Pixels, box: Box) -> Pixels:
    """Cut out a box, widened to whole pixels and clipped to the picture; a view, not a copy.

    Raises:
        InputError: nothing of the box lies inside the picture, or a side is not a finite number.
    """
    check_pixels(pixels)
    height, width = pixels.shape[:2]
    sides = (box.left, box.top, box.right, box.bottom)
    if not all(math.isfinite(side) for side in sides):
        raise InputError(f"need a box of finite numbers, got {sides}", field="box")
    left, top = max(0, math.floor(box.left)), max(0, math.floor(box.top))
    right, bottom = min(width, math.ceil(box.right)), min(height, math.ceil(box.bottom))
    if box.left >= box.right or box.top >= box.bottom or left >= right or top >= bottom:
        raise InputError(
            f"need a box (left, top, right, bottom) with some area inside the picture's {width} x {height} pixels, "
            f"got {sides}",
            field="box",
        )
    return pixels[top:bottom, left:right]


def check_pixels(pixels: Pixels) -> None:
    """Refuse what is not an RGB picture of at least one pixel.

    Raises:
        ShapeError: not (height, width, 3) of uint8, or empty.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise ShapeError(f"need (height, width, 3) uint8 RGB pixels, got {pixels.shape} {pixels.dtype}")


def square_pixels(pixels: Pixels, *, side_px: int, fit: Fit, fill: int) -> Pixels:
    """Turn a crop of any size and proportions into (side_px, side_px, 3) pixels.

    Raises:
        ShapeError: not an RGB picture.
    """
    check_pixels(pixels)
    height, width = pixels.shape[:2]
    if fit is Fit.CROP:
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        pixels, height, width = pixels[top : top + side, left : left + side], side, side
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    if fit is not Fit.PAD:
        return np.asarray(picture.resize((side_px, side_px), Image.Resampling.BILINEAR, reducing_gap=3.0))
    left, top, wide, high = padded_place(width, height, side_px=side_px)
    square = np.full((side_px, side_px, 3), fill, np.uint8)
    resized = picture.resize((wide, high), Image.Resampling.BILINEAR, reducing_gap=3.0)
    square[top : top + high, left : left + wide] = np.asarray(resized)
    return square


def padded_place(width: int, height: int, *, side_px: int) -> tuple[int, int, int, int]:
    """Return where a padded picture lies in its square: left, top, width and height in pixels of the square."""
    scale = side_px / max(height, width)
    wide, high = max(1, round(width * scale)), max(1, round(height * scale))
    return (side_px - wide) // 2, (side_px - high) // 2, wide, high


def to_square(pixels: Pixels, preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Turn a crop of any size into one graph input, without the batch axis.

    Returns:
        (3, side_px, side_px) or (side_px, side_px, 3), as the layout says.

    Raises:
        ShapeError: not an RGB picture.
    """
    square = square_pixels(pixels, side_px=preprocessing.side_px, fit=preprocessing.fit, fill=preprocessing.fill)
    values = square.astype(np.float32)
    values -= np.array(preprocessing.mean, np.float32)
    values /= np.array(preprocessing.std, np.float32)
    return np.ascontiguousarray(values.transpose(2, 0, 1)) if preprocessing.layout is Layout.NCHW else values
