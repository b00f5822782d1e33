"""What the columns of a shop's file mean: their many names, and how one record becomes a product and its images."""

import contextlib
import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache, lru_cache
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from sameitem.catalog import values
from sameitem.core.errors import InputError
from sameitem.core.records import Attribute, Box, ImageKind, Product, ProductId

MAX_ID = 512  # characters of a product id and of an image name
MAX_ATTRIBUTES = 200
MAX_ATTRIBUTE_TEXT = 1_000  # characters of an attribute's value
MAX_IMAGES = 1_000  # of one row
_LIMITS = {"title": 2_000, "category": 500, "brand": 200}
_MAX_NAME = 200  # characters of a column's name that are looked at
_MAX_CUSTOM_CONTENT = 4_096

_PRODUCT_FIELDS = frozenset(part.name for part in fields(Product)) - {"product_id", "attributes"}
_NUMBERED_IMAGE = re.compile(
    r"(?:additional)?(image|imageurl|imagelink|imagesrc|picture|photo|pic|img|图片|附图|主图)(\d{1,2})"
)
_NAME_OF_PAIR = re.compile(r"(attribute|option)\s*_?(\d{1,2})_?name")
_VALUE_OF_PAIR = re.compile(r"(attribute|option)\s*_?(\d{1,2})_?value(?:_?s)?")
_PLAIN_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,10})(?:\.\d{1,12})?")  # not "007", not a 13-digit article number


