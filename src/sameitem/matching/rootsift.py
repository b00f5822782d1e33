"""Local features of a picture: corners and blobs with their place, scale, angle and a description of what is around.

Source: D. Lowe, Distinctive image features from scale-invariant keypoints (IJCV 2004): sections 3 (extrema), 4
(refinement), 5 (orientation), 6 (descriptor). R. Arandjelovic and A. Zisserman, Three things everyone should know to
improve object retrieval (CVPR 2012): the square root of the descriptor.
"""

import itertools
import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sameitem.core.errors import InputError, ShapeError
from sameitem.core.records import Pixels

Floats = NDArray[np.float32]
Ints = NDArray[np.intp]

DIM: Final = 128

_SCALES: Final = 3  # at which extrema are sought in an octave
_SIGMA: Final = 1.6  # blur of an octave's first picture, in its pixels
_CAMERA_SIGMA: Final = 0.5  # blur that a picture is taken to have
_ENLARGE: Final = 2.0  # at most
_MIN_SIDE: Final = 12  # px: shortest side of an octave
_CONTRAST: Final = 0.04 / _SCALES  # of an extremum, for light 0..1
_EDGE: Final = 10.0  # ratio of the principal curvatures, at most
_STEPS: Final = 5  # of refinement
_NEAR: Final = 0.7  # px: a step that ends it; two pixels may each place what lies between them beyond the half
_ANGLES: Final = 36  # bins of the orientation histogram
_PEAK: Final = 0.8  # share of the highest peak from which another is an orientation too
_SAMPLES: Final = 16  # by 16 gradients describe a keypoint
_CELLS: Final = 4  # by 4 histograms
_DIRECTIONS: Final = 8  # bins of each histogram
_SPACING: Final = 3.0 * _CELLS / _SAMPLES  # of the gradients, in scales: a cell is 3 scales wide
_ORIENTATION_SIGMA: Final = 1.5  # of the window, in scales
_CLIP: Final = 0.2  # largest entry of a descriptor of unit length

_LUMA: Final = np.array([0.299, 0.587, 0.114], np.float32) / np.float32(255)


@dataclass(frozen=True, slots=True)
class LocalFeatures:
    """The keypoints of a picture and their descriptors; row i of both belongs together."""

    keypoints: Floats  # (n, 4): x, y, scale in pixels (centre of the first pixel = 0, 0), angle in radians from x to y
    descriptors: Floats  # (n, 128): not negative, unit length

    def __post_init__(self) -> None:
        if self.keypoints.shape != (len(self.keypoints), 4) or self.descriptors.shape != (len(self.keypoints), DIM):
            raise ShapeError(
                f"need keypoints (n, 4) and descriptors (n, {DIM}) with one n, "
                f"got {self.keypoints.shape} and {self.descriptors.shape}"
            )


