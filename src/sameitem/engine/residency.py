"""How much of a memory-mapped file lies in memory, which decides how long fine ranking takes (article §03.1)."""

import ctypes
import mmap
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray


def resident_share(array: NDArray[Any]) -> float | None:
    """Return the share of an array's pages that lie in memory, 0..1; None where the system does not tell."""
    if not sys.platform.startswith("linux") or array.nbytes == 0:
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    start = array.ctypes.data - array.ctypes.data % mmap.PAGESIZE
    length = array.ctypes.data + array.nbytes - start
    pages = np.zeros(-(-length // mmap.PAGESIZE), np.uint8)
    failed = libc.mincore(ctypes.c_void_p(start), ctypes.c_size_t(length), ctypes.c_void_p(pages.ctypes.data))
    return None if failed else float(np.mean(pages & 1))
