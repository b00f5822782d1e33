"""Triplets as a Parquet file, with the report of how they were mined in its metadata."""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

from sameitem.clicks.triplets import MiningReport, Picture, Tally, Triplet
from sameitem.core.durable import sync_folder
from sameitem.core.errors import InputError, NotFoundError
from sameitem.core.records import Box, ContentHash, ImageId

FORMAT = 1
_FORMAT_KEY = "sameitem.triplets"
_REPORT_KEY = "sameitem.report"
_ROWS = 10_000  # in memory at once, and of a row group
_EDGES = ("left", "top", "right", "bottom")


def write_triplets(path: Path, triplets: Iterable[Triplet], tally: Tally) -> MiningReport:
    """Write triplets as they come, and the tally's report once they have ended; return it.

    The file appears under its name when it is whole and on the disk; another of that name is replaced.
    """
    return _write(path, triplets, tally.report)


def is_triplet_file(path: Path) -> bool:
    """Return whether a file is one of triplets, of this format."""
    try:
        read_report(path)
    except (NotFoundError, InputError):
        return False
    return True


def drop_triplets(path: Path, is_gone: Callable[[Triplet], bool]) -> int:
    """Take triplets out of a file; return how many. The report then tells of those that are left.

    Raises:
        NotFoundError: there is no such file.
        InputError: not a file of triplets, or of another format.
    """
    report = read_report(path)
    gone = sum(map(is_gone, read_triplets(path)))
    if gone:
        kept = replace(report, triplets=report.triplets - gone)
        _write(path, (triplet for triplet in read_triplets(path) if not is_gone(triplet)), lambda: kept)
    return gone


def _write(path: Path, triplets: Iterable[Triplet], tell: Callable[[], MiningReport]) -> MiningReport:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema, rest = _schema(), iter(triplets)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with part.open("wb") as file:
            with pq.ParquetWriter(file, schema, compression="zstd") as writer:
                while rows := list(islice(rest, _ROWS)):
                    writer.write_table(pa.Table.from_pylist([_row(triplet) for triplet in rows], schema))
                report = tell()
                writer.add_key_value_metadata({_FORMAT_KEY: str(FORMAT), _REPORT_KEY: json.dumps(asdict(report))})
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
    finally:
        part.unlink(missing_ok=True)
    sync_folder(path.parent)
    return report


def read_triplets(path: Path) -> Iterator[Triplet]:
    """Yield the triplets of a file in its order, a part at a time.

    Raises:
        NotFoundError: there is no such file.
        InputError: not a file of triplets, or of another format.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    read_report(path)
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_ROWS):
                yield from (_triplet(row) for row in batch.to_pylist())
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path.name} is damaged: {error}; mine again") from error


def read_report(path: Path) -> MiningReport:
    """Return how the triplets of a file were mined.

    Raises:
        NotFoundError: there is no such file.
        InputError: not a file of triplets, or of another format.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise NotFoundError(f"no file {path.name}; write one with `sameitem mine`")
    try:
        metadata = pq.read_metadata(path).metadata or {}
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path.name} is not a file of triplets: {error}; write one with `sameitem mine`") from error
    found = metadata.get(_FORMAT_KEY.encode(), b"").decode()
    if found != str(FORMAT):
        raise InputError(f"{path.name}: need triplets of format {FORMAT}, got {found[:20]!r}; mine again")
    return MiningReport(**json.loads(metadata[_REPORT_KEY.encode()]))


def _schema() -> Any:
    import pyarrow as pa

    texts = ["photo", "positive", "negative", "search_id", "user"]
    fields = [(name, pa.string()) for name in texts]
    fields += [(f"photo_{edge}", pa.float64()) for edge in _EDGES]
    fields += [("positive_id", pa.int64()), ("negative_id", pa.int64()), ("weight", pa.float64())]
    return pa.schema(fields)


def _row(triplet: Triplet) -> dict[str, object]:
    box = triplet.photo.box
    return {
        "photo": triplet.photo.content_hash,
        **{f"photo_{edge}": None if box is None else getattr(box, edge) for edge in _EDGES},
        "positive_id": triplet.positive_id,
        "positive": triplet.positive,
        "negative_id": triplet.negative_id,
        "negative": triplet.negative,
        "search_id": triplet.search_id,
        "user": triplet.user,
        "weight": triplet.weight,
    }


def _triplet(row: Mapping[str, Any]) -> Triplet:
    edges = [row[f"photo_{edge}"] for edge in _EDGES]
    return Triplet(
        photo=Picture(ContentHash(row["photo"]), None if edges[0] is None else Box(*edges)),
        positive_id=ImageId(row["positive_id"]),
        positive=ContentHash(row["positive"]),
        negative_id=ImageId(row["negative_id"]),
        negative=ContentHash(row["negative"]),
        search_id=row["search_id"],
        user=row["user"],
        weight=row["weight"],
    )
