"""How often each product was shown, looked at, clicked and bought: sums over the click log, kept up step by step.

One shopper's day counts a product at most once in each column, whatever they repeat: nobody pushes a product up by
clicking it again and again, or down by searching for it and not clicking
(docs/decisions/0013-counts-per-shopper-and-day.md). A shopper is the user of a search, else its session, else the
search alone; a day is one in UTC, by the time of the search. So the counts are a function of what the log holds, in
whatever order and parts it came.
"""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Double,
    Engine,
    Table,
    TextClause,
    bindparam,
    delete,
    func,
    insert,
    select,
    text,
)

from sameitem.clicks.log import DAY_S, EventType, events, searches
from sameitem.core.database import TEXT, metadata, read, write
from sameitem.core.records import ProductId

T = TypeVar("T")
product_counts = Table(
    "product_counts",
    metadata,
    Column("product_id", TEXT, primary_key=True),
    Column("shown", BigInteger, nullable=False),  # shoppers' days on which it stood in a list
    Column("examined", Double, nullable=False),  # the same, each by how likely its best rank is looked at
    Column("clicks", BigInteger, nullable=False),  # shoppers' days on which it was clicked
    Column("carts", BigInteger, nullable=False),
    Column("purchases", BigInteger, nullable=False),
)
count_progress = Table(
    "count_progress",
    metadata,
    Column("name", TEXT, primary_key=True),  # of the table that was read
    Column("number", BigInteger, nullable=False),  # of its last row that is counted
)
PART = 500  # searches, and events, that one transaction counts
SEARCHES_A_DAY = 100  # of one shopper that count, the first: what others do under one name costs no more than this
_REMOVED = "removed"  # its number in `count_progress`: how often something was taken out of the log
_EXACT = 2**20  # weights are multiples of 1 / _EXACT: sums of them are exact in any order
_COLUMNS: tuple[EventType, ...] = ("click", "cart", "purchase")
_AT_ONCE = 500
_SHOPPERS = 50  # whose days one query reads

_NOTHING = (0, 0.0, 0, 0, 0)
_Sums = list[float]  # shown, examined, clicks, carts, purchases
_Shopper = tuple[str, str, int]  # which column tells who, its value, day since 1970


@dataclass(frozen=True, slots=True)
class ProductCounts:
    """Counts of products, row i those of the i-th product asked for; zeros where nothing is known."""

    shown: NDArray[np.int64]  # shoppers' days
    examined: NDArray[np.float64]  # at most `shown`
    clicks: NDArray[np.int64]
    carts: NDArray[np.int64]
    purchases: NDArray[np.int64]


@lru_cache(4096)
def examination(rank: int) -> float:
    """Return how likely a place of a list is looked at, `1 / log2(rank + 1)`: 1 for rank 1, 0.63, 0.5, ... 0.29 for 10.

    The discount that NDCG uses, too (K. Jarvelin and J. Kekalainen, ACM TOIS 20(4), 2002); rounded to 20 bits, so that
    sums are exact.
    """
    return round(_EXACT / math.log2(rank + 1)) / _EXACT


def take_in(engine: Engine) -> int:
    """Count what came into the log since the last call, a part at a time; return how many rows that were.

    Several processes may call it at once: each row counts exactly once. Nothing is locked while a part is added up.
    """
    taken = 0
    while True:
        with read(engine) as connection:
            before = _progress(connection)
            after, shoppers = _next_part(connection, before)
            days = _days(connection, shoppers, after)
            change = _change(_sums(days, after), _sums(days, before))
        if after == before:
            return taken
        with write(engine) as connection:
            if _progress(connection) != before:
                continue  # another process was faster, or something was removed meanwhile
            _add(connection, change)
            _set_progress(connection, after)
        taken += after.searches - before.searches + after.events - before.events


def counts_of(engine: Engine, product_ids: Sequence[ProductId]) -> ProductCounts:
    """Return the counts of products, in their order."""
    wanted = list(dict.fromkeys(product_ids))
    found: dict[str, Sequence[float]] = {}
    with engine.connect() as connection:
        for part in _parts(wanted):
            found |= {row[0]: row[1:] for row in connection.execute(_COUNTS_OF, {"wanted": part}).all()}
    rows = [found.get(product_id, _NOTHING) for product_id in product_ids]
    return _counts(np.array(rows, np.float64).reshape(-1, 5))