@dataclass(frozen=True, slots=True)
class ImageRef:
    """Where one image of a product is, as its row says."""

    name: str  # unique within the product, made from the location when the row gives none
    location: str  # path or URL as written
    kind: ImageKind | None = None  # None: the row does not say
    box: Box | None = None  # pixels of the upright original
    custom_content: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One readable record. `given` names what it speaks about: product fields, and `attributes.NAME`."""

    line: int
    product: Product
    images: tuple[ImageRef, ...]
    given: frozenset[str] = frozenset()
    image_expected: bool = True  # the record has a place for an image
    warnings: tuple[tuple[str, str], ...] = ()  # (column, text) of optional values that were dropped


@dataclass(frozen=True, slots=True)
class DeleteRow:
    """A record that takes a product, or one image of it, out of the catalogue."""

    line: int
    product_id: ProductId
    image_name: str = ""  # "" = the product with all its images


@dataclass(frozen=True, slots=True)
class BadRow:
    """A record that cannot be used, and why."""

    line: int
    reason: str
    detail: str
    product_id: str = ""  # where it could be read


@dataclass(frozen=True, slots=True)
class Plan:
    """Which column of a file feeds which field."""

    names: tuple[str, ...]  # of the columns, as written
    fields: Mapping[str, tuple[int, ...]]  # several columns only for images
    attributes: tuple[tuple[int, str], ...]
    pairs: tuple[tuple[int, int], ...]  # columns holding an attribute's name and its value
    said: frozenset[str]  # what every record of the file speaks about, see Row.given

    @property
    def has_images(self) -> bool:
        """Whether a record has a place for an image."""
        return "image" in self.fields or "images" in self.fields

    def describe(self) -> str:
        """Return one line for people: which column became what."""
        taken = [f"{name} = {', '.join(self.names[i] for i in columns)}" for name, columns in self.fields.items()]
        taken += [] if self.has_images else ["no images"]
        free = f"; attributes: {', '.join(name for _, name in self.attributes)}" if self.attributes else ""
        return "; ".join(taken) + free


def recognised(header: Sequence[str]) -> int:
    """Return how many names of a header row are names we know; a header is told from data by it."""
    return sum(_is_known(_column(name)) for name in header)


def plan_columns(header: Sequence[str], wanted: Mapping[str, str]) -> Plan:
    """Return what each column of a file means.

    Args:
        header: names of the columns.
        wanted: our field name -> the file's column name; wins over what we would recognise.

    Raises:
        InputError: `wanted` names an unknown field or an absent column, or no column holds the product id.
    """
    columns: dict[str, list[int]] = {}
    free = {index: _column(name) for index, name in enumerate(header) if _compact(name)}
    for name, column in wanted.items():
        columns[name] = [_wanted_column(name, column, header)]
        free.pop(columns[name][0], None)
    for name, known in _known_names().items():
        if name in columns:
            continue
        found = next((hits for alias in known if (hits := [i for i, text in free.items() if text == alias])), [])
        if name == "images":
            found = [i for i, text in free.items() if text in known or _NUMBERED_IMAGE.fullmatch(text)]
        if found:
            columns[name] = found if name in ("image", "images") else found[:1]
            for index in found:
                free.pop(index)
    if "product_id" not in columns:
        raise InputError(
            f"no column holds the product id; the columns are {_quoted(header)}, accepted are product_id, id, sku, "
            "商品ID and more (docs/import.md); or say --columns product_id=NAME",
            field="columns",
        )
    names = {i: attribute_name(header[i]) for i in free}
    starts = {_pair(_NAME_OF_PAIR, name): i for i, name in names.items()}
    ends = {_pair(_VALUE_OF_PAIR, name): i for i, name in names.items()}
    pairs = tuple((starts[key], ends[key]) for key in starts if key and key in ends)
    paired = {index for pair in pairs for index in pair}
    attributes: dict[str, int] = {}
    for index, name in names.items():
        if name and index not in paired:
            attributes.setdefault(name, index)
    chosen = {name: tuple(columns[name]) for name in _known_names() if name in columns}
    said = _PRODUCT_FIELDS.intersection(chosen) | {f"attributes.{name}" for name in attributes}
    return Plan(tuple(header), chosen, tuple((i, name) for name, i in attributes.items()), pairs, frozenset(said))


def read_record(plan: Plan, cells: Sequence[object], line: int) -> Row | DeleteRow | BadRow:
    """Turn one record into a row; what is wrong with optional values is noted in its warnings.

    Args:
        plan: meaning of the columns.
        cells: one value per column: text from CSV, any JSON value elsewhere; None and "" mean that it says nothing.
        line: line of the file where the record starts.
    """
    try:
        return _read(_Record(plan, cells), line)
    except RecursionError:
        return BadRow(line, "unreadable", "a value is nested too deeply; lists and objects in cells are flat")


def overlay(stored: Product, rows: Sequence[Row]) -> Product:
    """Return a product after a run of consecutive rows about it.

    A column that the file does not have leaves what is stored. A column that it has decides: the last cell of the run
    that is not empty, or nothing when all are; but one variant in stock is enough for the product to be. A run that
    says nothing about the product at all leaves it as it is.
    """
    speaking = [row for row in rows if _speaks(row.product)]
    if not speaking:
        return stored
    given = frozenset[str]().union(*(row.given for row in rows))
    changed: dict[str, Any] = {}
    for name in sorted(given & _PRODUCT_FIELDS):
        said = [getattr(row.product, name) for row in speaking]
        changed[name] = next((value for value in reversed(said) if value not in ("", None)), _empty(name))
    if True in (row.product.in_stock for row in speaking):
        changed["in_stock"] = True
    kept = {name: value for name, value in stored.attributes.items() if f"attributes.{name}" not in given}
    attributes = {name: value for row in speaking for name, value in row.product.attributes.items()}
    return replace(stored, **changed, attributes={**kept, **attributes})


def image_name(location: str) -> str:
    """Return the name of an image within its product, made from its location alone so that it never changes.

    The path without leading slashes and dots; of a URL without host, and with the query only where the path does not
    end like an image file ("show.php?id=7"). Longer than 512 characters: its last 512.
    """
    path = location.replace("\\", "/")
    if "://" in location:
        parts = urlsplit(location)
        path = unquote(parts.path)
        if parts.query and PurePosixPath(path).suffix.lower() not in values.IMAGE_SUFFIXES:
            path += "?" + parts.query
    name = clean(re.sub(r"^(?:\.?/)+|^[A-Za-z]:/", "", path), 100_000)
    return name[-MAX_ID:] or "image"


def attribute_name(header: str) -> str:
    """Return a column's name as filter expressions write it: lower case, words joined by "_", letters and digits."""
    text = unicodedata.normalize("NFKC", header[:_MAX_NAME]).strip().removeprefix("g:")
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", text).casefold()
    return re.sub(r"\W+", "_", text).strip("_")[:64]


