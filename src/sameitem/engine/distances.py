"""Exact distances, equal bit for bit whatever else stands in the batch, on every machine.

Matrix products of a library sum in an order that depends on batch and processor. Here each row is summed by adding its
halves until one column is left: only element by element additions, of which IEEE 754 fixes every bit.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sameitem.core.errors import ShapeError

CHUNK_ROWS = 64  # rows of a step: their float64 differences stay in the processor's cache


def squared_distances(rows: NDArray[np.floating[Any]], query: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the squared L2 distance of each row (rows, dim) to the query (dim,); smaller is more alike.

    Raises:
        ShapeError: rows and query of different dims.
    """
    _check(rows, query)
    distances = np.empty(len(rows), dtype=np.float64)
    for start in range(0, len(rows), CHUNK_ROWS):
        part = slice(start, start + CHUNK_ROWS)
        difference = rows[part].astype(np.float32)
        difference -= query
        squares = difference.astype(np.float64)
        squares *= squares
        distances[part] = _sum_of_rows(squares)
    return distances


def colour_distances(rows: NDArray[np.floating[Any]], colour: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return 1 - the intersection of each colour histogram (rows, bins) with one (bins,): 0 equal, 1 nothing shared.

    Raises:
        ShapeError: histograms of different lengths.
    """
    _check(rows, colour)
    distances = np.empty(len(rows), dtype=np.float64)
    for start in range(0, len(rows), CHUNK_ROWS):
        part = slice(start, start + CHUNK_ROWS)
        distances[part] = 1.0 - _sum_of_rows(np.minimum(rows[part], colour, dtype=np.float32).astype(np.float64))
    return distances


def _sum_of_rows(terms: NDArray[np.float64]) -> NDArray[np.float64]:
    while (width := terms.shape[1]) > 1:
        half = width // 2
        halves = terms[:, :half] + terms[:, half : 2 * half]
        if width % 2:
            halves[:, 0] += terms[:, -1]
        terms = halves
    return terms[:, 0]


def _check(rows: NDArray[np.floating[Any]], query: NDArray[np.float32]) -> None:
    if rows.ndim != 2 or query.ndim != 1 or rows.shape[1] != len(query) or len(query) == 0:
        raise ShapeError(f"need rows (rows, dim) and one (dim,) with dim >= 1, got {rows.shape} and {query.shape}")
