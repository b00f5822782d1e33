"""A random rotation that costs a few additions a number instead of a matrix product.

Signs are flipped at random and a Walsh-Hadamard transform mixes what stands side by side, three times over. A query
gets the same bits whatever else is in the batch, which a matrix product does not promise.

Source: Ailon, Chazelle: The fast Johnson-Lindenstrauss transform (SIAM J. Comput. 2009).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sameitem.core.errors import ShapeError
from sameitem.engine.kernels import compiled

ROUNDS = 3
WIDEST = 1024  # numbers of a feature; the kernels sum in 16 bits, which hold four times as many
_SIDE = 16  # numbers that are mixed at once


def rotation_signs(dim: int, *, seed: int) -> NDArray[np.int8]:
    """Draw a rotation: (ROUNDS, bits) of -1 and 1, bits being dim rounded up to a multiple of 64."""
    if not 1 <= dim <= WIDEST:
        raise ShapeError(f"need a dim of 1 to {WIDEST}, got {dim}")
    bits = -(-dim // 64) * 64
    return np.random.default_rng([seed, dim]).choice(np.array([-1, 1], np.int8), (ROUNDS, bits))


def rotate(features: NDArray[np.float32], signs: NDArray[np.int8]) -> NDArray[np.float32]:
    """Turn (rows, dim) features into (rows, bits) ones; lengths and angles stay.

    Raises:
        ShapeError: features that are no matrix, or of another dim than the signs were drawn for.
    """
    bits = signs.shape[1]
    if features.ndim != 2 or not 0 <= bits - features.shape[1] < 64:
        raise ShapeError(f"need features (rows, dim) with dim of {bits - 63} to {bits}, got {features.shape}")
    rotated = np.zeros((len(features), bits), np.float32)
    rotated[:, : features.shape[1]] = features
    _rotate(rotated, signs)
    return rotated


@compiled
def _rotate(rows: Any, signs: Any) -> None:
    bits = rows.shape[1]
    power = 1
    while 2 * power <= bits:
        power *= 2
    scale = np.float32(1 / np.sqrt(power))
    turned = np.empty(power, np.float32)
    for row in range(rows.shape[0]):
        values = rows[row]
        for turn in range(signs.shape[0]):
            for at in range(bits):
                values[at] *= signs[turn, at]
            start = (bits - power) * (turn % 2)  # the first numbers, then the last ones
            mixed = values[start : start + power]
            _mix(mixed, power // 2, _SIDE)
            for at in range(power // _SIDE):  # what is left to mix stands side by side: turn the square
                for other in range(_SIDE):
                    turned[other * (power // _SIDE) + at] = mixed[at * _SIDE + other] * scale
            _mix(turned, power // 2, power // _SIDE)
            mixed[:] = turned


@compiled
def _mix(values: Any, half: int, last: int) -> None:
    """Replace numbers that are `half` apart by sum and difference, then those half as far apart, down to `last`."""
    while half >= last:
        for left in range(0, len(values), 2 * half):
            for at in range(left, left + half):
                one, other = values[at], values[at + half]
                values[at] = one + other
                values[at + half] = one - other
        half //= 2
