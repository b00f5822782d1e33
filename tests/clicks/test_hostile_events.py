"""Ten thousand each of forged, repeated, late and out-of-order events change no count that they should not."""

import json
import secrets
from collections.abc import Sequence

import numpy as np
import pytest
from sqlalchemy import Engine, delete, func, insert, select

from sameitem.clicks.counts import count_progress, product_counts, recount, take_in
from sameitem.clicks.log import DAY_S, MAX_BATCH, ClickLog, Event, EventCounts, events, searches
from sameitem.clicks.signing import SearchIds
from sameitem.core.database import write
from sameitem.core.records import ProductId

SECRET = b"s" * 32
NOW = 1_800_000_000.0
SEARCHES, EACH = 2_500, 4
PRODUCTS = 300


def add_searches(engine: Engine, clicks: ClickLog, generator: np.random.Generator, count: int, at: float) -> list[str]:
    """Record searches at once, as fast as a database can; return their ids."""
    rows, ids = [], [SearchIds(SECRET).give(at) for _ in range(count)]
    for search_id in ids:
        listed = generator.choice(PRODUCTS, 10, replace=False)
        shown = json.dumps([[rank, f"p{one}", "front", int(one), 0.5] for rank, one in enumerate(listed, 1)])
        user = clicks.pseudonym(f"u{generator.integers(600)}")
        empty = dict.fromkeys(("photo_hash", "category_id", "index_version", "model_version", "session_id"), "")
        rows.append(empty | {"search_id": search_id, "at": at, "user_id": user, "shown": shown})
    with write(engine) as connection:
        connection.execute(insert(searches), rows)
    return ids


def events_on(engine: Engine, ids: Sequence[str], generator: np.random.Generator) -> list[Event]:
    """Return true events on each of the searches: clicks, carts and purchases."""
    with engine.connect() as connection:
        query = select(searches.c.search_id, searches.c.shown)
        lists = {row.search_id: [place[1] for place in json.loads(row.shown)] for row in connection.execute(query)}
    kinds = ("click", "click", "cart", "purchase")
    return [
        Event(f"{search_id}-{n}", search_id, kinds[n], ProductId(lists[search_id][generator.integers(10)]), ts=NOW + n)
        for search_id in ids
        for n in range(EACH)
    ]


def send(clicks: ClickLog, batch: Sequence[Event]) -> EventCounts:
    """Send events in calls of as many as one may hold; return the sums."""
    found = [clicks.take_events(batch[start : start + MAX_BATCH]) for start in range(0, len(batch), MAX_BATCH)]
    refused = tuple(refused for counts in found for refused in counts.refused)
    return EventCounts(sum(one.stored for one in found), sum(one.repeated for one in found), refused)


def counted(engine: Engine) -> list[tuple[object, ...]]:
    take_in(engine)
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(select(product_counts).order_by(product_counts.c.product_id))]


@pytest.mark.slow
def test_ten_thousand_of_each_change_no_count_that_they_should_not(engine: Engine) -> None:
    generator = np.random.default_rng(0)
    clicks = ClickLog(engine, SECRET, clock=lambda: NOW)
    ids = add_searches(engine, clicks, generator, SEARCHES, NOW - 5)
    old = add_searches(engine, clicks, generator, SEARCHES, NOW - 31 * DAY_S)
    true = events_on(engine, ids, generator)
    assert send(clicks, true) == EventCounts(stored=10_000)
    expected = counted(engine)
    assert sum(int(row[3]) for row in expected) > 3_000  # clicks  # type: ignore[call-overload]

    repeated = [true[row] for row in generator.permutation(len(true))]
    assert send(clicks, repeated) == EventCounts(repeated=10_000)
    assert counted(engine) == expected

    renamed = [Event(f"again-{one.event_id}", one.search_id, one.type, one.product_id, ts=one.ts) for one in true]
    assert send(clicks, renamed) == EventCounts(stored=10_000)  # other ids for what was done already
    assert counted(engine) == expected

    late = events_on(engine, old, generator)
    reasons = {refused.reason for refused in send(clicks, late).refused}
    assert reasons == {"search_id: the search is more than 30 days old"}
    assert counted(engine) == expected

    forged = [forge(one, n, generator) for n, one in enumerate(true)]
    counts = send(clicks, forged)
    assert (counts.stored, counts.repeated, len(counts.refused)) == (0, 0, 10_000)
    assert counted(engine) == expected

    with write(engine) as connection:
        for table in (events, product_counts, count_progress):
            connection.execute(delete(table))
    disorder = [true[row] for row in generator.permutation(len(true))]
    for start in range(0, len(disorder), 2_500):  # counted in parts, while others are still on their way
        assert send(clicks, disorder[start : start + 2_500]).stored == 2_500
        take_in(engine)
    assert counted(engine) == expected
    recount(engine)
    assert counted(engine) == expected
    with engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(events)) == 10_000


def forge(event: Event, number: int, generator: np.random.Generator) -> Event:
    """Return an event that cannot be true: a made-up id, another shop's, an altered one, a product not shown."""
    made_up = secrets.token_urlsafe(33)
    theirs = SearchIds(b"t" * 32).give(NOW)
    place = int(generator.integers(44))
    altered = event.search_id[:place] + ("A" if event.search_id[place] != "A" else "B") + event.search_id[place + 1 :]
    search_id = (made_up, theirs, altered, event.search_id)[number % 4]
    product = "never-shown" if number % 4 == 3 else event.product_id
    return Event(f"forged-{number}", search_id, "click", ProductId(product), ts=event.ts)
