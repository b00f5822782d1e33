"""The colour of a subject as 24 shares: a soft histogram over named colours, compared in CIE Lab."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sameitem.core.records import Pixels
from sameitem.features.preprocess import check_pixels

PALETTE = {  # sRGB; the order is that of the histogram's numbers
    "black": "101010", "dark grey": "484848", "grey": "808080", "light grey": "BEBEBE", "white": "FCFCFC",
    "dark red": "781420", "red": "D02028", "pink": "E8508C", "light pink": "F4BCC8",
    "brown": "6A4228", "orange": "EE7E1E", "tan": "B48C60", "beige": "E6D6B8",
    "yellow": "F4D22C", "olive": "787832", "dark green": "1E5032", "green": "3CA046", "light green": "B0DC96",
    "teal": "147880", "light blue": "A4D0EC", "blue": "2864C8", "navy": "1C2854",
    "purple": "783C96", "lilac": "C4AADC",
}  # fmt: skip
COLOURS = len(PALETTE)

_SIDE_PX = 48  # the picture is measured at this longest side
_SPREAD = 9.0  # Lab units over which a pixel counts for neighbouring colours too
_NEAR = 9.0  # Lab units within which a pixel looks like the backdrop
_EVEN_SHARE = 0.6  # of the border must look like its median for a backdrop to be there
_SUBJECT_SHARE = 0.02  # of the picture; a smaller rest is no subject
_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_WHITE = _TO_XYZ.sum(axis=1)  # D65


def to_lab(rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Turn (…, 3) sRGB bytes into CIE 1976 L*a*b* under D65: L 0..100, a and b about -110..110.

    Source: IEC 61966-2-1 (sRGB), CIE 15 (L*a*b*).
    """
    linear = _LINEAR[rgb]
    ratio = linear @ _TO_XYZ.T / _WHITE
    root = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = root[..., 0], root[..., 1], root[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def describe_colour(pixels: Pixels) -> NDArray[np.float32]:
    """Measure which colours the subject has; an even backdrop that touches the border does not count.

    Returns:
        (24,) shares >= 0 that sum to 1, in the order of `PALETTE`.

    Raises:
        ShapeError: not an RGB picture.
    """
    lab = _small(pixels)
    subject = lab[subject_mask(lab)]
    square = ((subject[:, None, :] - _PALETTE_LAB) ** 2).sum(axis=2)
    square -= square.min(axis=1, keepdims=True)  # the nearest colour counts however far it is
    share = np.exp(-square / (2 * _SPREAD**2))
    share /= share.sum(axis=1, keepdims=True)
    return np.asarray(share.mean(axis=0), np.float32)


def subject_mask(lab: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Mark the pixels that an even backdrop does not reach from the border; all of them where there is none.

    Args:
        lab: (height, width, 3) L*a*b*.
    """
    border, near = _like_the_border(lab)
    everything = np.ones_like(near)
    if near[border].mean() < _EVEN_SHARE:
        return everything
    backdrop, grown = np.zeros_like(near), border & near
    while not np.array_equal(grown, backdrop):
        backdrop, grown = grown, grown.copy()
        grown[1:] |= backdrop[:-1]
        grown[:-1] |= backdrop[1:]
        grown[:, 1:] |= backdrop[:, :-1]
        grown[:, :-1] |= backdrop[:, 1:]
        grown &= near
    return ~backdrop if (~backdrop).mean() >= _SUBJECT_SHARE else everything


def has_plain_backdrop(pixels: Pixels) -> bool:
    """Return whether most of a picture's border has one colour, as where shops photograph their products.

    Raises:
        ShapeError: not an RGB picture.
    """
    border, near = _like_the_border(_small(pixels))
    return bool(near[border].mean() >= _EVEN_SHARE)


def _small(pixels: Pixels) -> NDArray[np.float64]:
    """Return a picture's L*a*b* at the size it is measured at."""
    check_pixels(pixels)
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    scale = min(1.0, _SIDE_PX / max(picture.size))
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return to_lab(np.asarray(picture.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)))


def _like_the_border(lab: NDArray[np.float64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which pixels are the border, and which have its median colour."""
    border = np.zeros(lab.shape[:2], bool)
    border[[0, -1]] = border[:, [0, -1]] = True
    return border, np.linalg.norm(lab - np.median(lab[border], axis=0), axis=2) < _NEAR


def _srgb_to_linear(value: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


_LINEAR = _srgb_to_linear(np.arange(256) / 255)
_PALETTE_LAB = to_lab(np.array([list(bytes.fromhex(code)) for code in PALETTE.values()], np.uint8))
