"""Which members of a gallery may be shown, in the form that the search asks for; follows changes without a new pass."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sameitem.core.errors import ShapeError
from sameitem.core.growing import Growing
from sameitem.engine.kernels import compiled
from sameitem.engine.members import Members


class Sieve:
    """A mask of members, and what follows from it. One thread changes it at a time, any number search with it."""

    def __init__(self, members: Members, list_of_entry: Growing[np.int32], lists: int, mask: NDArray[np.bool_]) -> None:
        """Prepare a mask.

        Args:
            members: of the gallery.
            list_of_entry: inverted list of each entry.
            lists: how many lists there are.
            mask: (members,) who may be shown.

        Raises:
            ShapeError: a mask of another shape.
        """
        if mask.shape != (len(members),) or mask.dtype != np.bool_:
            raise ShapeError(f"need a mask ({len(members)},) of bool, got {mask.shape} {mask.dtype}")
        self._members, self._list_of_entry = members, list_of_entry
        built, known = len(members.image_id), len(members.entry_image_id)
        shown, bits = np.ascontiguousarray(mask[:built]), np.zeros(-(-known // 8), np.uint8)
        of_product = np.zeros(members.products, np.int32)
        self.list_bits = np.zeros(-(-lists // 8), np.uint8)  # of the lists that hold an entry that may be shown
        self.entries = int(
            _sift(shown, members.start, members.product, list_of_entry.first, bits, self.list_bits, of_product)
        )
        self.products = int(np.count_nonzero(of_product))  # of which a member may be shown
        self._mask, self._bits, self._of_product = (
            Growing.in_memory(shown),
            Growing.in_memory(bits),
            Growing.in_memory(of_product),
        )
        self._known = known
        self.update(np.arange(built, len(mask)), mask[built:])

    @property
    def mask(self) -> NDArray[np.bool_]:
        """(members,) who may be shown; changes with the sieve."""
        return self._mask.more

    @property
    def bits(self) -> NDArray[np.uint8]:
        """Entries of which a member may be shown, the lowest bit of a byte first; changes with the sieve."""
        return self._bits.more

    @property
    def share(self) -> float:
        """How many of the entries may be shown, 0..1."""
        return self.entries / max(1, self._known)

    def update(self, rows: NDArray[np.int64], may: NDArray[np.bool_]) -> None:
        """Say anew whether some members (n,) may be shown (n,); they may have been added since the last call."""
        members = self._members
        self._mask.append(np.zeros(len(members) - len(self._mask), np.bool_))
        self._of_product.append(np.zeros(max(0, members.products - len(self._of_product)), np.int32))
        self._known = members.entries
        self._bits.append(np.zeros(-(-self._known // 8) - len(self._bits), np.uint8))
        mask, bits, of_product = self._mask.more, self._bits.more, self._of_product.more
        changed = np.flatnonzero(mask[rows] != may)
        mask[rows[changed]] = may[changed]
        np.add.at(of_product, members.products_of(rows[changed]), np.where(may[changed], 1, -1))
        self.products = int(np.count_nonzero(of_product)) if len(changed) else self.products
        for entry in np.unique(members.entries_of(rows[changed])).tolist():
            is_shown, bit = bool(mask[members.rows_of(entry)].any()), 1 << entry % 8
            if is_shown == bool(bits[entry // 8] & bit):
                continue
            bits[entry // 8] ^= bit
            self.entries += 1 if is_shown else -1
            if is_shown:
                number = int(self._list_of_entry.take(np.array([entry]))[0])
                self.list_bits[number // 8] |= 1 << number % 8


@compiled
def _sift(mask: Any, start: Any, product: Any, lists: Any, bits: Any, list_bits: Any, of_product: Any) -> int:
    """Set the bits of entries and lists, count each product's members, and return how many entries may be shown."""
    entries = 0
    for entry in range(len(start) - 1):
        is_shown = False
        for row in range(start[entry], start[entry + 1]):
            if mask[row]:
                is_shown = True
                of_product[product[row]] += 1
        if is_shown:
            entries += 1
            bits[entry >> 3] |= np.uint8(1 << (entry & 7))
            number = lists[entry]
            list_bits[number >> 3] |= np.uint8(1 << (number & 7))
    return entries
