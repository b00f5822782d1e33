import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from sameitem.clicks import log
from sameitem.clicks.log import EVENT_TYPES, ClickLog, Event, EventCounts, Search, Session, Shown
from sameitem.core.errors import ConflictError, InputError, TooLargeError
from sameitem.core.records import Box, ImageId, ProductId

SHOWN = tuple(
    Shown(rank, ProductId(product_id), name, ImageId(100 + rank), score)
    for rank, product_id, name, score in [(1, "lamp", "front", 0.9), (2, "灯", "正面", 0.8), (3, "lamp", "side", 0.1)]
)


def search(search_id: str = "s", **values: object) -> Search:
    plain = Search(
        search_id, 1000.0, "f" * 64, Box(1, 2, 3.5, 4), "furniture", "v1", "base-1", "user", "session", SHOWN
    )
    return replace(plain, **values)  # type: ignore[arg-type]


def event(event_id: str = "e", **values: object) -> Event:
    return replace(Event(event_id, "s", "click", ProductId("lamp")), **values)  # type: ignore[arg-type]


def reasons(counts: EventCounts) -> list[tuple[int, str]]:
    return [(refused.index, refused.reason.split(":")[0]) for refused in counts.refused]


def test_a_search_comes_back_with_what_it_showed_and_what_was_done(engine: Engine) -> None:
    clicks = ClickLog(engine, clock=lambda: 2000.0)
    clicks.record_search(search())
    clicks.record_search(search("bare", at=1001.5, box=None, user_id="", shown=()))
    given_events = [
        event("1", type="impression"),
        event("2", image_name="side", rank=3, user_id="u", ts=1500.5),
        event("3", product_id=ProductId("灯"), type="purchase"),
    ]
    assert clicks.record_events(given_events) == EventCounts(stored=3)
    assert list(clicks.sessions()) == [
        Session(
            search(),
            (
                event("1", type="impression", image_name="front", rank=1, ts=2000.0),
                event("2", image_name="side", rank=3, user_id="u", ts=1500.5),
                event("3", product_id=ProductId("灯"), type="purchase", image_name="正面", rank=2, ts=2000.0),
            ),
        ),
        Session(search("bare", at=1001.5, box=None, user_id="", shown=())),
    ]


def test_random_searches_are_different_ones_of_the_log_and_all_of_them_where_there_are_few(engine: Engine) -> None:
    clicks = ClickLog(engine)
    assert (clicks.count(), clicks.some_searches(3, np.random.default_rng(0))) == (0, [])
    logged = [search(str(number), at=1000.0 + number) for number in range(20)]
    for one in logged:
        clicks.record_search(one)
    assert clicks.count() == 20
    assert clicks.some_searches(20, np.random.default_rng(0)) == logged
    drawn = [clicks.some_searches(5, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert all(one in logged for one in drawn[0])
    assert len({one.search_id for one in drawn[0]}) == 5


def test_sessions_are_those_of_the_moment_when_the_first_was_asked_for(engine: Engine) -> None:
    clicks = ClickLog(engine)
    for number in range(3):
        clicks.record_search(search(str(number), at=1000.0 + number))
    clicks.record_events([event("early", search_id="2")])
    sessions = clicks.sessions(batch=1)
    found = [next(sessions)]
    clicks.record_search(search("later", at=1000.5))
    clicks.record_events([event("late", search_id="2")])
    found += sessions
    assert [(one.search.search_id, [done.event_id for done in one.events]) for one in found] == [
        ("0", []),
        ("1", []),
        ("2", ["early"]),
    ]


def test_no_transaction_is_open_while_the_caller_works_on_a_session(engine: Engine) -> None:
    clicks = ClickLog(engine)
    for number in range(3):
        clicks.record_search(search(str(number)))
    in_use = [engine.pool.checkedout() for _ in clicks.sessions(batch=2)]  # type: ignore[attr-defined]
    assert in_use == [0, 0, 0]


@pytest.mark.parametrize("kind", EVENT_TYPES)
def test_every_type_of_event_is_stored(engine: Engine, kind: log.EventType) -> None:
    clicks = ClickLog(engine)
    clicks.record_search(search())
    assert clicks.record_events([event(type=kind)]).stored == 1


def test_an_event_that_is_sent_again_is_stored_once(engine: Engine) -> None:
    clicks = ClickLog(engine)
    clicks.record_search(search())
    assert clicks.record_events([event(), event("f"), event()]) == EventCounts(stored=2, repeated=1)
    assert ClickLog(engine).record_events([event(), event(ts=5.0)]) == EventCounts(repeated=2)
    assert [len(session.events) for session in clicks.sessions()] == [2]


def test_an_event_id_of_one_search_is_refused_in_another(engine: Engine) -> None:
    clicks = ClickLog(engine)
    clicks.record_search(search("s"))
    clicks.record_search(search("t"))
    assert clicks.record_events([event()]).stored == 1
    counts = clicks.record_events([event(search_id="t"), event("f", search_id="t"), event("f", search_id="s")])
    assert (counts.stored, counts.repeated, reasons(counts)) == (1, 0, [(0, "event_id"), (2, "event_id")])


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (event(search_id="unknown"), "search_id"),
        (event(search_id=""), "search_id"),
        (event(search_id="s\0"), "search_id"),
        (event(""), "event_id"),
        (event("x" * 129), "event_id"),
        (event("\ud800"), "event_id"),
        (event(7), "event_id"),  # type: ignore[arg-type]
        (event(type="look"), "type"),
        (event(product_id=ProductId("not shown")), "product_id"),
        (event(product_id=ProductId("lamp\0")), "product_id"),
        (event(image_name="back"), "product_id"),
        (event(rank=2), "rank"),
        (event(image_name="front", rank=3), "rank"),
        (event(user_id="u" * 129), "user_id"),
        (event(ts=math.nan), "ts"),
        (event(ts=math.inf), "ts"),
        (event(ts=-1.0), "ts"),
    ],
)
def test_an_event_that_cannot_be_true_is_refused_alone(engine: Engine, bad: Event, field: str) -> None:
    clicks = ClickLog(engine)
    clicks.record_search(search())
    counts = clicks.record_events([event("before"), bad, event("after")])
    assert (counts.stored, counts.repeated, reasons(counts)) == (2, 0, [(1, field)])
    assert [one.event_id for session in clicks.sessions() for one in session.events] == ["before", "after"]


