"""Click logs of other systems: JSON lines or Parquet, one search with what was shown and clicked a row.

Nothing here knows the catalogue or the photos: a row says what the file says, and what cannot be read is told with
line and reason.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from sameitem.clicks.log import EVENT_TYPES, MAX_KEY, MAX_PER_SEARCH, MAX_SHOWN, EventType
from sameitem.core.errors import InputError, NotFoundError
from sameitem.core.records import Box

MAX_LINE = 1 << 22  # bytes, with the end of the line
MAX_RANK = 1_000_000
MAX_TEXT = 4_096  # characters of a photo's location or of an entry
FIELDS: Mapping[str, tuple[str, ...]] = {  # names that are recognised, the first of a file's that is there
    "photo": ("photo", "query_photo", "photo_url", "photo_hash", "query_image", "image"),
    "time": ("time", "timestamp", "ts", "at"),
    "user": ("user", "user_id"),
    "shown": ("shown", "impressions", "results"),
    "clicked": ("clicked", "clicks"),
    "id": ("id", "search_id", "request_id", "query_id"),
    "box": ("box", "region"),
    "category": ("category", "category_id"),
    "events": ("events",),
}
_LATEST = 4_102_444_800.0  # 2100-01-01, as in the log
_PARQUET_ROWS = 500


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing of a list: "product/image" or a product id as `text`, or product id and image name apart."""

    text: str
    image_name: str | None = None
    rank: int | None = None  # in the list, from 1; None = its place there


@dataclass(frozen=True, slots=True)
class EventRow:
    """Something that was done with an entry."""

    entry: Entry
    type: EventType
    at: float | None  # seconds since 1970; None = not said


@dataclass(frozen=True, slots=True)
class ClickRow:
    """One search as another system logged it."""

    line: int
    search_id: str  # the same for the same row, however often the file is read
    photo: str  # path, URL or content hash
    at: float  # seconds since 1970
    user: str
    shown: tuple[Entry, ...]  # best first
    clicked: tuple[Entry, ...]
    events: tuple[EventRow, ...]
    box: Box | None  # pixels of the upright photo
    category: str
    dropped: tuple[tuple[str, str], ...]  # reason and text of optional values that could not be read


@dataclass(frozen=True, slots=True)
class BadLine:
    """A row that could not be read."""

    line: int
    reason: str
    detail: str


def read_clicks(
    path: Path, columns: Mapping[str, str], *, after: int = 0
) -> Iterator[tuple[ClickRow | BadLine, float]]:
    """Yield the rows of a click log, each with the share of the file that is read.

    Args:
        path: Parquet, or JSON lines in UTF-8; told by content.
        columns: our field name (`FIELDS`) -> the file's column name, where recognition is not enough.
        after: rows (Parquet) or lines (JSON) to pass over.

    Raises:
        NotFoundError: there is no such file.
        InputError: a field that does not exist, or a Parquet file that cannot be read or lacks a column that is needed.
    """
    unknown = sorted(set(columns) - set(FIELDS))
    if unknown:
        raise InputError(f"fields are {', '.join(FIELDS)}; got {', '.join(unknown)[:200]}", field="columns")
    try:
        with path.open("rb") as file:
            is_parquet = file.read(4) == b"PAR1"
    except OSError as error:
        raise NotFoundError(f"{path.name} cannot be read: {error.strerror}; name a click log") from error
    yield from (_parquet_rows if is_parquet else _json_rows)(path, columns, after)


def _json_rows(path: Path, columns: Mapping[str, str], after: int) -> Iterator[tuple[ClickRow | BadLine, float]]:
    size = path.stat().st_size or 1
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_LINE + 1):
            number += 1
            is_long = len(line) > MAX_LINE
            while len(line) > MAX_LINE and not line.endswith(b"\n"):
                line = file.readline(MAX_LINE + 1)
            if number <= after or not (is_long or line.strip()):
                continue
            share = file.tell() / size
            if is_long:
                yield BadLine(number, "line unreadable", f"longer than {MAX_LINE:,} bytes"), share
            else:
                yield _json_row(line.removeprefix(b"\xef\xbb\xbf"), columns, number), share