def total_counts(engine: Engine) -> ProductCounts:
    """Return the sums over all products, as one row: what is known of a product of which nothing is known.

    Reads the whole table (0.1 ms for a thousand products): keep the answer for a while.
    """
    columns = [func.coalesce(func.sum(column), 0) for column in list(product_counts.c)[1:]]
    with engine.connect() as connection:
        return _counts(np.array([tuple(connection.execute(select(*columns)).one())], np.float64))


def recount(engine: Engine) -> None:
    """Forget all counts and count the whole log anew; for repair, and the oracle of tests."""
    with write(engine) as connection:
        removed = _progress(connection).removed
        connection.execute(delete(product_counts))
        _set_progress(connection, _Progress(0, 0, removed + 1))
    take_in(engine)


def uncounted(connection: Connection, search_ids: Sequence[str], remove: Callable[[], None]) -> None:
    """Let rows be removed from the log, in the caller's write transaction, and take them out of the counts.

    Args:
        connection: in a write transaction.
        search_ids: the searches that are removed, or lose events.
        remove: removes them, by the same connection.
    """
    progress = _progress(connection)
    shoppers = _shoppers(_searches_by_id(connection, search_ids))
    before = _sums(_days(connection, shoppers, progress), progress)
    remove()
    _add(connection, _change(_sums(_days(connection, shoppers, progress), progress), before))
    _set_progress(connection, _Progress(progress.searches, progress.events, progress.removed + 1))


_ADD = text(
    "INSERT INTO product_counts (product_id, shown, examined, clicks, carts, purchases) "
    "VALUES (:product_id, :shown, :examined, :clicks, :carts, :purchases) ON CONFLICT (product_id) DO UPDATE SET "
    + ", ".join(f"{name} = product_counts.{name} + excluded.{name}" for name in list(product_counts.c.keys())[1:])
)
_COUNTS_OF = select(product_counts).where(product_counts.c.product_id.in_(bindparam("wanted", expanding=True)))


def _counts(rows: NDArray[np.float64]) -> ProductCounts:
    whole = rows.astype(np.int64)
    return ProductCounts(whole[:, 0], rows[:, 1].copy(), whole[:, 2], whole[:, 3], whole[:, 4])


# ---- how far counting is


@dataclass(frozen=True, slots=True)
class _Progress:
    searches: int  # number of the last one that is counted
    events: int
    removed: int


def _progress(connection: Connection) -> _Progress:
    numbers = {row.name: row.number for row in connection.execute(select(count_progress))}
    return _Progress(numbers.get(searches.name, 0), numbers.get(events.name, 0), numbers.get(_REMOVED, 0))


def _set_progress(connection: Connection, progress: _Progress) -> None:
    named = {searches.name: progress.searches, events.name: progress.events, _REMOVED: progress.removed}
    connection.execute(delete(count_progress))
    connection.execute(insert(count_progress), [{"name": name, "number": number} for name, number in named.items()])


def _next_part(connection: Connection, progress: _Progress) -> tuple[_Progress, Counter[_Shopper]]:
    """Return how far the next part goes, and whose days it touches with how many new searches."""
    query = _WHO.where(searches.c.number > progress.searches).order_by(searches.c.number).limit(PART)
    new = connection.execute(query).all()
    done = connection.execute(
        select(events.c.number, events.c.search_id)
        .where(events.c.number > progress.events)
        .order_by(events.c.number)
        .limit(PART)
    ).all()
    told = _searches_by_id(connection, list(dict.fromkeys(row.search_id for row in done)))
    after = _Progress(
        new[-1].number if new else progress.searches, done[-1].number if done else progress.events, progress.removed
    )
    shoppers = _shoppers(told)
    shoppers.update(_shopper(row) for row in new)
    return after, shoppers


# ---- what a shopper's days add up to


@dataclass(frozen=True, slots=True)
class _Logged:
    """A search of a shopper's day, and what was done with its list."""

    number: int
    best: Mapping[str, int]  # the best rank of each product
    done: list[tuple[int, str, EventType]]  # number of the event, product, what


_LISTED = "SELECT number, search_id, at, user_id, session_id, shown FROM searches"
_WHO = select(searches.c.number, searches.c.search_id, searches.c.at, searches.c.user_id, searches.c.session_id)


def _searches_by_id(connection: Connection, search_ids: Sequence[str]) -> list[Any]:
    return [
        row for part in _parts(search_ids) for row in connection.execute(_WHO.where(searches.c.search_id.in_(part)))
    ]


def _shoppers(rows: Iterable[Any]) -> Counter[_Shopper]:
    """Return whose searches these are, with no new searches."""
    return Counter({_shopper(row): 0 for row in rows})