def detect(pixels: Pixels, *, max_keypoints: int = 1000, side_px: int = 480) -> LocalFeatures:
    """Return the local features of a picture, those of highest contrast where there are more than asked for.

    Args:
        pixels: the picture; without a texture of some ten pixels it has no features.
        max_keypoints: most features returned.
        side_px: longest side at which it is looked at; a smaller picture is enlarged, at most twice.

    Returns:
        Features ordered by x, y, scale and angle; coordinates are pixels of the picture given.

    Raises:
        ShapeError: not a uint8 picture of three channels.
        InputError: a limit that no picture can meet.

    Source: Lowe 2004; Arandjelovic and Zisserman 2012.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise ShapeError(f"need uint8 pixels (height, width, 3), got {pixels.dtype} {pixels.shape}")
    if max_keypoints < 1:
        raise InputError(f"max_keypoints is {max_keypoints}; give 1 or more", field="max_keypoints")
    if side_px < _MIN_SIDE:
        raise InputError(f"side_px is {side_px}; give {_MIN_SIDE} or more", field="side_px")
    light, zoom = _resized_light(pixels, side_px)
    octaves = _octaves(light, max(_CAMERA_SIGMA, _CAMERA_SIGMA * min(zoom)))
    if not octaves:
        return LocalFeatures(np.empty((0, 4), np.float32), np.empty((0, DIM), np.float32))
    pyramid, points = _Pyramid.of(octaves), _extrema(octaves, max_keypoints)
    oriented = _orient(pyramid, points).best(max_keypoints)
    descriptors = _describe(pyramid, oriented)
    factor = 2.0**oriented.octave
    keypoints = np.stack(
        [
            (oriented.x * factor + 0.5) / zoom[0] - 0.5,
            (oriented.y * factor + 0.5) / zoom[1] - 0.5,
            oriented.scale * factor / math.sqrt(zoom[0] * zoom[1]),
            oriented.angle,
        ],
        1,
    ).astype(np.float32)
    order = np.lexsort(keypoints.T[::-1])
    return LocalFeatures(keypoints[order], descriptors[order])


@dataclass(frozen=True, slots=True)
class _Points:
    """Keypoints in the pixels of their octave."""

    octave: Ints
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    layer: NDArray[np.float64]  # of the octave's pictures, 0 .. _SCALES + 2
    contrast: NDArray[np.float64]
    angle: NDArray[np.float64]

    @property
    def scale(self) -> NDArray[np.float64]:
        return np.asarray(_SIGMA * 2.0 ** (self.layer / _SCALES))

    def take(self, rows: Ints) -> "_Points":
        return _Points(
            self.octave[rows],
            self.x[rows],
            self.y[rows],
            self.layer[rows],
            self.contrast[rows],
            self.angle[rows],
        )

    def best(self, count: int) -> "_Points":
        return self.take(np.lexsort((self.angle, self.layer, self.x, self.y, self.octave, -self.contrast))[:count])


@dataclass(frozen=True, slots=True)
class _Pyramid:
    """Every blurred picture of every octave in one row, so that points of all of them are sampled at once."""

    values: Floats
    offset: Ints  # per octave, of its first picture
    height: Ints
    width: Ints

    @classmethod
    def of(cls, octaves: list[Floats]) -> "_Pyramid":
        sizes = np.array([octave.size for octave in octaves])
        height, width = (np.array([octave.shape[axis] for octave in octaves]) for axis in (1, 2))
        return cls(np.concatenate([octave.ravel() for octave in octaves]), np.cumsum(sizes) - sizes, height, width)

    def gradients(self, points: _Points) -> tuple[Floats, Floats]:
        """Return length and direction of the gradients around points: two (n, 16, 16), each in its point's frame."""
        reach = np.arange(_SAMPLES + 2) - (_SAMPLES + 1) / 2
        step = (_SPACING * points.scale)[:, None, None]
        cos, sin = np.cos(points.angle)[:, None, None] * step, np.sin(points.angle)[:, None, None] * step
        right, down = reach[None, None, :], reach[None, :, None]
        height, width = (side[points.octave][:, None, None] for side in (self.height, self.width))
        x = np.clip(points.x[:, None, None] + cos * right - sin * down, 0, width - 1.001).astype(np.float32)
        y = np.clip(points.y[:, None, None] + sin * right + cos * down, 0, height - 1.001).astype(np.float32)
        column, row = x.astype(np.intp), y.astype(np.intp)
        x -= column
        y -= row
        layer = np.clip(np.rint(points.layer), 0, _SCALES + 2).astype(np.intp)[:, None, None]
        at = self.offset[points.octave][:, None, None] + (layer * height + row) * width + column
        above = self.values[at] * (1 - x) + self.values[at + 1] * x
        at += width
        below = self.values[at] * (1 - x) + self.values[at + 1] * x
        patch = above * (1 - y) + below * y
        along = patch[:, 1:-1, 2:] - patch[:, 1:-1, :-2]
        across = patch[:, 2:, 1:-1] - patch[:, :-2, 1:-1]
        return np.hypot(along, across), np.arctan2(across, along)


def _resized_light(pixels: Pixels, side_px: int) -> tuple[Floats, tuple[float, float]]:
    height, width = pixels.shape[:2]
    factor = min(side_px / max(height, width), _ENLARGE)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    image = Image.fromarray(pixels)
    if size != image.size:
        image = image.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)
    return np.asarray(image, np.float32) @ _LUMA, (size[0] / width, size[1] / height)