def _json_row(line: bytes, columns: Mapping[str, str], number: int) -> ClickRow | BadLine:
    try:
        record = json.loads(line.decode(), parse_constant=lambda _: None)
    except UnicodeDecodeError as error:
        return BadLine(number, "line unreadable", f"not UTF-8: {error.reason} at byte {error.start}")
    except (ValueError, RecursionError) as error:
        return BadLine(number, "line unreadable", f"not JSON: {error}"[:200])
    if not isinstance(record, dict):
        return BadLine(number, "line unreadable", "not a JSON object; every line is one {...}")
    return _row(record, columns, number)


def _parquet_rows(path: Path, columns: Mapping[str, str], after: int) -> Iterator[tuple[ClickRow | BadLine, float]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            missing = sorted(set(columns.values()) - set(names))
            if missing:
                raise InputError(f"{path.name} has no column {missing[0]!r:.80}; it has {names}"[:500], field="columns")
            for batch in file.iter_batches(_PARQUET_ROWS):
                for record in _records(batch):
                    number += 1
                    if number > after:
                        share = number / file.metadata.num_rows
                        if isinstance(record, str):
                            yield BadLine(number, "line unreadable", record), share
                        else:
                            yield _row(record, columns, number), share
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path.name} is not readable as Parquet after row {number}: {error}", field="path") from error


def _records(batch: Any) -> list[dict[str, object] | str]:
    """Return the rows of a batch; of one that Python cannot hold (a time after the year 9999, no UTF-8), why not."""
    try:
        rows: list[dict[str, object] | str] = _in_microseconds(batch).to_pylist()
    except (ValueError, OverflowError) as error:  # Arrow's, too
        if batch.num_rows == 1:
            return [f"a cell cannot be read: {error}"[:200]]
        return [record for row in range(batch.num_rows) for record in _records(batch.slice(row, 1))]
    return rows


def _in_microseconds(batch: Any) -> Any:
    """Return a batch whose times Python can hold: finer ones are cut."""
    import pyarrow as pa

    for place, column in enumerate(batch.schema):
        if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
            finest = pa.timestamp("us", tz=column.type.tz)
            batch = batch.set_column(place, column.name, batch.column(place).cast(finest, safe=False))
    return batch


# -- a record into a row


class _UnreadableError(Exception):
    """A value that a row cannot do without is missing or wrong."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def _row(record: Mapping[str, Any], columns: Mapping[str, str], number: int) -> ClickRow | BadLine:
    def cell(name: str) -> object:
        names = (columns[name],) if name in columns else FIELDS[name]
        return next((record[column] for column in names if record.get(column) is not None), None)

    dropped: list[tuple[str, str]] = []
    try:
        return ClickRow(
            line=number,
            search_id=_search_id(_text(cell("id")), record),
            photo=_photo(cell("photo")),
            at=_needed_time(cell("time")),
            user=_text(cell("user")),
            shown=_shown(cell("shown")),
            clicked=_entries(cell("clicked"), "clicked", dropped),
            events=_events(cell("events"), dropped),
            box=_box(cell("box"), dropped),
            category=_text(cell("category"))[:MAX_KEY],
            dropped=tuple(dropped),
        )
    except _UnreadableError as error:
        return BadLine(number, error.reason, str(error))


def _search_id(own: str, record: Mapping[str, Any]) -> str:
    said = f"id {own}" if own else "row " + json.dumps(record, sort_keys=True, default=str)
    return f"import-{hashlib.sha256(said.encode('utf-8', 'surrogatepass')).hexdigest()[:40]}"


def _photo(value: object) -> str:
    photo = _text(value)
    if not photo or len(photo) > MAX_TEXT:
        raise _UnreadableError("no photo", f"need a path, URL or content hash, got {value!r:.80}")
    return photo


def _shown(value: object) -> tuple[Entry, ...]:
    problems: list[tuple[str, str]] = []
    shown = _entries(value, "shown", problems)
    if problems:  # a hole would move every rank below it
        raise _UnreadableError(*problems[0])
    if not shown:
        raise _UnreadableError("nothing shown", f"need the list that was shown, got {value!r:.80}")
    return shown


def _entries(value: object, name: str, problems: list[tuple[str, str]]) -> tuple[Entry, ...]:
    """Return the entries of a list, of a JSON list in a text, or of one entry alone."""
    listed = _listed(value)
    if len(listed) > MAX_SHOWN:
        raise _UnreadableError(f"{name} unreadable", f"at most {MAX_SHOWN} entries, got {len(listed)}")
    entries = [(_entry(item), item) for item in listed]
    problems += [(f"{name} unreadable", f"{item!r:.80}") for entry, item in entries if entry is None]
    return tuple(entry for entry, _ in entries if entry is not None)


def _listed(value: object) -> list[object]:
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return [value]  # a product may be called so
    if isinstance(value, list):
        return value
    return [] if value is None or value == "" else [value]


def _entry(value: object) -> Entry | None:
    rank = None
    if isinstance(value, dict):
        rank = _rank(value.get("rank"))
        value = [value.get("product_id"), value.get("image_name")]
        if value[1] is None:
            value = value[0]
    if isinstance(value, list):
        parts = [_text(part) for part in value]
        fits = len(parts) == 2 and all(0 < len(part) <= MAX_TEXT for part in parts)
        return Entry(parts[0], parts[1], rank) if fits else None
    text = _text(value)
    return Entry(text, None, rank) if 0 < len(text) <= MAX_TEXT else None


def _rank(value: object) -> int | None:
    """Return the rank that an entry says; None where it says none that could be."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= MAX_RANK:
        return None
    return int(value) if value == int(value) else None


