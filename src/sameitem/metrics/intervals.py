"""How far a measured mean can be trusted."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sameitem.core.errors import InputError, ShapeError


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and the ends of its 95 % interval."""

    mean: float
    low: float
    high: float


def bootstrap_interval(
    values: NDArray[np.float64], generator: np.random.Generator, *, resamples: int = 1000
) -> Interval:
    """Return the mean of values (one per query) and its percentile bootstrap 95 % interval.

    Raises:
        InputError: no values, or not a list of them.
    """
    if values.ndim != 1 or len(values) == 0:
        raise InputError(f"need at least one value in a list, got shape {values.shape}")
    means = [values[generator.integers(len(values), size=len(values))].mean() for _ in range(resamples)]
    low, high = np.quantile(means, (0.025, 0.975))
    return Interval(float(values.mean()), float(low), float(high))


def paired_interval(
    before: NDArray[np.float64],
    after: NDArray[np.float64],
    groups: NDArray[np.int64],
    generator: np.random.Generator,
    *,
    resamples: int = 1000,
) -> Interval:
    """Return the mean of after - before over the queries and its bootstrap 95 % interval, groups drawn as a whole.

    Queries of one product share its pictures, so they tell less than as many queries of different products would.

    Args:
        before: (queries,) what was measured with one system.
        after: (queries,) the same with another.
        groups: (queries,) number of the group that each query belongs to, such as its product.
        generator: draws the resamples.
        resamples: how many.

    Raises:
        InputError: no queries.
        ShapeError: not three lists of one length.

    Source: Davison and Hinkley, Bootstrap Methods and their Application, 1997, §3.8 (resampling of clusters).
    """
    if before.ndim != 1 or before.shape != after.shape or before.shape != groups.shape:
        raise ShapeError(f"need three lists of one length, got {before.shape}, {after.shape} and {groups.shape}")
    if len(before) == 0:
        raise InputError("need at least one query, got none")
    return ratio_interval(after - before, np.ones(len(before)), groups, generator, resamples=resamples)


def ratio_interval(
    above: NDArray[np.float64],
    below: NDArray[np.float64],
    groups: NDArray[np.int64],
    generator: np.random.Generator,
    *,
    resamples: int = 1000,
) -> Interval:
    """Return sum above / sum below and its percentile bootstrap 95 % interval, groups drawn as a whole.

    Args:
        above: (rows,)
        below: (rows,) not negative; resamples in which it is all 0 are drawn again.
        groups: (rows,) number of the group that each row belongs to, such as its query.
        generator: draws the resamples.
        resamples: how many.

    Raises:
        ShapeError: not three lists of one length.
        InputError: nothing below the line.

    Source: Davison and Hinkley, Bootstrap Methods and their Application, 1997, §3.8 (resampling of clusters).
    """
    if above.ndim != 1 or above.shape != below.shape or above.shape != groups.shape:
        raise ShapeError(f"need three lists of one length, got {above.shape}, {below.shape} and {groups.shape}")
    if not (below >= 0).all() or below.sum() <= 0:
        raise InputError("need numbers below the line that are not negative and not all 0")
    _, group_of = np.unique(groups, return_inverse=True)
    tops, bottoms = np.bincount(group_of, weights=above), np.bincount(group_of, weights=below)
    ratios: list[float] = []
    while len(ratios) < resamples:
        drawn = generator.integers(len(tops), size=len(tops))
        if bottoms[drawn].sum() > 0:
            ratios.append(tops[drawn].sum() / bottoms[drawn].sum())
    low, high = np.quantile(ratios, (0.025, 0.975))
    return Interval(float(tops.sum() / bottoms.sum()), float(low), float(high))


def wilson_interval(hits: int, total: int) -> Interval:
    """Return hits / total, the share of independent trials that succeeded, and its Wilson score 95 % interval.

    Raises:
        InputError: no trials, or not 0 <= hits <= total.

    Source: Wilson, Probable inference, the law of succession, and statistical inference, 1927.
    """
    if not 0 <= hits <= total or total == 0:
        raise InputError(f"need 0 <= hits <= total and at least one trial, got {hits} of {total}")
    z, share = 1.959964, hits / total
    middle = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z / (1 + z**2 / total) * math.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    return Interval(share, min(share, max(0.0, middle - half)), max(share, min(1.0, middle + half)))
