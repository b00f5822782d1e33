"""The one place that turns real features into packed binary codes, and measures how far codes lie apart."""

import numpy as np
from numpy.typing import NDArray

from sameitem.core.errors import ShapeError

Codes = NDArray[np.uint8]  # (rows, bits // 8)

CHUNK_ROWS = 2048  # codes compared at once: what is counted stays in the processor's cache


def random_rotation(dim: int, bits: int, *, seed: int) -> NDArray[np.float32]:
    """Draw the rotation that comes before the signs: (dim, bits), `features @ rotation` is what gets binarised.

    With bits <= dim its columns are orthonormal (every bit asks about another direction); with bits > dim its rows
    are, and lengths and angles of features are kept. The same seed draws the same rotation with the same NumPy; an
    index stores the one it was built with.

    Source: article §03.1 (binary features); the random rotation is ours.
    """
    if dim < 1 or bits < 8 or bits % 8:
        raise ShapeError(f"need dim >= 1 and a positive multiple of 8 bits, got dim {dim} and {bits} bits")
    tall = np.random.default_rng(seed).standard_normal((max(dim, bits), min(dim, bits)))
    orthonormal, upper = np.linalg.qr(tall)
    orthonormal *= np.sign(np.diag(upper))  # without this QR prefers some rotations to others
    return np.ascontiguousarray(orthonormal if dim >= bits else orthonormal.T, dtype=np.float32)


def binarize(features: NDArray[np.float32], rotation: NDArray[np.float32]) -> Codes:
    """Turn real features into packed sign bits: (rows, dim) to (rows, bits // 8).

    A bit is 1 where the rotated feature is > 0. A value within rounding of zero may fall either way when the same
    row comes in another batch: codes choose candidates, they never decide an order that is shown.

    Raises:
        ShapeError: features and rotation do not fit, or the rotation's columns are no multiple of 8.

    Source: article §03.1.
    """
    if features.ndim != 2 or rotation.ndim != 2 or features.shape[1] != rotation.shape[0] or rotation.shape[1] % 8:
        raise ShapeError(
            f"need features (rows, dim) and a rotation (dim, bits) with bits % 8 == 0, "
            f"got {features.shape} and {rotation.shape}"
        )
    return np.packbits(features @ rotation > 0, axis=1)


def hamming(codes: Codes, code: Codes) -> NDArray[np.int32]:
    """Count the bits in which each of many codes differs from one: (rows, width) and (width,) to (rows,).

    Raises:
        ShapeError: codes of another width, or a width that is no multiple of 8 bytes.
    """
    if codes.ndim != 2 or codes.shape[1:] != code.shape or code.size % 8:
        raise ShapeError(f"need codes (rows, width), code (width,), width % 8 == 0, got {codes.shape} and {code.shape}")
    words = np.ascontiguousarray(codes).view(np.uint64)
    word = np.ascontiguousarray(code).view(np.uint64)
    ones = np.ones(len(word), dtype=np.float32)
    counts = np.empty(len(words), dtype=np.int32)
    for start in range(0, len(words), CHUNK_ROWS):
        differing = np.bitwise_count(words[start : start + CHUNK_ROWS] ^ word)
        counts[start : start + CHUNK_ROWS] = differing.astype(np.float32) @ ones  # small whole numbers: exact
    return counts
