"""Who stands behind an entry of the gallery, and how ranked entries become hits.

An entry is a distinct picture with a feature: the representative of its near-duplicates. Its members are the listed
images it stands for: the representative's own and those of its near-duplicates, possibly of other products or sellers.
Filters and deletions allow or forbid members; an entry can be found while one member is allowed.

Entries that are added to a gallery come behind those it was built with, each with one member.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sameitem.core.errors import InputError, ShapeError
from sameitem.core.growing import Growing
from sameitem.core.records import ImageId


@dataclass(frozen=True, slots=True, order=True)
class EntryHit:
    """One entry found for a query, as one of its members; hits sort best first, ties by image id."""

    distance: float  # squared L2 of unit vectors, 0..4, plus the colour term where its weight is not 0
    image_id: ImageId  # of the member shown
    member_row: int  # of the member shown
    entry_row: int
    duplicates: tuple[int, ...]  # rows of the entry's other allowed members, by image id


@dataclass(frozen=True, slots=True, eq=False)
class Members:
    """The members of every entry, sorted by entry, then image id; checked by the constructor.

    The arrays hold what the gallery was built with; what was added is reached by the methods.

    Raises:
        ShapeError: arrays of different length or dtype.
        InputError: unsorted rows, an image listed twice, an entry without its representative, a negative product.
    """

    entry_image_id: NDArray[np.int64]  # (entries,) image id of the representative
    image_id: NDArray[np.int64]  # (members,) each image once
    entry: NDArray[np.int64]  # (members,) row of the entry
    product: NDArray[np.int32]  # (members,) row of the product
    start: NDArray[np.int32] = field(init=False)  # (entries + 1,) members of entry i: start[i] to start[i + 1]
    representative: NDArray[np.int32] = field(init=False)  # (entries,) member row of the representative
    _image_ids: Growing[np.int64] = field(init=False)
    _products: Growing[np.int32] = field(init=False)
    _most: Growing[np.int32] = field(init=False)  # largest product row so far: of what was built, then of each addition

    def __post_init__(self) -> None:
        _check_members(self)
        entries = len(self.entry_image_id)
        object.__setattr__(self, "start", np.searchsorted(self.entry, np.arange(entries + 1)).astype(np.int32))
        own = np.flatnonzero(self.image_id == self.entry_image_id[self.entry])
        if len(own) != entries:
            raise InputError(f"need each of {entries} entries among its own members, found {len(own)}")
        object.__setattr__(self, "representative", own.astype(np.int32))
        object.__setattr__(self, "_image_ids", Growing(self.image_id))
        object.__setattr__(self, "_products", Growing(self.product))
        object.__setattr__(self, "_most", Growing(np.array([self.product.max(initial=-1)], np.int32)))

    def share(self, start: NDArray[np.int32], representative: NDArray[np.int32]) -> None:
        """Use arrays that lie on the disk, for all processes once, instead of those worked out here.

        Raises:
            InputError: they are not the same.
        """
        if not (np.array_equal(start, self.start) and np.array_equal(representative, self.representative)):
            raise InputError("entry_start.npy or entry_member.npy does not fit the members")
        object.__setattr__(self, "start", start)
        object.__setattr__(self, "representative", representative)

    def __len__(self) -> int:
        return len(self._products)  # the last to grow

    @property
    def entries(self) -> int:
        """How many entries there are."""
        return len(self.entry_image_id) + len(self) - len(self.image_id)

    @property
    def products(self) -> int:
        """How many product rows the members may point to."""
        return int(self._most.take(np.array([len(self._most) - 1]))[0]) + 1

    def append(self, image_ids: NDArray[np.int64], products: NDArray[np.int32]) -> None:
        """Add entries (n,) with one member each; an image may have been a member before."""
        self._most.append(np.array([max(self.products - 1, products.max(initial=-1))], np.int32))
        self._image_ids.append(image_ids)
        self._products.append(products)

    def image_ids_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the image ids of some members."""
        return self._image_ids.take(rows)

    def products_of(self, rows: NDArray[np.int64]) -> NDArray[np.int32]:
        """Return the product rows of some members."""
        return self._products.take(rows)

    def every_product(self) -> NDArray[np.int32]:
        """Return the product rows of all members: a copy where some were added."""
        return self._products.whole()

    def entries_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the entries of some members."""
        built = len(self.image_id)
        late = len(self.entry_image_id) + rows - built
        return np.where(rows < built, self.entry[np.minimum(rows, built - 1)], late)

    def rows_of(self, entry: int) -> slice:
        """Return where the members of an entry lie."""
        late = entry - len(self.entry_image_id)
        if late >= 0:
            return slice(len(self.image_id) + late, len(self.image_id) + late + 1)
        return slice(int(self.start[entry]), int(self.start[entry + 1]))

    def rank(
        self,
        entries: NDArray[np.int64],
        distances: NDArray[np.float64],
        *,
        k: int,
        allowed: NDArray[np.bool_] | None,
        without_product: int | None,
        one_per_product: bool,
    ) -> list[EntryHit]:
        """Return the k best of some entries (rows, each once) with their distances, as hits.

        An entry without an allowed member is left out; members of `without_product` are not allowed. A hit shows the
        representative where it is allowed, else the allowed member with the smallest image id. With
        `one_per_product` a product is reached by the first entry that has an allowed member of it: an entry that is
        the first of no product is dropped, and the member shown is of a product reached here. So no product is shown
        twice, and each is either shown or among the duplicates of a hit.
        """
        owner, member = self._allowed_members(entries, allowed, without_product)
        there = np.unique(owner)
        if len(there) < len(entries):
            entries, distances, owner = entries[there], distances[there], np.searchsorted(there, owner)
        first = np.searchsorted(owner, np.arange(len(entries)))
        own = self.representatives(entries)
        is_own = np.zeros(len(entries), np.bool_)
        is_own[owner[member == own[owner]]] = True
        shown = np.where(is_own, own, member[first]) if len(entries) else own
        order = np.lexsort((self.image_ids_of(shown), distances))
        may_show = np.ones(len(member), dtype=np.bool_)
        if one_per_product:
            place = np.empty_like(order)
            place[order] = np.arange(len(order))
            _, product = np.unique(self.products_of(member), return_inverse=True)
            reached_at = np.full(len(member), len(entries))
            np.minimum.at(reached_at, product, place[owner])
            may_show = reached_at[product] == place[owner]
            order = order[np.unique(place[owner[may_show]])]
        best = order[:k].tolist()
        bounds, listed = np.searchsorted(owner, np.arange(len(entries) + 1)).tolist(), member.tolist()
        chosen, folded = [], []
        for i in best:
            there = listed[bounds[i] : bounds[i + 1]]
            row = there[0]
            if len(there) > 1:
                showable = [one for one, may in zip(there, may_show[bounds[i] : bounds[i + 1]], strict=True) if may]
                row = int(shown[i]) if shown[i] in showable else showable[0]
            chosen.append(row)
            folded.append(tuple(one for one in there if one != row) if len(there) > 1 else ())
        image_ids = self.image_ids_of(np.array(chosen, np.int64)).tolist()
        hits = [
            EntryHit(distance, ImageId(image_id), row, entry, duplicates)
            for distance, image_id, row, entry, duplicates in zip(
                distances[best].tolist(), image_ids, chosen, entries[best].tolist(), folded, strict=True
            )
        ]
        return sorted(hits)

    def _allowed_members(
        self, entries: NDArray[np.int64], allowed: NDArray[np.bool_] | None, without_product: int | None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return, for all allowed members of some entries in order, the position of the entry and the member's row."""
        built = len(self.entry_image_id)
        known = np.minimum(entries, built - 1)
        first, counts = self.start[known], self.start[known + 1] - self.start[known]
        late = entries >= built
        first, counts = np.where(late, len(self.image_id) + entries - built, first), np.where(late, 1, counts)
        owner = np.repeat(np.arange(len(entries)), counts)
        member = np.arange(len(owner)) + np.repeat(first - (np.cumsum(counts) - counts), counts)
        keep = np.ones(len(owner), np.bool_)
        if allowed is not None:
            keep = (member < len(allowed)) & allowed[np.minimum(member, len(allowed) - 1)]
        if without_product is not None:
            keep &= self.products_of(member) != without_product
        return owner[keep], member[keep]

    def representatives(self, entries: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the member rows of the representatives of some entries."""
        built = len(self.entry_image_id)
        known = self.representative[np.minimum(entries, built - 1)].astype(np.int64)
        return np.where(entries < built, known, len(self.image_id) + entries - built)


def _check_members(members: Members) -> None:
    arrays = {name: getattr(members, name) for name in ("image_id", "entry", "product")}
    shapes = {name: array.shape for name, array in arrays.items()}
    if members.entry_image_id.ndim != 1 or any(shape != (len(members.image_id),) for shape in shapes.values()):
        raise ShapeError(f"need entry_image_id (entries,) and the other arrays (members,), got {shapes}")
    if any(array.dtype.kind != "i" for array in (members.entry_image_id, *arrays.values())):
        raise ShapeError(
            "need arrays of signed whole numbers: " + ", ".join(f"{n} {a.dtype}" for n, a in arrays.items())
        )
    entry, image_id, entries = members.entry, members.image_id, len(members.entry_image_id)
    if len(entry) and not (entry.min() >= 0 and entry.max() < entries):
        raise InputError(f"need entry rows of 0 to {entries - 1}, got {entry.min()} to {entry.max()}")
    step, rise = np.diff(entry), np.diff(image_id)
    if (step < 0).any() or ((step == 0) & (rise <= 0)).any():
        raise InputError("need members sorted by entry, then image id; sort them with np.lexsort((image_id, entry))")
    if (np.diff(np.sort(image_id)) == 0).any():
        raise InputError("need each image among the members once; an image stands behind one entry only")
    if len(members.product) and members.product.min() < 0:
        raise InputError(f"need product rows >= 0, got {members.product.min()}")
