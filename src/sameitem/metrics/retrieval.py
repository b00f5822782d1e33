"""How well a ranked list finds what is wanted: pure NumPy, larger is better.

A query's hits are a row, best first, true where the hit is relevant. Averages over queries are left to the caller, who
has one value per query and so can say how sure they are (`intervals`).
"""

import numpy as np
from numpy.typing import NDArray

from sameitem.core.errors import InputError, ShapeError


def recall_at(relevant: NDArray[np.bool_], k: int) -> NDArray[np.float64]:
    """Return 1 for each query with a relevant hit among the first k, else 0 (Identical-Recall@K when averaged).

    Args:
        relevant: (queries, depth) true where the hit shows the product that was asked for.
        k: at least 1; a shorter list counts as it is.

    Source: FORMULAS §6.
    """
    _check(relevant)
    if k < 1:
        raise InputError(f"need k >= 1, got {k}")
    return np.asarray(relevant[:, :k].any(axis=1), np.float64)


def average_precision(relevant: NDArray[np.bool_], wanted: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return each query's average precision: the mean of the precision at each relevant hit.

    Args:
        relevant: (queries, depth)
        wanted: (queries,) relevant images in the gallery; those that were not found count as 0, up to the depth.

    Source: Manning et al., Introduction to Information Retrieval, §8.4.
    """
    _check(relevant)
    if wanted.shape != relevant.shape[:1] or (relevant.sum(axis=1) > wanted).any():
        raise ShapeError("need one number of relevant images per query, at least as many as were found")
    precision = np.cumsum(relevant, axis=1) / np.arange(1, relevant.shape[1] + 1)
    findable = np.minimum(wanted, relevant.shape[1])
    return np.asarray((precision * relevant).sum(axis=1) / np.maximum(findable, 1))


def reciprocal_rank(relevant: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return 1 / rank of each query's first relevant hit, 0 where there is none.

    Args:
        relevant: (queries, depth)
    """
    _check(relevant)
    if relevant.shape[1] == 0:
        return np.zeros(len(relevant))
    return np.where(relevant.any(axis=1), 1.0 / (relevant.argmax(axis=1) + 1), 0.0)


def _check(relevant: NDArray[np.bool_]) -> None:
    if relevant.ndim != 2 or relevant.dtype != np.bool_:
        raise ShapeError(f"need (queries, depth) of truth values, got {relevant.shape} {relevant.dtype}")
