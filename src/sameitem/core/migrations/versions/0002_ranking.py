"""What ranking and access need: what a search's ranker was told, counts per product, keys."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Add the columns and tables."""
    for name in ("ranker_version", "evidence", "experiment"):
        op.add_column("searches", sa.Column(name, TEXT, nullable=False, server_default=sa.text("''")))
    op.create_index("searches_user_id", "searches", ["user_id", "at", "number"])
    op.create_index("searches_session_id", "searches", ["session_id", "at", "number"])
    op.create_index("events_user_id", "events", ["user_id", "received_at", "number"])
    op.drop_index("searches_at", "searches")
    op.create_index("searches_at", "searches", ["at", "number", "category_id"])
    is_act = sa.text("type <> 'impression'")
    op.create_index(
        "events_acts",
        "events",
        ["received_at", "search_id", "type"],
        sqlite_where=is_act,
        postgresql_where=is_act,
    )
    op.create_table(
        "product_counts",
        sa.Column("product_id", TEXT, primary_key=True),
        sa.Column("shown", sa.BigInteger(), nullable=False),
        sa.Column("examined", sa.Double(), nullable=False),
        sa.Column("clicks", sa.BigInteger(), nullable=False),
        sa.Column("carts", sa.BigInteger(), nullable=False),
        sa.Column("purchases", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "count_progress",
        sa.Column("name", TEXT, primary_key=True),
        sa.Column("number", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "keys",
        sa.Column("id", TEXT, primary_key=True),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("hash", TEXT, nullable=False),
        sa.Column("scopes", TEXT, nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("revoked_at", sa.Double()),
    )
