"""How often each product was shown, looked at, clicked and bought: sums over the click log, kept up step by step."""

from sqlalchemy import BigInteger, Column, Double, Table

from sameitem.core.database import TEXT, metadata

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
