"""Alembic migrations, run by `core.database` when a database is opened; a released one is never edited."""
