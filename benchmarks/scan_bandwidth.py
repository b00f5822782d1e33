"""Compare the exhaustive scan of codes that no cache holds with the speed at which memory can be read at all.

    python benchmarks/scan_bandwidth.py [--millions 32] [--turns 5]

Both are timed in turns in one process, on one thread and on all. The codes are random, 512 bits each, with the two
numbers that belong to each: 72 bytes a code. A scan keeps the best 100.
"""

import argparse
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sameitem.engine.kernels import BLOCK, NO_LIMIT, fill_table, scan
from sameitem.engine.lists import EVERYTHING, Codes

BITS = 512
KEPT = 100


@njit(nogil=True, fastmath=True)
def total(words: Any) -> Any:
    """Return the sum of an array: nothing but reading it."""
    found = 0.0
    for place in range(len(words)):
        found += words[place]
    return found


def aligned(shape: tuple[int, ...], dtype: type[np.generic]) -> NDArray[Any]:
    """Return an array that begins at a multiple of 64 bytes, as in a mapped file."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    room = np.empty(size + 64, np.uint8)
    start = -room.ctypes.data % 64
    return room[start : start + size].view(dtype).reshape(shape)


def seconds(work: Callable[[int], object], threads: int) -> tuple[float, float]:
    """Return wall and processor seconds of doing each thread's part."""
    with ThreadPoolExecutor(threads) as pool:
        wall, cpu = time.perf_counter(), time.process_time()
        list(pool.map(work, range(threads)))
        return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    """Print one line per number of threads."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--millions", type=int, default=32, help="of codes")
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    blocks = options.millions * 1_000_000 // BLOCK
    generator = np.random.default_rng(0)
    codes, slopes, offsets = (
        aligned((blocks, BITS // 16, 64), np.uint8),
        aligned((blocks, BLOCK), np.float32),
        aligned((blocks, BLOCK), np.float32),
    )
    for start in range(0, blocks, 4096):
        part = slice(start, min(blocks, start + 4096))
        codes[part] = generator.integers(0, 256, codes[part].shape, np.uint8)
    slopes[:], offsets[:] = -0.05, 1.0
    ids = np.arange(blocks * BLOCK, dtype=np.uint32).reshape(blocks, BLOCK)
    table = aligned((BITS // 4, 16), np.uint8)
    step, least = fill_table(generator.standard_normal(BITS).astype(np.float32) / BITS**0.5, table)
    size = codes.nbytes + slopes.nbytes + offsets.nbytes

    def read(part: int, of: int) -> None:
        for array in (codes, slopes, offsets):
            words = array.reshape(-1).view(np.float64)
            total(words[part * len(words) // of : (part + 1) * len(words) // of])

    def look(part: int, of: int) -> None:
        scores, rows = np.empty(3 * KEPT + 256, np.float32), np.empty(3 * KEPT + 256, np.uint32)
        first, last = part * blocks // of, (part + 1) * blocks // of
        scan(
            Codes(codes, slopes, offsets, ids), first, last, table, step, least, np.float32(0), EVERYTHING,
            scores, rows, 0, KEPT, NO_LIMIT,
        )  # fmt: skip

    for threads in sorted({1, os.cpu_count() or 1}):
        best: dict[str, Sequence[float]] = {}
        for turn in range(options.turns + 1):
            for name, work in (("read", read), ("scan", look)):
                spent = seconds(lambda part, work=work, threads=threads: work(part, threads), threads)
                if turn:  # the first one compiles
                    best[name] = [min(pair) for pair in zip(spent, best.get(name, spent), strict=True)]
        reading, scanning = (size / best[name][0] / 1e9 for name in ("read", "scan"))
        print(
            f"{threads} threads, {options.millions} M codes, {size / 1e9:.2f} GB: read {reading:.1f} GB/s, scan "
            f"{scanning:.1f} GB/s = {scanning / reading:.0%} ({blocks * BLOCK / best['scan'][0] / 1e6:.0f} M codes/s); "
            f"processor time of the scan over that of reading {best['scan'][1] / best['read'][1]:.2f}"
        )


if __name__ == "__main__":
    main()
