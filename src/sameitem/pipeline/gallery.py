"""The live gallery: an opened index version, the products behind it, and what the catalogue changed since."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sameitem.catalog.selection import Decision, expiry_moment
from sameitem.catalog.taxonomy import OTHERS, Taxonomy
from sameitem.category.reference import ReferenceSet, open_reference
from sameitem.category.vote import ranking, vote
from sameitem.core.errors import InputError
from sameitem.core.filters import Column, Filter, Labels, Numbers, product_value
from sameitem.core.growing import Growing
from sameitem.core.records import Attribute, ImageId, Product, ProductId
from sameitem.core.settings import CategorySettings
from sameitem.engine.index import Index, open_index
from sameitem.engine.members import EntryHit
from sameitem.engine.sieve import Sieve
from sameitem.pipeline.listings import MEMBERS, PRODUCTS, read_members, read_products
from sameitem.pipeline.products import ProductTable, ValueOf, rows_with, take

REFERENCE = "reference"
KEPT_SIEVES = 8  # of the filters asked for last
FOLLOWED = 2000  # members that change at once, from which on sieves are made anew


@dataclass(frozen=True, slots=True)
class Listing:
    """A product's image folded behind a result because it shows nearly the same picture."""

    product_id: ProductId
    image_name: str


@dataclass(frozen=True, slots=True)
class NewMember:
    """A listed image that is added to a gallery."""

    image_id: ImageId
    name: str
    product: Product
    top: str  # its top category id


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A filter; equal ones share a sieve."""

    text: str
    categories: tuple[str, ...]
    tops: tuple[str, ...]  # searched in by prediction


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    """A sieve, and for how long it holds if nothing else changes."""

    sieve: Sieve
    filter: Filter | None
    since_s: float  # seconds since 1970
    until_s: float


class Gallery:
    """Member i of the engine's arrays is one listed image, product j one product of the table.

    It is told what changes: `following.py` does. Who searches meanwhile sees a change wholly or not at all.
    """

    def __init__(
        self,
        index: Index,
        *,
        names: list[str],
        tops: Sequence[str],
        products: list[Product],
        reference: ReferenceSet | None,
        taxonomy: Taxonomy,
    ) -> None:
        self.index, self.reference, self.taxonomy = index, reference, taxonomy
        self.version, self.created = index.manifest.version, index.manifest.created
        self.model_version = index.manifest.model_version
        self.seq = int(index.manifest.extra["seq"])  # of the last change taken in
        self.pending: dict[ImageId, int] = {}  # images that wait to be added, and the number of their last change
        self.left_out: dict[ImageId, Decision] = {}  # images that did not pass selection, among those that waited
        self.lock = threading.RLock()  # held by whoever changes something, and while a sieve is made
        self.products = ProductTable(products)
        self.member_names = names
        self._top_ids: list[str] = []
        self._tops = Growing.in_memory(self._top_codes(tops))
        self._alive = Growing.in_memory(np.ones(len(names), np.bool_))
        self._by_image = _Finder(index.members.image_id)
        self._by_product = _Finder(index.members.product)
        self._sieves: OrderedDict[_Wanted, _Kept] = OrderedDict()

    @classmethod
    def open(cls, folder: Path, taxonomy: Taxonomy) -> "Gallery":
        """Open an index version's folder.

        Raises:
            NotFoundError: there is no such version.
            ConflictError: of another format, or a file does not fit its checksum.
        """
        index = open_index(folder)
        names, tops = read_members(folder / MEMBERS)
        return cls(
            index,
            names=names,
            tops=tops,
            products=read_products(folder / PRODUCTS),
            reference=open_reference(folder / REFERENCE) if (folder / REFERENCE).is_dir() else None,
            taxonomy=taxonomy,
        )

    @property
    def alive(self) -> NDArray[np.bool_]:
        """(members,) false once the catalogue has deleted the image, or shows another picture for it."""
        return self._alive.more

    # -- what changes

    def remove(self, image_ids: Sequence[ImageId]) -> None:
        """Take images out; those that are not in are passed over."""
        with self.lock:
            rows = self._alive_rows(image_ids)
            self.alive[rows] = False
            self._follow(rows)

    def change(self, products: Sequence[Product]) -> None:
        """Take in what is new about products; those that are not in are passed over."""
        with self.lock:
            rows = [
                self.products.put(product)
                for product in products
                if self.products.row_of(product.product_id) is not None
            ]
            self._follow(self._rows_of_products(np.array(rows, np.int64)))

    def add(self, members: Sequence[NewMember], features: NDArray[np.float32], colours: NDArray[np.float32]) -> None:
        """Add images with their features (n, dim) and colour histograms (n, 24); an earlier picture of one goes.

        Raises:
            InputError, ShapeError: features or colours that an index cannot hold; nothing was added.
        """
        with self.lock:
            before = self._alive_rows([member.image_id for member in members])
            products = np.array([self.products.put(member.product) for member in members], np.int32)
            self._tops.append(self._top_codes([member.top for member in members]))
            self.member_names += [member.name for member in members]
            image_ids = np.array([member.image_id for member in members], np.int64)
            added = self.index.append(features, colours, image_ids=image_ids, products=products)
            self._alive.append(np.ones(len(members), np.bool_))
            self.alive[before] = False
            self._follow(np.concatenate([before, added]))

    def count_changed(self) -> int:
        """Return how many members were added or taken out since the version was built."""
        built = len(self.index.members.image_id)
        return len(self.alive) - built + int(np.count_nonzero(~self.alive[:built]))

    # -- who may be shown

    def allowed(
        self, wanted: Filter | None, *, categories: Sequence[str], now: datetime, tops: Sequence[str] = ()
    ) -> Sieve:
        """Return which members may be shown.

        Args:
            wanted: condition on the product, or None.
            categories: top category ids or leaf paths, one of which the member must be in; empty = any.
            now: products that expire before are left out.
            tops: top categories, one of which the member must be in where somebody told its category; empty = any.

        Raises:
            InputError: the filter names an attribute that no product has, or a category is unknown.
        """
        key, now_s = _Wanted(wanted.text if wanted else "", tuple(categories), tuple(tops)), now.timestamp()
        with self.lock:  # no change of the catalogue comes in between
            kept = self._sieves.get(key)
            if kept is None or not kept.since_s <= now_s < kept.until_s:
                mask = self._mask(key, wanted, now_s)
                ends = self._expiry().values
                until_s = float(np.min(ends[ends > now_s], initial=np.inf))
                kept = self._sieves[key] = _Kept(self.index.sieve(mask), wanted, now_s, until_s)
            self._sieves.move_to_end(key)
            if len(self._sieves) > KEPT_SIEVES:
                self._sieves.popitem(last=False)
            return kept.sieve

    def _mask(
        self, key: _Wanted, wanted: Filter | None, now_s: float, rows: NDArray[np.int64] | None = None
    ) -> NDArray[np.bool_]:
        """Return which of some members, or of all, may be shown."""
        members = self.index.members
        of_member = members.every_product() if rows is None else members.products_of(rows)
        products, place = (None, of_member) if rows is None else np.unique(of_member, return_inverse=True)
        may = ~(_rows(self._expiry(), products).values <= now_s)
        if wanted is not None:
            may &= wanted.mask(lambda name: _rows(self._column(name), products), len(may))
        mask = (self.alive if rows is None else self.alive[rows]) & may[place]
        codes = self._tops.more if rows is None else self._tops.more[rows]
        tops = Labels(codes, self._top_ids)
        if key.categories:
            wanted_leaves = {self.taxonomy.leaf_of(one) for one in key.categories} - set(self.tops(key.categories))
            leaves = _rows(self._leaves(), products)
            mask &= rows_with(tops, set(key.categories)) | rows_with(leaves, wanted_leaves - {""})[place]
        if key.tops:
            untold = _rows(self._leaves(), products).codes < 0
            mask &= rows_with(tops, {*key.tops, OTHERS}) | untold[place]
        return np.asarray(mask)

    def _follow(self, rows: NDArray[np.int64]) -> None:
        """Bring the sieves up to date about some members; the caller holds the lock."""
        if len(rows) > FOLLOWED:
            self._sieves.clear()
        for key, kept in list(self._sieves.items()) if len(rows) else ():
            kept.sieve.update(rows, self._mask(key, kept.filter, kept.since_s, rows))
            ends = _rows(self._expiry(), self.index.members.products_of(rows)).values
            until_s = float(np.min(ends[ends > kept.since_s], initial=kept.until_s))
            self._sieves[key] = _Kept(kept.sieve, kept.filter, kept.since_s, until_s)

    def tops(self, categories: Sequence[str]) -> list[str]:
        """Return the top category ids among these.

        Raises:
            InputError: one is neither a top category nor a leaf of the gallery.
        """
        known = {category.id for category in self.taxonomy.top}
        leaves = set(self._leaves().values)
        unknown = [c for c in categories if c not in known and self.taxonomy.leaf_of(c) not in leaves]
        if unknown:
            raise InputError(
                f"unknown category {unknown[0][:100]!r}; need one of {', '.join(sorted(known))}, or a catalogue leaf",
                field="category_id",
            )
        return [category for category in categories if category in known]

    def knows_every_leaf(self) -> bool:
        """Return whether the reference set has every leaf of the gallery, so that no category is out of its sight."""
        leaves = set(self._leaves().values)
        return self.reference is not None and leaves <= set(self.reference.leaf_names)

    @property
    def votable(self) -> tuple[str, ...]:
        """The top categories that the reference set can vote for."""
        return self.reference.top_names if self.reference is not None else ()

    @property
    def unlabelled(self) -> float:
        """The share of products whose category nobody told, 0..1."""
        return float(np.mean(self._leaves().codes < 0))

    def vote(self, feature: NDArray[np.float32], settings: CategorySettings) -> list[tuple[str, float]]:
        """Return the top categories that the reference set votes for, best first, shares adding up to 1.

        Args:
            feature: (dim,) of the general model.
            settings: neighbours and weights of the vote.
        """
        assert self.reference is not None
        near = self.reference.neighbours(feature[None], settings.neighbours)
        leaves = self.reference.leaves[near.rows[0]].astype(np.int64)
        shares = vote(near.distances[0], leaves, self.reference.top_of_leaf, sharpness=settings.sharpness).tops
        return [(self.reference.top_names[top], float(shares[top])) for top in ranking(shares)]

    def voters(self, feature: NDArray[np.float32], settings: CategorySettings) -> list[tuple[ImageId, str, float]]:
        """Return image id, leaf and share of the votes of each image that votes, most weight first.

        Args:
            feature: (dim,) of the general model.
            settings: neighbours and weights of the vote.
        """
        assert self.reference is not None
        near = self.reference.neighbours(feature[None], settings.neighbours)
        weights = np.exp(-settings.sharpness * (near.distances[0] - near.distances[0].min()))
        shares = weights / weights.sum()
        return [
            (ImageId(int(self.reference.image_ids[row])), self.reference.leaf_names[self.reference.leaves[row]], share)
            for row, share in zip(near.rows[0].tolist(), shares.tolist(), strict=True)
        ]

    def product_id(self, member_row: int) -> ProductId:
        """Return the product a member belongs to."""
        return self.products.rows[int(self.index.members.products_of(np.array([member_row]))[0])].product_id

    def top_of(self, hit: EntryHit) -> str:
        """Return the top category id of what is shown."""
        return self._top_ids[int(self._tops.more[hit.member_row])]

    def top_ids(self) -> list[str]:
        """Return the top category id of each member."""
        return [self._top_ids[code] for code in self._tops.more]

    def member_of(self, image_id: ImageId) -> int | None:
        """Return the member that an image is; None where it is not in, or taken out."""
        rows = self._alive_rows([image_id])
        return int(rows[0]) if len(rows) else None

    def listing(self, member_row: int) -> Listing:
        """Return whose image a member is."""
        return Listing(self.product_id(member_row), self.member_names[member_row])

    def folded(self, hit: EntryHit) -> tuple[Listing, ...]:
        """Return the listings folded behind a hit."""
        return tuple(self.listing(row) for row in hit.duplicates)

    def _top_codes(self, tops: Sequence[str]) -> NDArray[np.int32]:
        known = {top: code for code, top in enumerate(self._top_ids)}
        codes = np.fromiter((known.setdefault(top, len(known)) for top in tops), np.int32, len(tops))
        self._top_ids += list(known)[len(self._top_ids) :]
        return codes

    def _leaves(self) -> Labels:
        """Return the leaf category of each product; missing where nobody told."""
        leaves = self._derived("leaf", lambda product: self.taxonomy.leaf_of(product.category))
        return leaves if isinstance(leaves, Labels) else Labels(np.full(len(self.products), -1, np.int32), ())

    def _expiry(self) -> Numbers:
        """Return when each product expires, seconds since 1970; missing = never."""
        expiry = self._derived("expiry", _expiry_s)
        assert isinstance(expiry, Numbers)
        return expiry

    def _derived(self, name: str, value_of: ValueOf) -> Column:
        with self.lock:
            return self.products.column(f"derived {name}", value_of)  # no attribute is asked for by a name with a space

    def _column(self, name: str) -> Column:
        found = self.products.column(f"attribute {name}", lambda product: product_value(product, name))
        if isinstance(found, Numbers) and np.isnan(found.values).all():
            raise InputError(
                f"no product has the attribute {name!r}; there are {', '.join(self._attribute_names())}",
                field="filter",
            )
        return found

    def _attribute_names(self) -> list[str]:
        fixed = ["price", "currency", "brand", "category", "sales", "rating", "review_count", "in_stock", "title"]
        free = sorted({name for product in self.products.rows for name in product.attributes})
        return fixed + free[:40]

    def _alive_rows(self, image_ids: Sequence[ImageId]) -> NDArray[np.int64]:
        """Return the members, not taken out, of some images."""
        wanted = np.array(image_ids, np.int64)
        built = len(self.index.members.image_id)
        late = np.arange(built, len(self.index.members))
        late = late[np.isin(self.index.members.image_ids_of(late), wanted)]
        rows = np.concatenate([self._by_image.rows(wanted), late])
        return np.asarray(rows[self.alive[rows]])

    def _rows_of_products(self, products: NDArray[np.int64]) -> NDArray[np.int64]:
        built = len(self.index.members.image_id)
        late = np.arange(built, len(self.index.members))
        late = late[np.isin(self.index.members.products_of(late), products)]
        return np.concatenate([self._by_product.rows(products), late])


class _Finder:
    """Finds the places of values in an array that does not change."""

    def __init__(self, values: NDArray[np.integer[Any]]) -> None:
        self._values = values
        self._order = np.argsort(values, kind="stable").astype(np.int32)

    def rows(self, wanted: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return where any of the wanted values stands, each place once."""
        wanted = np.unique(wanted)
        first, last = (np.searchsorted(self._values, wanted, side, sorter=self._order) for side in ("left", "right"))
        places = [self._order[start:stop] for start, stop in zip(first, last, strict=True)]
        return np.concatenate([np.zeros(0, np.int64), *places])


def _rows(whole: Any, rows: NDArray[np.integer[Any]] | None) -> Any:
    return whole if rows is None else take(whole, rows)


def _expiry_s(product: Product) -> Attribute | None:
    return expiry_moment(product.expires_at).timestamp() if product.expires_at else None
