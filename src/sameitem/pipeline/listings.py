"""The tables beside an index version: its members, their products, and what selection decided about every image."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import orjson

from sameitem.catalog.selection import Decision
from sameitem.core.records import Product

MEMBERS = "members.parquet"  # row i: member i of the engine's arrays
PRODUCTS = "products.parquet"  # row j: product j of the engine's arrays
DECISIONS = "decisions.parquet"  # every image of the catalogue: kept or why not
_GROUP = 10_000


def write_table(path: Path, schema: Sequence[tuple[str, str]], rows: Iterable[Sequence[Any]]) -> None:
    """Write rows as Parquet, streaming.

    Args:
        path: file to write.
        schema: (name, Arrow type name) of each column.
        rows: one value per column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrow = pa.schema([(name, pa.type_for_alias(kind)) for name, kind in schema])
    with pq.ParquetWriter(path, arrow, compression="zstd") as writer:
        for batch in _batches(rows):
            columns = [
                pa.array(values, kind) for values, kind in zip(zip(*batch, strict=True), arrow.types, strict=True)
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=arrow))


def read_table(path: Path, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Return the rows of a table that `write_table` wrote."""
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = pq.read_table(path, columns=columns).to_pylist()
    return rows


def find_rows(
    path: Path, column: str, values: Sequence[Any], *, start: int = 0, limit: int
) -> tuple[int, list[dict[str, Any]]]:
    """Return how many rows of a table have one of some values in a column, and a page of them."""
    import pyarrow.parquet as pq

    found = pq.read_table(path, filters=[(column, "in", list(values))])
    rows: list[dict[str, Any]] = found.slice(start, limit).to_pylist()
    return found.num_rows, rows


def write_members(path: Path, rows: Iterable[tuple[int, str, str]]) -> None:
    """Write each member's image id, image name and top category id, in the order of the engine's members."""
    write_table(path, [("image_id", "int64"), ("image_name", "string"), ("top", "string")], rows)


def read_members(path: Path) -> tuple[list[str], list[str]]:
    """Return image name and top category id of each member."""
    rows = read_table(path, ["image_name", "top"])
    return [row["image_name"] for row in rows], [row["top"] for row in rows]


def write_decisions(path: Path, decisions: Iterable[Decision]) -> None:
    """Write what selection decided about every image of the catalogue."""
    names = ["product_id", "image_name", "status", "reason", "detail"]
    schema = [("image_id", "int64"), *((name, "string") for name in names)]
    rows = ((d.image_id, d.product_id, d.name, d.status.value, d.reason or "", d.detail) for d in decisions)
    write_table(path, schema, rows)


def write_products(path: Path, products: Iterable[Product]) -> None:
    """Write the products, one JSON text each: attributes are free, so columns would be too many."""
    write_table(path, [("product", "string")], ((orjson.dumps(asdict(product)).decode(),) for product in products))


def read_products(path: Path) -> list[Product]:
    """Return the products in row order."""
    names = {part.name for part in fields(Product)}
    texts = [row["product"] for row in read_table(path)]
    return [Product(**{key: value for key, value in orjson.loads(text).items() if key in names}) for text in texts]


def _batches(rows: Iterable[Sequence[Any]]) -> Iterator[list[Sequence[Any]]]:
    batch: list[Sequence[Any]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == _GROUP:
            yield batch
            batch = []
    if batch:
        yield batch
