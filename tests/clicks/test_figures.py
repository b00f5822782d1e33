"""Counts by day and failed searches against a plain recount of the same sessions."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, event, insert

from sameitem.clicks.figures import LoggedSearch, MissKind, count_by_day, find_misses
from sameitem.clicks.held_out import is_held_out
from sameitem.clicks.log import DAY_S, EventType, events, searches
from sameitem.core.database import open_database, write

TYPES: list[EventType] = ["impression", "click", "cart", "purchase", "dismiss"]
HELD_OUT = next(f"{number:064x}" for number in range(1000) if is_held_out(f"{number:064x}"))
TAUGHT = next(f"{number:064x}" for number in range(1000) if not is_held_out(f"{number:064x}"))


def search(
    name: str, at: float, *, category: str = "tops", photo: str = "", shown: int = 20, first: int = 1
) -> dict[str, Any]:
    """A row of `searches`: one statement writes many."""
    places = [[rank, f"p{rank}", "main", rank, 0.5] for rank in range(first, first + shown)]
    fixed = {"index_version": "v1", "model_version": "m1", "user_id": "somebody", "session_id": ""}
    told = {"search_id": name, "at": at, "photo_hash": photo, "category_id": category, "shown": json.dumps(places)}
    return fixed | told


def record(engine: Engine, rows: list[dict[str, Any]], acts: list[tuple[str, EventType, int]]) -> None:
    fixed = {"image_name": "main", "user_id": "", "ts": 50.0 * DAY_S, "received_at": 50.0 * DAY_S}
    done = [
        fixed | {"event_id": f"e{i}", "search_id": name, "type": kind, "product_id": f"p{rank}", "rank": rank}
        for i, (name, kind, rank) in enumerate(acts)
    ]
    with write(engine) as connection:
        if rows:
            connection.execute(insert(searches), rows)
        if done:
            connection.execute(insert(events), done)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    days=st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["tops", "shoes", ""])), max_size=12),
    acts=st.lists(st.tuples(st.integers(0, 11), st.sampled_from(TYPES), st.integers(1, 20)), max_size=30),
    since=st.integers(0, 5),
)
def test_days_and_categories_count_what_a_plain_recount_does(
    tmp_path_factory: pytest.TempPathFactory,
    days: list[tuple[int, str]],
    acts: list[tuple[int, EventType, int]],
    since: int,
) -> None:
    engine = open_database(f"sqlite:///{tmp_path_factory.mktemp('log') / 'catalogue.db'}")
    rows = [search(f"s{i}", (day + 0.99) * DAY_S, category=category) for i, (day, category) in enumerate(days)]
    done = [(f"s{i}", kind, rank) for i, kind, rank in acts if i < len(days)]
    record(engine, rows, done)
    wanted: Counter[tuple[int, str, str]] = Counter()
    for i, (day, category) in enumerate(days):
        if since <= day < 5:
            types = {kind for name, kind, _ in done if name == f"s{i}"}
            wanted[day, category, "searches"] += 1
            wanted[day, category, "clicked"] += bool(types & {"click", "cart", "purchase"})
            wanted[day, category, "carts"] += "cart" in types
            wanted[day, category, "purchases"] += "purchase" in types
    counted = count_by_day(engine, since=float(since * DAY_S), until=5.0 * DAY_S)
    names = ("searches", "clicked", "carts", "purchases")
    found = {(one.day, one.category_id, name): getattr(one, name) for one in counted for name in names}
    engine.dispose()
    assert {key: count for key, count in found.items() if count} == {
        key: count for key, count in wanted.items() if count
    }
    assert [(one.day, one.category_id) for one in counted] == sorted((one.day, one.category_id) for one in counted)


def test_both_databases_count_days_alike(engine: Engine) -> None:
    times = [0.5 * DAY_S, 1.0 * DAY_S, 1.999 * DAY_S, 2.6 * DAY_S]
    record(engine, [search(f"s{i}", at) for i, at in enumerate(times)], [("s2", "click", 3), ("s3", "cart", 1)])
    counted = count_by_day(engine, since=0.0, until=3.0 * DAY_S)
    assert [(one.day, one.searches, one.clicked, one.carts) for one in counted] == [
        (0, 1, 0, 0),
        (1, 2, 1, 0),
        (2, 1, 1, 1),
    ]


def test_counting_reads_the_indexes_and_goes_from_acts_to_searches(tmp_path: Path) -> None:
    engine = open_database(f"sqlite:///{tmp_path / 'catalogue.db'}")
    asked: list[tuple[str, Any]] = []
    event.listen(engine, "before_cursor_execute", lambda *given: asked.append((given[2], given[3])))
    count_by_day(engine, since=5.0, until=9.0)
    queries = [one for one in asked if one[0].lstrip().startswith("SELECT")]
    with engine.connect() as connection:
        plans = [connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values).all() for sql, values in queries]
    engine.dispose()
    assert "COVERING INDEX searches_at" in plans[0][0].detail
    assert "COVERING INDEX events_acts" in plans[1][0].detail
    assert "INDEX searches_search_id" in plans[1][1].detail


def found(engine: Engine, kind: MissKind) -> list[str]:
    return [one.search_id for one in find_misses(engine, kind).searches]


def test_each_kind_of_miss_is_told_from_the_others(engine: Engine) -> None:
    rows = [
        search("unclicked", 1.0, photo=TAUGHT),
        search("empty", 2.0, shown=0),
        search("second page", 3.0, first=11),
        search("deep", 4.0, photo=TAUGHT),
        search("good", 5.0, photo=TAUGHT),
        search("dismissed", 6.0, photo=HELD_OUT),
        search("held out", 7.0, photo=HELD_OUT),
        search("held out without a photo", 8.0),
    ]
    acts: list[tuple[str, EventType, int]] = [
        ("unclicked", "impression", 1),
        ("deep", "click", 11),
        ("deep", "cart", 15),
        ("good", "click", 10),
        ("good", "click", 12),
        ("dismissed", "click", 2),
        ("dismissed", "dismiss", 2),
        ("held out", "purchase", 4),
        ("held out without a photo", "click", 1),
    ]
    record(engine, rows, acts)
    assert found(engine, "unclicked") == ["dismissed", "unclicked"]
    assert found(engine, "deep") == ["deep"]
    assert found(engine, "held_out") == ["held out"]
    miss = find_misses(engine, "held_out").searches[0]
    assert [(act.type, act.product_id, act.rank) for act in miss.acts] == [("purchase", "p4", 4)]
    assert miss.clicked == ("p4",)


def test_pages_of_misses_are_the_whole_list(engine: Engine) -> None:
    record(engine, [search(f"s{i}", float(i)) for i in range(450)], [(f"s{i}", "click", 1) for i in range(0, 450, 3)])
    whole = find_misses(engine, "unclicked", limit=1000)
    pages: list[LoggedSearch] = []
    before = None
    while True:
        page = find_misses(engine, "unclicked", before=before, limit=7)
        pages += page.searches
        if page.next is None:
            break
        before = page.next
    assert whole.next is None
    assert whole.scanned == 450
    assert [one.search_id for one in pages] == [one.search_id for one in whole.searches]
    assert len(pages) == 300


def test_one_call_looks_at_a_bounded_part_of_the_log(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sameitem.clicks.figures.SCANNED", 200)
    record(engine, [search(f"s{i}", float(i)) for i in range(450)], [(f"s{i}", "click", 1) for i in range(450)])
    page = find_misses(engine, "unclicked")
    assert (page.searches, page.scanned, page.next) == ((), 200, 251)
