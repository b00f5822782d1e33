"""The catalogue: what is sold and its pictures, with a log of every change, on SQLite or PostgreSQL.

Methods that write take the connection of a `core.database.write` block, so that a caller decides what is committed
together: a batch of listings, the rows set aside, and how far the import got.
"""

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from sqlalchemy import Connection, Engine, Table, bindparam, delete, func, insert, literal, select, update

from sameitem.catalog.tables import (
    IMAGE_COLUMNS,
    PRODUCT_COLUMNS,
    box_columns,
    changes,
    check_id,
    check_text,
    feed_seen,
    feeds,
    image_key,
    image_of,
    images,
    product_of,
    product_row,
    products,
    set_aside,
)
from sameitem.core.database import read, storable
from sameitem.core.errors import InputError, NotFoundError
from sameitem.core.records import Box, CatalogueImage, ContentHash, ImageId, ImageKind, Product, ProductId, Quality

ChangeKind = Literal["add", "photo", "attributes", "delete"]
Entry = tuple[int | None, str, ChangeKind]  # of the change log: image id, product id, kind
T = TypeVar("T")
_AT_ONCE = 1000  # values in one IN list
_SEEN_AGAIN = ("box_left", "box_top", "box_right", "box_bottom", "content_hash")  # a change here needs a new feature
_CHANGES_SINCE = (  # put together once: it is asked for with every search
    select(changes).where(changes.c.seq > bindparam("seq")).order_by(changes.c.seq).limit(bindparam("limit"))
)
_LISTINGS = (
    select(*IMAGE_COLUMNS, *PRODUCT_COLUMNS)
    .join_from(images, products)
    .where(images.c.image_id.in_(bindparam("image_ids", expanding=True)))
)
_LISTED_AT = select(products.c.product_id, products.c.created_at).where(
    products.c.product_id.in_(bindparam("product_ids", expanding=True))
)
_TOLD = ("kind", "custom_content")  # a change here is news to the index, but the picture is the same


@dataclass(frozen=True, slots=True)
class NewImage:
    """A picture to be written to the catalogue; its photo is already in the photo store."""

    name: str
    kind: ImageKind
    content_hash: ContentHash
    width: int
    height: int
    quality: Quality
    perceptual_hash: int  # 64 bits, unsigned
    box: Box | None = None
    custom_content: str = ""
    source: str = ""  # where it came from: path, size and time, or URL; an unchanged source is not decoded again


@dataclass(frozen=True, slots=True)
class Listing:
    """A product and the pictures to add or replace; pictures that are not named stay."""

    product: Product
    images: tuple[NewImage, ...] = ()


@dataclass(frozen=True, slots=True)
class Written:
    """How many products were new, different, and the same as before."""

    added: int
    updated: int
    unchanged: int


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of the change log. Without an image it concerns the product, and with it all of its images."""

    seq: int
    image_id: ImageId | None
    product_id: ProductId
    kind: ChangeKind


@dataclass(frozen=True, slots=True)
class SetAside:
    """A row or picture that was not taken, and why."""

    line: int
    source: str
    reason: str  # a few fixed words, to be counted
    detail: str


@dataclass(frozen=True, slots=True)
class Counts:
    """What the catalogue holds."""

    products: int
    images: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The catalogue as it was after change `seq`, however long reading takes."""

    seq: int
    _connection: Connection

    def batches(self, rows: int = 1000) -> Iterator[list[tuple[CatalogueImage, Product]]]:
        """Yield all images with their products, in the order of image ids."""
        query = (
            select(*IMAGE_COLUMNS, *PRODUCT_COLUMNS)
            .join_from(images, products)
            .where(images.c.image_id > bindparam("after"))
            .order_by(images.c.image_id)
            .limit(rows)
        )
        found = self._connection.execute(query, {"after": 0}).all()
        while found:
            yield [_pair(row) for row in found]
            found = self._connection.execute(query, {"after": found[-1][0]}).all()


