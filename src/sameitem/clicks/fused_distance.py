"""Several ways to tell how far two pictures are apart, brought to one scale and added up.

A feature's distances mean nothing by themselves: 0.8 is near for one model and far for another. Their quantile among
random pairs does: 0.001 says that one random pair in a thousand is as near, whatever the model.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sameitem.clicks.triplets import Distance, Picture
from sameitem.core.errors import InputError, ShapeError

Features = Callable[[Sequence[Picture]], NDArray[np.float32]]
MIN_PAIRS = 100  # random pairs below which a quantile says little


@dataclass(frozen=True, slots=True)
class Term:
    """One way to tell pictures apart, and how far random pairs are apart by it."""

    name: str
    distance: Distance
    random_pairs: NDArray[np.float64]  # (pairs,) distances >= 0, ascending, finite
    weight: float = 1.0

    def __post_init__(self) -> None:
        pairs = self.random_pairs
        if pairs.ndim != 1 or len(pairs) < MIN_PAIRS or not np.isfinite(pairs).all():
            raise InputError(
                f"term {self.name!r}: need the distances of at least {MIN_PAIRS} random pairs, all finite, "
                f"got shape {pairs.shape}",
                field="random_pairs",
            )
        if pairs[0] < 0 or (np.diff(pairs) < 0).any():
            raise InputError(f"term {self.name!r}: need distances >= 0 in ascending order", field="random_pairs")
        if not (np.isfinite(self.weight) and self.weight >= 0):
            raise InputError(f"term {self.name!r}: need a weight >= 0, got {self.weight}", field="weight")


@dataclass(frozen=True, slots=True)
class LocalCheck:
    """A slow look at local features, for the pairs that everything else leaves undecided.

    Enough inliers prove the same item, and the distance becomes 0; few prove nothing, since a plain thing has few.
    """

    inliers: Callable[[Picture, Picture], int]
    same_from: int  # inliers from which two pictures show the same item
    above: float  # asked where above < distance < below
    below: float


@dataclass(frozen=True, slots=True)
class FusedDistance:
    """`D = sum_m w_m z_m(d_m)`, 0..1, the weights scaled to add up to 1. A `Distance` itself.

    A term that cannot tell (NaN: a picture without that feature) is left out of a pair's sum and the others count for
    it; NaN where no term can tell.

    Source: article §02.1; normalisation and weights are ours.
    """

    terms: tuple[Term, ...]
    local: LocalCheck | None = None

    def __post_init__(self) -> None:
        if not any(term.weight > 0 for term in self.terms):
            raise InputError(f"need a term with a weight above 0, got {len(self.terms)} terms", field="terms")

    def __call__(self, anchors: Sequence[Picture], others: Sequence[Picture], /) -> NDArray[np.float64]:
        """Return (anchors, others) distances.

        Raises:
            ShapeError: a term returned another shape.
        """
        total = np.zeros((len(anchors), len(others)))
        weights = np.zeros_like(total)
        for term in self.terms:
            apart = np.asarray(term.distance(anchors, others), dtype=np.float64)
            if apart.shape != total.shape:
                raise ShapeError(f"term {term.name!r}: need distances of shape {total.shape}, got {apart.shape}")
            is_known = ~np.isnan(apart)
            total += np.where(is_known, term.weight * quantile(apart, term.random_pairs), 0)
            weights += term.weight * is_known
        fused: NDArray[np.float64] = np.divide(total, weights, out=np.full_like(total, np.nan), where=weights > 0)
        if self.local is not None:
            _look_closer(fused, anchors, others, self.local)
        return fused


def feature_distance(of_anchors: Features, of_others: Features) -> Distance:
    """Return the squared L2 distance, 0..4, of unit features.

    Args:
        of_anchors: gives (pictures, dim) rows of unit length, NaN where a picture has no feature.
        of_others: the same of the others, which may be looked at in another way: a user's photo is not cut like a
            catalogue image.
    """

    def distance(anchors: Sequence[Picture], others: Sequence[Picture], /) -> NDArray[np.float64]:
        if not anchors or not others:
            return np.empty((len(anchors), len(others)))
        left, right = of_anchors(anchors).astype(np.float64), of_others(others).astype(np.float64)
        cosines: NDArray[np.float64] = np.einsum("ad,od->ao", left, right)  # the same bits in any batch, unlike BLAS
        return np.clip(2 - 2 * cosines, 0, 4)

    return distance


def quantile(distances: NDArray[np.float64], pairs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return which share of random pairs is at least as near, 0..1; NaN stays.

    Linear between the pairs, and from (0, 0) to the nearest of them, so that the order of distances is kept where
    it matters most: below everything random.
    """
    nearer = np.searchsorted(pairs, distances, "right")
    below = np.where(nearer > 0, pairs[np.maximum(nearer - 1, 0)], 0.0)
    above = pairs[np.minimum(nearer, len(pairs) - 1)]
    gap = above - below
    part = np.clip(np.divide(distances - below, gap, out=np.zeros_like(distances), where=gap > 0), 0, 1)
    shares = (nearer + part * (np.searchsorted(pairs, above, "right") - nearer)) / len(pairs)
    return np.where(np.isnan(distances), np.nan, shares)


def _look_closer(
    fused: NDArray[np.float64], anchors: Sequence[Picture], others: Sequence[Picture], local: LocalCheck
) -> None:
    for row, column in np.argwhere((fused > local.above) & (fused < local.below)):
        if local.inliers(anchors[row], others[column]) >= local.same_from:
            fused[row, column] = 0.0