def _events(value: object, dropped: list[tuple[str, str]]) -> tuple[EventRow, ...]:
    listed = _listed(value)
    if len(listed) > MAX_PER_SEARCH:
        raise _UnreadableError("events unreadable", f"at most {MAX_PER_SEARCH} events a search, got {len(listed)}")
    found = []
    for item in listed:
        entry = _entry(item.get("id")) if isinstance(item, dict) else None
        kind = _text(item.get("type")).lower() if isinstance(item, dict) else ""
        type_ = next((known for known in EVENT_TYPES if known == kind), None)
        if entry is None or type_ is None:
            dropped.append(("event unreadable", f"need id and one of {', '.join(EVENT_TYPES)}, got {item!r:.80}"))
        else:
            assert isinstance(item, dict)
            found.append(EventRow(entry, type_, _time(item.get("time"))))
    return tuple(found)


def _needed_time(value: object) -> float:
    at = _time(value)
    if at is None:
        raise _UnreadableError("no time", f"need ISO 8601 or seconds since 1970, before 2100, got {value!r:.80}")
    return at


def _time(value: object) -> float | None:
    """Return seconds since 1970; None when the value tells no time. Without a zone it is UTC."""
    if isinstance(value, str):
        text = value.strip()
        if re.fullmatch(r"\d{9,19}(\.\d{1,9})?", text):
            value = float(text)
        else:
            try:
                value = datetime.fromisoformat(re.sub(r"^(\d{4})/(\d{2})/(\d{2})", r"\1-\2-\3", text))
            except ValueError:
                return None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if isinstance(value, datetime):
        try:
            value = (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
        except (OverflowError, ValueError):
            return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e19:
        return None
    seconds = float(value)
    while seconds >= 1e11:  # milli-, micro- or nanoseconds: seconds have so many digits only from the year 5138
        seconds /= 1000
    return seconds if seconds < _LATEST else None


def _box(value: object, dropped: list[tuple[str, str]]) -> Box | None:
    if value is None or value == "":
        return None
    edges: object = value
    if isinstance(edges, dict):
        edges = [edges.get(name) for name in ("left", "top", "right", "bottom")]
    elif isinstance(edges, str):
        edges = edges.strip("[]() ").split(",")
    try:
        left, top, right, bottom = (float(edge) for edge in edges)  # type: ignore[attr-defined]
    except (TypeError, ValueError, OverflowError):
        left = top = right = bottom = math.nan
    if 0 <= left < right < math.inf and 0 <= top < bottom < math.inf:
        return Box(left, top, right, bottom)
    dropped.append(("box unreadable", f"need left,top,right,bottom in pixels, got {value!r:.80}"))
    return None


def _text(value: object) -> str:
    """Return a text or number as text; "" for anything else."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # ids that went through a table with gaps: 1007.0
    return str(value).strip()
