"""How much was searched and clicked since some place of the log."""

from hypothesis import given
from hypothesis.strategies import integers, lists, sampled_from, tuples
from sqlalchemy import Engine, create_engine

from sameitem.clicks.log import ClickLog, Event, Search, Shown
from sameitem.clicks.traffic import Place, recent_photos, traffic_since
from sameitem.core.database import metadata
from sameitem.core.records import ImageId, ProductId

SHOWN = (Shown(1, ProductId("P1"), "main", ImageId(1), 0.5),)


def search(log: ClickLog, number: int, photo: str = "") -> None:
    log.record_search(Search(f"s{number}", 1e9 + number, photo, None, "", "i", "m", "u", "", SHOWN))


def event(log: ClickLog, number: int, searched: int, kind: str) -> None:
    made = Event(f"e{number}", f"s{searched}", kind, ProductId("P1"))  # type: ignore[arg-type]
    assert log.record_events([made]).stored == 1


def test_what_came_after_a_place_is_counted_and_the_rest_is_not(engine: Engine) -> None:
    log = ClickLog(engine, b"s" * 32)
    assert traffic_since(engine, Place()).end == Place()
    for number in range(3):
        search(log, number)
    event(log, 0, 0, "click")
    event(log, 1, 1, "impression")
    first = traffic_since(engine, Place())
    assert (first.searches, first.clicked, first.newly_clicked) == (3, 1, 1)
    search(log, 3)
    event(log, 2, 3, "cart")
    event(log, 3, 3, "click")
    event(log, 4, 1, "purchase")  # a late one
    second = traffic_since(engine, first.end)
    assert (second.searches, second.clicked, second.newly_clicked) == (1, 1, 2)
    third = traffic_since(engine, second.end)
    assert (third.searches, third.clicked, third.newly_clicked, third.end) == (0, 0, 0, second.end)


@given(
    acts=lists(tuples(integers(0, 5), sampled_from(["search", "click", "dismiss", "cart"])), max_size=30),
    cut=integers(0, 30),
)
def test_counts_are_those_of_a_plain_loop(acts: list[tuple[int, str]], cut: int) -> None:
    engine = create_engine("sqlite://")
    metadata.create_all(engine)
    log, there, place = ClickLog(engine, b"s" * 32), set[int](), Place()
    new, clicked = set[int](), set[int]()
    for at, (number, kind) in enumerate(acts):
        if at == cut:
            place, new, clicked = traffic_since(engine, Place()).end, set(), set()
        if kind == "search" and number not in there:
            search(log, number)
            there.add(number)
            new.add(number)
        elif kind != "search" and number in there:
            event(log, at, number, kind)
            if kind != "dismiss":
                clicked.add(number)
    found = traffic_since(engine, place)
    assert (found.searches, found.clicked, found.newly_clicked) == (len(new), len(new & clicked), len(clicked))
    engine.dispose()


def test_recent_photos_come_newest_first_and_once(engine: Engine) -> None:
    log = ClickLog(engine, b"s" * 32)
    for number, photo in enumerate(("a", "b", "", "a", "c")):
        search(log, number, photo)
    assert recent_photos(engine, 10) == ["c", "a", "b"]
    assert recent_photos(engine, 2) == ["c", "a"]
