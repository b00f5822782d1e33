"""The click log: what each search showed, written by the server, and what users did with it.

Append-only, but for what is too old or erased (`clicks.removal`). User and session ids come in as callers know them and
are kept, and given back, as pseudonyms only; nothing else writes to these tables.
"""

import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, get_args

import numpy as np
from sqlalchemy import (
    Column,
    Connection,
    Double,
    Engine,
    ForeignKey,
    Index,
    Integer,
    Row,
    Table,
    bindparam,
    func,
    insert,
    select,
    text,
)

from sameitem.clicks.pseudonyms import Pseudonyms
from sameitem.clicks.signing import SearchIds
from sameitem.core.database import NUMBER, TEXT, metadata, read, storable, write
from sameitem.core.errors import ConflictError, InputError, TooLargeError
from sameitem.core.records import Box, ImageId, ProductId
from sameitem.core.settings import ClickSettings

T = TypeVar("T")
EventType = Literal["impression", "click", "cart", "purchase", "dismiss"]
EVENT_TYPES: tuple[EventType, ...] = get_args(EventType)
MAX_BATCH = 1_000  # events of one call
MAX_SHOWN = 1_000  # entries of one shown list
MAX_PER_SEARCH = 2_000  # events one search may gather
MAX_KEY = 128  # characters of an event id, search id, user id or session id
IS_ACT = text("type <> 'impression'")  # something a user did, not only saw
CLICK_TYPES: frozenset[EventType] = frozenset({"click", "cart", "purchase"})  # what says that a place was chosen
DAY_S = 86_400
_LATEST = 4_102_444_800.0  # 2100-01-01
_AT_ONCE = 1_000
_PERSONAL = ("user_id", "session_id")  # never in a message: messages are kept in job tables and logs

searches = Table(
    "searches",
    metadata,
    Column("number", NUMBER, primary_key=True, autoincrement=True),
    Column("search_id", TEXT, nullable=False),
    Column("at", Double, nullable=False),
    Column("photo_hash", TEXT, nullable=False),
    Column("box_left", Double),
    Column("box_top", Double),
    Column("box_right", Double),
    Column("box_bottom", Double),
    Column("category_id", TEXT, nullable=False),
    Column("index_version", TEXT, nullable=False),
    Column("model_version", TEXT, nullable=False),
    Column("user_id", TEXT, nullable=False),
    Column("session_id", TEXT, nullable=False),
    Column("shown", TEXT, nullable=False),  # JSON: [rank, product id, image name, image id, score] each
    Column("ranker_version", TEXT, nullable=False, server_default=text("''")),
    Column("evidence", TEXT, nullable=False, server_default=text("''")),
    Column("experiment", TEXT, nullable=False, server_default=text("''")),
    Index("searches_search_id", "search_id", unique=True),
    Index("searches_at", "at", "number", "category_id"),  # the category: days are counted without reading the lists
    Index("searches_user_id", "user_id", "at", "number"),
    Index("searches_session_id", "session_id", "at", "number"),
    sqlite_autoincrement=True,
)
events = Table(
    "events",
    metadata,
    Column("number", NUMBER, primary_key=True, autoincrement=True),
    Column("event_id", TEXT, nullable=False),
    Column("search_id", TEXT, ForeignKey(searches.c.search_id), nullable=False),
    Column("type", TEXT, nullable=False),
    Column("product_id", TEXT, nullable=False),
    Column("image_name", TEXT, nullable=False),
    Column("rank", Integer, nullable=False),
    Column("user_id", TEXT, nullable=False),
    Column("ts", Double, nullable=False),  # the caller's clock
    Column("received_at", Double, nullable=False),  # ours
    Index("events_event_id", "event_id", unique=True),
    Index("events_search_id", "search_id", "number"),
    Index("events_user_id", "user_id", "received_at", "number"),
    Index(
        "events_acts",  # few beside the impressions; a query must say `IS_ACT` in these words to use it
        "received_at",
        "search_id",
        "type",
        sqlite_where=IS_ACT,
        postgresql_where=IS_ACT,
    ),
    sqlite_autoincrement=True,
)


@dataclass(frozen=True, slots=True)
class Shown:
    """One place of a list that a user was shown."""

    rank: int  # from 1
    product_id: ProductId
    image_name: str
    image_id: ImageId
    score: float  # 0..1


