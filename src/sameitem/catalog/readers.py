"""Files of a shop as streams of rows: CSV, TSV, JSONL, Parquet and folders of images.

A source is read from its beginning to its end in constant memory, and again from any line: the rows after line n are
the same whether the lines before were read or skipped. Lines count from 1; in Parquet and in folders they are rows.
"""

import contextlib
import csv
import hashlib
import io
import itertools
import json
import os
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from sameitem.catalog.columns import (
    BadRow,
    DeleteRow,
    ImageRef,
    Plan,
    Row,
    plan_columns,
    read_record,
    recognised,
)
from sameitem.catalog.encoding import detect_encoding
from sameitem.catalog.values import IMAGE_SUFFIXES, parse_kind
from sameitem.core.errors import InputError, NotFoundError
from sameitem.core.records import Product, ProductId

Entry = Row | DeleteRow | BadRow
MAX_LINE = 4 << 20  # characters of a line, and of a cell
MAX_COLUMNS = 2_000
_SEPARATORS = ",;\t|"
_SAMPLE_LINES = 50
_PARQUET_ROWS = 256
_VISION_COLUMNS = (
    "image-uri", "image-id", "product-set-id", "product-id", "product-category", "product-display-name", "labels",
    "bounding-poly",
)  # fmt: skip
_OTHER_FORMATS = (
    (b"PK\x03\x04", "a ZIP archive or an Excel workbook", "unpack it, or save the sheet as CSV (UTF-8)"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook", "save the sheet as CSV (UTF-8)"),
    (b"\x1f\x8b", "gzip", "unpack it"),
    (b"%PDF", "PDF", "export the list as CSV"),
    (b"SQLite format 3", "a database", "export the table as CSV"),
    (b"\xff\xd8\xff", "a photo", "import the folder that holds it, or a CSV file that names it"),
    (b"\x89PNG", "a photo", "import the folder that holds it, or a CSV file that names it"),
)
_WRAPS = frozenset(("images", "image", "photos", "pictures", "img", "imgs", "pics", "图片", "商品图片"))  # say nothing
_CAMERA = re.compile(r"(?:img|dsc[nf]?|p|pxl|mvimg|photo|image|picture|screenshot|wp|scan|bild|foto)", re.IGNORECASE)
_PART = re.compile(r"(?P<product>.*?[^\s_\-.(])(?:[\s_\-.]+\(?|\()(?P<part>\d{1,2}|[A-Za-z一-鿿]{2,9})\)?")


@dataclass(frozen=True, slots=True)
class Source:
    """A file or folder that can be read as rows.

    `rows(after)` yields what stands after that line, in order, with the share of the source (0..1) read so far.
    """

    path: Path
    format: str
    description: str  # one line for people: what was detected
    fingerprint: str  # another one means that the content changed
    images_root: Path  # relative image locations start here
    rows: Callable[[int], Iterator[tuple[Entry, float]]]


def open_source(path: Path, columns: Mapping[str, str]) -> Source:
    """Look at a file or folder and return how to read it.

    Args:
        path: CSV, TSV, JSON lines, Parquet, or a folder of images; told by content, not by its name.
        columns: our field name -> the file's column name, where recognition is not enough.

    Raises:
        NotFoundError: there is nothing at `path`.
        InputError: not a format we read, or no column with the product id.
    """
    if path.is_dir():
        return _open_folder(path)
    if not path.is_file():
        raise NotFoundError(f"{path} does not exist; give a CSV, TSV, JSONL or Parquet file, or a folder of images")
    with path.open("rb") as file:
        head = file.read(4096)
    for magic, what, instead in _OTHER_FORMATS:
        if head.startswith(magic):
            raise InputError(f"{path.name} is {what}; {instead}", field="source")
    if not head.strip():
        raise InputError(f"{path.name} is empty; give a file with at least a header and a row", field="source")
    if head.startswith(b"PAR1"):
        return _open_parquet(path, columns)
    encoding = detect_encoding(path)
    with path.open("rb") as file:
        first = next((line for _, line in _lines(file, encoding) if line and line.strip()), "").lstrip()
    if first.startswith("{"):
        return _open_json_lines(path, columns, encoding)
    if first.startswith("["):
        raise InputError(f"{path.name} is one JSON list; write one JSON object per line instead", field="source")
    if first.startswith("<"):
        raise InputError(f"{path.name} is XML or HTML; export it as CSV, JSON lines or Parquet", field="source")
    return _open_csv(path, columns, encoding)


# -- delimited text


def _open_csv(path: Path, columns: Mapping[str, str], encoding: str) -> Source:
    csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE))  # the module's own, for the whole process
    separator, skipped = _separator(path, encoding)
    with path.open("rb") as file:
        header_line, header, _ = next(_records(file, encoding, separator, skipped), (1, [], ""))
    if len(header) > MAX_COLUMNS:
        raise InputError(f"{path.name} has {len(header)} columns, at most {MAX_COLUMNS}", field="source")
    if _is_vision(header):
        header, header_line = list(_VISION_COLUMNS), 0
    plan = plan_columns(header, columns)
    shortest = 5 if header_line == 0 else len(header)  # Google's last three columns may be left out

    def rows(after: int) -> Iterator[tuple[Entry, float]]:
        size = path.stat().st_size or 1
        with path.open("rb") as file:
            for line, cells, problem in _records(file, encoding, separator, skipped, len(header)):
                if line > max(after, header_line) and (entry := _csv_entry(plan, line, cells, problem, shortest)):
                    yield entry, file.tell() / size

    name = {"\t": "tab"}.get(separator, repr(separator))
    kind = "Google product search CSV" if header_line == 0 else "CSV"
    text = f"{kind}, {encoding}, separated by {name}: {plan.describe()}"
    return Source(path, "csv", text, _file_fingerprint(path), path.parent, rows)


