import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine
from sqlalchemy.event import listen, remove

from sameitem.clicks import log
from sameitem.clicks.log import DAY_S, EVENT_TYPES, ClickLog, Event, EventCounts, Search, Session, Shown
from sameitem.clicks.pseudonyms import Pseudonyms
from sameitem.clicks.signing import SearchIds
from sameitem.core.errors import ConflictError, InputError, TooLargeError
from sameitem.core.records import Box, ImageId, ProductId
from sameitem.core.settings import ClickSettings

SECRET = b"s" * 32
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


def kept(one: Search) -> Search:
    """Return a search as the log gives it back."""
    names = Pseudonyms(SECRET)
    return replace(one, user_id=names.of_user(one.user_id), session_id=names.of_session(one.session_id))


def reasons(counts: EventCounts) -> list[tuple[int, str]]:
    return [(refused.index, refused.reason.split(":")[0]) for refused in counts.refused]


def test_a_search_comes_back_with_what_it_showed_and_what_was_done(engine: Engine) -> None:
    clicks = ClickLog(engine, SECRET, clock=lambda: 2000.0)
    clicks.record_search(search())
    clicks.record_search(search("bare", at=1001.5, box=None, user_id="", shown=()))
    given_events = [
        event("1", type="impression"),
        event("2", image_name="side", rank=3, user_id="u", ts=1500.5),
        event("3", product_id=ProductId("灯"), type="purchase"),
    ]
    assert clicks.record_events(given_events) == EventCounts(stored=3)
    searcher, other = clicks.pseudonym("user"), clicks.pseudonym("u")
    assert list(clicks.sessions()) == [
        Session(
            kept(search()),
            (
                event("1", type="impression", image_name="front", rank=1, user_id=searcher, ts=2000.0),
                event("2", image_name="side", rank=3, user_id=other, ts=1500.5),
                event(
                    "3",
                    product_id=ProductId("灯"),
                    type="purchase",
                    image_name="正面",
                    rank=2,
                    user_id=searcher,
                    ts=2000.0,
                ),
            ),
        ),
        Session(kept(search("bare", at=1001.5, box=None, user_id="", shown=()))),
    ]