@dataclass(frozen=True, slots=True)
class Search:
    """One answered search. Times are seconds since 1970; ids of user and session are pseudonyms once it was kept."""

    search_id: str
    at: float
    photo_hash: str  # "" = the photo was not kept
    box: Box | None  # pixels of the stored photo
    category_id: str
    index_version: str
    model_version: str
    user_id: str
    session_id: str
    shown: tuple[Shown, ...]
    ranker_version: str = ""  # what ordered the list; "" = looks alone
    evidence: str = ""  # JSON: what a ranker was told about the shown places (`rerank.features`); "" = nothing
    experiment: str = ""  # JSON: the experiment it was part of, and whose each place is; "" = none


@dataclass(frozen=True, slots=True)
class Event:
    """Something a user did with a place of a shown list."""

    event_id: str  # the caller's; the same event may be sent again
    search_id: str
    type: EventType
    product_id: ProductId
    image_name: str = ""  # "" = the product's first place in the list
    rank: int | None = None  # None = take it from the list
    user_id: str = ""  # "" = the one who searched
    ts: float | None = None  # seconds since 1970 by the caller's clock; None = now


@dataclass(frozen=True, slots=True)
class Refused:
    """An event that was not stored; `index` is its place in the batch."""

    index: int
    event_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class EventCounts:
    """What became of a batch of events."""

    stored: int = 0
    repeated: int = 0  # known already
    refused: tuple[Refused, ...] = ()


