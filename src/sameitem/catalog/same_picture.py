"""Whether two files hold the same picture: laid on each other to a fraction of a pixel, then compared place by place.

Features and perceptual hashes of two variants of a product (another print, another blend on the label, another rug in
the same room) are often nearer to each other than those of two encodings of one photo. What tells them apart is that
one small region differs and everything else does not.
"""

from dataclasses import astuple, dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sameitem.core.records import Pixels

Grid = NDArray[np.float32]  # (side, side, 3) levels 0..255

SIDE: Final = 64  # px: what is compared
_COARSE: Final = 32  # px: where registration starts
_PLACE: Final = 8  # px: side of what a difference is averaged over, half overlapping
_FIRST_GLANCE: Final = 4  # px: pictures that differ by ...
_ANOTHER: Final = 48.0  # levels already at that size need not be laid on each other
_STEPS: Final = 5  # of Gauss-Newton at each resolution
_COLOUR: Final = (
    2.0  # weight of a difference in colour against one in light: encoders blur colours and leave them alone
)
_SCALE: Final = 0.15  # largest stretch, as a share of the side
_SHIFT: Final = 0.08  # largest shift, as a share of the side
_GAIN: Final = (0.75, 1.33)  # contrast
_LIGHTER: Final = 24.0  # levels, of a middle grey
_STRIDE: Final = np.array([0.05, 0.05, 0.05, 0.05, 0.2, 20.0])  # how far one step of registration may go
_FARTHEST: Final = np.array([0.3, 0.2, 0.3, 0.2, 2.0, 255.0])  # and all of them together


def reduce_picture(pixels: Pixels) -> Pixels:
    """Return what `difference` needs of a picture: (64, 64, 3), whatever its shape was."""
    return np.asarray(Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def difference(left: Pixels, right: Pixels) -> float:
    """Return how much two reduced pictures differ where they differ most: levels 0..255, averaged over a small place.

    A small shift, margin, crop, change of brightness or contrast is taken out first, as far as it did not turn colours
    into white or black. Infinity when more than that would be needed to lay one on the other.
    """
    one, other = left.astype(np.float32), right.astype(np.float32)
    if float(np.abs(_shrink(one - other, _FIRST_GLANCE)).max()) > _ANOTHER:
        return float("inf")
    view = _View(0.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    for side in (_COARSE, SIDE):
        fixed: Grid = _shrink(one @ _LUMA, side)
        moving: Grid = _shrink(other @ _LUMA, side)
        for _ in range(_STEPS):
            view = _improve(view, fixed, moving)
    if not view.is_slight():
        return float("inf")
    laid, inside = _lay(view, other)
    gap = np.clip(laid * np.float32(view.gain) + np.float32(view.offset), 0, 255) - one
    gap[~inside] = 0.0
    light = np.asarray(gap @ _LUMA, np.float32)
    colour = np.abs(_places(gap - light[..., None])).max(axis=2)  # signed: the noise of the encoder averages out
    amount = _places(np.abs(_shrink(light, SIDE // 2)).repeat(2, axis=0).repeat(2, axis=1)[..., None])[..., 0]
    seen = np.maximum(_places(inside[..., None].astype(np.float32))[..., 0], 0.25)
    return float((np.maximum(amount, _COLOUR * colour) / seen).max())


_LUMA: Final = np.array([0.299, 0.587, 0.114], np.float32)


def _places(values: Grid) -> Grid:
    """(places, places, channels): the mean over every place."""
    half = _PLACE // 2
    cells = _shrink(values, SIDE // half)
    return np.asarray((cells[1:, 1:] + cells[1:, :-1] + cells[:-1, 1:] + cells[:-1, :-1]) / 4, np.float32)


def _shrink(grid: Grid, side: int) -> Grid:
    factor = len(grid) // side
    shrunk: Grid = grid.reshape(side, factor, side, factor, *grid.shape[2:]).mean(axis=(1, 3))
    return shrunk


@dataclass(frozen=True, slots=True)
class _View:
    """Where a point of the one picture lies in the other, in shares of the side around the centre; and its light."""

    stretch_x: float
    shift_x: float
    stretch_y: float
    shift_y: float
    gain: float
    offset: float

    def is_slight(self) -> bool:
        stretched = max(abs(self.stretch_x), abs(self.stretch_y)) > _SCALE
        shifted = max(abs(self.shift_x), abs(self.shift_y)) > _SHIFT
        lighter = abs(self.gain * 128 + self.offset - 128) > _LIGHTER
        return not (stretched or shifted or lighter) and _GAIN[0] <= self.gain <= _GAIN[1]


def _centres(side: int) -> Grid:
    return ((np.arange(side, dtype=np.float32) + 0.5) / side - 0.5).astype(np.float32)


def _weights(side: int, stretch: float, shift: float) -> tuple[Grid, NDArray[np.bool_]]:
    """(side, side) linear interpolation at the places a view looks at, and which of them are inside the picture."""
    at = ((_centres(side) * (1 + stretch) + shift) + 0.5) * side - 0.5
    inside = (at >= 0) & (at <= side - 1)
    at = np.clip(at, 0, side - 1)
    low = np.minimum(at.astype(np.intp), side - 2)
    weights = np.zeros((side, side), np.float32)
    weights[np.arange(side), low] = 1 - (at - low)
    weights[np.arange(side), low + 1] = at - low
    return weights, inside


def _lay(view: _View, grid: Grid) -> tuple[Grid, NDArray[np.bool_]]:
    """Return the picture as the view sees it, and which pixels it really sees."""
    side = len(grid)
    across, inside_x = _weights(side, view.stretch_x, view.shift_x)
    down, inside_y = _weights(side, view.stretch_y, view.shift_y)
    channels = grid.reshape(side, side, -1).transpose(2, 0, 1)
    laid = (down @ channels @ across.T).transpose(1, 2, 0).reshape(grid.shape)
    return np.asarray(laid, np.float32), inside_y[:, None] & inside_x[None, :]


def _improve(view: _View, fixed: Grid, moving: Grid) -> _View:
    """One Gauss-Newton step on the squared difference of the lumas.

    Source: Lucas and Kanade 1981, for a separable affine motion and linear light.
    """
    side = len(fixed)
    laid, inside = _lay(view, moving)
    slope_y, slope_x = np.gradient(laid, 1.0 / side)
    x, y = _centres(side)[None, :], _centres(side)[:, None]
    columns = [slope_x * x, slope_x, slope_y * y, slope_y]
    jacobian = np.stack([view.gain * column for column in columns] + [laid, np.ones_like(laid)], axis=-1)[inside]
    residual = (fixed - view.gain * laid - view.offset)[inside]
    normal = jacobian.T @ jacobian
    step = np.linalg.solve(normal + np.diag(1e-4 * np.diag(normal) + 1e-3), jacobian.T @ residual)
    moved = np.clip(step, -_STRIDE, _STRIDE)
    return _View(*np.clip(np.array(astuple(view)) + moved, -_FARTHEST, _FARTHEST).tolist())
