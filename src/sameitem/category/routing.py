"""Which top categories a photo is searched in, and how often the right one is left out."""

import numpy as np
from numpy.typing import NDArray

from sameitem.category.calibration import check_truth
from sameitem.core.errors import InputError, ShapeError


def route(probabilities: NDArray[np.float64], mass: float) -> NDArray[np.int64]:
    """Return the smallest set of categories that holds at least a share of the probability, best first, ties by row.

    Args:
        probabilities: (categories,) not negative; all 0 where there is no opinion: then every category is returned.
        mass: share of their sum that is to be searched, above 0, at most 1.

    Raises:
        ShapeError: not one row of at least one category.
        InputError: a mass outside 0..1, or a number that is negative or not finite.

    Source: FORMULAS §3 (ours).
    """
    if probabilities.ndim != 1 or len(probabilities) == 0:
        raise ShapeError(f"need probabilities (categories,), got {probabilities.shape}")
    if not 0 < mass <= 1:
        raise InputError(f"need a mass above 0 and at most 1, got {mass}")
    if not np.isfinite(probabilities).all() or (probabilities < 0).any():
        raise InputError("need probabilities that are finite and not negative")
    order = np.argsort(-probabilities, kind="stable")
    held = np.cumsum(probabilities[order])
    if held[-1] == 0:
        return order
    return order[: int(np.searchsorted(held, mass * held[-1])) + 1]


def routing_loss(probabilities: NDArray[np.float64], truth: NDArray[np.int64], mass: float) -> float:
    """Return the share of photos whose true category would not be searched, 0..1.

    Args:
        probabilities: (photos, categories)
        truth: (photos,) a column each.
        mass: as `route` takes it.

    Raises:
        ShapeError: arrays that do not fit each other.
        InputError: no photos, a category that does not exist, or what `route` refuses.
    """
    check_truth(probabilities, truth)
    missed = [category not in route(row, mass) for row, category in zip(probabilities, truth, strict=True)]
    return float(np.mean(missed))