def _csv_entry(plan: Plan, line: int, cells: list[str], problem: str, shortest: int) -> Entry | None:
    if problem:
        return BadRow(line, "unreadable", problem)
    if not any(cell.strip() for cell in cells):
        return None
    width = len(plan.names)
    if len(cells) < shortest or any(cell.strip() for cell in cells[width:]):
        return BadRow(line, "columns", f"{len(cells)} fields where the header has {width}; quote cells with separators")
    return read_record(plan, cells[:width] + [""] * (width - len(cells)), line)


def _records(
    file: BinaryIO, encoding: str, separator: str, skipped: int, width: int = 0
) -> Iterator[tuple[int, list[str], str]]:
    """Yield line, cells and problem of every record that is not blank.

    A quote that is never closed would swallow the lines up to the next one. So a record of several lines that is not
    whole, `width` cells with proper quotes, is taken apart: its first line stands alone, its second is read next.
    """
    feed = _Feed(line for line in _lines(file, encoding) if line[0] > skipped)
    while (start := feed.peek()) is not None:
        feed.taken.clear()
        number, text = start
        if text is None:
            next(feed)
            yield number, [], f"the line is longer than {MAX_LINE:,} characters"
            continue
        try:
            cells = next(csv.reader(feed.texts(), delimiter=separator))
            problem = ""
        except csv.Error as error:
            cells, problem = [], str(error)
        if len(feed.taken) > 1 and (problem or not _is_whole(feed.taken, separator, width)):
            feed.put_back(1)
            cells = next(csv.reader([text], delimiter=separator))
            problem = "" if len(cells) == width else "a quote is opened and not closed"
        if cells or problem:
            yield number, cells, problem


def _is_whole(lines: Sequence[tuple[int, str | None]], separator: str, width: int) -> bool:
    """Say whether lines are one record: quotes closed where a cell ends, and as many cells as the header has."""
    try:
        cells = next(csv.reader((text or "" for _, text in lines), delimiter=separator, strict=True))
    except csv.Error:
        return False
    return width in (0, len(cells))


class _Feed:
    """Lines that can be put back."""

    def __init__(self, lines: Iterator[tuple[int, str | None]]) -> None:
        self._lines = lines
        self._waiting: deque[tuple[int, str | None]] = deque()
        self.taken: list[tuple[int, str | None]] = []

    def peek(self) -> tuple[int, str | None] | None:
        if not self._waiting:
            self._waiting.extend(itertools.islice(self._lines, 1))
        return self._waiting[0] if self._waiting else None

    def __next__(self) -> tuple[int, str | None]:
        if self.peek() is None:
            raise StopIteration
        self.taken.append(self._waiting.popleft())
        return self.taken[-1]

    def texts(self) -> Iterator[str]:
        """Yield lines to a CSV reader until it has a record, the file ends, or the record is too long."""
        length = 0
        while (item := self.peek()) is not None and item[1] is not None and length <= MAX_LINE:
            next(self)
            length += len(item[1])
            yield item[1]

    def put_back(self, kept: int) -> None:
        """Put back what was taken, except the first `kept` lines."""
        self._waiting.extendleft(reversed(self.taken[kept:]))
        del self.taken[kept:]


