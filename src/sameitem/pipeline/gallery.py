"""The live gallery: an opened index version, the products behind it, and what the catalogue changed since."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sameitem.catalog.selection import expiry_moment
from sameitem.catalog.store import Catalogue
from sameitem.catalog.taxonomy import OTHERS, Taxonomy
from sameitem.category.reference import ReferenceSet, open_reference
from sameitem.category.vote import ranking, vote
from sameitem.core.errors import InputError
from sameitem.core.filters import Column, Filter, Labels, column, product_value
from sameitem.core.records import ImageId, Product, ProductId
from sameitem.core.settings import CategorySettings
from sameitem.engine.index import Index, open_index
from sameitem.engine.members import EntryHit
from sameitem.pipeline.listings import MEMBERS, PRODUCTS, read_members, read_products

REFERENCE = "reference"


@dataclass(frozen=True, slots=True)
class Listing:
    """A product's image folded behind a result because it shows nearly the same picture."""

    product_id: ProductId
    image_name: str


@dataclass(frozen=True, slots=True, eq=False)
class _Unfiltered:
    """Which members may be shown without a filter, for how long that holds, and how much it is."""

    mask: NDArray[np.bool_]  # (members,) read-only
    since_s: float  # seconds since 1970
    until_s: float
    products: int
    entries: int


