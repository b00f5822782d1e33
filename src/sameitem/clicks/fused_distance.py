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

MIN_PAIRS = 100  # random pairs below which a quantile says little
_RIDGE = 1e-3  # pulls weights of terms that say the same thing together, and keeps separable pairs finite
_STEPS = 100


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


def feature_distance(features: Callable[[Sequence[Picture]], NDArray[np.float32]]) -> Distance:
    """Return the squared L2 distance, 0..4, of unit features.

    Args:
        features: gives (pictures, dim) rows of unit length, NaN where a picture has no feature.
    """

    def distance(anchors: Sequence[Picture], others: Sequence[Picture], /) -> NDArray[np.float64]:
        pictures = list(dict.fromkeys((*anchors, *others)))
        if not pictures:
            return np.empty((0, 0))
        rows = dict(zip(pictures, features(pictures).astype(np.float64), strict=True))
        left = np.stack([rows[picture] for picture in anchors]) if anchors else np.empty((0, 1))
        right = np.stack([rows[picture] for picture in others]) if others else np.empty((0, left.shape[1]))
        if not len(left):
            return np.empty((0, len(others)))
        cosines: NDArray[np.float64] = np.einsum("ad,od->ao", left, right)  # the same bits in any batch, unlike BLAS
        return np.clip(2 - 2 * cosines, 0, 4)

    return distance


def random_pairs(
    distance: Distance,
    photos: Sequence[Picture],
    images: Sequence[Picture],
    *,
    pairs: int,
    generator: np.random.Generator,
) -> NDArray[np.float64]:
    """Return the distances of random photos to random images, ascending, those that can be told.

    Real user photos against catalogue images are what mining compares; images against images look nearer.
    """
    if not photos or not images or pairs < 1:
        raise InputError(f"need photos, images and pairs, got {len(photos)}, {len(images)} and {pairs}")
    across = min(len(images), max(1, round(pairs**0.5)))
    found = []
    for _ in range(-(-pairs // across)):
        photo = photos[int(generator.integers(len(photos)))]
        chosen = [images[int(index)] for index in generator.choice(len(images), across, replace=False)]
        found.append(np.asarray(distance([photo], [image for image in chosen if image != photo]))[0])
    drawn: NDArray[np.float64] = np.concatenate(found)
    return np.sort(drawn[~np.isnan(drawn)])


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


def fit_weights(quantiles: NDArray[np.float64], is_same: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return weights of the terms, >= 0 with sum 1, by logistic regression on labelled pairs.

    A term that would count backwards beside the others is left out. Equal weights when none is left.

    Args:
        quantiles: (pairs, terms), each term's distance as a quantile.
        is_same: (pairs,) whether a pair shows the same item; pairs of both kinds are needed.

    Raises:
        ShapeError: the two do not fit.
        InputError: values that are not finite, or pairs of one kind only.
    """
    if quantiles.ndim != 2 or not quantiles.shape[1] or is_same.shape != quantiles.shape[:1]:
        raise ShapeError(f"need (pairs, terms) and (pairs,), got {quantiles.shape} and {is_same.shape}")
    if not np.isfinite(quantiles).all() or is_same.all() or not is_same.any():
        raise InputError("need finite quantiles of pairs of the same item and of pairs of other items")
    spread = quantiles.std(axis=0)
    used = np.flatnonzero(spread > 0)
    while len(used):
        scaled = (quantiles[:, used] - quantiles[:, used].mean(axis=0)) / spread[used]
        weights = -_logistic(scaled, is_same)[:-1] / spread[used]  # nearer is likelier the same
        if (weights > 0).all():
            fitted = np.zeros(quantiles.shape[1])
            fitted[used] = weights / weights.sum()
            return fitted
        used = np.delete(used, int(weights.argmin()))
    return np.full(quantiles.shape[1], 1 / quantiles.shape[1])


def _logistic(rows: NDArray[np.float64], is_same: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return coefficients and intercept of a ridge logistic regression, by damped Newton steps."""
    design = np.c_[rows, np.ones(len(rows))]
    penalty = np.r_[np.full(rows.shape[1], _RIDGE), 0.0]
    found = np.zeros(design.shape[1])

    def loss(at: NDArray[np.float64]) -> float:
        scores = design @ at
        return float(np.mean(np.logaddexp(0, scores) - is_same * scores) + (penalty * at**2).sum() / 2)

    for _ in range(_STEPS):
        chance = 1 / (1 + np.exp(-np.clip(design @ found, -500, 500)))
        gradient = design.T @ (chance - is_same) / len(design) + penalty * found
        curvature = (design.T * (chance * (1 - chance))) @ design / len(design) + np.diag(penalty + 1e-12)
        step = np.linalg.solve(curvature, gradient)
        size = 1.0
        while size > 1e-6 and loss(found - size * step) > loss(found):
            size /= 2
        found = found - size * step
        if np.abs(size * step).max() < 1e-9:
            break
    return found


def _look_closer(
    fused: NDArray[np.float64], anchors: Sequence[Picture], others: Sequence[Picture], local: LocalCheck
) -> None:
    for row, column in np.argwhere((fused > local.above) & (fused < local.below)):
        if local.inliers(anchors[row], others[column]) >= local.same_from:
            fused[row, column] = 0.0
