"""What was added to an index version since it was built: the same codes in the same lists, but in memory.

The codes of a list lie in blocks like those on the disk, only that the blocks are chained: each list has its newest
block, each block the one before it. A block is looked through while it is being filled: what is written last of an
entry is the offset, until then infinite, which no search finds.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sameitem.core.growing import Growing
from sameitem.engine.kernels import BLOCK
from sameitem.engine.lists import NO_BLOCK, Added, Lists, groups_of, no_addition, no_codes, put_code

FIRST_ROOM = 64  # blocks and entries there is room for, once one was added


class Delta:
    """Entries that were added; one thread adds at a time, any number search meanwhile."""

    def __init__(self, lists: Lists, first_row: int, dim: int) -> None:
        """Start empty.

        Args:
            lists: that the entries are sorted into.
            first_row: of an entry that is added: how many the index version holds.
            dim: width of a feature.
        """
        self._lists, self._first_row = lists, first_row
        self._filled, self._blocks = np.zeros(0, np.int32), 0
        self.added = no_addition(lists.signs.shape[1], dim)
        self.list_of_row = Growing(lists.list_of_row)

    def __len__(self) -> int:
        return len(self.list_of_row) - self._first_row

    def append(self, features: NDArray[np.float32]) -> None:
        """Add entries with these features (n, dim) of unit length; they are found when this returns."""
        stored = features.astype(np.float16)
        packed, slopes, offsets, list_of_row = self._lists.encode(stored.astype(np.float32))
        self._make_room(list_of_row)
        added, start = self.added, len(self)
        added.halves[start : start + len(stored)] = stored.view(np.uint16)
        self.list_of_row.append(list_of_row)
        groups = groups_of(packed)
        for row, number in enumerate(list_of_row):
            block = int(added.newest[number])
            if block == NO_BLOCK or self._filled[block] == BLOCK:
                block = self._blocks
                self._blocks += 1
                added.before[block] = added.newest[number]
                added.newest[number] = block
            slot = int(self._filled[block])
            put_code(added.codes.blocks[block], slot, groups[row])
            added.codes.ids[block, slot] = self._first_row + start + row
            added.codes.slopes[block, slot] = slopes[row]
            added.codes.offsets[block, slot] = offsets[row]
            self._filled[block] += 1

    @property
    def rows(self) -> NDArray[np.float16]:
        """(entries or more, dim) the stored features."""
        return self.added.halves.view(np.float16)

    def slots(self) -> NDArray[np.int64]:
        """Return where in the blocks the code of each entry lies: (entries,), 32 slots a block."""
        blocks, slots = np.nonzero(np.isfinite(self.added.codes.offsets))
        order = np.argsort(self.added.codes.ids[blocks, slots])
        return np.asarray((BLOCK * blocks + slots)[order], np.int64)

    def _make_room(self, list_of_row: NDArray[np.int32]) -> None:
        """Move to larger arrays where these might not do; who searches keeps those it has."""
        codes, newest, before, halves = self.added
        blocks = self._blocks + len(np.unique(list_of_row)) + len(list_of_row) // BLOCK
        entries = len(self) + len(list_of_row)
        if blocks > len(before):
            room = max(blocks, 2 * len(before), FIRST_ROOM)
            wider = no_codes(room, self._lists.signs.shape[1])
            for field, old in codes._asdict().items():
                getattr(wider, field)[: len(old)] = old
            codes, before, self._filled = wider, _longer(before, room), _longer(self._filled, room)
            newest = newest.copy() if len(newest) else np.full(len(self._lists.centres), NO_BLOCK, np.int32)
        if entries > len(halves):
            halves = _longer(halves, max(entries, 2 * len(halves), FIRST_ROOM))
        self.added = Added(codes, newest, before, halves)


def _longer(array: NDArray[Any], length: int) -> NDArray[Any]:
    longer = np.zeros((length, *array.shape[1:]), array.dtype)
    longer[: len(array)] = array
    return longer