def test_random_searches_are_different_ones_of_the_log_and_all_of_them_where_there_are_few(engine: Engine) -> None:
    clicks = ClickLog(engine, SECRET)
    assert (clicks.count(), clicks.some_searches(3, np.random.default_rng(0))) == (0, [])
    logged = [search(str(number), at=1000.0 + number) for number in range(20)]
    for one in logged:
        clicks.record_search(one)
    assert clicks.count() == 20
    assert clicks.some_searches(20, np.random.default_rng(0)) == list(map(kept, logged))
    drawn = [clicks.some_searches(5, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert all(one in map(kept, logged) for one in drawn[0])
    assert len({one.search_id for one in drawn[0]}) == 5


def test_sessions_are_those_of_the_moment_when_the_first_was_asked_for(engine: Engine) -> None:
    clicks = ClickLog(engine, SECRET)
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
    clicks = ClickLog(engine, SECRET)
    for number in range(3):
        clicks.record_search(search(str(number)))
    in_use = [engine.pool.checkedout() for _ in clicks.sessions(batch=2)]  # type: ignore[attr-defined]
    assert in_use == [0, 0, 0]


@pytest.mark.parametrize("kind", EVENT_TYPES)
def test_every_type_of_event_is_stored(engine: Engine, kind: log.EventType) -> None:
    clicks = ClickLog(engine, SECRET)
    clicks.record_search(search())
    assert clicks.record_events([event(type=kind)]).stored == 1


def test_an_event_that_is_sent_again_is_stored_once(engine: Engine) -> None:
    clicks = ClickLog(engine, SECRET)
    clicks.record_search(search())
    assert clicks.record_events([event(), event("f"), event()]) == EventCounts(stored=2, repeated=1)
    assert ClickLog(engine, SECRET).record_events([event(), event(ts=5.0)]) == EventCounts(repeated=2)
    assert [len(session.events) for session in clicks.sessions()] == [2]


def test_an_event_id_of_one_search_is_refused_in_another(engine: Engine) -> None:
    clicks = ClickLog(engine, SECRET)
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
    clicks = ClickLog(engine, SECRET)
    clicks.record_search(search())
    counts = clicks.record_events([event("before"), bad, event("after")])
    assert (counts.stored, counts.repeated, reasons(counts)) == (2, 0, [(1, field)])
    assert [one.event_id for session in clicks.sessions() for one in session.events] == ["before", "after"]


def test_a_search_gathers_only_so_many_events(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "MAX_PER_SEARCH", 5)
    clicks = ClickLog(engine, SECRET)
    clicks.record_search(search("s"))
    clicks.record_search(search("t"))
    assert clicks.record_events([event(str(number)) for number in range(4)]).stored == 4
    counts = clicks.record_events([event("0"), event("4"), event("5"), event("6", search_id="t")])
    assert (counts.stored, counts.repeated, reasons(counts)) == (2, 1, [(2, "search_id")])


class TestEventsFromOutside:
    """What `take_events` refuses besides."""

    NOW = 1_700_000_000.0

    def shown(self, engine: Engine, *, now: float = NOW, **settings: int) -> tuple[ClickLog, str]:
        """Return a log at a time, and the id of a search that was answered then."""
        clicks = ClickLog(engine, SECRET, settings=ClickSettings(**settings), clock=lambda: now)
        search_id = clicks.new_search_id()
        clicks.record_search(search(search_id, at=now))
        return clicks, search_id

    def test_are_taken_for_an_id_that_this_shop_gave(self, engine: Engine) -> None:
        clicks, search_id = self.shown(engine)
        batch = [event(search_id=search_id), event("f", search_id=search_id, ts=5.0), event(search_id=search_id)]
        assert clicks.take_events(batch) == EventCounts(stored=2, repeated=1)

    @pytest.mark.parametrize("forged", ["s", "import-" + "0" * 40, SearchIds(b"t" * 32).give(NOW)])
    def test_are_refused_for_any_other_without_a_look_into_the_database(self, engine: Engine, forged: str) -> None:
        clicks, _ = self.shown(engine)
        clicks.record_search(search(forged))
        asked: list[str] = []

        def note(*call: object) -> None:
            asked.append(str(call[2]))

        listen(engine, "before_cursor_execute", note)
        refused = clicks.take_events([event(search_id=forged)]).refused
        remove(engine, "before_cursor_execute", note)
        assert [(one.index, one.event_id) for one in refused] == [(0, "e")]
        assert "no search of this shop" in refused[0].reason
        assert asked == []

    def test_are_refused_when_they_come_too_late_whatever_they_say(self, engine: Engine) -> None:
        _, search_id = self.shown(engine)
        for days, expected in ((29.9, (1, [])), (30.1, (0, [(0, "search_id")]))):
            clicks = ClickLog(engine, SECRET, clock=lambda days=days: self.NOW + days * DAY_S)  # type: ignore[misc]
            counts = clicks.take_events([event(str(days), search_id=search_id, ts=self.NOW)])
            assert (counts.stored, reasons(counts)) == expected

    def test_are_refused_above_what_a_user_may_send_in_a_day(self, engine: Engine) -> None:
        clicks, search_id = self.shown(engine, events_per_user=3)
        batch = [event(str(n), search_id=search_id) for n in range(4)]  # of the one who searched
        batch += [event(f"o{n}", search_id=search_id, user_id="other") for n in range(2)]
        counts = clicks.take_events(batch)
        assert (counts.stored, reasons(counts)) == (5, [(3, "user_id")])
        counts = clicks.take_events([event("0", search_id=search_id), event("5", search_id=search_id)])
        assert (counts.stored, counts.repeated, reasons(counts)) == (0, 1, [(1, "user_id")])
        next_day, _ = self.shown(engine, now=self.NOW + DAY_S + 1, events_per_user=3)
        assert next_day.take_events([event("5", search_id=search_id)]).stored == 1

    def test_of_nobody_are_bounded_by_the_search_alone(self, engine: Engine) -> None:
        clicks = ClickLog(engine, SECRET, settings=ClickSettings(events_per_user=1), clock=lambda: self.NOW)
        search_id = clicks.new_search_id()
        clicks.record_search(search(search_id, user_id=""))
        assert clicks.take_events([event(str(n), search_id=search_id) for n in range(5)]).stored == 5

    def test_sent_by_several_threads_at_once_are_stored_once(self, engine: Engine) -> None:
        clicks, search_id = self.shown(engine)
        batch = [event(str(n), search_id=search_id) for n in range(200)]
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(clicks.take_events, [batch[place:] + batch[:place] for place in range(0, 200, 50)]))
        assert (sum(one.stored for one in found), sum(one.repeated for one in found)) == (200, 600)
        assert [len(session.events) for session in clicks.sessions()] == [200]


class TestUsers:
    def test_are_kept_and_given_back_as_pseudonyms_only(self, engine: Engine) -> None:
        clicks = ClickLog(engine, SECRET)
        clicks.record_search(search(user_id="ann@example.org", session_id="evening"))
        clicks.record_events([event(user_id="bob@example.org")])
        said = repr(list(clicks.sessions()))
        with engine.connect() as connection:
            said += repr([connection.execute(table.select()).all() for table in (log.searches, log.events)])
        assert not [name for name in ("ann@", "bob@", "evening", "example") if name in said]
        assert said.count(clicks.pseudonym("ann@example.org")) == 2

    def test_have_their_newest_clicks_at_hand(self, engine: Engine) -> None:
        times = iter(range(1000, 2000))
        clicks = ClickLog(engine, SECRET, clock=lambda: next(times))
        clicks.record_search(search(user_id="u"))
        clicks.record_search(search("t", user_id="other"))
        for number, (kind, search_id) in enumerate(
            [("click", "s"), ("impression", "s"), ("dismiss", "s"), ("cart", "s"), ("click", "t"), ("purchase", "s")]
        ):
            clicks.record_events([event(str(number), search_id=search_id, type=kind, ts=100.0 + number)])
        clicks.record_events([event("own", search_id="t", user_id="u", product_id=ProductId("灯"), ts=1.0)])
        expected = [
            ("灯", "click", 1.0),
            ("lamp", "purchase", 105.0),
            ("lamp", "cart", 103.0),
            ("lamp", "click", 100.0),
        ]
        assert clicks.clicked_by("u") == expected
        assert clicks.clicked_by("u", limit=2) == expected[:2]
        assert (clicks.clicked_by("nobody"), clicks.clicked_by("")) == ([], [])

    def test_can_be_told_what_is_kept_of_them(self, engine: Engine) -> None:
        clicks = ClickLog(engine, SECRET)
        clicks.record_search(search("later", at=1002.0, user_id="u"))
        clicks.record_search(search("sooner", at=1001.0, user_id="other"))
        clicks.record_search(search("theirs", at=1000.0, user_id="other"))
        clicks.record_events([event("1", search_id="later", user_id="guest"), event("2", search_id="sooner")])
        clicks.record_events([event("3", search_id="sooner", user_id="u"), event("4", search_id="theirs")])
        found = clicks.sessions_of("u")
        assert [(one.search.search_id, [done.event_id for done in one.events]) for one in found] == [
            ("sooner", ["3"]),
            ("later", ["1"]),
        ]
        assert (clicks.sessions_of(""), clicks.sessions_of("nobody")) == ([], [])

    @pytest.mark.parametrize("name", ["user_id", "session_id"])
    def test_are_not_named_in_messages(self, engine: Engine, name: str) -> None:
        with pytest.raises(InputError) as raised:
            ClickLog(engine, SECRET).record_search(search(**{name: "ann" * 100}))
        assert "ann" not in str(raised.value)


def test_more_events_than_a_call_may_hold_are_refused(engine: Engine) -> None:
    with pytest.raises(TooLargeError, match="send them in parts"):
        ClickLog(engine, SECRET).record_events([event(str(number)) for number in range(log.MAX_BATCH + 1)])


def test_no_events_are_fine(engine: Engine) -> None:
    assert ClickLog(engine, SECRET).record_events([]) == EventCounts()


def test_a_search_id_is_used_once(engine: Engine) -> None:
    clicks = ClickLog(engine, SECRET)
    clicks.record_search(search())
    with pytest.raises(ConflictError, match="in the log already"):
        clicks.record_search(search(shown=()))
    assert [session.search for session in clicks.sessions()] == [kept(search())]


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
    clicks = ClickLog(engine, SECRET)
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
    clicks = ClickLog(engine, SECRET)
    hour = 3600.0 * int(unique())  # each example has its own
    searches = [search(unique(), at=hour + time) for time in times]
    for one in searches:
        clicks.record_search(one)
    found = [session.search for session in clicks.sessions(since=hour + since, until=hour + until, batch=batch)]
    inside = [one for one in searches if hour + since <= one.at < hour + until]
    assert found == [kept(one) for one in sorted(inside, key=lambda one: one.at)]


@pytest.fixture
def unique() -> Callable[[], str]:
    numbers = iter(range(10**6))
    return lambda: str(next(numbers))
