"""What an operator reads from the click log: how often shoppers clicked, and which searches failed.

Both read the index and the newest rows only, however long the log is.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, Engine, Integer, bindparam, case, cast, func, select, text

from sameitem.clicks.held_out import is_held_out
from sameitem.clicks.log import CLICK_TYPES, DAY_S, IS_ACT, EventType, Shown, box_of, events, searches, shown_of
from sameitem.core.database import read
from sameitem.core.records import Box, ProductId

FIRST_PAGE = 10  # ranks that a shopper sees without asking for more
SCANNED = 2_000  # searches that one call looks at
_BATCH = 200

MissKind = Literal["unclicked", "deep", "held_out"]


@dataclass(frozen=True, slots=True)
class DayCounts:
    """The searches of a day in one category, and how many of them led to something."""

    day: int  # since 1970-01-01, UTC
    category_id: str  # that the photos were taken for; "" = none
    searches: int
    clicked: int  # searches with a click, cart or purchase
    carts: int  # searches with a cart
    purchases: int


@dataclass(frozen=True, slots=True)
class Act:
    """What a shopper did with a place of a list."""

    type: EventType
    product_id: ProductId
    image_name: str
    rank: int


@dataclass(frozen=True, slots=True)
class LoggedSearch:
    """A search of the log with what was shown and done; nothing of who searched."""

    number: int  # in the order of the log
    search_id: str
    at: float  # seconds since 1970
    photo_hash: str  # "" = the photo was not kept
    box: Box | None  # pixels of the stored photo
    category_id: str
    index_version: str
    shown: tuple[Shown, ...]
    acts: tuple[Act, ...]

    @property
    def clicked(self) -> tuple[ProductId, ...]:
        """The products that were clicked and not dismissed, each once."""
        dismissed = {act.product_id for act in self.acts if act.type == "dismiss"}
        chosen = (act.product_id for act in self.acts if act.type in CLICK_TYPES)
        return tuple(dict.fromkeys(product_id for product_id in chosen if product_id not in dismissed))


@dataclass(frozen=True, slots=True)
class Misses:
    """Some searches that failed, newest first, and where to go on looking; None = the log ends."""

    searches: tuple[LoggedSearch, ...]
    scanned: int
    next: int | None


def count_by_day(engine: Engine, *, since: float, until: float, span_s: int = DAY_S) -> list[DayCounts]:
    """Return how many searches there were and how many led to something, by day and category.

    An act counts on the day of its search, and a search once, however often it was clicked.

    Args:
        engine: the shop's database.
        since: seconds since 1970.
        until: seconds since 1970, not included.
        span_s: length of what is called a day.
    """
    days = searches.c.at / span_s
    whole = days if engine.dialect.name == "sqlite" else func.floor(days)  # a cast cuts off in SQLite, else it rounds
    day = cast(whole, Integer).label("day")
    in_time = (searches.c.at >= since, searches.c.at < until)
    counted = select(day, searches.c.category_id, func.count().label("searches")).where(*in_time)
    plain_at = searches.c.at + 0.0  # not by the index: from the few acts to their searches, not the other way round
    did = [_searches_with(*CLICK_TYPES), _searches_with("cart"), _searches_with("purchase")]
    acted = (
        select(day, searches.c.category_id, *did)
        .select_from(events)
        .join(searches, searches.c.search_id == events.c.search_id)
        .where(text(f"events.{IS_ACT.text}"), events.c.received_at >= since)
        .where(plain_at >= since, plain_at < until)
    )
    with read(engine) as connection:
        found = connection.execute(counted.group_by(day, searches.c.category_id)).all()
        acts = {(row[0], row[1]): row[2:] for row in connection.execute(acted.group_by(day, searches.c.category_id))}
    nothing = (0, 0, 0)
    return sorted(
        (DayCounts(row[0], row[1], row[2], *acts.get((row[0], row[1]), nothing)) for row in found),
        key=lambda counts: (counts.day, counts.category_id),
    )


def find_misses(engine: Engine, kind: MissKind, *, before: int | None = None, limit: int = 20) -> Misses:
    """Return the newest searches that failed, written before some row; only first pages of results count.

    Args:
        engine: the shop's database.
        kind: "unclicked": something was shown, nothing clicked; "deep": clicked, but nothing of the first page;
            "held_out": clicked, with a photo, and kept from training: to be asked again.
        before: number of a search, None = the newest.
        limit: searches to return; `SCANNED` are looked at for them at most.
    """
    query = (
        select(
            searches.c.number,
            searches.c.search_id,
            searches.c.at,
            searches.c.photo_hash,
            searches.c.box_left,
            searches.c.box_top,
            searches.c.box_right,
            searches.c.box_bottom,
            searches.c.category_id,
            searches.c.index_version,
            searches.c.shown,
        )
        .where(searches.c.number < bindparam("before"))
        .order_by(searches.c.number.desc())
        .limit(_BATCH)
    )
    chosen: list[LoggedSearch] = []
    scanned, last = 0, before if before is not None else 2**53
    while scanned < SCANNED:
        with read(engine) as connection:
            rows = connection.execute(query, {"before": last}).all()
            done: defaultdict[str, list[Act]] = defaultdict(list)
            of_these = select(events).where(
                events.c.search_id.in_([row.search_id for row in rows]), events.c.type != "impression"
            )
            for event in connection.execute(of_these.order_by(events.c.number)):
                act = Act(event.type, ProductId(event.product_id), event.image_name, event.rank)
                done[event.search_id].append(act)
        for row in rows:
            scanned, last = scanned + 1, row.number
            if _is_miss(search := _logged(row, done[row.search_id]), kind):
                chosen.append(search)
                if len(chosen) == limit:
                    return Misses(tuple(chosen), scanned, last)
        if len(rows) < _BATCH:
            return Misses(tuple(chosen), scanned, None)
    return Misses(tuple(chosen), scanned, last)


def _searches_with(*types: str) -> ColumnElement[int]:
    return func.count(case((events.c.type.in_(types), events.c.search_id)).distinct())


def _logged(row: Any, acts: Sequence[Act]) -> LoggedSearch:
    return LoggedSearch(
        number=row.number,
        search_id=row.search_id,
        at=row.at,
        photo_hash=row.photo_hash,
        box=box_of(row),
        category_id=row.category_id,
        index_version=row.index_version,
        shown=shown_of(row.shown),
        acts=tuple(acts),
    )


def _is_miss(search: LoggedSearch, kind: MissKind) -> bool:
    if not search.shown or search.shown[0].rank != 1:
        return False
    if kind == "unclicked":
        return not search.clicked
    if kind == "deep":
        ranks = [act.rank for act in search.acts if act.type in CLICK_TYPES]
        return bool(ranks) and min(ranks) > FIRST_PAGE
    return bool(search.clicked) and search.photo_hash != "" and is_held_out(search.photo_hash)
