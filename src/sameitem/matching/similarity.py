"""Whether two pictures show the same thing: the turn, stretch and shift that the matches of their features agree on.

Source: D. Lowe (IJCV 2004), section 7.1: the ratio of the two nearest distances. M. Fischler and R. Bolles, Random
sample consensus (CACM 1981). O. Chum, J. Matas and J. Kittler, Locally optimized RANSAC (DAGM 2003). S. Umeyama,
Least-squares estimation of transformation parameters between two point patterns (PAMI 1991).
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from sameitem.core.errors import InputError, ShapeError
from sameitem.core.records import Pixels
from sameitem.matching.rootsift import Floats, Ints, LocalFeatures, detect

Complexes = NDArray[np.complex128]  # points of a plane: x + iy; a similarity is z -> factor * z + shift

_HYPOTHESES: Final = 2000  # pairs of matches tried; all of them where there are no more
_SCALES: Final = (0.1, 10.0)  # stretch of a similarity
_POLISH: Final = 10  # rounds of least squares, at most
_BLOCK: Final = 1 << 20  # residuals held at once
_THRESHOLD: Final = 0.02  # largest error of an inlier, as a share of the longest side
_TURN: Final = math.radians(30)  # between the turn of a keypoint and that of the picture, at most
_STRETCH: Final = math.log(2.0)  # between their stretches
_CHANCE: Final = 5.0  # inliers that unrelated pictures may have ...
_CHANCE_SHARE: Final = 0.02  # and how many more per match


@dataclass(frozen=True, slots=True)
class Matches:
    """Pairs of rows of two sets of features, with their descriptors' distance; ordered by keypoint of the first."""

    rows_a: Ints
    rows_b: Ints
    distances: Floats  # L2, 0..sqrt(2)


@dataclass(frozen=True, slots=True)
class Similarity:
    """A turn, stretch and shift, and which point pairs it explains."""

    matrix: NDArray[np.float64]  # (2, 3): point of b = matrix @ (x, y, 1) of a
    inliers: NDArray[np.bool_]  # per pair


@dataclass(frozen=True, slots=True)
class Verification:
    """What the matches of two pictures agree on; `is_same` reads it."""

    matches: int
    inliers: int
    transform: NDArray[np.float64] | None  # (2, 3) from pixels of a to pixels of b; None where nothing agrees


def match(a: LocalFeatures, b: LocalFeatures, *, ratio: float = 0.8) -> Matches:
    """Return the pairs that are each other's nearest, clearly nearer than the second, at most one for each place.

    Neither the order of the features in a set nor that of equal distances changes the pairs.

    Args:
        a: features of the first picture.
        b: features of the second picture.
        ratio: a match is nearer than this share of the distance to the second nearest; of fewer than two there is none.

    Raises:
        InputError: a ratio outside 0 .. 1.

    Source: Lowe 2004, section 7.1.
    """
    if not 0 < ratio <= 1:
        raise InputError(f"ratio is {ratio}; give a number above 0 and at most 1", field="ratio")
    if not len(a.keypoints) or len(b.keypoints) < 2:
        return Matches(np.empty(0, np.intp), np.empty(0, np.intp), np.empty(0, np.float32))
    order_a, order_b = np.lexsort(a.keypoints.T[::-1]), np.lexsort(b.keypoints.T[::-1])
    squared = np.maximum(0, 2 - 2 * (a.descriptors[order_a] @ b.descriptors[order_b].T)).round(5)
    row, nearest = np.arange(len(squared)), squared.argmin(1)
    distance = squared[row, nearest]
    is_mutual = squared.argmin(0)[nearest] == row
    squared[row, nearest] = np.inf
    kept = np.flatnonzero(is_mutual & (distance < ratio**2 * squared.min(1)))
    kept = kept[np.argsort(distance[kept], kind="stable")]
    for features, rows in ((a, order_a), (b, order_b[nearest])):  # several directions at one place are one evidence
        places = features.keypoints[rows[kept], :2]
        kept = kept[np.sort(np.unique(places, axis=0, return_index=True)[1])]
    kept = np.sort(kept)
    return Matches(order_a[kept], order_b[nearest[kept]], np.sqrt(distance[kept]))


def fit_similarity(
    points_a: NDArray[np.floating], points_b: NDArray[np.floating], *, threshold_px: float, generator: Generator
) -> Similarity | None:
    """Return the similarity that most point pairs agree on, or None when no two of them give one.

    Two pairs always agree with some similarity: their number says nothing. A pair is an inlier when its error is below
    the threshold in both pictures, so that a map that shrinks everything to a point explains nothing.

    Args:
        points_a: (n, 2) x, y.
        points_b: (n, 2) x, y; row i belongs to row i of `points_a`.
        threshold_px: largest error of an inlier, in b and, mapped back, in a: bring both to one scale before.
        generator: which pairs are tried where there are too many to try all.

    Raises:
        ShapeError: points that are not (n, 2) twice, or not finite.
        InputError: a threshold that is not positive.

    Source: Fischler and Bolles 1981; Chum, Matas and Kittler 2003; Umeyama 1991.
    """
    if points_a.shape != points_b.shape or points_a.shape != (len(points_a), 2):
        raise ShapeError(f"need two arrays (n, 2) with one n, got {points_a.shape} and {points_b.shape}")
    if not (np.isfinite(points_a).all() and np.isfinite(points_b).all()):
        raise ShapeError("need finite points, got NaN or infinity; leave those pairs out")
    if not 0 < threshold_px < math.inf:
        raise InputError(f"threshold_px is {threshold_px}; give a positive number of pixels", field="threshold_px")
    a, b = (points.astype(np.float64) @ np.array([1, 1j]) for points in (points_a, points_b))
    best = _best_hypothesis(a, b, threshold_px, generator)
    if best is None:
        return None
    factor, shift = best
    gain = _gain(a, b, np.array([factor]), np.array([shift]), threshold_px)[0]
    for _ in range(_POLISH):
        inliers = _error(a, b, factor, shift) < threshold_px
        polished = _least_squares(a[inliers], b[inliers])
        if polished is None:
            break
        better = _gain(a, b, np.array([polished[0]]), np.array([polished[1]]), threshold_px)[0]
        if better <= gain:
            break
        (factor, shift), gain = polished, better
    matrix = np.array([[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]])
    return Similarity(matrix, _error(a, b, factor, shift) < threshold_px)


