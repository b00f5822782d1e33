"""The weighted vote of a photo's nearest labelled images."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sameitem.core.errors import InputError, ShapeError

NO_TOP = -1  # a leaf whose top category is unknown


@dataclass(frozen=True, slots=True, eq=False)
class CategoryVote:
    """How the neighbours voted; each array sums to 1, or is all 0 where nobody could vote."""

    leaves: NDArray[np.float64]  # (leaves,) share of the weight
    tops: NDArray[np.float64]  # (tops,) share of the weight of neighbours whose top category is known
    neighbours: int  # that voted


def vote(
    distances: NDArray[np.float64],
    leaves: NDArray[np.int64],
    top_of_leaf: NDArray[np.int64],
    *,
    sharpness: float,
) -> CategoryVote:
    """Let neighbours vote for their category: `p(c) = sum_i w_i [y_i = c] / sum_i w_i`, `w_i = exp(-sharpness d_i^2)`.

    Args:
        distances: (neighbours,) squared distances to the query.
        leaves: (neighbours,) leaf of each neighbour, a row of `top_of_leaf`.
        top_of_leaf: (leaves,) top category of each leaf from 0, or NO_TOP.
        sharpness: lambda; 0 counts heads, larger listens to the nearest only.

    Raises:
        ShapeError: arrays of different lengths.
        InputError: a leaf that does not exist, a distance that is not a finite number, a negative sharpness.

    Source: article §01.2; FORMULAS §3 for the weight (ours).
    """
    if distances.ndim != 1 or leaves.shape != distances.shape or top_of_leaf.ndim != 1:
        raise ShapeError(f"need one leaf per distance, got {distances.shape} and {leaves.shape}")
    if not np.isfinite(distances).all() or not 0 <= sharpness < np.inf:
        raise InputError(f"need finite distances and a finite sharpness >= 0, got sharpness {sharpness}")
    if len(leaves) and not 0 <= leaves.min() <= leaves.max() < len(top_of_leaf):
        raise InputError(f"need leaves of 0 to {len(top_of_leaf) - 1}, got {leaves.min()} to {leaves.max()}")
    tops = top_of_leaf[leaves]
    known = tops != NO_TOP
    return CategoryVote(
        leaves=_shares(leaves, distances, len(top_of_leaf), sharpness),
        tops=_shares(tops[known], distances[known], int(top_of_leaf.max(initial=NO_TOP)) + 1, sharpness),
        neighbours=len(distances),
    )


def ranking(shares: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the rows of the categories that got any share, largest first, ties by row."""
    order = np.lexsort((np.arange(len(shares)), -shares))
    return order[shares[order] > 0]


def _shares(
    categories: NDArray[np.int64], distances: NDArray[np.float64], count: int, sharpness: float
) -> NDArray[np.float64]:
    if len(distances) == 0:
        return np.zeros(count)
    # The nearest weighs 1, so that no sharpness makes all weights 0; the factor cancels in the share.
    weights = np.exp(-sharpness * (distances - distances.min()))
    shares: NDArray[np.float64] = np.bincount(categories, weights=weights, minlength=count) / weights.sum()
    return shares
