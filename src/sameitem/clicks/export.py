"""The click log as a file that `sameitem import-clicks` reads: one search with its list and its events a line."""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

from sameitem.clicks.log import Session, Shown
from sameitem.core.durable import sync_folder
from sameitem.core.errors import InputError

ENDINGS = (".jsonl", ".parquet")
_ROWS = 2_000  # in memory at once, and of a row group


@dataclass(frozen=True, slots=True)
class Exported:
    """What a file holds."""

    file: Path
    sessions: int
    events: int


def export_clicks(path: Path, sessions: Iterable[Session]) -> Exported:
    """Write sessions as they come; the file appears under its name when it is whole and on the disk.

    Users are pseudonyms, photos content hashes of the shop's store.

    Raises:
        InputError: the name ends in neither .jsonl nor .parquet, or the file cannot be written.
    """
    if path.suffix not in ENDINGS:
        raise InputError(f"need a name that ends in {' or '.join(ENDINGS)}, got {path.name!r}", field="file")
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    count = events = 0
    try:
        with part.open("wb") as file, (_parquet if path.suffix == ".parquet" else _lines)(file) as write:
            rest = iter(sessions)
            while block := list(islice(rest, _ROWS)):
                write([_row(session) for session in block])
                count += len(block)
                events += sum(len(session.events) for session in block)
        with part.open("rb") as written:
            os.fsync(written.fileno())
        part.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}", field="file") from error
    finally:
        part.unlink(missing_ok=True)
    return Exported(path, count, events)


def _row(session: Session) -> dict[str, Any]:
    search = session.search
    box = search.box
    return {
        "id": search.search_id,
        "time": search.at,
        "user": search.user_id or search.session_id,
        "photo": search.photo_hash,
        "box": None if box is None else [box.left, box.top, box.right, box.bottom],
        "category": search.category_id,
        "shown": [_entry(place) for place in search.shown],
        "events": [
            {
                "id": {"product_id": event.product_id, "image_name": event.image_name},
                "type": event.type,
                "time": event.ts,
            }
            for event in session.events
        ],
    }


def _entry(place: Shown) -> dict[str, Any]:
    return {"product_id": place.product_id, "image_name": place.image_name, "rank": place.rank}


@contextmanager
def _lines(file: IO[bytes]) -> Iterator[Any]:
    def write(rows: list[dict[str, Any]]) -> None:
        file.writelines(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)

    yield write


@contextmanager
def _parquet(file: IO[bytes]) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    image = [("product_id", pa.string()), ("image_name", pa.string())]
    event = pa.struct([("id", pa.struct(image)), ("type", pa.string()), ("time", pa.float64())])
    schema = pa.schema(
        [
            ("id", pa.string()),
            ("time", pa.float64()),
            ("user", pa.string()),
            ("photo", pa.string()),
            ("box", pa.list_(pa.float64())),
            ("category", pa.string()),
            ("shown", pa.list_(pa.struct([*image, ("rank", pa.int64())]))),
            ("events", pa.list_(event)),
        ]
    )
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        yield lambda rows: writer.write_table(pa.Table.from_pylist(rows, schema))
