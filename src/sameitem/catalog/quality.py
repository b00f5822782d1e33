"""How fit a picture is for a gallery, and its perceptual hash: both from the thumbnail, in NumPy alone.

`text_share` and `collage_share` are estimates that would rather miss than accuse: a product that is set aside by
mistake can never be found, one overlay more in the gallery hardly disturbs.
"""

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sameitem.core.errors import ShapeError
from sameitem.core.records import Pixels, Quality

Luma = NDArray[np.float32]

_FLAT: Final = 24  # luma or channel levels that compression and soft shadows stay below


def measure(thumbnail: Pixels) -> Quality:
    """Return the quality measures of a picture; `Quality` says what each means.

    Args:
        thumbnail: (height, width, 3) RGB; sharpness and text are meant for a longest side near 384 px.

    Raises:
        ShapeError: not an RGB picture.
    """
    luma = _luma(thumbnail)
    differs = _differs_from_border(thumbnail)
    return Quality(
        sharpness=_sharpness(luma),
        brightness=float(luma.mean()),
        contrast=float(luma.std()),
        text_share=_text_share(luma),
        collage_share=_collage_share(thumbnail, differs),
        subject_share=float(differs.mean()),
    )


def perceptual_hash(thumbnail: Pixels) -> int:
    """Return 64 bits that change little when a picture is resized, re-encoded or slightly brightened.

    The signs of the 64 lowest frequencies of the cosine transform of the luma, the mean left out; unsigned.

    Raises:
        ShapeError: not an RGB picture.
    """
    luma = _luma(thumbnail)
    height, width = luma.shape
    spectrum = _cosines(height) @ luma @ _cosines(width).T
    bits = spectrum[_ROWS, _COLUMNS] > _SILENCE
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


_FREQUENCIES: Final = 10
_SILENCE: Final = 0.1  # luma levels; what is weaker is noise of the compression and counts as zero
_PAIRS: Final = sorted(
    ((row, column) for row in range(_FREQUENCIES) for column in range(_FREQUENCIES) if row + column),
    key=lambda pair: (sum(pair), pair),
)[:64]
_ROWS: Final = np.array([row for row, _ in _PAIRS])
_COLUMNS: Final = np.array([column for _, column in _PAIRS])


@lru_cache(maxsize=1024)
def _cosines(side: int) -> NDArray[np.float32]:
    """(frequencies, side): the cosine of each frequency, integrated over each pixel: the size does not matter."""
    edges = np.pi * np.arange(_FREQUENCIES)[:, None] * np.arange(side + 1) / side
    slopes = np.maximum(np.arange(_FREQUENCIES), 1)[:, None] * np.pi
    integrals = np.diff(np.sin(edges), axis=1) / slopes
    integrals[0] = 1.0 / side
    return integrals.astype(np.float32)


def _luma(thumbnail: Pixels) -> Luma:
    if thumbnail.ndim != 3 or thumbnail.shape[2] != 3 or thumbnail.dtype != np.uint8 or not thumbnail.size:
        raise ShapeError(f"need (height, width, 3) uint8 pixels, got {thumbnail.shape} {thumbnail.dtype}")
    return thumbnail.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)


def _sharpness(luma: Luma) -> float:
    if min(luma.shape) < 3:
        return 0.0
    centre = luma[1:-1, 1:-1]
    laplacian = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * centre
    return float(laplacian.var())


def _differs_from_border(thumbnail: Pixels) -> NDArray[np.bool_]:
    """(height, width) true where a pixel is not of the colour that is most typical of the picture's border."""
    border = np.concatenate([thumbnail[0], thumbnail[-1], thumbnail[:, 0], thumbnail[:, -1]])
    colour = np.median(border, axis=0).astype(np.int16)
    far = np.abs(thumbnail.astype(np.int16) - colour) > _FLAT
    differs: NDArray[np.bool_] = far[..., 0] | far[..., 1] | far[..., 2]
    return differs


# ---- text: lines of irregular strokes on one plain ground ----