@dataclass(slots=True)
class Gallery:
    """Row i of every member array describes one listed image; row j of every product list one product.

    `refresh` follows the catalogue's change log, so that a deleted row is never shown and a filter sees today's price.
    """

    version: str
    created: str
    model_version: str
    index: Index
    reference: ReferenceSet | None
    member_names: Sequence[str]
    member_tops: Labels  # top category id of each member
    products: list[Product]
    taxonomy: Taxonomy
    seq: int  # of the last change taken in
    alive: NDArray[np.bool_]  # (members,) false once the catalogue has deleted the image
    _product_rows: dict[ProductId, int]
    _by_image_id: NDArray[np.int64]  # member rows in the order of their image ids
    _columns: dict[str, Column | None] = field(default_factory=dict)
    _derived: dict[str, Labels | NDArray[np.float64]] = field(default_factory=dict)  # leaf and expiry of each product
    _unfiltered: _Unfiltered | None = None
    _lock: threading.RLock = field(default_factory=threading.RLock)

    @classmethod
    def open(cls, folder: Path, taxonomy: Taxonomy) -> "Gallery":
        """Open an index version's folder.

        Raises:
            NotFoundError: there is no such version.
            ConflictError: of another format, or a file does not fit its checksum.
        """
        index = open_index(folder)
        names, tops = read_members(folder / MEMBERS)
        products = read_products(folder / PRODUCTS)
        return cls(
            version=index.manifest.version,
            created=index.manifest.created,
            model_version=index.manifest.model_version,
            index=index,
            reference=open_reference(folder / REFERENCE) if (folder / REFERENCE).is_dir() else None,
            member_names=names,
            member_tops=_labels(tops),
            products=products,
            taxonomy=taxonomy,
            seq=int(index.manifest.extra["seq"]),
            alive=np.ones(len(names), np.bool_),
            _product_rows={product.product_id: row for row, product in enumerate(products)},
            _by_image_id=np.argsort(index.members.image_id),
        )

    def refresh(self, catalogue: Catalogue) -> None:
        """Take in what the catalogue changed since the last call."""
        with self._lock:
            while changes := catalogue.changes_since(self.seq):
                gone = [
                    change.image_id for change in changes if change.kind == "delete" and change.image_id is not None
                ]
                self.alive[self._member_rows(gone)] = False
                touched = {change.product_id for change in changes if change.kind == "attributes"}
                known = [product_id for product_id in sorted(touched) if product_id in self._product_rows]
                for product in catalogue.products(known):
                    self.products[self._product_rows[product.product_id]] = product
                if known:
                    self._columns.clear()
                    self._derived.clear()
                self.seq = changes[-1].seq
                self._unfiltered = None

    def allowed(self, wanted: Filter | None, *, categories: Sequence[str], now: datetime) -> NDArray[np.bool_]:
        """Return which members may be shown.

        Args:
            wanted: condition on the product, or None.
            categories: top category ids or leaf paths, one of which the member must be in; empty = any.
            now: products that expire before are left out.

        Returns:
            (members,) true where the member may be shown.

        Raises:
            InputError: the filter names an attribute that no product has, or a category is unknown.
        """
        with self._lock:  # no change of the catalogue comes in between
            if wanted is None and not categories:
                return self._shown(now.timestamp()).mask
            products = ~(self._expiry() <= now.timestamp())
            if wanted is not None:
                products &= wanted.mask(self._column, len(self.products))
            mask = self.alive & products[self.index.members.product]
            if categories:
                leaves = {self.taxonomy.leaf_of(category) for category in categories} - set(self.tops(categories))
                of_leaf = _among(self._product_leaves(), leaves)[self.index.members.product]
                mask &= _among(self.member_tops, set(categories)) | of_leaf
            return mask

    def tops(self, categories: Sequence[str]) -> list[str]:
        """Return the top category ids among these.

        Raises:
            InputError: one is neither a top category nor a leaf of the gallery.
        """
        known = {category.id for category in self.taxonomy.top}
        leaves = set(self._product_leaves().values)
        unknown = [c for c in categories if c not in known and self.taxonomy.leaf_of(c) not in leaves]
        if unknown:
            raise InputError(
                f"unknown category {unknown[0][:100]!r}; need one of {', '.join(sorted(known))}, or a catalogue leaf",
                field="category_id",
            )
        return [category for category in categories if category in known]

    def routed(self, allowed: NDArray[np.bool_], tops: Sequence[str]) -> NDArray[np.bool_]:
        """Return the members that may be shown and are in one of the top categories, or whose category nobody told."""
        of_top = _among(self.member_tops, {*tops, OTHERS})
        unlabelled = _among(self._product_leaves(), {""})
        return allowed & (of_top | unlabelled[self.index.members.product])

    def knows_every_leaf(self) -> bool:
        """Return whether the reference set has every leaf of the gallery, so that no category is out of its sight."""
        leaves = set(self._product_leaves().values) - {""}
        return self.reference is not None and leaves <= set(self.reference.leaf_names)

    def without(self, allowed: NDArray[np.bool_], product_id: ProductId) -> NDArray[np.bool_]:
        """Return the mask with one product's members taken out."""
        row = self._product_row(product_id)
        return allowed if row is None else allowed & (self.index.members.product != row)

    def findable(self, allowed: NDArray[np.bool_], distinct_product: bool) -> int:
        """Return how many results there are to page through: products, or distinct pictures."""
        known = self._unfiltered
        if known is not None and allowed is known.mask:
            return known.products if distinct_product else known.entries
        return self._count(allowed, distinct_product)

    def _count(self, allowed: NDArray[np.bool_], distinct_product: bool) -> int:
        rows = self.index.members.product if distinct_product else self.index.members.entry
        return int(np.count_nonzero(np.bincount(rows[allowed])))

    def _shown(self, now_s: float) -> _Unfiltered:
        """Return which members may be shown where nobody filters: worked out anew when one expires or changes."""
        known = self._unfiltered
        if known is None or not known.since_s <= now_s < known.until_s:
            expiry = self._expiry()
            mask = self.alive & ~(expiry <= now_s)[self.index.members.product]
            mask.flags.writeable = False
            until_s = float(np.min(expiry[expiry > now_s], initial=np.inf))
            known = _Unfiltered(mask, now_s, until_s, self._count(mask, True), self._count(mask, False))
            self._unfiltered = known
        return known

    @property
    def votable(self) -> tuple[str, ...]:
        """The top categories that the reference set can vote for."""
        return self.reference.top_names if self.reference is not None else ()

    @property
    def unlabelled(self) -> float:
        """The share of products whose category nobody told, 0..1."""
        leaves = self._product_leaves()
        if "" not in leaves.values:
            return 0.0
        return float(np.mean(leaves.codes == leaves.values.index("")))

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

    def product_id(self, member_row: int) -> ProductId:
        """Return the product a member belongs to."""
        return self.products[int(self.index.members.product[member_row])].product_id

    def top_of(self, hit: EntryHit) -> str:
        """Return the top category id of what is shown."""
        return str(self.member_tops.values[self.member_tops.codes[hit.member_row]])

    def listing(self, member_row: int) -> Listing:
        """Return whose image a member is."""
        return Listing(self.product_id(member_row), self.member_names[member_row])

    def folded(self, hit: EntryHit) -> tuple[Listing, ...]:
        """Return the listings folded behind a hit."""
        return tuple(self.listing(row) for row in hit.duplicates)

    def _product_leaves(self) -> Labels:
        with self._lock:
            if "leaf" not in self._derived:
                self._derived["leaf"] = _labels([self.taxonomy.leaf_of(product.category) for product in self.products])
            leaves = self._derived["leaf"]
        assert isinstance(leaves, Labels)
        return leaves

    def _expiry(self) -> NDArray[np.float64]:
        """Return when each product expires, seconds since 1970; not a number = never."""
        if "expiry" not in self._derived:
            ends = [product.expires_at for product in self.products]
            seconds = [expiry_moment(end).timestamp() if end else np.nan for end in ends]
            self._derived["expiry"] = np.array(seconds, np.float64)
        expiry = self._derived["expiry"]
        assert isinstance(expiry, np.ndarray)
        return expiry

    def _column(self, name: str) -> Column | None:
        if name not in self._columns:
            values = [product_value(product, name) for product in self.products]
            if all(value is None for value in values):
                raise InputError(
                    f"no product has the attribute {name!r}; there are {', '.join(self._attribute_names())}",
                    field="filter",
                )
            self._columns[name] = column(values)
        return self._columns[name]

    def _attribute_names(self) -> list[str]:
        fixed = ["price", "currency", "brand", "category", "sales", "rating", "review_count", "in_stock", "title"]
        free = sorted({name for product in self.products for name in product.attributes})
        return fixed + free[:40]

    def _member_rows(self, image_ids: Sequence[ImageId]) -> NDArray[np.int64]:
        ids = self.index.members.image_id
        wanted = np.array(image_ids, np.int64)
        places = np.searchsorted(ids, wanted, sorter=self._by_image_id)
        rows: NDArray[np.int64] = self._by_image_id[places[places < len(ids)]]
        found: NDArray[np.int64] = rows[ids[rows] == wanted[places < len(ids)]]
        return found

    def _product_row(self, product_id: ProductId) -> int | None:
        return self._product_rows.get(product_id)


def _labels(values: Sequence[str]) -> Labels:
    positions: dict[str, int] = {}
    codes = np.fromiter((positions.setdefault(value, len(positions)) for value in values), np.int32, len(values))
    return Labels(codes, tuple(positions))


def _among(labels: Labels, wanted: set[str]) -> NDArray[np.bool_]:
    """Return which rows have one of the wanted values."""
    return np.array([value in wanted for value in labels.values], np.bool_)[labels.codes]
