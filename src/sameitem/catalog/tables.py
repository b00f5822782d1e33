"""Tables of the catalogue; how records become rows and rows become records again."""

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    Table,
)

from sameitem.core.database import NUMBER, TEXT, metadata
from sameitem.core.errors import InputError
from sameitem.core.records import Attribute, Box, CatalogueImage, ImageKind, Product, Quality

MAX_ID = 512  # characters of a product id or an image name
MAX_TEXT = 20_000  # characters of any other text
MAX_ATTRIBUTES = 500
_INT64 = 2**63

products = Table(
    "products",
    metadata,
    Column("product_id", TEXT, primary_key=True),
    Column("category", TEXT, nullable=False),
    Column("title", TEXT, nullable=False),
    Column("brand", TEXT, nullable=False),
    Column("url", TEXT, nullable=False),
    Column("price", Double),
    Column("currency", TEXT, nullable=False),
    Column("sales", BigInteger),
    Column("conversion_rate", Double),
    Column("ctr", Double),
    Column("rating", Double),
    Column("review_count", BigInteger),
    Column("in_stock", Boolean),
    Column("seller_quality", Double),
    Column("attributes", TEXT, nullable=False),  # JSON object, keys sorted
    Column("expires_at", TEXT, nullable=False),
    Column("created_at", Double, nullable=False),  # seconds since 1970
    Column("updated_at", Double, nullable=False),
)
images = Table(
    "images",
    metadata,
    Column("image_id", NUMBER, primary_key=True, autoincrement=True),
    Column("product_id", TEXT, ForeignKey(products.c.product_id), nullable=False),
    Column("name", TEXT, nullable=False),
    Column("key", TEXT, nullable=False),  # see image_key
    Column("kind", TEXT, nullable=False),
    Column("content_hash", TEXT, nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("sharpness", Double, nullable=False),
    Column("brightness", Double, nullable=False),
    Column("contrast", Double, nullable=False),
    Column("text_share", Double, nullable=False),
    Column("collage_share", Double, nullable=False),
    Column("subject_share", Double, nullable=False),
    Column("perceptual_hash", BigInteger, nullable=False),  # signed: databases have no unsigned 64 bits
    Column("box_left", Double),
    Column("box_top", Double),
    Column("box_right", Double),
    Column("box_bottom", Double),
    Column("custom_content", TEXT, nullable=False),
    Column("source", TEXT, nullable=False),
    Index("images_key", "key", unique=True),
    Index("images_product_id", "product_id"),
    Index("images_content_hash", "content_hash"),
    sqlite_autoincrement=True,  # an id is never given twice, even after the newest image was deleted
)
changes = Table(
    "changes",
    metadata,
    Column("seq", NUMBER, primary_key=True, autoincrement=True),
    Column("image_id", BigInteger),
    Column("product_id", TEXT, nullable=False),
    Column("kind", TEXT, nullable=False),
    sqlite_autoincrement=True,
)
set_aside = Table(
    "set_aside",
    metadata,
    Column("number", NUMBER, primary_key=True, autoincrement=True),
    Column("job_id", TEXT, nullable=False),
    Column("line", BigInteger, nullable=False),
    Column("source", TEXT, nullable=False),
    Column("reason", TEXT, nullable=False),
    Column("detail", TEXT, nullable=False),
    Index("set_aside_job_id", "job_id", "number"),
    sqlite_autoincrement=True,
)
feeds = Table(
    "feeds",
    metadata,
    Column("job_id", TEXT, primary_key=True),
    Column("begin_seq", BigInteger, nullable=False),
)
feed_seen = Table(
    "feed_seen",
    metadata,
    Column("job_id", TEXT, ForeignKey(feeds.c.job_id), primary_key=True),
    Column("product_id", TEXT, primary_key=True),
)

IMAGE_COLUMNS = tuple(column for column in images.c if column.name not in ("key", "source"))
PRODUCT_COLUMNS = tuple(column for column in products.c if column.name not in ("created_at", "updated_at"))


def image_key(product_id: str, name: str) -> str:
    """Return what is unique about an image: a digest, because PostgreSQL cannot index two texts of 512 characters."""
    return blake2b(f"{len(product_id)}:{product_id}{name}".encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def product_row(product: Product) -> dict[str, Any]:
    """Return the columns of a product, checked.

    Raises:
        InputError: an empty or too long id, a text that cannot be stored, a number that is not finite, an attribute
            that is neither text, number nor truth value; the error's field names the column.
    """
    check_id(product.product_id, "product_id")
    row: dict[str, Any] = {"product_id": product.product_id}
    for name in ("category", "title", "brand", "url", "currency"):
        row[name] = check_text(getattr(product, name), name)
    for name in ("price", "conversion_rate", "ctr", "rating", "seller_quality"):
        row[name] = _real(getattr(product, name), name)
    for name in ("sales", "review_count"):
        row[name] = _whole(getattr(product, name), name)
    if product.in_stock is not None and not isinstance(product.in_stock, bool):
        raise InputError(f"in_stock: need true, false or nothing, got {product.in_stock!r}", field="in_stock")
    row["in_stock"] = product.in_stock
    row["attributes"] = _attributes_text(product.attributes)
    row["expires_at"] = _utc(product.expires_at)
    return row


def product_of(row: Sequence[Any]) -> Product:
    """Return the product of a row's `PRODUCT_COLUMNS`, which stand in the order of its fields."""
    *values, attributes, expires_at = row
    fields = [*values, json.loads(attributes), expires_at]
    return Product(*fields)


def image_of(row: Sequence[Any]) -> CatalogueImage:
    """Return the image of a row's `IMAGE_COLUMNS`."""
    image_id, product_id, name, kind, content_hash, width, height, *rest = row
    left, top, right, bottom = rest[7:11]
    return CatalogueImage(
        image_id=image_id,
        product_id=product_id,
        name=name,
        kind=ImageKind(kind),
        content_hash=content_hash,
        width=width,
        height=height,
        quality=Quality(*rest[:6]),
        perceptual_hash=rest[6] % 2**64,
        box=None if left is None else Box(left, top, right, bottom),
        custom_content=rest[11],
    )


def box_columns(box: Box | None) -> dict[str, float | None]:
    """Return the four columns of a box; all empty when there is none.

    Raises:
        InputError: not finite, or without area.
    """
    if box is None:
        return {"box_left": None, "box_top": None, "box_right": None, "box_bottom": None}
    sides = [_real(side, "box") for side in (box.left, box.top, box.right, box.bottom)]
    left, top, right, bottom = (0.0 if side is None else side for side in sides)
    if not (left < right and top < bottom):
        raise InputError(f"box: need left < right and top < bottom, got {box}", field="box")
    return {"box_left": left, "box_top": top, "box_right": right, "box_bottom": bottom}


def check_id(value: str, field: str) -> str:
    """Return an id or name the caller gave.

    Raises:
        InputError: empty, longer than `MAX_ID`, or text that cannot be stored.
    """
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{field}: need a text that is not empty, got {value!r}", field=field)
    return check_text(value, field, limit=MAX_ID)


def check_text(value: str, field: str, *, limit: int = MAX_TEXT) -> str:
    """Return a text that both databases can store.

    Raises:
        InputError: longer than `limit`, with a NUL character or half of a surrogate pair.
    """
    if not isinstance(value, str):
        raise InputError(f"{field}: need text, got {value!r}", field=field)
    if len(value) > limit:
        raise InputError(f"{field}: at most {limit} characters, got {len(value)}; shorten it", field=field)
    if "\0" in value:
        raise InputError(f"{field}: a NUL character at position {value.index(chr(0))}; remove it", field=field)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{field}: half of a surrogate pair at position {error.start}; send the text as UTF-8", field=field
        ) from error
    return value


def _attributes_text(attributes: Mapping[str, Attribute]) -> str:
    if len(attributes) > MAX_ATTRIBUTES:
        raise InputError(f"attributes: at most {MAX_ATTRIBUTES}, got {len(attributes)}", field="attributes")
    values: dict[str, Attribute] = {}
    for name, value in attributes.items():
        field = f"attributes.{name}" if isinstance(name, str) else "attributes"
        check_id(name, field)
        if isinstance(value, bool):
            values[name] = value
        elif isinstance(value, str):
            values[name] = check_text(value, field)
        elif isinstance(value, int | float):
            values[name] = _real(value, field) or 0.0
        else:
            raise InputError(f"{field}: need text, a number, true or false, got {value!r}", field=field)
    return json.dumps(values, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def _real(value: float | None, field: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{field}: need a number, got {value!r}", field=field)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise InputError(f"{field}: need a finite number, got {number}", field=field)
    return number


def _whole(value: int | None, field: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not -_INT64 <= value < _INT64:
        raise InputError(f"{field}: need a whole number of at most 64 bits, got {value!r}", field=field)
    return value


def _utc(value: str) -> str:
    """Return an ISO 8601 time as UTC, to the second, so that texts compare as times do."""
    if value == "":
        return ""
    try:
        time = datetime.fromisoformat(check_text(value, "expires_at", limit=64))
        time = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InputError(
            f"expires_at: need ISO 8601 such as 2027-01-31T00:00:00Z, got {value!r}", field="expires_at"
        ) from error
    return time.isoformat(timespec="seconds").replace("+00:00", "Z")