_STRIP: Final = 48  # px: width in which strokes are counted
_EDGE: Final = 40  # luma levels across 2 px
_QUIET: Final = 8.0  # standard deviation of a row of plain ground
_LINE_HEIGHTS: Final = (5, 40)  # px, at each scale
_LINES: Final = 7  # that a picture has room for, at least; what is taller is a row of things
_SCALES: Final = (1, 2)
_STROKES: Final = (1.0, 8.0)  # strokes in a piece of line as wide as it is high
_GROUND: Final = (0.3, 0.92)  # share of a line that is ground, between the strokes
_LIKENESS: Final = 0.7  # of two rows of a line; fences, combs and stripes are above


def _text_share(luma: Luma) -> float:
    covered = np.zeros(luma.shape, dtype=np.bool_)
    for scale in _SCALES:
        lines = _text_lines(_halved(luma) if scale == 2 else luma)
        block = lines.repeat(scale, axis=0).repeat(_STRIP * scale, axis=1)
        covered[: block.shape[0], : block.shape[1]] |= block
    return float(covered.mean())


def _halved(luma: Luma) -> Luma:
    rows, columns = luma.shape[0] // 2, luma.shape[1] // 2
    halved: Luma = luma[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2).mean(axis=(1, 3))
    return halved


def _text_lines(luma: Luma) -> NDArray[np.bool_]:
    """(height, strips) true where a row of a strip belongs to a line of text."""
    height, strips = luma.shape[0], luma.shape[1] // _STRIP
    found = np.zeros((height, strips), dtype=np.bool_)
    if not strips or not height:
        return found
    steps = np.zeros((height, strips * _STRIP), dtype=np.float32)
    steps[:, 1:-1] = luma[:, 2 : strips * _STRIP] - luma[:, : strips * _STRIP - 2]
    down, up = steps < -_EDGE, steps > _EDGE
    strokes = np.minimum(_starts(down, strips), _starts(up, strips))  # (height, strips)
    pieces = luma[:, : strips * _STRIP].reshape(height, strips, _STRIP)
    means = pieces.mean(axis=2)
    strip, top, bottom = _runs((pieces * pieces).mean(axis=2) - means * means > _QUIET**2)
    tall = bottom - top
    tallest = min(_LINE_HEIGHTS[1], height // _LINES)
    fits = (tall >= _LINE_HEIGHTS[0]) & (tall <= tallest) & (top > 0) & (bottom < height)
    strip, top, bottom, tall = strip[fits], top[fits], bottom[fits], tall[fits]
    totals = np.concatenate([np.zeros((1, strips), np.int64), strokes.cumsum(axis=0)])
    density = (totals[bottom, strip] - totals[top, strip]) / _STRIP  # strokes a row * height / width
    same_ground = np.abs(means[top - 1, strip] - means[bottom, strip]) < _FLAT
    likely = same_ground & (density >= _STROKES[0]) & (density <= _STROKES[1])
    signs = (up.astype(np.int8) - down.astype(np.int8)).reshape(height, strips, _STRIP)
    before = (-1, 0, 0)  # strip, top and bottom of the last line
    for column, first, last in zip(strip[likely].tolist(), top[likely].tolist(), bottom[likely].tolist(), strict=True):
        ground = float((np.abs(pieces[first:last, column] - means[first - 1, column]) < _FLAT).mean())
        if not _GROUND[0] <= ground <= _GROUND[1] or _likeness(signs[first:last, column]) > _LIKENESS:
            continue
        if _follows((column, first, last), before):  # a line on its own may be any slender thing
            gap = (last - first) // 2  # the space between lines belongs to the text
            found[max(0, before[1] - gap) : last + gap, column] = True
        before = (column, first, last)
    return found


def _follows(line: tuple[int, int, int], before: tuple[int, int, int]) -> bool:
    """Whether two lines stand under one another, of similar height and not far apart."""
    height, height_before = line[2] - line[1], before[2] - before[1]
    near = line[0] == before[0] and line[1] - before[2] <= 2 * min(height, height_before)
    return near and max(height, height_before) <= 2.5 * min(height, height_before)


def _likeness(signs: NDArray[np.int8]) -> float:
    """How much the edges of rows a third of the height apart are the same, -1..1."""
    third = len(signs) // 3
    above, below = signs[:-third].astype(np.float32), signs[third:].astype(np.float32)
    return float((above * below).sum() / max(1.0, np.sqrt((above**2).sum() * (below**2).sum())))


def _starts(marks: NDArray[np.bool_], strips: int) -> NDArray[np.int64]:
    """(height, strips): how many runs of marks begin in each row of each strip."""
    begins = marks.copy()
    begins[:, 1:] &= ~marks[:, :-1]
    counts: NDArray[np.int64] = begins.reshape(len(marks), strips, -1).sum(axis=2)
    return counts


def _runs(active: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Return strip, first row and row after the last of every run of active rows."""
    padded = np.zeros((active.shape[1], active.shape[0] + 2), dtype=np.int8)
    padded[:, 1:-1] = active.T
    change = np.diff(padded, axis=1)
    strips, tops = np.nonzero(change == 1)
    _, bottoms = np.nonzero(change == -1)
    return strips, tops, bottoms


# ---- collage: sharp straight seams through the whole picture ----

_INSIDE: Final = 0.12  # a seam is at least so far from the edge, as a share of the side
_STEP: Final = 48  # levels across a seam, the three channels together
_BROKEN: Final = 0.7  # a seam that is visible in so few rows is none
_MOST_SEAMS: Final = 6  # more are stripes
_WHOLE: Final = 0.85  # share of the picture's side that is not plain margin


def _collage_share(thumbnail: Pixels, differs: NDArray[np.bool_]) -> float:
    rows, columns = np.flatnonzero(differs.any(axis=1)), np.flatnonzero(differs.any(axis=0))
    if len(rows) < 32 or len(columns) < 32:
        return 0.0
    inner = thumbnail[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]  # without padding and frames
    if inner.shape[0] < _WHOLE * differs.shape[0] or inner.shape[1] < _WHOLE * differs.shape[1]:
        return 0.0
    upright, level = _seam(inner), _seam(inner.transpose(1, 0, 2))
    return 1.0 - (1.0 - upright) * (1.0 - level)  # crossing seams confirm each other


def _seam(pixels: Pixels) -> float:
    """Evidence, 0..1, for vertical seams from top to bottom with a picture on either side."""
    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1), np.int16)
    across = np.abs(planes[:, :, 3:] - planes[:, :, :-3]).sum(axis=0)
    middle = np.abs(planes[:, :, 2:-1] - planes[:, :, 1:-2]).sum(axis=0)
    share = ((across > _STEP) & (2 * middle > across)).mean(axis=0)  # the change is there, and in one pixel
    margin = max(2, int(_INSIDE * pixels.shape[1]))
    share[:margin] = share[-margin:] = 0.0
    whole = np.clip((share - _BROKEN) / (1.0 - _BROKEN), 0.0, 1.0)
    seams = np.flatnonzero((whole > 0) & (whole == _neighbourhood_maximum(whole)))
    if not 0 < len(seams) <= _MOST_SEAMS:
        return 0.0
    sides = _luma(np.ascontiguousarray(pixels[:, np.concatenate([seams, seams + 3])])).T
    return max(
        float(np.sqrt(whole[seam])) * _unlike(sides[place], sides[place + len(seams)])
        for place, seam in enumerate(seams)
    )


def _unlike(left: Luma, right: Luma) -> float:
    """How much the sides of a seam look like different pictures, 0..1: plain ones say little, alike ones nothing."""
    spreads = sorted((float(left.std()), float(right.std())))
    if spreads[0] < 1.0:
        return 0.5 if spreads[1] > _FLAT else 0.25
    likeness = float(((left - left.mean()) * (right - right.mean())).mean()) / (spreads[0] * spreads[1])
    return max(0.0, 1.0 - abs(likeness)) * (1.0 if spreads[0] > 0.5 * _FLAT else 0.5)


def _neighbourhood_maximum(values: NDArray[np.float64]) -> NDArray[np.float64]:
    maxima: NDArray[np.float64] = np.lib.stride_tricks.sliding_window_view(np.pad(values, 2), 5).max(axis=1)
    return maxima
