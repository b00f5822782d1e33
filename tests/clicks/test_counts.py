from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, delete, select

from sameitem.clicks import counts
from sameitem.clicks.counts import (
    count_progress,
    counts_of,
    examination,
    product_counts,
    recount,
    take_in,
    total_counts,
)
from sameitem.clicks.log import DAY_S, EVENT_TYPES, ClickLog, Event, EventType, Search, Shown, events, searches
from sameitem.clicks.removal import remove_before, remove_user
from sameitem.core.database import write
from sameitem.core.records import ImageId, ProductId

PRODUCTS = ("lamp", "mug", "灯", "chair")
Counted = dict[str, tuple[float, ...]]


def search(clicks: ClickLog, search_id: str, shown: str, *, user: str = "", session: str = "", at: float = 0.0) -> None:
    """Record a search that showed products, named by their first letters, from rank 1 on."""
    names = [next(name for name in PRODUCTS if name[0] == letter) for letter in shown]
    places = tuple(Shown(n, ProductId(name), f"i{n}", ImageId(n), 0.5) for n, name in enumerate(names, 1))
    clicks.record_search(Search(search_id, at, "", None, "", "", "", user, session, places))


def event(search_id: str, product: str, kind: EventType = "click", event_id: str = "", user: str = "") -> Event:
    return Event(event_id or f"{search_id}-{product}-{kind}", search_id, kind, ProductId(product), user_id=user, ts=1.0)


def counted(engine: Engine) -> Counted:
    with engine.connect() as connection:
        rows = connection.execute(select(product_counts)).all()
    return {row.product_id: tuple(row[1:]) for row in rows}


@pytest.fixture
def clicks(engine: Engine) -> ClickLog:
    return ClickLog(engine, b"s" * 32)


def test_a_place_is_looked_at_less_the_lower_it_stands() -> None:
    weights = [examination(rank) for rank in range(1, 1001)]
    assert weights[0] == 1
    assert all(one > other for one, other in pairwise(weights))
    assert weights[9] == pytest.approx(1 / np.log2(11), abs=1e-6)
    assert sum(weights) == sum(reversed(weights))  # exactly, in any order


def test_a_list_counts_by_its_ranks_and_its_events_by_their_type(engine: Engine, clicks: ClickLog) -> None:
    search(clicks, "s", "lm灯c")
    done = [event("s", "mug"), event("s", "mug", "cart"), event("s", "灯", "purchase"), event("s", "lamp", "dismiss")]
    clicks.record_events(done)
    assert take_in(engine) == 5
    assert counted(engine) == {
        "lamp": (1, 1.0, 0, 0, 0),
        "mug": (1, examination(2), 1, 1, 0),
        "灯": (1, 0.5, 0, 0, 1),
        "chair": (1, examination(4), 0, 0, 0),
    }
    assert take_in(engine) == 0


@pytest.mark.parametrize(
    ("who", "other"),
    [({"user": "u"}, {"user": "v"}), ({"session": "a"}, {"session": "b"}), ({"user": "u", "session": "a"}, {})],
)
def test_a_shoppers_day_counts_a_product_once(
    engine: Engine, clicks: ClickLog, who: dict[str, str], other: dict[str, str]
) -> None:
    for n in range(5):
        search(clicks, f"s{n}", "ml" if n else "lm", at=100.0 + n, **who)
        clicks.record_events([event(f"s{n}", "lamp", event_id=f"{n}-{m}") for m in range(3)])
    take_in(engine)
    assert counted(engine) == {"lamp": (1, 1.0, 1, 0, 0), "mug": (1, 1.0, 0, 0, 0)}
    search(clicks, "tomorrow", "l", at=100.0 + DAY_S, **who)
    search(clicks, "other", "ml", at=100.0, **other)
    clicks.record_events([event("tomorrow", "lamp"), event("other", "lamp")])
    take_in(engine)
    assert counted(engine)["lamp"] == (3, 2 + examination(2), 3, 0, 0)


def test_searches_of_nobody_are_shoppers_of_their_own(engine: Engine, clicks: ClickLog) -> None:
    for n in range(3):
        search(clicks, f"s{n}", "l")
        clicks.record_events([event(f"s{n}", "lamp"), event(f"s{n}", "lamp", event_id=f"again-{n}")])
    take_in(engine)
    assert counted(engine) == {"lamp": (3, 3.0, 3, 0, 0)}


def test_only_so_many_searches_of_a_shoppers_day_count(
    engine: Engine, clicks: ClickLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counts, "SEARCHES_A_DAY", 2)
    for n, shown in enumerate("lm灯c"):
        search(clicks, f"s{n}", shown, user="u", at=10.0 + n)
        take_in(engine)
    assert set(counted(engine)) == {"lamp", "mug"}
    step_by_step = counted(engine)
    recount(engine)
    assert counted(engine) == step_by_step