def clean(text: str, limit: int) -> str:
    """Return text that every database can store: no control characters, no broken surrogates, at most `limit` long."""
    if not text.isprintable():
        text = text.encode("utf-8", "replace").decode("utf-8")
        text = "".join(" " if unicodedata.category(c) == "Cc" else c for c in text)
    return text.strip()[:limit].rstrip()


@dataclass(slots=True)
class _Record:
    plan: Plan
    cells: Sequence[object]
    warnings: list[tuple[str, str]] = field(default_factory=list)

    def cells_of(self, name: str) -> Iterator[object]:
        return (cell for i in self.plan.fields.get(name, ()) if (cell := self.cells[i]) not in ("", None))

    def first(self, name: str) -> object:
        return next(self.cells_of(name), None)

    def drop(self, name: str, value: object) -> None:
        self.warnings.append((name, clean(str(value)[:80], 80)))


def _read(record: _Record, line: int) -> Row | DeleteRow | BadRow:
    raw_id = record.first("product_id")
    product_id = _text(raw_id) if isinstance(raw_id, str | int | float) and not isinstance(raw_id, bool) else ""
    problem = _id_problem(product_id)
    if problem:
        return BadRow(line, "no_product_id", problem)
    operation = _text(record.first("operation")).casefold()
    locations = [place for name in ("image", "images") for cell in record.cells_of(name) for place in _locations(cell)]
    name = clean(_text(record.first("image_name")), MAX_ID)
    if operation in ("delete", "remove"):
        names = [name] if name else [image_name(place) for place, _ in locations]
        if len(names) > 1:
            return BadRow(line, "operation", f"{operation}: one image a row, got {len(names)}", product_id)
        return DeleteRow(line, ProductId(product_id), names[0] if names else "")
    if operation not in ("", "add", "update", "upsert", "insert"):
        return BadRow(line, "operation", f"operation {operation!r}; accepted are ADD and DELETE", product_id)
    product, given = _product(ProductId(product_id), record)
    images = _images(record, locations, name)
    return Row(
        line=line,
        product=product,
        images=tuple(images),
        given=given,
        image_expected=record.plan.has_images,
        warnings=tuple(record.warnings),
    )


def _product(product_id: ProductId, record: _Record) -> tuple[Product, frozenset[str]]:
    said: dict[str, Any] = {}
    for name in record.plan.fields:
        if name == "price":
            said.update(_price(record.first(name), record))
        elif name in _PRODUCT_FIELDS:
            value = record.first(name)
            if value is not None and (read := _read_field(name, value, record)) is not None:
                said[name] = read
    attributes: dict[str, Attribute] = {}
    names: set[str] = set()
    for name, value in _attributes(record):
        names.add(f"attributes.{name}")
        read_value = _attribute(value)
        if isinstance(read_value, str) and len(read_value) > MAX_ATTRIBUTE_TEXT:
            record.drop("attribute too long", f"{name}: {len(read_value)} characters")
        elif read_value is None:
            record.drop("attribute", f"{name}: {value}")
        elif len(attributes) >= MAX_ATTRIBUTES:
            record.drop("too many attributes", name)
        elif read_value != "":
            attributes[name] = read_value
    if "currency" in said and "currency" not in record.plan.fields:
        names.add("currency")
    return Product(product_id, attributes=attributes, **said), record.plan.said | names


def _price(value: object, record: _Record) -> dict[str, Any]:
    """Return price and the currency it names; a currency column wins over a sign."""
    currency = ""
    if isinstance(value, Mapping):  # {"value": "12.00", "currency": "USD"}
        currency = values.parse_currency(_text(value.get("currency"))) or ""
        value = value.get("value", value.get("amount"))
    if value in ("", None):
        return {}
    if isinstance(value, int | float) and not isinstance(value, bool):
        money = values.Money(float(value), currency) if 0 <= value < 1e15 else None
    else:
        money = _parsed("price", _text(value))
    if money is None:
        record.drop("price", value)
        return {}
    currency = currency or money.currency
    said = record.first("currency")
    return {"price": money.amount} | ({"currency": currency} if currency and said is None else {})