def _shopper(row: Any) -> _Shopper:
    """Return whose search it is; one without user and session is a shopper of its own."""
    day = int(row.at // DAY_S)
    if row.user_id:
        return "user_id", row.user_id, day
    return ("session_id", row.session_id, day) if row.session_id else ("search_id", row.search_id, day)


def _days(connection: Connection, shoppers: Counter[_Shopper], until: _Progress) -> dict[_Shopper, list[_Logged]]:
    """Return the first searches of each shopper's day, as far as counting is; more than may count by the new ones."""
    rows = [
        row
        for part in _parts(list(shoppers), _SHOPPERS)
        for row in connection.execute(*_first_searches(part, shoppers, until)).all()
    ]
    done: dict[str, list[tuple[int, str, EventType]]] = defaultdict(list)
    for ids in _parts([row.search_id for row in rows]):
        query = select(events.c.number, events.c.search_id, events.c.product_id, events.c.type).where(
            events.c.search_id.in_(ids), events.c.number <= until.events, events.c.type.in_(_COLUMNS)
        )
        for event in connection.execute(query).all():
            done[event.search_id].append((event.number, event.product_id, event.type))
    days: dict[_Shopper, list[_Logged]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: (row.at, row.number)):
        days[_shopper(row)].append(_Logged(row.number, _best_ranks(row.shown), done[row.search_id]))
    return days


def _first_searches(
    part: Sequence[_Shopper], shoppers: Counter[_Shopper], until: _Progress
) -> tuple[TextClause, dict[str, Any]]:
    """Return one query for the days of several shoppers: each takes of an index only what may count."""
    terms, values = [], dict[str, Any](until=until.searches)
    for n, shopper in enumerate(part):
        column, value, day = shopper
        alone = "AND user_id = ''" if column == "session_id" else ""
        what = f"{_LISTED} WHERE {column} = :w{n} {alone} AND at >= :b{n} AND at < :e{n} AND number <= :until"
        terms.append(f"SELECT * FROM ({what} ORDER BY at, number LIMIT :l{n}) AS s{n}")
        values |= {f"w{n}": value, f"b{n}": day * DAY_S, f"e{n}": (day + 1) * DAY_S}
        values[f"l{n}"] = SEARCHES_A_DAY + shoppers[shopper]
    return text(" UNION ALL ".join(terms)), values


def _sums(days: Mapping[_Shopper, Sequence[_Logged]], until: _Progress) -> dict[str, _Sums]:
    """Return what days add up to by product, as far as counting was."""
    sums: dict[str, _Sums] = defaultdict(lambda: [0, 0.0, 0, 0, 0])
    for logged in days.values():
        counted = [search for search in logged if search.number <= until.searches][:SEARCHES_A_DAY]
        best: dict[str, int] = {}
        for search in counted:
            for product_id, rank in search.best.items():
                best[product_id] = min(rank, best.get(product_id, rank))
        for product_id, rank in best.items():
            sums[product_id][0] += 1
            sums[product_id][1] += examination(rank)
        for product_id, kind in {event[1:] for search in counted for event in search.done if event[0] <= until.events}:
            sums[product_id][2 + _COLUMNS.index(kind)] += 1
    return sums


def _best_ranks(shown: str) -> dict[str, int]:
    best: dict[str, int] = {}
    for place in json.loads(shown):
        rank, product_id = place[0], place[1]
        best[product_id] = min(rank, best.get(product_id, rank))
    return best


def _change(after: Mapping[str, _Sums], before: Mapping[str, _Sums]) -> dict[str, _Sums]:
    changes = {
        name: [one - other for one, other in zip(after.get(name, _NOTHING), before.get(name, _NOTHING), strict=True)]
        for name in {**after, **before}
    }
    return {name: change for name, change in changes.items() if any(change)}


def _add(connection: Connection, change: Mapping[str, _Sums]) -> None:
    """Add to the counts of products; those of which nothing is left are removed."""
    names = [column.name for column in product_counts.c]
    if rows := [dict(zip(names, (name, *change[name]), strict=True)) for name in sorted(change)]:
        connection.execute(_ADD, rows)
    for part in _parts([name for name in sorted(change) if change[name][0] < 0]):
        gone = (product_counts.c.shown == 0) & product_counts.c.product_id.in_(part)
        connection.execute(delete(product_counts).where(gone))


def _parts(values: Sequence[T], most: int = _AT_ONCE) -> Iterator[Sequence[T]]:
    return (values[start : start + most] for start in range(0, len(values), most))