def _lines(file: BinaryIO, encoding: str) -> Iterator[tuple[int, str | None]]:
    """Yield the number and text of every line with its end, None for one that is too long.

    Undecodable bytes become U+FFFD and NUL characters vanish. Lines end with LF, CR LF or CR.
    """
    text = io.TextIOWrapper(file, encoding=encoding, errors="replace", newline="")
    try:
        number = 0
        while line := text.readline(MAX_LINE):
            number += 1
            if len(line) == MAX_LINE and not line.endswith(("\n", "\r")):
                while (rest := text.readline(MAX_LINE)) and not rest.endswith(("\n", "\r")):
                    pass
                yield number, None
            else:
                yield number, line.replace("\0", "").removeprefix("\ufeff") if number == 1 else line.replace("\0", "")
    finally:
        text.detach()


def _separator(path: Path, encoding: str) -> tuple[str, int]:
    """Return the character between cells, and how many lines before the header say only that ("sep=;").

    The header decides: the separator that yields most names we know, then most records as wide as the first.
    """
    with path.open("rb") as file:
        sample = [text for _, text in itertools.islice(_lines(file, encoding), _SAMPLE_LINES) if text is not None]
    named = re.fullmatch(r'"?sep=(.)"?\s*', sample[0], re.IGNORECASE) if sample else None
    if named:
        return named[1], 1

    def fitness(separator: str) -> tuple[int, int, int]:
        try:
            records = [cells for cells in csv.reader(sample, delimiter=separator) if cells]
        except csv.Error:
            return (-1, 0, 0)
        width = len(records[0]) if records else 0
        return recognised(records[0]) if records else 0, sum(len(c) == width > 1 for c in records), width

    return max(_SEPARATORS, key=fitness), 0


def _is_vision(first: Sequence[str]) -> bool:
    """Say whether a first record is data in the eight columns of Google's product search, which have no header."""
    is_location = len(first) > 0 and bool(re.match(r"gs://|https?://", first[0].strip()))
    is_category = len(first) > 4 and bool(re.fullmatch(r"(?:[a-z]+-v\d)?", first[4].strip()))
    return is_location and is_category and 5 <= len(first) <= 8


# -- JSON lines


def _open_json_lines(path: Path, columns: Mapping[str, str], encoding: str) -> Source:
    keys = _first_keys(path, encoding)
    plan = plan_columns(keys, columns) if keys else None

    def rows(after: int) -> Iterator[tuple[Entry, float]]:
        size = path.stat().st_size or 1
        plans: dict[tuple[str, ...], Plan] = {}
        with path.open("rb") as file:
            for number, text in _lines(file, encoding):
                if number > after and (text is None or text.strip()):
                    if len(plans) > 1_000:  # every object with other keys
                        plans.clear()
                    yield _json_entry(plans, columns, number, text), file.tell() / size

    text = f"JSON lines, {encoding}" + (f": {plan.describe()}" if plan else "")
    return Source(path, "jsonl", text, _file_fingerprint(path), path.parent, rows)


def _first_keys(path: Path, encoding: str) -> list[str]:
    """Return the keys of the first readable objects, in the order in which they appear."""
    keys: dict[str, None] = {}
    with path.open("rb") as file:
        for _, text in itertools.islice(_lines(file, encoding), _SAMPLE_LINES):
            with contextlib.suppress(ValueError, RecursionError):
                record = json.loads(text or "")
                keys.update(dict.fromkeys(record if isinstance(record, dict) else ()))
    return list(keys)


def _json_entry(plans: dict[tuple[str, ...], Plan], columns: Mapping[str, str], number: int, text: str | None) -> Entry:
    if text is None:
        return BadRow(number, "unreadable", f"the line is longer than {MAX_LINE:,} characters")
    try:
        record = json.loads(text, parse_constant=lambda _: None)
    except (ValueError, RecursionError) as error:
        return BadRow(number, "unreadable", f"not JSON: {error}"[:200])
    if not isinstance(record, dict):
        return BadRow(number, "unreadable", "not a JSON object; every line is one {...}")
    keys = tuple(record)
    try:
        if keys not in plans:
            present = {name: column for name, column in columns.items() if column in record}
            plans[keys] = plan_columns(keys, present)
    except InputError as error:
        return BadRow(number, "no_product_id", str(error))
    return read_record(plans[keys], list(record.values()), number)


# -- Parquet


def _open_parquet(path: Path, columns: Mapping[str, str]) -> Source:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names, total = file.schema_arrow.names, file.metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path.name} is not readable as Parquet: {error}; write it again", field="source") from error
    plan = plan_columns(names, columns)

    def rows(after: int) -> Iterator[tuple[Entry, float]]:
        try:
            with pq.ParquetFile(path) as file:
                number = 0
                for group in range(file.num_row_groups):
                    in_group = file.metadata.row_group(group).num_rows
                    if number + in_group <= after:
                        number += in_group
                        continue
                    for batch in file.iter_batches(_PARQUET_ROWS, row_groups=[group]):
                        for record in batch.to_pylist():
                            number += 1
                            if number > after:
                                yield read_record(plan, _parquet_cells(record, names), number), number / total
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{path.name} is damaged after row {number}: {error}", field="source") from error

    return Source(path, "parquet", f"Parquet: {plan.describe()}", _file_fingerprint(path), path.parent, rows)