def test_counts_are_found_in_the_order_that_is_asked_for(engine: Engine, clicks: ClickLog) -> None:
    search(clicks, "s", "lm")
    clicks.record_events([event("s", "mug")])
    take_in(engine)
    found = counts_of(engine, [ProductId(name) for name in ("none", "mug", "lamp", "mug")])
    assert found.shown.tolist() == [0, 1, 1, 1]
    assert found.examined.tolist() == [0, examination(2), 1, examination(2)]
    assert found.clicks.tolist() == [0, 1, 0, 1]
    assert (found.carts.tolist(), found.purchases.tolist()) == ([0] * 4, [0] * 4)
    assert counts_of(engine, []).shown.shape == (0,)
    total = total_counts(engine)
    assert (total.shown.tolist(), total.clicks.tolist()) == ([2], [1])
    assert total.examined.tolist() == [1 + examination(2)]


def test_more_products_than_a_query_may_name_are_found(engine: Engine, clicks: ClickLog) -> None:
    search(clicks, "s", "l")
    take_in(engine)
    wanted = [ProductId(f"p{n}") for n in range(1200)] + [ProductId("lamp")]
    assert counts_of(engine, wanted).shown.sum() == counts_of(engine, wanted).shown[-1] == 1


def test_nothing_is_known_of_an_empty_log(engine: Engine) -> None:
    assert take_in(engine) == 0
    assert total_counts(engine).shown.tolist() == [0]


def test_several_that_count_at_once_count_each_row_once(
    engine: Engine, clicks: ClickLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counts, "PART", 3)
    for n in range(40):
        search(clicks, f"s{n}", "lm", user=f"u{n % 7}", at=n * 10_000.0)
        clicks.record_events([event(f"s{n}", "mug")])
    with ThreadPoolExecutor(4) as pool:
        taken = list(pool.map(lambda _: take_in(engine), range(4)))
    assert sum(taken) == 80
    at_once = counted(engine)
    recount(engine)
    assert counted(engine) == at_once


# ---- against a count in plain Python


@dataclass(frozen=True)
class Said:
    """One search, or one event on an earlier search."""

    search: int
    shown: str = ""
    user: str = ""
    session: str = ""
    day: int = 0
    product: str = ""
    kind: EventType = "click"
    by: str = ""


COLUMN = {"click": 2, "cart": 3, "purchase": 4}


def plain_count(said: Sequence[Said], *, without: str = "", since: int = 0) -> Counted:
    """Add up what was said, slowly: of whoever is not left out, from a day on."""
    days: dict[object, dict[str, list[float]]] = defaultdict(lambda: defaultdict(lambda: [0.0] * 5))
    lists = {one.search: one for one in said if one.shown}
    for one in said:
        of = lists[one.search]
        if (without and of.user == without) or of.day < since:
            continue
        who = ("user", of.user) if of.user else ("session", of.session) if of.session else ("search", of.search)
        day = days[who, of.day]
        for rank, letter in enumerate(one.shown, 1):
            columns = day[next(name for name in PRODUCTS if name[0] == letter)]
            columns[:2] = [1, max(columns[1], examination(rank))]
        is_left_out = without and (one.by or of.user) == without
        if one.kind in COLUMN and not is_left_out and one.product and one.product[0] in of.shown:
            day[one.product][COLUMN[one.kind]] = 1
    total: dict[str, list[float]] = defaultdict(lambda: [0.0] * 5)
    for day in days.values():
        for name, columns in day.items():
            total[name] = [one + other for one, other in zip(total[name], columns, strict=True)]
    return {name: tuple(values) for name, values in total.items()}


USERS = ("", "", "ann", "bob")
LISTS = st.lists(
    st.builds(
        Said,
        search=st.just(0),
        shown=st.text(st.sampled_from("lm灯c"), min_size=1, max_size=4),
        user=st.sampled_from(USERS),
        session=st.sampled_from(["", "evening"]),
        day=st.integers(0, 2),
    ),
    min_size=1,
    max_size=8,
)
DONE = st.lists(
    st.builds(
        Said,
        search=st.integers(0, 7),
        product=st.sampled_from(PRODUCTS),
        kind=st.sampled_from(EVENT_TYPES),
        by=st.sampled_from(USERS),
    ),
    max_size=20,
)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lists=LISTS, done=DONE, data=st.data())
def test_counts_are_those_of_the_whole_log_in_whatever_order_and_parts_it_came(
    engine: Engine, clicks: ClickLog, lists: list[Said], done: list[Said], data: st.DataObject
) -> None:
    with write(engine) as connection:
        for table in (events, searches, product_counts, count_progress):
            connection.execute(delete(table))
    said = [Said(**{**one.__dict__, "search": n}) for n, one in enumerate(lists)]
    done = [one for one in done if one.search < len(lists)]
    for one in said:
        search(clicks, f"s{one.search}", one.shown, user=one.user, session=one.session, at=one.day * DAY_S + one.search)
        if data.draw(st.booleans()):
            take_in(engine)
    for n, one in enumerate(data.draw(st.permutations(done))):
        clicks.record_events([event(f"s{one.search}", one.product, one.kind, f"e{n}", one.by)])
        if data.draw(st.booleans()):
            take_in(engine)
    everything = [*said, *done]
    take_in(engine)
    assert counted(engine) == plain_count(everything)
    if data.draw(st.booleans()):
        remove_user(engine, clicks.pseudonym("ann"))
        assert counted(engine) == plain_count(everything, without="ann")
    else:
        remove_before(engine, DAY_S)
        assert counted(engine) == plain_count(everything, since=1)
    recounted = counted(engine)
    recount(engine)
    assert counted(engine) == recounted
