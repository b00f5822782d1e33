"""API keys of a shop: shown once, stored hashed, each with the scopes it opens."""

from sqlalchemy import Column, Double, Table

from sameitem.core.database import TEXT, metadata

keys = Table(
    "keys",
    metadata,
    Column("id", TEXT, primary_key=True),  # public part of the key
    Column("name", TEXT, nullable=False),
    Column("hash", TEXT, nullable=False),  # SHA-256 of the secret part
    Column("scopes", TEXT, nullable=False),  # JSON list
    Column("created_at", Double, nullable=False),
    Column("revoked_at", Double),
)
