"""How often each product was shown, looked at, clicked and bought: sums over the click log, kept up step by step."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import BigInteger, Column, Double, Engine, Table, bindparam, func, select

from sameitem.core.database import TEXT, metadata, read
from sameitem.core.records import ProductId

product_counts = Table(
    "product_counts",
    metadata,
    Column("product_id", TEXT, primary_key=True),
    Column("shown", BigInteger, nullable=False),  # places of lists
    Column("examined", Double, nullable=False),  # the same, each by how likely its rank is looked at
    Column("clicks", BigInteger, nullable=False),
    Column("carts", BigInteger, nullable=False),
    Column("purchases", BigInteger, nullable=False),
)
count_progress = Table(
    "count_progress",
    metadata,
    Column("name", TEXT, primary_key=True),  # of the table that was read
    Column("number", BigInteger, nullable=False),  # of its last row that is counted
)


@dataclass(frozen=True, slots=True)
class Counts:
    """Of one product, or of all."""

    shown: int = 0
    examined: float = 0.0
    clicks: int = 0
    carts: int = 0
    purchases: int = 0


_OF = select(product_counts).where(product_counts.c.product_id.in_(bindparam("product_ids", expanding=True)))
_TOTAL = select(*(func.sum(column) for column in list(product_counts.c)[1:]))


def counts_of(engine: Engine, product_ids: Sequence[ProductId]) -> dict[ProductId, Counts]:
    """Return the counts of products; those that were never shown are left out."""
    with read(engine) as connection:
        rows = connection.execute(_OF, {"product_ids": list(product_ids)})
        return {ProductId(row[0]): Counts(*row[1:]) for row in rows}


def total_counts(engine: Engine) -> Counts:
    """Return the sums over all products."""
    with read(engine) as connection:
        row = connection.execute(_TOTAL).one()
        return Counts(*(value or 0 for value in row))


def examined_share(ranks: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how likely places of a list are looked at, 1 for the first, by the discount of DCG."""
    return np.asarray(1.0 / np.log2(1.0 + ranks))