def _octaves(light: Floats, sigma: float) -> list[Floats]:
    """Return per octave its pictures, (scales + 3, height, width), each blurred more than the one before."""
    octaves: list[Floats] = []
    first = _blur(light, math.sqrt(max(_SIGMA**2 - sigma**2, 0.01)))
    sigmas = [_SIGMA * 2.0 ** (layer / _SCALES) for layer in range(_SCALES + 3)]
    while min(first.shape) >= _MIN_SIDE:
        layers = [first]
        for before, after in itertools.pairwise(sigmas):
            layers.append(_blur(layers[-1], math.sqrt(after**2 - before**2)))
        octaves.append(np.stack(layers))
        first = layers[_SCALES][::2, ::2]
    return octaves


def _blur(picture: Floats, sigma: float) -> Floats:
    radius = math.ceil(4 * sigma)
    kernel = np.exp(-0.5 * (np.arange(radius + 1) / sigma) ** 2)
    kernel = (kernel / (2 * kernel.sum() - kernel[0])).astype(np.float32)
    for axis in (0, 1):
        side = picture.shape[axis]
        margins = [(radius, radius) if axis == other else (0, 0) for other in (0, 1)]
        padded = np.pad(picture, margins, mode="edge")
        part = [
            padded[start : start + side] if axis == 0 else padded[:, start : start + side]
            for start in range(2 * radius + 1)
        ]
        picture = part[radius] * kernel[0]
        for distance in range(1, radius + 1):
            picture += (part[radius - distance] + part[radius + distance]) * kernel[distance]
    return picture


def _extrema(octaves: list[Floats], count: int) -> _Points:
    """Return the extrema of the differences of neighbouring blurs, refined; at most `count`, highest contrast first."""
    found = [_octave_extrema(np.diff(octave, axis=0), index) for index, octave in enumerate(octaves)]
    rows = np.concatenate(found)
    octave, x, y, layer, contrast = rows.T
    return _Points(octave.astype(np.intp), x, y, layer, contrast, np.zeros(len(rows))).best(count)


def _octave_extrema(difference: Floats, octave: int) -> NDArray[np.float64]:
    """Return (n, 5): octave, x, y, layer, contrast."""
    highest, lowest = difference, difference
    for axis in range(3):
        before, here, after = ([slice(None)] * axis + [part] for part in (slice(-2), slice(1, -1), slice(2, None)))
        highest = np.maximum(np.maximum(highest[*before], highest[*here]), highest[*after])
        lowest = np.minimum(np.minimum(lowest[*before], lowest[*here]), lowest[*after])
    inner = difference[1:-1, 1:-1, 1:-1]
    is_extreme = ((inner >= highest) & (inner > _CONTRAST / 2)) | ((inner <= lowest) & (inner < -_CONTRAST / 2))
    place = np.argwhere(is_extreme) + 1  # (n, 3): layer, row, column
    limit = np.array(difference.shape) - 2
    done: list[NDArray[np.float64]] = []
    for _ in range(_STEPS):
        step, contrast, is_blob = _fit_quadratic(difference, place)
        is_near = np.abs(step[:, 1:]).max(1, initial=0) <= _NEAR
        kept = is_near & (np.abs(step[:, 0]) <= 1) & is_blob & (np.abs(contrast) >= _CONTRAST)
        done.append(np.column_stack([place[kept], step[kept], np.abs(contrast[kept])]))
        place = place[~is_near] + np.clip(np.rint(step[~is_near] * (0, 1, 1)), -1, 1).astype(np.intp)
        place = place[((place >= 1) & (place <= limit)).all(1)]
    rows = np.unique(np.concatenate(done), axis=0)
    layer, y, x = (rows[:, :3] + rows[:, 3:6]).T
    return np.column_stack([np.full(len(rows), octave), x, y, layer, rows[:, 6]])


