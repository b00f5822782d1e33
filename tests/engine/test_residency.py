import os
import sys
from pathlib import Path

import numpy as np
import pytest

from sameitem.engine.residency import resident_share

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mincore as Linux has it")


def test_what_was_read_lies_in_memory_and_what_was_given_back_does_not(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.ones((4000, 512), np.float16))
    rows = np.load(tmp_path / "rows.npy", mmap_mode="r")
    rows.max()
    assert resident_share(rows) == 1.0
    del rows
    with (tmp_path / "rows.npy").open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    share = resident_share(np.load(tmp_path / "rows.npy", mmap_mode="r"))
    assert share is not None
    assert 0 <= share <= 1


def test_an_empty_array_has_no_share() -> None:
    assert resident_share(np.empty(0)) is None