def _parquet_cells(record: Mapping[str, object], names: Sequence[str]) -> list[object]:
    return [_parquet_cell(record[name]) for name in names]


def _parquet_cell(value: object) -> object:
    """Return a value as JSON would hold it: decimals and times become text; bytes are nothing we read."""
    if value is None or isinstance(value, str | int | float | list | dict):
        return value
    return "" if isinstance(value, bytes) else str(value)


# -- folders of images


def _open_folder(path: Path) -> Source:
    root, files = path, _image_files(path)
    while files and len(wraps := {file.parts[0] if len(file.parts) > 1 else "" for file in files}) == 1:
        wrap = wraps.pop()
        if wrap.casefold() not in {*_WRAPS, root.name.casefold()}:
            break
        root, files = root / wrap, [file.relative_to(wrap) for file in files]
    flat = [file.name for file in files if len(file.parts) == 1]
    if not files:
        raise InputError(
            f"{path} holds no images; accepted are {', '.join(sorted(IMAGE_SUFFIXES))} in the folder or below it",
            field="source",
        )
    product_of = _products_by_prefix(flat)
    keyed = sorted(
        (product_of[file.name] if len(file.parts) == 1 else file.parent.as_posix(), _natural(file.name), file)
        for file in files
    )

    def rows(after: int) -> Iterator[tuple[Entry, float]]:
        for number, (product_id, _, file) in enumerate(keyed, start=1):
            if number > after:
                yield _folder_row(number, product_id, file), number / len(keyed)

    by_folder = len({key for key, _, file in keyed if len(file.parts) > 1})
    rules = [f"{by_folder} products by sub-folder"] if by_folder else []
    if flat:
        rules.append(f"{len(set(product_of.values()))} products by file name (sku1_1.jpg and sku1_2.jpg are sku1)")
    names = "\n".join(file.as_posix() for _, _, file in keyed).encode("utf-8", "surrogateescape")
    text = f"folder with {len(keyed)} images: {', '.join(rules)}"
    return Source(path, "folder", text, hashlib.sha256(names).hexdigest(), root, rows)


def _folder_row(number: int, product_id: str, file: Path) -> Entry:
    location = file.as_posix()
    if product_id != product_id.encode("utf-8", "replace").decode() or not product_id.isprintable():
        return BadRow(number, "no_product_id", f"the name {location!r} is not readable text; rename the file")
    parents = file.parts[:-2]
    product = Product(ProductId(product_id), category=" > ".join(parents))
    found = _PART.fullmatch(file.stem)
    kind = parse_kind(found["part"]) if found and not found["part"].isdigit() else parse_kind(file.stem)
    image = ImageRef(file.name, location, kind)
    return Row(number, product, (image,), given=frozenset({"category"} if parents else ()))


def _image_files(folder: Path) -> list[Path]:
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        here = Path(parent).relative_to(folder)
        found += [
            here / name for name in names if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES
        ]
    return sorted(found)


def _products_by_prefix(names: Sequence[str]) -> dict[str, str]:
    """Return the product of each file of one folder.

    "sku1_1.jpg", "sku1-2.jpg", "sku1 (3).jpg" and "sku1_back.jpg" belong to sku1 when its pictures are numbered from 0
    or 1, or there is a "sku1.jpg"; otherwise ("chair-90.jpg", "IMG_0042.jpg") every file is a product of its own.
    """
    stems = {name: Path(name).stem for name in names}
    parts = {stem: found for stem in stems.values() if (found := _PART.fullmatch(stem)) and _is_part(found["part"])}
    numbered = {found["product"] for found in parts.values() if found["part"] in ("0", "1", "00", "01")}
    named = {found["product"] for found in parts.values() if not found["part"].isdigit()}
    grouped = {product for product in numbered | named | set(stems.values()) if not _CAMERA.fullmatch(product)}
    return {
        name: parts[stem]["product"] if stem in parts and parts[stem]["product"] in grouped else stem
        for name, stem in stems.items()
    }


def _is_part(part: str) -> bool:
    return part.isdigit() or parse_kind(part) is not None


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a sort key that puts 2 before 10, whatever marks stand between: "sku1_1", "sku1-2", "sku1 (10)"."""
    return [(int(run), "") if run.isdigit() else (-1, run) for run in re.findall(r"[0-9]{1,18}|[^0-9\s_\-.()]+", name)]


def _file_fingerprint(path: Path) -> str:
    status = path.stat()
    return f"{status.st_size}:{status.st_mtime_ns}"