def _fit_quadratic(
    difference: Floats, place: Ints
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Return step to the extremum (n, 3), the value there, and whether it is a blob rather than an edge."""
    unit = np.eye(3, dtype=np.intp)

    def value(shift: Ints) -> NDArray[np.float64]:
        layer, row, column = (place + shift).T
        return np.asarray(difference[layer, row, column], np.float64)

    centre = value(np.zeros(3, np.intp))
    slope, curve = np.empty((len(place), 3)), np.empty((len(place), 3, 3))
    for i, one in enumerate(unit):
        slope[:, i] = (value(one) - value(-one)) / 2
        curve[:, i, i] = value(one) + value(-one) - 2 * centre
        for j, other in enumerate(unit[:i]):
            mixed = value(one + other) + value(-one - other) - value(one - other) - value(other - one)
            curve[:, i, j] = curve[:, j, i] = mixed / 4
    is_flat = np.abs(np.linalg.det(curve)) < 1e-15
    curve[is_flat] = np.eye(3)
    step = -np.asarray(np.linalg.solve(curve, slope[:, :, None])[:, :, 0], np.float64)
    trace = curve[:, 1, 1] + curve[:, 2, 2]
    determinant = curve[:, 1, 1] * curve[:, 2, 2] - curve[:, 1, 2] ** 2
    is_blob = ~is_flat & (trace**2 * _EDGE < (_EDGE + 1) ** 2 * determinant)
    return step, np.asarray(centre + (slope * step).sum(1) / 2), is_blob


def _orient(pyramid: _Pyramid, points: _Points) -> _Points:
    """Return each point once per dominant direction of the gradients around it."""
    length, direction = pyramid.gradients(points)
    weight = (length * _window(_ORIENTATION_SIGMA / _SPACING)).astype(np.float64)
    bin_, share = np.divmod(direction * (_ANGLES / (2 * math.pi)), 1.0)
    rows = np.arange(len(points.x))[:, None, None] * _ANGLES
    histogram = np.zeros(len(points.x) * _ANGLES)
    for offset, part in ((0, 1 - share), (1, share)):
        cell = rows + (bin_.astype(np.intp) + offset) % _ANGLES
        histogram += np.bincount(cell.ravel(), (weight * part).ravel(), len(histogram))
    rough = histogram.reshape(-1, _ANGLES)
    smooth = np.stack([np.roll(rough, by, 1) for by in range(-2, 3)], 2) @ (np.array([1, 4, 6, 4, 1]) / 16)
    before, after = np.roll(smooth, 1, 1), np.roll(smooth, -1, 1)
    is_peak = (smooth > before) & (smooth >= after) & (smooth >= _PEAK * smooth.max(1, keepdims=True))
    row, peak = np.nonzero(is_peak)
    left, top, right = before[row, peak], smooth[row, peak], after[row, peak]
    angle = (peak + 0.5 * (left - right) / (left - 2 * top + right)) * (2 * math.pi / _ANGLES)
    chosen = points.take(row)
    return _Points(chosen.octave, chosen.x, chosen.y, chosen.layer, chosen.contrast, angle % (2 * math.pi))


def _describe(pyramid: _Pyramid, points: _Points) -> Floats:
    """Return the descriptors (n, 128): light of each cell's gradients by direction, in the frame of the keypoint."""
    length, direction = (part.reshape(-1, _SAMPLES**2) for part in pyramid.gradients(points))
    bin_ = direction * np.float32(_DIRECTIONS / (2 * math.pi))
    cells = _cell_weights()
    parts = []
    for wanted in range(_DIRECTIONS):
        gap = np.abs((bin_ - wanted + _DIRECTIONS / 2) % _DIRECTIONS - _DIRECTIONS / 2)
        parts.append((length * np.maximum(0, 1 - gap)) @ cells)
    descriptors = np.stack(parts, 2).reshape(-1, DIM)
    descriptors = np.minimum(descriptors, _CLIP * np.linalg.norm(descriptors, axis=1, keepdims=True))
    shares: Floats = descriptors / np.maximum(descriptors.sum(1, keepdims=True), np.float32(1e-12))
    return np.sqrt(shares)


def _window(sigma: float) -> Floats:
    """Return the weights (16, 16) of a Gaussian window; sigma in samples."""
    line = np.exp(-0.5 * ((np.arange(_SAMPLES) - (_SAMPLES - 1) / 2) / sigma) ** 2)
    return np.outer(line, line).astype(np.float32)


def _cell_weights() -> Floats:
    """Return (256, 16): how much each sample counts in each cell, falling linearly to the next cells' centres."""
    sample = (np.arange(_SAMPLES) + 0.5) * _CELLS / _SAMPLES - 0.5
    line = np.maximum(0, 1 - np.abs(sample[:, None] - np.arange(_CELLS)))
    both = np.einsum("ya,xb->yxab", line, line).reshape(_SAMPLES**2, _CELLS**2)
    return np.asarray(both * _window(_SAMPLES / 2).reshape(-1, 1), np.float32)
