"""Taking searches and events out of the log: what is too old, and everything that is kept of a user.

Each transaction takes a part and sets the counts of products right, so that a killed removal goes on when it is
repeated.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, delete, select, text

from sameitem.clicks.counts import uncounted
from sameitem.clicks.log import events, searches
from sameitem.core.database import read, write
from sameitem.core.errors import UnavailableError

PART = 200  # searches that one transaction removes


@dataclass(frozen=True, slots=True)
class Removed:
    """What was taken out of the log."""

    searches: int
    events: int


@dataclass(frozen=True, slots=True)
class Traces:
    """By what a user is found in files that were made from the log."""

    pseudonym: str
    search_ids: frozenset[str]  # of the user, and others' with events of theirs
    photos: frozenset[str]  # content hashes that no other's search names


def remove_before(engine: Engine, at: float) -> Removed:
    """Remove the searches before a time, seconds since 1970, with their events."""
    total = Removed(0, 0)
    while True:
        with write(engine) as connection:
            old = select(searches.c.search_id).where(searches.c.at < at).order_by(searches.c.at).limit(PART)
            found = list(connection.scalars(old))
            total = _sum(total, _remove_searches(connection, found))
        if len(found) < PART:
            return total


def traces_of(engine: Engine, pseudonym: str) -> Traces:
    """Return what a user's searches are called and which photos they alone searched with."""
    with read(engine) as connection:
        own = connection.execute(
            select(searches.c.search_id, searches.c.photo_hash).where(searches.c.user_id == pseudonym)
        ).all()
        photos = {row.photo_hash for row in own if row.photo_hash}
        shared: set[str] = set()
        for part in _parts(sorted(photos)):
            query = select(searches.c.photo_hash).where(searches.c.photo_hash.in_(part))
            shared |= set(connection.scalars(query.where(searches.c.user_id != pseudonym).distinct()))
        touched = set(connection.scalars(select(events.c.search_id).where(events.c.user_id == pseudonym).distinct()))
    return Traces(pseudonym, frozenset({row.search_id for row in own} | touched), frozenset(photos - shared))


def remove_user(engine: Engine, pseudonym: str) -> Removed:
    """Remove a user's searches with everybody's events on them, and the user's events on searches of others."""
    total = Removed(0, 0)
    while True:
        with write(engine) as connection:
            own = select(searches.c.search_id).where(searches.c.user_id == pseudonym).limit(PART)
            found = list(connection.scalars(own))
            total = _sum(total, _remove_searches(connection, found))
        if len(found) < PART:
            break
    while True:
        with write(engine) as connection:
            removed = _remove_events(connection, pseudonym)
            total = _sum(total, Removed(0, removed))
        if removed < PART:
            return total


def scrub(engine: Engine) -> None:
    """See to it that what was removed is not in the database's files any more, as far as a database lets us.

    SQLite overwrites removed rows (`secure_delete`); its log file is emptied here. PostgreSQL is told to reclaim the
    rows' space, which it overwrites when it needs it.

    Raises:
        UnavailableError: readers that did not end kept SQLite's log file in use; try again.
    """
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for table in (events, searches):
                connection.execute(text(f"VACUUM {table.name}"))
        return
    raw = engine.raw_connection()
    try:
        busy = raw.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    finally:
        raw.close()
    if busy:
        raise UnavailableError(
            "everything was removed, but a reader kept the database's log file in use; run the same command again"
        )


def _remove_searches(connection: Connection, search_ids: Sequence[str]) -> Removed:
    removed = 0

    def remove() -> None:
        nonlocal removed
        removed = connection.execute(delete(events).where(events.c.search_id.in_(search_ids))).rowcount
        connection.execute(delete(searches).where(searches.c.search_id.in_(search_ids)))

    if search_ids:
        uncounted(connection, search_ids, remove)
    return Removed(len(search_ids), removed)


def _remove_events(connection: Connection, pseudonym: str) -> int:
    query = select(events.c.number, events.c.search_id).where(events.c.user_id == pseudonym).limit(PART)
    done = connection.execute(query).all()
    numbers = [row.number for row in done]

    def remove() -> None:
        connection.execute(delete(events).where(events.c.number.in_(numbers)))

    if numbers:
        uncounted(connection, sorted({row.search_id for row in done}), remove)
    return len(numbers)


def _sum(one: Removed, other: Removed) -> Removed:
    return Removed(one.searches + other.searches, one.events + other.events)


def _parts(values: Sequence[str]) -> Iterator[Sequence[str]]:
    return (values[start : start + 500] for start in range(0, len(values), 500))