_PARSERS: dict[str, Callable[[str], Any]] = {
    "price": values.parse_money,
    "currency": values.parse_currency,
    "sales": values.parse_count,
    "review_count": values.parse_count,
    "conversion_rate": values.parse_share,
    "ctr": values.parse_share,
    "rating": values.parse_rating,
    "in_stock": values.parse_flag,
    "seller_quality": values.parse_number,
    "expires_at": values.parse_time,
    "url": values.parse_page,
    "kind": values.parse_kind,
}


def _read_field(name: str, value: object, record: _Record) -> Any:
    if name == "category" and isinstance(value, list):
        value = " > ".join(_text(part) for part in value)
    text = _text(value)
    if not text:
        return None
    if name in _LIMITS:
        return clean(text, _LIMITS[name])
    read = _parsed(name, text)
    if read is None:
        record.drop(name, text)
    return read


def _parsed(name: str, text: str) -> Any:
    return _remembered(name, text) if len(text) <= 40 else _PARSERS[name](text)


@lru_cache(maxsize=20_000)
def _remembered(name: str, text: str) -> Any:
    """Parse a short text once: the cells of a column repeat themselves."""
    return _PARSERS[name](text)


def _attributes(record: _Record) -> Iterator[tuple[str, object]]:
    """Yield free attributes, those of our own columns last so that they win."""
    yield from _labels(record)
    for cell in record.cells_of("attributes"):
        if isinstance(cell, str):
            try:
                cell = json.loads(cell)
            except (ValueError, RecursionError):
                cell = dict(part.split("=", 1) for part in re.split(r"[,;|]", cell) if "=" in part) or cell
        if isinstance(cell, Mapping):
            yield from ((name, value) for key, value in cell.items() if (name := attribute_name(str(key))))
        else:
            record.drop("attributes", cell)
    for start, end in record.plan.pairs:
        if name := attribute_name(_text(record.cells[start])):
            yield name, record.cells[end]
    for index, name in record.plan.attributes:
        yield name, record.cells[index]


def _labels(record: _Record) -> Iterator[tuple[str, object]]:
    """Read "colour=red,style=plain"; a key that stands twice keeps its values together."""
    labels: dict[str, list[str]] = {}
    for part in _text(record.first("labels")).split(","):
        key, equals, value = part.partition("=")
        if equals and attribute_name(key):
            labels.setdefault(attribute_name(key), []).append(value.strip())
    yield from ((name, ", ".join(found)) for name, found in labels.items())


def _attribute(value: object) -> Attribute | None:
    """Return an attribute's value: numbers stay numbers, "true" and "false" become truth values, the rest is text."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return float(value) if abs(value) < 1e300 else None  # neither infinite nor NaN
    if isinstance(value, list | tuple) and all(isinstance(item, str | int | float) for item in value):
        return clean(", ".join(_text(item) for item in value), 10 * MAX_ATTRIBUTE_TEXT)
    if value is None or not isinstance(value, str):
        return "" if value is None else None
    text = clean(value, 10 * MAX_ATTRIBUTE_TEXT)
    if _PLAIN_NUMBER.fullmatch(text):
        return float(text)
    return {"true": True, "false": False}.get(text.casefold(), text)


def _locations(cell: object) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Yield the locations of an image cell, with what an object {"url": ..., "kind": ...} says of each."""
    if isinstance(cell, str) and cell.lstrip().startswith(("[{", "{", "[ {")):
        try:
            cell = json.loads(cell)
        except (ValueError, RecursionError):
            return
    for item in cell if isinstance(cell, list) else [cell]:
        if isinstance(item, Mapping):
            place = next((item[key] for key in ("url", "src", "path", "image", "link") if item.get(key)), None)
            if isinstance(place, str):
                yield _with_scheme(place.strip()), item
        else:
            yield from ((_with_scheme(place), {}) for place in values.split_locations(item))


def _with_scheme(location: str) -> str:
    """Return "//cdn.example/a.jpg", as shops' pages write it, as a URL."""
    return "https:" + location if re.match(r"//[^/]+\.[^/]+/", location) else location