def verify(pixels_a: Pixels, pixels_b: Pixels) -> Verification:
    """Return how many features of two pictures match, and how many of the matches one similarity explains.

    An inlier's own turn and stretch fit the similarity, not its place alone. A mirror image is another picture.

    Raises:
        ShapeError: not two uint8 pictures of three channels.
    """
    a, b = detect(pixels_a), detect(pixels_b)
    return verify_features(a, b, side_a_px=max(pixels_a.shape[:2]), side_b_px=max(pixels_b.shape[:2]))


def verify_features(a: LocalFeatures, b: LocalFeatures, *, side_a_px: int, side_b_px: int) -> Verification:
    """Do what `verify` does with features computed before; the sides are the longest of each picture."""
    matches = match(a, b)
    sides = np.array([side_a_px] * 3 + [1]), np.array([side_b_px] * 3 + [1])
    ours, theirs = a.keypoints[matches.rows_a] / sides[0], b.keypoints[matches.rows_b] / sides[1]
    fit = fit_similarity(ours[:, :2], theirs[:, :2], threshold_px=_THRESHOLD, generator=np.random.default_rng(0))
    if fit is None:
        return Verification(len(matches.rows_a), 0, None)
    cos, sin = fit.matrix[:, 0]
    turn = (theirs[:, 3] - ours[:, 3] - math.atan2(sin, cos) + math.pi) % (2 * math.pi) - math.pi
    stretch = np.log(theirs[:, 2] / ours[:, 2]) - math.log(math.hypot(cos, sin))
    agrees = fit.inliers & (np.abs(turn) < _TURN) & (np.abs(stretch) < _STRETCH)
    transform = fit.matrix * side_b_px / np.array([side_a_px, side_a_px, 1])
    return Verification(len(matches.rows_a), int(agrees.sum()), transform if agrees.any() else None)


def is_same(inliers: int, matches: int) -> bool:
    """Say whether so many inliers among so many matches are more than unrelated pictures have.

    The line was measured: docs/decisions/0006-local-features.md.
    """
    return inliers > _CHANCE + _CHANCE_SHARE * matches


def _best_hypothesis(
    a: Complexes, b: Complexes, threshold: float, generator: Generator
) -> tuple[complex, complex] | None:
    one, other = np.triu_indices(len(a), 1) if len(a) * (len(a) - 1) // 2 <= _HYPOTHESES else _draw(len(a), generator)
    is_apart = (np.abs(a[one] - a[other]) > 0) & (np.abs(b[one] - b[other]) > threshold)
    one, other = one[is_apart], other[is_apart]
    factors = (b[one] - b[other]) / (a[one] - a[other])
    is_plausible = (np.abs(factors) >= _SCALES[0]) & (np.abs(factors) <= _SCALES[1])
    factors, one = factors[is_plausible], one[is_plausible]
    if not len(factors):
        return None
    shifts = b[one] - factors * a[one]
    best = int(_gain(a, b, factors, shifts, threshold).argmax())
    return complex(factors[best]), complex(shifts[best])


def _draw(count: int, generator: Generator) -> tuple[Ints, Ints]:
    one = generator.integers(count, size=_HYPOTHESES)
    return one, (one + generator.integers(1, count, size=_HYPOTHESES)) % count


def _gain(a: Complexes, b: Complexes, factors: Complexes, shifts: Complexes, threshold: float) -> NDArray[np.float64]:
    """Return per hypothesis the sum over the pairs of 1 - (error / threshold) ** 2 where that is positive."""
    rows = max(1, _BLOCK // len(a))
    return np.concatenate(
        [
            np.maximum(0, 1 - (_error(a, b, factors[i : i + rows], shifts[i : i + rows]) / threshold) ** 2).sum(1)
            for i in range(0, len(factors), rows)
        ]
    )


def _error(a: Complexes, b: Complexes, factor: complex | Complexes, shift: complex | Complexes) -> NDArray[np.float64]:
    """Return the error of each pair, or (hypotheses, pairs): in b, or as much as it is larger in a."""
    factor, shift = np.asarray(factor)[..., None], np.asarray(shift)[..., None]
    return np.asarray(np.abs(factor * a + shift - b) * np.maximum(1, 1 / np.abs(factor)))


def _least_squares(a: Complexes, b: Complexes) -> tuple[complex, complex] | None:
    if len(a) < 2:
        return None
    centred_a, centred_b = a - a.mean(), b - b.mean()
    spread = float((np.abs(centred_a) ** 2).sum())
    factor = complex((centred_a.conj() * centred_b).sum() / spread) if spread > 0 else 0j
    if not _SCALES[0] <= abs(factor) <= _SCALES[1]:
        return None
    return factor, complex(b.mean() - factor * a.mean())