class Catalogue:
    """Products and images of one shop, and the log of their changes."""

    def __init__(self, engine: Engine, *, clock: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._clock = clock

    # -- writing: all inside the caller's write transaction

    def upsert(self, connection: Connection, listings: Sequence[Listing]) -> Written:
        """Add or replace products and images; the last write of a key wins, what is equal is not touched.

        Raises:
            InputError: something that cannot be stored; nothing of these listings was written.
        """
        wanted, pictures = _rows_of(listings)
        stored = {
            row["product_id"]: dict(row)
            for part in _parts(wanted)
            for row in connection.execute(select(*PRODUCT_COLUMNS).where(products.c.product_id.in_(part))).mappings()
        }
        held = {
            row["key"]: dict(row)
            for part in _parts(pictures)
            for row in connection.execute(select(images).where(images.c.key.in_(part))).mappings()
        }
        new = [row for product_id, row in wanted.items() if product_id not in stored]
        changed = [row for product_id, row in wanted.items() if product_id in stored and row != stored[product_id]]
        new_images = [row for key, row in pictures.items() if key not in held]
        changed_images = [row for key, row in pictures.items() if key in held and _differ(held[key], row, row)]
        now = self._clock()
        _insert(connection, products, [row | {"created_at": now, "updated_at": now} for row in new])
        _update(connection, products, "product_id", [row | {"updated_at": now} for row in changed])
        _insert(connection, images, new_images)
        _update(connection, images, "key", changed_images)
        _log(connection, _product_entries(new, changed, {row["product_id"] for row in new_images}))
        _log_added(connection, [row["key"] for row in new_images])
        _log(connection, _image_entries((held[row["key"]], row) for row in changed_images))
        touched = {row["product_id"] for row in itertools.chain(changed, new_images, changed_images)} & stored.keys()
        return Written(added=len(new), updated=len(touched), unchanged=len(stored) - len(touched))

    def delete_products(self, connection: Connection, product_ids: Iterable[ProductId]) -> int:
        """Delete products with all their images; return how many there were."""
        deleted = 0
        for part in _parts(dict.fromkeys(_askable(product_id) for product_id in product_ids)):
            found = connection.scalars(
                select(products.c.product_id).where(products.c.product_id.in_(part)).order_by(products.c.product_id)
            ).all()
            gone = connection.execute(
                select(images.c.image_id, images.c.product_id)
                .where(images.c.product_id.in_(found))
                .order_by(images.c.image_id)
            ).all()
            bare = set(found) - {row.product_id for row in gone}
            _log(connection, [(row.image_id, row.product_id, "delete") for row in gone])
            _log(connection, [(None, product_id, "delete") for product_id in found if product_id in bare])
            connection.execute(delete(images).where(images.c.product_id.in_(found)))
            connection.execute(delete(products).where(products.c.product_id.in_(found)))
            deleted += len(found)
        return deleted

    def delete_image(self, connection: Connection, product_id: ProductId, name: str) -> bool:
        """Delete one image; return whether there was one."""
        image_id = connection.scalar(select(images.c.image_id).where(images.c.key == image_key(product_id, name)))
        if image_id is None:
            return False
        connection.execute(delete(images).where(images.c.image_id == image_id))
        _log(connection, [(image_id, product_id, "delete")])
        return True

    def set_aside(self, connection: Connection, job_id: str, rows: Sequence[SetAside]) -> None:
        """Keep what a job did not take; characters that cannot be stored are replaced."""
        _insert(
            connection,
            set_aside,
            [
                {
                    "job_id": job_id,
                    "line": row.line,
                    "source": storable(row.source),
                    "reason": storable(row.reason),
                    "detail": storable(row.detail),
                }
                for row in rows
            ],
        )

    # -- full feeds: what a complete list of the shop no longer names

    def begin_feed(self, connection: Connection, job_id: str) -> None:
        """Start to note which products a full feed names; a feed that was begun before goes on."""
        if connection.scalar(select(feeds.c.job_id).where(feeds.c.job_id == job_id)) is None:
            connection.execute(insert(feeds), {"job_id": job_id, "begin_seq": _last_seq(connection)})

    def mark_seen(self, connection: Connection, job_id: str, product_ids: Iterable[ProductId]) -> None:
        """Note that the feed of this job names these products."""
        for part in _parts(dict.fromkeys(product_ids)):
            known = connection.scalars(
                select(feed_seen.c.product_id).where(feed_seen.c.job_id == job_id, feed_seen.c.product_id.in_(part))
            ).all()
            new = [{"job_id": job_id, "product_id": product_id} for product_id in part if product_id not in set(known)]
            _insert(connection, feed_seen, new)

    def absent_products(self, job_id: str) -> Iterator[ProductId]:
        """Yield, in order, the products that the feed did not name and nobody has written since it began.

        Raises:
            NotFoundError: this job has begun no feed, so nothing can be said to be absent.
        """
        with read(self._engine) as connection:
            begin = connection.scalar(select(feeds.c.begin_seq).where(feeds.c.job_id == job_id))
            if begin is None:
                raise NotFoundError(f"job {job_id!r} has begun no full feed; begin one and note what it names")
            seen = select(feed_seen.c.product_id).where(
                feed_seen.c.job_id == job_id, feed_seen.c.product_id == products.c.product_id
            )
            written_since = select(changes.c.product_id).where(changes.c.seq > begin)
            query = (
                select(products.c.product_id)
                .where(~seen.exists(), products.c.product_id.not_in(written_since))
                .order_by(products.c.product_id)
                .execution_options(yield_per=_AT_ONCE)
            )
            yield from (ProductId(product_id) for product_id in connection.scalars(query))

    def end_feed(self, connection: Connection, job_id: str) -> None:
        """Forget which products the feed named."""
        connection.execute(delete(feed_seen).where(feed_seen.c.job_id == job_id))
        connection.execute(delete(feeds).where(feeds.c.job_id == job_id))

    # -- reading

    def product(self, product_id: ProductId) -> Product:
        """Return a product.

        Raises:
            NotFoundError: there is none with this id.
        """
        with read(self._engine) as connection:
            query = select(*PRODUCT_COLUMNS).where(products.c.product_id == _askable(product_id))
            row = connection.execute(query).first()
        if row is None:
            raise NotFoundError(f"no product {product_id!r} in the catalogue; products are added by import or PUT")
        return product_of(row)

    def products(self, product_ids: Iterable[ProductId] | None = None, *, after: str = "") -> Iterator[Product]:
        """Yield products in the order of their ids: all behind an id, or those of these ids that are there."""
        query = select(*PRODUCT_COLUMNS).order_by(products.c.product_id)
        with read(self._engine) as connection:
            if product_ids is not None:
                for part in _parts(sorted(product_ids)):
                    named = query.where(products.c.product_id.in_([_askable(product_id) for product_id in part]))
                    yield from [product_of(row) for row in connection.execute(named)]
                return
            behind = query.where(products.c.product_id > bindparam("after")).limit(_AT_ONCE)
            found = connection.execute(behind, {"after": _askable(after)}).all()
            while found:
                yield from [product_of(row) for row in found]
                found = connection.execute(behind, {"after": found[-1][0]}).all()

    def images(self, product_id: ProductId) -> list[CatalogueImage]:
        """Return the images of a product in the order they were added; empty when there are none."""
        with read(self._engine) as connection:
            query = (
                select(*IMAGE_COLUMNS).where(images.c.product_id == _askable(product_id)).order_by(images.c.image_id)
            )
            return [image_of(row) for row in connection.execute(query)]

    def image(self, product_id: ProductId, name: str) -> CatalogueImage:
        """Return one image.

        Raises:
            NotFoundError: the product has none of this name.
        """
        with read(self._engine) as connection:
            row = connection.execute(select(*IMAGE_COLUMNS).where(images.c.key == image_key(product_id, name))).first()
        if row is None:
            raise NotFoundError(f"product {product_id!r} has no image {name!r}; GET the product for its images")
        return image_of(row)

    def listings(self, image_ids: Sequence[ImageId]) -> dict[ImageId, tuple[CatalogueImage, Product]]:
        """Return images with their products; ids that are not in the catalogue (any more) are left out."""
        with read(self._engine) as connection:
            return {
                row[0]: _pair(row)
                for part in _parts(image_ids)
                for row in connection.execute(_LISTINGS, {"image_ids": part})
            }

    def listed_at(self, product_ids: Sequence[ProductId]) -> dict[ProductId, float]:
        """Return when products were listed first, seconds since 1970; those that are gone are left out."""
        with read(self._engine) as connection:
            return {
                ProductId(row.product_id): row.created_at
                for part in _parts(product_ids)
                for row in connection.execute(_LISTED_AT, {"product_ids": part})
            }

    def sources(
        self, connection: Connection | None, product_ids: Iterable[ProductId]
    ) -> dict[tuple[ProductId, str], str]:
        """Return where the images of these products came from, by product id and name."""
        query = select(images.c.product_id, images.c.name, images.c.source)
        with nullcontext(connection) if connection is not None else read(self._engine) as reader:
            return {
                (ProductId(row.product_id), row.name): row.source
                for part in _parts([_askable(product_id) for product_id in product_ids])
                for row in reader.execute(query.where(images.c.product_id.in_(part)))
            }

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """Run the block on the catalogue as it is now; later writes are not seen."""
        with read(self._engine) as connection:
            yield Snapshot(_last_seq(connection), connection)

    def scan(self, batch: int = 1000) -> Iterator[list[tuple[CatalogueImage, Product]]]:
        """Yield all images with their products, in the order of image ids, as of one moment."""
        with self.snapshot() as snapshot:
            yield from snapshot.batches(batch)

    def hashes_in_use(self, content_hashes: Iterable[ContentHash]) -> set[ContentHash]:
        """Return those photos that an image of the catalogue shows; the others may be deleted."""
        with read(self._engine) as connection:
            return {
                ContentHash(found)
                for part in _parts(dict.fromkeys(content_hashes))
                for found in connection.scalars(
                    select(images.c.content_hash).where(images.c.content_hash.in_(part)).distinct()
                )
            }

    def snapshot_seq(self) -> int:
        """Return the number of the newest change; 0 before the first."""
        with read(self._engine) as connection:
            return _last_seq(connection)

    def changes_since(self, seq: int, limit: int = 10_000) -> list[Change]:
        """Return the changes after `seq`, oldest first, at most `limit`."""
        with read(self._engine) as connection:
            found = connection.execute(_CHANGES_SINCE, {"seq": seq, "limit": limit})
            return [Change(row.seq, row.image_id, row.product_id, row.kind) for row in found]

    def counts(self) -> Counts:
        """Return how many products and images there are."""
        with read(self._engine) as connection:
            return Counts(
                products=connection.scalar(select(func.count()).select_from(products)) or 0,
                images=connection.scalar(select(func.count()).select_from(images)) or 0,
            )

    def first_images(self, product_ids: Iterable[ProductId]) -> dict[ProductId, ImageId]:
        """Return the image of each product that was added first; products without images are left out."""
        with read(self._engine) as connection:
            return {
                ProductId(row.product_id): ImageId(row.first)
                for part in _parts([_askable(product_id) for product_id in product_ids])
                for row in connection.execute(
                    select(images.c.product_id, func.min(images.c.image_id).label("first"))
                    .where(images.c.product_id.in_(part))
                    .group_by(images.c.product_id)
                )
            }

    def count_set_aside(self, job_id: str) -> dict[str, int]:
        """Return how much a job did not take, by reason, the most frequent first."""
        query = (
            select(set_aside.c.reason, func.count().label("rows"))
            .where(set_aside.c.job_id == storable(job_id))
            .group_by(set_aside.c.reason)
        )
        with read(self._engine) as connection:
            rows = [(row.reason, row.rows) for row in connection.execute(query)]
        return dict(sorted(rows, key=lambda row: (-row[1], row[0])))

    def list_set_aside(
        self, job_id: str, *, after: int = 0, limit: int = 10_000, reason: str | None = None
    ) -> list[SetAside]:
        """Return what a job did not take, in the order it was met; `after` skips that many, `reason` picks."""
        query = select(set_aside).where(set_aside.c.job_id == storable(job_id))
        if reason is not None:
            query = query.where(set_aside.c.reason == storable(reason))
        query = query.order_by(set_aside.c.number).offset(after).limit(limit)
        with read(self._engine) as connection:
            return [SetAside(row.line, row.source, row.reason, row.detail) for row in connection.execute(query)]


def _rows_of(listings: Sequence[Listing]) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """Return rows of products by id and rows of images by key; of a key that comes twice, the last."""
    wanted: dict[str, dict[str, Any]] = {}
    pictures: dict[str, dict[str, Any]] = {}
    for listing in listings:
        row = product_row(listing.product)
        wanted[row["product_id"]] = row
        for image in listing.images:
            picture = _image_row(row["product_id"], image)
            pictures[picture["key"]] = picture
    return wanted, pictures


def _image_row(product_id: str, image: NewImage) -> dict[str, Any]:
    name = check_id(image.name, "image_name")
    if not 0 <= image.perceptual_hash < 2**64:
        raise InputError(f"perceptual_hash: need 64 bits, unsigned, got {image.perceptual_hash}")
    signed = image.perceptual_hash - (2**64 if image.perceptual_hash >= 2**63 else 0)
    quality = image.quality
    return {
        "product_id": product_id,
        "name": name,
        "key": image_key(product_id, name),
        "kind": ImageKind(image.kind).value,
        "content_hash": image.content_hash,
        "width": image.width,
        "height": image.height,
        "sharpness": float(quality.sharpness),
        "brightness": float(quality.brightness),
        "contrast": float(quality.contrast),
        "text_share": float(quality.text_share),
        "collage_share": float(quality.collage_share),
        "subject_share": float(quality.subject_share),
        "perceptual_hash": int(signed),
        **box_columns(image.box),
        "custom_content": check_text(image.custom_content, "custom_content"),
        "source": check_text(image.source, "source"),
    }


def _product_entries(
    new: Iterable[dict[str, Any]], changed: Iterable[dict[str, Any]], pictured: set[str]
) -> list[Entry]:
    """Return entries for new products without pictures and for changed ones; pictures have their own."""
    bare = [row for row in new if row["product_id"] not in pictured]
    return [(None, row["product_id"], "attributes") for row in itertools.chain(bare, changed)]


def _image_entries(changed: Iterable[tuple[dict[str, Any], dict[str, Any]]]) -> Iterator[Entry]:
    for before, after in changed:
        if _differ(before, after, _SEEN_AGAIN):
            yield before["image_id"], after["product_id"], "photo"
        elif _differ(before, after, _TOLD):
            yield before["image_id"], after["product_id"], "attributes"


def _pair(row: Sequence[Any]) -> tuple[CatalogueImage, Product]:
    return image_of(row[: len(IMAGE_COLUMNS)]), product_of(row[len(IMAGE_COLUMNS) :])


def _differ(before: dict[str, Any], after: dict[str, Any], columns: Iterable[str]) -> bool:
    return any(before[column] != after[column] for column in columns)


def _last_seq(connection: Connection) -> int:
    return connection.scalar(select(func.max(changes.c.seq))) or 0


def _log(connection: Connection, entries: Iterable[Entry]) -> None:
    _insert(connection, changes, [{"image_id": i, "product_id": p, "kind": kind} for i, p, kind in entries])


def _log_added(connection: Connection, keys: Iterable[str]) -> None:
    for part in _parts(keys):
        of_these = (
            select(images.c.image_id, images.c.product_id, literal("add"))
            .where(images.c.key.in_(part))
            .order_by(images.c.image_id)
        )
        connection.execute(insert(changes).from_select(["image_id", "product_id", "kind"], of_these))


def _insert(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    if rows:
        connection.execute(insert(table), rows)


def _update(connection: Connection, table: Table, key: str, rows: Sequence[dict[str, Any]]) -> None:
    if rows:
        columns: dict[str, Any] = {name: bindparam(f"new_{name}") for name in rows[0] if name != key}
        statement = update(table).where(table.c[key] == bindparam("of_key")).values(columns)
        connection.execute(
            statement,
            [{"of_key": row[key]} | {f"new_{name}": row[name] for name in columns} for row in rows],
        )


def _parts(values: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(values)
    while part := list(itertools.islice(rest, _AT_ONCE)):
        yield part


def _askable(product_id: str) -> str:
    """Return the id, or "", which no product has, where a database would refuse the question."""
    return product_id if product_id == storable(product_id) else ""