def _images(record: _Record, locations: Sequence[tuple[str, Mapping[str, object]]], name: str) -> list[ImageRef]:
    box = _box(record)
    custom = record.first("custom_content")
    custom = custom if isinstance(custom, str | None) else json.dumps(custom, ensure_ascii=False, default=str)
    row_kind = _kind(record.first("kind"), record)
    images: dict[str, ImageRef] = {}
    for number, (place, item) in enumerate(locations):
        if number == MAX_IMAGES:
            record.drop("too many images", f"{len(locations)} in one row")
            break
        own = name if name and len(locations) == 1 else clean(_text(item.get("name")), MAX_ID) or image_name(place)
        kind = _kind(item["kind"], record) if "kind" in item else row_kind
        own_box = values.parse_box(item["box"]) if "box" in item else box if number == 0 else None
        images[own] = ImageRef(own, place, kind, own_box, clean(custom or "", _MAX_CUSTOM_CONTENT))
    return list(images.values())


def _kind(value: object, record: _Record) -> ImageKind | None:
    if value in ("", None):
        return None
    kind: ImageKind | None = _parsed("kind", _text(value))
    if kind is None:
        record.drop("kind", value)
    return kind or ImageKind.OTHER


def _box(record: _Record) -> Box | None:
    parsers = {"box": values.parse_box, "region": values.parse_region, "polygon": values.parse_polygon}
    for name, parse in parsers.items():
        value = record.first(name)
        if value is not None:
            if isinstance(value, str) and value.lstrip().startswith(("{", "[")):
                with contextlib.suppress(ValueError, RecursionError):
                    value = json.loads(value)
            box = parse(value)
            if box is None:
                record.drop(name, value)
            return box
    return None


def _id_problem(product_id: str) -> str:
    if not product_id:
        return "the product id is empty; every row needs one"
    if len(product_id) > MAX_ID:
        return f"the product id has {len(product_id)} characters; at most {MAX_ID}"
    if "\ufffd" in product_id or clean(product_id, MAX_ID) != product_id:
        return f"the product id {product_id[:80]!r} has control or undecodable characters"
    return ""


def _text(value: object) -> str:
    """Return a scalar as people write it: 12.0 is "12", ="007" (a spreadsheet's guard) is "007"."""
    if value is None or isinstance(value, Mapping | list | tuple):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    text = str(value).strip()
    return text[2:-1] if text.startswith('="') and text.endswith('"') and len(text) > 3 else text


def _speaks(product: Product) -> bool:
    return product != Product(product.product_id)


def _empty(name: str) -> Any:
    return getattr(Product(ProductId("")), name)


def _pair(pattern: re.Pattern[str], name: str) -> tuple[str, str] | None:
    found = pattern.fullmatch(name)
    return (found[1], found[2]) if found else None


def _wanted_column(name: str, column: str, header: Sequence[str]) -> int:
    if name not in _known_names():
        accepted = ", ".join(_known_names())
        raise InputError(f"--columns {name}=...: unknown field; accepted are {accepted}", field="columns")
    exact = [i for i, text in enumerate(header) if text.strip() == column.strip()]
    close = exact or [i for i, text in enumerate(header) if _compact(text) == _compact(column)]
    if not close:
        raise InputError(
            f"--columns {name}={column}: the file has no such column, it has {_quoted(header)}", field="columns"
        )
    return close[0]


def _quoted(header: Sequence[str]) -> str:
    shown = ", ".join(repr(name[:40]) for name in header[:20])
    return shown + (f" and {len(header) - 20} more" if len(header) > 20 else "")


def _compact(name: str) -> str:
    text = unicodedata.normalize("NFKC", name).casefold().strip().removeprefix("g:")
    return "".join(c for c in text if c.isalnum())


def _column(name: str) -> str:
    """Return a column's name as it is compared; "价格(元)" is "价格" where only that is known."""
    name = name[:_MAX_NAME]
    whole, bare = _compact(name), _compact(re.sub(r"[(（\[].*?[)）\]]", "", name))
    return bare if bare and not _is_known(whole) and _is_known(bare) else whole


def _is_known(compact: str) -> bool:
    return any(compact in names for names in _known_names().values()) or bool(_NUMBERED_IMAGE.fullmatch(compact))


@cache
def _known_names() -> dict[str, tuple[str, ...]]:
    columns = values.shop_words()["columns"]
    return {name: tuple(dict.fromkeys(_compact(alias) for alias in aliases)) for name, aliases in columns.items()}