@dataclass(frozen=True, slots=True)
class Session:
    """One search with what was done with its list, in the order it arrived."""

    search: Search
    events: tuple[Event, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class _Found:
    """The place of a list that an event speaks of, and who searched."""

    place: Shown
    searcher: str


class ClickLog:
    """The searches and events of one shop."""

    def __init__(
        self,
        engine: Engine,
        secret: bytes,
        *,
        settings: ClickSettings | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Open the log.

        Args:
            engine: the shop's database.
            secret: of the shop; signs search ids and makes pseudonyms.
            settings: what is believed; None = the defaults.
            clock: seconds since 1970.
        """
        self._engine = engine
        self._ids = SearchIds(secret)
        self._pseudonyms = Pseudonyms(secret)
        self._settings = settings or ClickSettings()
        self._clock = clock

    def new_search_id(self) -> str:
        """Return an id for a search that is answered now; `take_events` takes no others."""
        return self._ids.give(self._clock())

    def pseudonym(self, user_id: str) -> str:
        """Return under which name the log keeps a user."""
        return self._pseudonyms.of_user(user_id)

    def record_search(self, search: Search) -> None:
        """Keep what a search showed, before its answer is sent.

        Raises:
            InputError: an id that is empty, too long or cannot be stored, a number that is not finite.
            TooLargeError: more than `MAX_SHOWN` places.
            ConflictError: the search id was used before.
        """
        row = _search_row(search)
        row["user_id"] = self._pseudonyms.of_user(search.user_id)
        row["session_id"] = self._pseudonyms.of_session(search.session_id)
        with write(self._engine) as connection:
            if connection.scalar(select(searches.c.number).where(searches.c.search_id == search.search_id)) is not None:
                raise ConflictError(f"search {search.search_id!r} is in the log already; give each search its own id")
            connection.execute(insert(searches), row)

    def take_events(self, batch: Sequence[Event]) -> EventCounts:
        """Store events that came from outside, each once; what cannot be true is refused one by one, with the reason.

        Besides what `record_events` refuses: search ids that this shop never gave, events that come more than
        `clicks.late_days` after their search, and more than `clicks.events_per_user` of one user in 24 hours.

        Raises:
            TooLargeError: more than `MAX_BATCH` events.
        """
        now = self._clock()
        refusals = [_unsound(event) or self._unbelievable(event, now) for event in batch]
        return self._record(batch, refusals, now, per_user=self._settings.events_per_user)

    def record_events(self, batch: Sequence[Event]) -> EventCounts:
        """Store events of a trusted source, as an imported log is, each once.

        In any order, but after their search. An event of another search's id, of what was not shown, or above what one
        search may gather is refused with the reason; the others are stored.

        Raises:
            TooLargeError: more than `MAX_BATCH` events.
        """
        return self._record(batch, [_unsound(event) for event in batch], self._clock(), per_user=None)

    def _unbelievable(self, event: Event, now: float) -> str:
        given_at = self._ids.given_at(event.search_id)
        if given_at is None:
            return "search_id: no search of this shop was answered with this id"
        if now - given_at > self._settings.late_days * DAY_S:
            return f"search_id: the search is more than {self._settings.late_days} days old"
        return ""

    def _record(
        self, batch: Sequence[Event], refusals: Sequence[str], now: float, *, per_user: int | None
    ) -> EventCounts:
        if len(batch) > MAX_BATCH:
            raise TooLargeError(f"at most {MAX_BATCH} events a call, got {len(batch)}; send them in parts")
        places = self._places(batch, refusals)
        rows = [
            _event_row(event, found.place, self._pseudonyms.of_user(event.user_id) or found.searcher, now)
            if isinstance(found, _Found)
            else None
            for event, found in zip(batch, places, strict=True)
        ]
        stored: list[dict[str, Any]] = []
        refused: list[Refused] = []
        repeated = 0
        sound = [row for row in rows if row is not None]
        if not sound:  # what is forged keeps nobody from writing
            reasons = zip(batch, map(str, places), strict=True)
            return EventCounts(refused=tuple(_refused(n, event, why) for n, (event, why) in enumerate(reasons)))
        with write(self._engine) as connection:
            owners = _owners(connection, [row["event_id"] for row in sound])
            gathered = _gathered(connection, list(dict.fromkeys(row["search_id"] for row in sound)))
            users = list(dict.fromkeys(row["user_id"] for row in sound if row["user_id"]))
            by_user = Counter[str]() if per_user is None else _since(connection, users, now - DAY_S)
            for index, (event, row, place) in enumerate(zip(batch, rows, places, strict=True)):
                if row is None:
                    refused.append(_refused(index, event, str(place)))
                elif owners.get(event.event_id) == event.search_id:
                    repeated += 1
                elif event.event_id in owners:
                    refused.append(_refused(index, event, "event_id: used in another search"))
                elif gathered[event.search_id] >= MAX_PER_SEARCH:
                    refused.append(_refused(index, event, f"search_id: has {MAX_PER_SEARCH} events already"))
                elif per_user is not None and row["user_id"] and by_user[row["user_id"]] >= per_user:
                    refused.append(_refused(index, event, f"user_id: {per_user} events in 24 hours already"))
                else:
                    owners[event.event_id] = event.search_id
                    gathered[event.search_id] += 1
                    by_user[row["user_id"]] += 1
                    stored.append(row)
            if stored:
                connection.execute(insert(events), stored)
        return EventCounts(len(stored), repeated, tuple(refused))

    def _places(self, batch: Sequence[Event], refusals: Sequence[str]) -> list[_Found | str]:
        """Return for each event the place of the shown list it speaks of, or why it is refused."""
        places: list[_Found | str] = list(refusals)
        by_search: dict[str, list[int]] = {}
        for index, event in enumerate(batch):
            if not places[index]:
                places[index] = "search_id: no search has this id"
                by_search.setdefault(event.search_id, []).append(index)
        if not by_search:
            return places
        with read(self._engine) as connection:
            for part in _parts(list(by_search)):
                query = select(searches.c.search_id, searches.c.user_id, searches.c.shown)
                for row in connection.execute(query.where(searches.c.search_id.in_(part))):
                    shown = shown_of(row.shown)
                    for index in by_search[row.search_id]:
                        place = _place(batch[index], shown)
                        places[index] = place if isinstance(place, str) else _Found(place, row.user_id)
        return places

    def clicked_by(self, user_id: str, limit: int = 50) -> list[tuple[ProductId, EventType, float]]:
        """Return what a user clicked, put in the cart or bought, by arrival, newest first: product, what, and when.

        When is in seconds since 1970 by the caller's clock. Nobody knows the user "": they clicked nothing.
        """
        if not user_id:
            return []
        with read(self._engine) as connection:
            found = connection.execute(_CLICKED_BY, {"user": self.pseudonym(user_id), "most": limit}).all()
        return [(ProductId(row.product_id), row.type, row.ts) for row in found]

    def sessions_of(self, user_id: str) -> list[Session]:
        """Return everything that is kept of a user, oldest first: their searches, and others' with events of theirs.

        Of a search of somebody else only the user's own events are given.
        """
        name = self.pseudonym(user_id)
        if not name:
            return []
        with read(self._engine) as connection:
            own = connection.execute(select(searches).where(searches.c.user_id == name)).all()
            mine = {row.search_id for row in own}
            done: dict[str, list[Event]] = {row.search_id: [] for row in own}
            theirs = connection.execute(select(events).where(events.c.user_id == name).order_by(events.c.number)).all()
            for row in theirs:
                if row.search_id not in mine:
                    done.setdefault(row.search_id, []).append(_event_of(row))
            for part in _parts(sorted(mine)):
                query = select(events).where(events.c.search_id.in_(part)).order_by(events.c.number)
                for row in connection.execute(query):
                    done[row.search_id].append(_event_of(row))
            others = [
                row
                for part in _parts(sorted(set(done) - mine))
                for row in connection.execute(select(searches).where(searches.c.search_id.in_(part)))
            ]
        found = sorted([*own, *others], key=lambda row: (row.at, row.number))
        return [Session(_search_of(row), tuple(done[row.search_id])) for row in found]

    def count(self) -> int:
        """Return how many searches there are."""
        with read(self._engine) as connection:
            return connection.scalar(select(func.count()).select_from(searches)) or 0

    def some_searches(self, count: int, generator: np.random.Generator) -> list[Search]:
        """Return random searches, about so many where there are enough; costs the same however long the log is."""
        with read(self._engine) as connection:
            first, last = connection.execute(select(func.min(searches.c.number), func.max(searches.c.number))).one()
            if first is None:
                return []
            span = last - first + 1
            drawn = generator.choice(span, count, replace=False) if span > count else np.arange(span)
            return [
                _search_of(row)
                for part in _parts([int(first + offset) for offset in np.sort(drawn)])
                for row in connection.execute(select(searches).where(searches.c.number.in_(part)))
            ]

    def sessions(self, *, since: float = 0.0, until: float = math.inf, batch: int = 1000) -> Iterator[Session]:
        """Yield the searches of a time span, oldest first, each with its events; as of one moment.

        No transaction is open between the batches, however long a caller takes: the log only grows, so that its last
        numbers say what was there at that moment.
        """
        query = (
            select(searches)
            .where(searches.c.at >= since, searches.c.at < min(until, _LATEST))
            .where(searches.c.number <= bindparam("last"))
            .where(
                (searches.c.at > bindparam("at"))
                | ((searches.c.at == bindparam("at")) & (searches.c.number > bindparam("number")))
            )
            .order_by(searches.c.at, searches.c.number)
            .limit(batch)
        )
        with read(self._engine) as connection:
            last = connection.scalar(select(func.max(searches.c.number))) or 0
            last_event = connection.scalar(select(func.max(events.c.number))) or 0
        at, number = -1.0, 0
        while True:
            with read(self._engine) as connection:
                found = connection.execute(query, {"at": at, "number": number, "last": last}).all()
                done: dict[str, list[Event]] = {row.search_id: [] for row in found}
                for part in _parts(list(done)):
                    of_these = select(events).where(events.c.search_id.in_(part), events.c.number <= last_event)
                    for row in connection.execute(of_these.order_by(events.c.number)):
                        done[row.search_id].append(_event_of(row))
            if not found:
                return
            yield from (Session(_search_of(row), tuple(done[row.search_id])) for row in found)
            at, number = found[-1].at, found[-1].number


def _refused(index: int, event: Event, reason: str) -> Refused:
    return Refused(index, str(event.event_id)[:MAX_KEY], reason)


def _search_row(search: Search) -> dict[str, Any]:
    _check_key(search.search_id, "search_id")
    for name in ("photo_hash", "category_id", "index_version", "model_version", "user_id", "session_id"):
        _check_text(getattr(search, name), name)
    if not 0 <= search.at < _LATEST:
        raise InputError(f"at: need seconds since 1970, got {search.at}", field="at")
    if len(search.shown) > MAX_SHOWN:
        raise TooLargeError(f"at most {MAX_SHOWN} places of a list are kept, got {len(search.shown)}")
    box = search.box
    if box is not None and not all(map(math.isfinite, (box.left, box.top, box.right, box.bottom))):
        raise InputError(f"box: need four finite numbers, got {box}", field="box")
    shown = [[place.rank, place.product_id, place.image_name, place.image_id, place.score] for place in search.shown]
    try:
        shown_text = json.dumps(shown, allow_nan=False)
    except ValueError as error:
        raise InputError(f"shown: a score that is not finite; {error}", field="shown") from error
    return {
        "search_id": search.search_id,
        "at": search.at,
        "photo_hash": search.photo_hash,
        "box_left": box.left if box else None,
        "box_top": box.top if box else None,
        "box_right": box.right if box else None,
        "box_bottom": box.bottom if box else None,
        "category_id": search.category_id,
        "index_version": search.index_version,
        "model_version": search.model_version,
        "user_id": search.user_id,
        "session_id": search.session_id,
        "shown": shown_text,
        "ranker_version": search.ranker_version,
        "evidence": search.evidence,
        "experiment": search.experiment,
    }


def _search_of(row: Row[Any]) -> Search:
    return Search(
        search_id=row.search_id,
        at=row.at,
        photo_hash=row.photo_hash,
        box=box_of(row),
        category_id=row.category_id,
        index_version=row.index_version,
        model_version=row.model_version,
        user_id=row.user_id,
        session_id=row.session_id,
        shown=shown_of(row.shown),
        ranker_version=row.ranker_version,
        evidence=row.evidence,
        experiment=row.experiment,
    )


def box_of(row: Row[Any]) -> Box | None:
    """Return the box that a row of `searches` holds, pixels of the stored photo; None = there was none."""
    return None if row.box_left is None else Box(row.box_left, row.box_top, row.box_right, row.box_bottom)


def shown_of(shown: str) -> tuple[Shown, ...]:
    """Return the places of a list as the column `shown` holds them."""
    return tuple(Shown(*place) for place in json.loads(shown))


def _event_row(event: Event, place: Shown, user: str, now: float) -> dict[str, Any]:
    return {
        "event_id": event.event_id,
        "search_id": event.search_id,
        "type": event.type,
        "product_id": place.product_id,
        "image_name": place.image_name,
        "rank": place.rank,
        "user_id": user,
        "ts": now if event.ts is None else float(event.ts),
        "received_at": now,
    }


def _event_of(row: Row[Any]) -> Event:
    return Event(
        event_id=row.event_id,
        search_id=row.search_id,
        type=row.type,
        product_id=row.product_id,
        image_name=row.image_name,
        rank=row.rank,
        user_id=row.user_id,
        ts=row.ts,
    )


def _unsound(event: Event) -> str:
    """Return what is wrong with an event by itself; "" when nothing is."""
    try:
        _check_key(event.event_id, "event_id")
        _check_key(event.search_id, "search_id")
        _check_text(event.user_id, "user_id")
    except InputError as error:
        return str(error)
    if event.type not in EVENT_TYPES:
        return f"type: need one of {', '.join(EVENT_TYPES)}, got {event.type!r}"
    if event.ts is not None and not (isinstance(event.ts, int | float) and 0 <= event.ts < _LATEST):
        return f"ts: need seconds since 1970, got {event.ts!r}"
    return ""


def _place(event: Event, shown: Sequence[Shown]) -> Shown | str:
    """Return the place of the shown list that an event speaks of, or why there is none."""
    places = [place for place in shown if place.product_id == event.product_id]
    if event.image_name:
        places = [place for place in places if place.image_name == event.image_name]
    if not places:
        return "product_id: this was not in the list that the search showed"
    if event.rank is not None:
        places = [place for place in places if place.rank == event.rank]
        if not places:
            return f"rank: this was not shown at rank {event.rank!r:.20}"
    return places[0]


def _owners(connection: Connection, event_ids: Sequence[str]) -> dict[str, str]:
    """Return to which search those of the events belong that are stored already."""
    return {
        row.event_id: row.search_id
        for part in _parts(event_ids)
        for row in connection.execute(select(events.c.event_id, events.c.search_id).where(events.c.event_id.in_(part)))
    }


def _gathered(connection: Connection, search_ids: Sequence[str]) -> Counter[str]:
    """Return how many events each search has."""
    gathered: Counter[str] = Counter()
    for part in _parts(search_ids):
        query = (
            select(events.c.search_id, func.count().label("stored"))
            .where(events.c.search_id.in_(part))
            .group_by(events.c.search_id)
        )
        gathered.update({row.search_id: row.stored for row in connection.execute(query)})
    return gathered


def _since(connection: Connection, users: Sequence[str], since: float) -> Counter[str]:
    """Return how many events of each user came after a time."""
    found: Counter[str] = Counter()
    for part in _parts(users):
        query = (
            select(events.c.user_id, func.count().label("stored"))
            .where(events.c.user_id.in_(part), events.c.received_at > since)
            .group_by(events.c.user_id)
        )
        found.update({row.user_id: row.stored for row in connection.execute(query)})
    return found


_CLICKED_BY = (
    select(events.c.product_id, events.c.type, events.c.ts)
    .where(events.c.user_id == bindparam("user"), events.c.type.in_(sorted(CLICK_TYPES)))
    .order_by(events.c.received_at.desc(), events.c.number.desc())
    .limit(bindparam("most"))
)


def _check_key(value: str, name: str) -> None:
    if not value:
        raise InputError(f"{name}: need a text that is not empty", field=name)
    _check_text(value, name)


def _check_text(value: str, name: str) -> None:
    if not isinstance(value, str) or len(value) > MAX_KEY or value != storable(value):
        shown = "" if name in _PERSONAL else f", got {value!r:.80}"
        raise InputError(f"{name}: need at most {MAX_KEY} characters that can be stored{shown}", field=name)


def _parts(values: Sequence[T]) -> Iterator[Sequence[T]]:
    return (values[start : start + _AT_ONCE] for start in range(0, len(values), _AT_ONCE))