def test_a_search_gathers_only_so_many_events(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "MAX_PER_SEARCH", 5)
    clicks = ClickLog(engine)
    clicks.record_search(search("s"))
    clicks.record_search(search("t"))
    assert clicks.record_events([event(str(number)) for number in range(4)]).stored == 4
    counts = clicks.record_events([event("0"), event("4"), event("5"), event("6", search_id="t")])
    assert (counts.stored, counts.repeated, reasons(counts)) == (2, 1, [(2, "search_id")])


def test_more_events_than_a_call_may_hold_are_refused(engine: Engine) -> None:
    with pytest.raises(TooLargeError, match="send them in parts"):
        ClickLog(engine).record_events([event(str(number)) for number in range(log.MAX_BATCH + 1)])


def test_no_events_are_fine(engine: Engine) -> None:
    assert ClickLog(engine).record_events([]) == EventCounts()


def test_a_search_id_is_used_once(engine: Engine) -> None:
    clicks = ClickLog(engine)
    clicks.record_search(search())
    with pytest.raises(ConflictError, match="in the log already"):
        clicks.record_search(search(shown=()))
    assert [session.search for session in clicks.sessions()] == [search()]


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (search(""), InputError),
        (search("x" * 129), InputError),
        (search(user_id="a\0"), InputError),
        (search(session_id="\ud800"), InputError),
        (search(at=math.nan), InputError),
        (search(box=Box(0, 0, math.inf, 1)), InputError),
        (search(shown=(replace(SHOWN[0], score=math.nan),)), InputError),
        (search(shown=SHOWN * 400), TooLargeError),
    ],
)
def test_a_search_that_cannot_be_kept_is_refused(engine: Engine, bad: Search, error: type[Exception]) -> None:
    clicks = ClickLog(engine)
    with pytest.raises(error):
        clicks.record_search(bad)
    assert list(clicks.sessions()) == []


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    times=st.lists(st.integers(0, 5), max_size=12),
    since=st.integers(0, 6),
    until=st.integers(0, 6),
    batch=st.integers(1, 5),
)
def test_sessions_come_in_order_of_time_and_of_arrival(
    engine: Engine, unique: Callable[[], str], times: list[int], since: int, until: int, batch: int
) -> None:
    clicks = ClickLog(engine)
    hour = 3600.0 * int(unique())  # each example has its own
    searches = [search(unique(), at=hour + time) for time in times]
    for one in searches:
        clicks.record_search(one)
    found = [session.search for session in clicks.sessions(since=hour + since, until=hour + until, batch=batch)]
    inside = [one for one in searches if hour + since <= one.at < hour + until]
    assert found == sorted(inside, key=lambda one: one.at)


@pytest.fixture
def unique() -> Callable[[], str]:
    numbers = iter(range(10**6))
    return lambda: str(next(numbers))
