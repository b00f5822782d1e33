"""The first tables: catalogue, change log, jobs, click log."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create every table."""
    op.create_table(
        "products",
        sa.Column("product_id", TEXT, primary_key=True),
        sa.Column("category", TEXT, nullable=False),
        sa.Column("title", TEXT, nullable=False),
        sa.Column("brand", TEXT, nullable=False),
        sa.Column("url", TEXT, nullable=False),
        sa.Column("price", sa.Double()),
        sa.Column("currency", TEXT, nullable=False),
        sa.Column("sales", sa.BigInteger()),
        sa.Column("conversion_rate", sa.Double()),
        sa.Column("ctr", sa.Double()),
        sa.Column("rating", sa.Double()),
        sa.Column("review_count", sa.BigInteger()),
        sa.Column("in_stock", sa.Boolean()),
        sa.Column("seller_quality", sa.Double()),
        sa.Column("attributes", TEXT, nullable=False),
        sa.Column("expires_at", TEXT, nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
    )
    op.create_table(
        "images",
        sa.Column("image_id", NUMBER, primary_key=True, autoincrement=True),
        sa.Column("product_id", TEXT, sa.ForeignKey("products.product_id"), nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("key", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("content_hash", TEXT, nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("sharpness", sa.Double(), nullable=False),
        sa.Column("brightness", sa.Double(), nullable=False),
        sa.Column("contrast", sa.Double(), nullable=False),
        sa.Column("text_share", sa.Double(), nullable=False),
        sa.Column("collage_share", sa.Double(), nullable=False),
        sa.Column("subject_share", sa.Double(), nullable=False),
        sa.Column("perceptual_hash", sa.BigInteger(), nullable=False),
        sa.Column("box_left", sa.Double()),
        sa.Column("box_top", sa.Double()),
        sa.Column("box_right", sa.Double()),
        sa.Column("box_bottom", sa.Double()),
        sa.Column("custom_content", TEXT, nullable=False),
        sa.Column("source", TEXT, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("images_key", "images", ["key"], unique=True)
    op.create_index("images_product_id", "images", ["product_id"])
    op.create_index("images_content_hash", "images", ["content_hash"])
    op.create_table(
        "changes",
        sa.Column("seq", NUMBER, primary_key=True, autoincrement=True),
        sa.Column("image_id", sa.BigInteger()),
        sa.Column("product_id", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "set_aside",
        sa.Column("number", NUMBER, primary_key=True, autoincrement=True),
        sa.Column("job_id", TEXT, nullable=False),
        sa.Column("line", sa.BigInteger(), nullable=False),
        sa.Column("source", TEXT, nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("detail", TEXT, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("set_aside_job_id", "set_aside", ["job_id", "number"])
    op.create_table(
        "feeds",
        sa.Column("job_id", TEXT, primary_key=True),
        sa.Column("begin_seq", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "feed_seen",
        sa.Column("job_id", TEXT, sa.ForeignKey("feeds.job_id"), primary_key=True),
        sa.Column("product_id", TEXT, primary_key=True),
    )
    op.create_table(
        "jobs",
        sa.Column("number", NUMBER, primary_key=True, autoincrement=True),
        sa.Column("id", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("arguments", TEXT, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("owner", TEXT, nullable=False),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("percent", sa.Double(), nullable=False),
        sa.Column("counts", TEXT, nullable=False),
        sa.Column("first_errors", TEXT, nullable=False),
        sa.Column("error_file", TEXT, nullable=False),
        sa.Column("error", TEXT, nullable=False),
        sa.Column("cursor", TEXT, nullable=False),
        sa.Column("result", TEXT, nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Double()),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.Column("finished_at", sa.Double()),
        sqlite_autoincrement=True,
    )
    op.create_index("jobs_id", "jobs", ["id"], unique=True)
    op.create_index("jobs_state", "jobs", ["state", "number"])
    op.create_table(
        "searches",
        sa.Column("number", NUMBER, primary_key=True, autoincrement=True),
        sa.Column("search_id", TEXT, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("photo_hash", TEXT, nullable=False),
        sa.Column("box_left", sa.Double()),
        sa.Column("box_top", sa.Double()),
        sa.Column("box_right", sa.Double()),
        sa.Column("box_bottom", sa.Double()),
        sa.Column("category_id", TEXT, nullable=False),
        sa.Column("index_version", TEXT, nullable=False),
        sa.Column("model_version", TEXT, nullable=False),
        sa.Column("user_id", TEXT, nullable=False),
        sa.Column("session_id", TEXT, nullable=False),
        sa.Column("shown", TEXT, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("searches_search_id", "searches", ["search_id"], unique=True)
    op.create_index("searches_at", "searches", ["at", "number"])
    op.create_table(
        "events",
        sa.Column("number", NUMBER, primary_key=True, autoincrement=True),
        sa.Column("event_id", TEXT, nullable=False),
        sa.Column("search_id", TEXT, sa.ForeignKey("searches.search_id"), nullable=False),
        sa.Column("type", TEXT, nullable=False),
        sa.Column("product_id", TEXT, nullable=False),
        sa.Column("image_name", TEXT, nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("user_id", TEXT, nullable=False),
        sa.Column("ts", sa.Double(), nullable=False),
        sa.Column("received_at", sa.Double(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("events_event_id", "events", ["event_id"], unique=True)
    op.create_index("events_search_id", "events", ["search_id", "number"])
