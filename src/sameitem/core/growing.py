"""An array that rows are added to, while others read it."""

from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Number = TypeVar("Number", bound=np.generic)
_LEAST = 256  # rows there is room for, once one was added


class Growing(Generic[Number]):
    """An array whose first rows are given, often on the disk, and whose others are added in memory.

    One thread adds at a time. Who reads meanwhile sees added rows wholly or not at all.
    """

    def __init__(self, first: NDArray[Number]) -> None:
        self.first = first
        self._room = np.empty((0, *first.shape[1:]), first.dtype)
        self._count = 0

    @classmethod
    def in_memory(cls, rows: NDArray[Number]) -> "Growing[Number]":
        """Return an array all of whose rows lie side by side in memory, in `more`, however many are added."""
        growing = cls(rows[:0])
        growing.append(rows)
        return growing

    def __len__(self) -> int:
        return len(self.first) + self._count

    @property
    def more(self) -> NDArray[Number]:
        """The rows that were added: not a copy, and not to grow with later ones."""
        count = self._count  # before the room: a newer room holds them too
        return self._room[:count]

    def append(self, rows: NDArray[Number]) -> None:
        """Add rows (n, ...) at the end."""
        count, needed = self._count, self._count + len(rows)
        if needed > len(self._room):
            room = np.empty((max(needed, 2 * len(self._room), _LEAST), *self.first.shape[1:]), self.first.dtype)
            room[:count] = self._room[:count]
            self._room = room
        self._room[count:needed] = rows
        self._count = needed

    def take(self, rows: NDArray[np.integer[Any]]) -> NDArray[Number]:
        """Return some rows (n,) in the order asked for: (n, ...)."""
        late = rows >= len(self.first)
        if not late.any():
            return np.asarray(self.first[rows])
        taken = np.empty((len(rows), *self.first.shape[1:]), self.first.dtype)
        taken[~late] = self.first[rows[~late]]
        taken[late] = self.more[rows[late] - len(self.first)]
        return taken

    def whole(self) -> NDArray[Number]:
        """Return all rows: a copy where some were added."""
        return np.concatenate([self.first, self.more]) if self._count else self.first
