"""How far a measured mean can be trusted."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sameitem.core.errors import InputError


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
