"""Blocks of codes and a table, drawn, and the sums and scores that NumPy makes of them.

Run as `python drawn_codes.py`, this writes what the kernels make of them: for processors that this one can play.
"""

import hashlib
import sys
from dataclasses import dataclass

import numpy as np
from numba import njit, uint64
from numpy.typing import NDArray

from sameitem.engine.kernels import BLOCK, LARGEST, NO_LIMIT, block_scores, exact_distances, scan
from sameitem.engine.lists import Codes

NUMBERS = (np.float32(0.375), np.float32(-7.25), np.float32(2.125))  # step, least, base


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """What `scan` gets."""

    blocks: NDArray[np.uint8]
    slopes: NDArray[np.float32]
    offsets: NDArray[np.float32]
    ids: NDArray[np.uint32]
    table: NDArray[np.uint8]

    def sums(self) -> NDArray[np.int64]:
        """Return what each code's groups stand for in the table, summed: (blocks, 32)."""
        groups = self.blocks.reshape(len(self.blocks), -1, 16)
        slot = np.arange(BLOCK)
        here = groups[:, :, 2 * (slot % 8) + slot // 8 % 2]  # (blocks, groups, 32)
        nibbles = np.where(slot < 16, here & 15, here >> 4)
        numbers = np.take_along_axis(self.table[None], nibbles.astype(np.int64), axis=2)
        return numbers.sum(axis=1, dtype=np.int64)

    def scores(self) -> NDArray[np.float32]:
        """Return the score of each code: (blocks, 32)."""
        step, least, base = NUMBERS
        return base + (self.offsets + self.slopes * (self.sums().astype(np.float32) * step + least))


def draw(seed: int, *, blocks: int, bits: int) -> Drawn:
    """Draw blocks; every seventh slot holds no code."""
    generator = np.random.default_rng(seed)
    offsets = generator.standard_normal((blocks, BLOCK)).astype(np.float32)
    offsets.reshape(-1)[::7] = np.inf
    return Drawn(
        blocks=generator.integers(0, 256, (blocks, bits // 16, 64), dtype=np.uint8),
        slopes=generator.standard_normal((blocks, BLOCK)).astype(np.float32),
        offsets=offsets,
        ids=generator.permutation(blocks * BLOCK).astype(np.uint32).reshape(blocks, BLOCK),
        table=generator.integers(0, LARGEST + 1, (bits // 4, 16), dtype=np.uint8),
    )


@njit(nogil=True)
def scored(blocks, slopes, offsets, table, numbers):  # type: ignore[no-untyped-def]
    """Return the scores of all blocks."""
    scores = np.empty((len(blocks), BLOCK), np.float32)
    for block in range(len(blocks)):
        block_scores(
            uint64(blocks[block].ctypes.data), uint64(table.ctypes.data), blocks.shape[1],
            uint64(slopes[block].ctypes.data), uint64(offsets[block].ctypes.data),
            numbers[0], numbers[1], numbers[2], np.float32(0), uint64(scores[block].ctypes.data),
        )  # fmt: skip
    return scores


def scores_of(drawn: Drawn) -> NDArray[np.float32]:
    """Return the scores of all blocks by the kernel."""
    found: NDArray[np.float32] = scored(drawn.blocks, drawn.slopes, drawn.offsets, drawn.table, np.array(NUMBERS))
    return found


def scan_all(
    drawn: Drawn, *, kept: int, wanted: NDArray[np.uint8], limit: float = NO_LIMIT
) -> list[tuple[np.float32, np.uint32]]:
    """Return the `kept` smallest scores below a limit with their rows, by the kernel."""
    scores, rows = np.empty(kept + 64, np.float32), np.empty(kept + 64, np.uint32)
    step, least, base = NUMBERS
    count, _ = scan(
        Codes(drawn.blocks, drawn.slopes, drawn.offsets, drawn.ids), 0, len(drawn.blocks), drawn.table,
        step, least, base, wanted, scores, rows, 0, kept, np.float32(limit),
    )  # fmt: skip
    return sorted(zip(scores[:count], rows[:count], strict=True))[:kept]


def distances_of(stored: NDArray[np.float16], query: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the exact distance of each stored row by the kernel."""
    distances = np.empty(len(stored))
    exact_distances(query, stored.view(np.uint16), np.arange(len(stored)), distances)
    return distances


def digest() -> str:
    """Return what tells two processors apart whose kernels do not give the same bits."""
    found = hashlib.sha256()
    for bits in (64, 192, 512):
        found.update(scores_of(draw(bits, blocks=5, bits=bits)).tobytes())
    for dim in (7, 16, 100):
        generator = np.random.default_rng(dim)
        stored = generator.standard_normal((9, dim)).astype(np.float16)
        stored[0] *= np.float16(1e-6)  # below the normal range of float16
        found.update(distances_of(stored, generator.standard_normal(dim).astype(np.float32)).tobytes())
    return found.hexdigest()


if __name__ == "__main__":
    sys.stdout.write(digest())
