import secrets
from dataclasses import asdict
from pathlib import Path

import pytest
from sqlalchemy import Engine, func, insert, select

from sameitem.clicks import removal
from sameitem.clicks.counts import product_counts, take_in
from sameitem.clicks.log import DAY_S, ClickLog, Event, Search, Shown, events, searches
from sameitem.clicks.removal import Removed, remove_before, remove_user, scrub, traces_of
from sameitem.core.database import open_database, write
from sameitem.core.errors import UnavailableError
from sameitem.core.records import ImageId, ProductId

SHOWN = (Shown(1, ProductId("lamp"), "front", ImageId(1), 0.5),)


@pytest.fixture
def clicks(engine: Engine) -> ClickLog:
    return ClickLog(engine, b"s" * 32)


def record(clicks: ClickLog, search_id: str, user: str, *, at: float = 0.0, photo: str = "", by: str = "") -> None:
    clicks.record_search(Search(search_id, at, photo, None, "", "", "", user, "", SHOWN))
    clicks.record_events([Event(f"e-{search_id}", search_id, "click", ProductId("lamp"), user_id=by, ts=at)])


def left(engine: Engine) -> list[int]:
    with engine.connect() as connection:
        tables = (searches, events, product_counts)
        return [connection.scalar(select(func.count()).select_from(table)) or 0 for table in tables]


def test_what_is_old_goes_and_the_rest_stays(engine: Engine, clicks: ClickLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removal, "PART", 2)
    for n in range(7):
        record(clicks, f"s{n}", f"u{n}", at=n * DAY_S)
    take_in(engine)
    assert remove_before(engine, 5 * DAY_S) == Removed(5, 5)
    assert [session.search.search_id for session in clicks.sessions()] == ["s5", "s6"]
    assert remove_before(engine, 5 * DAY_S) == Removed(0, 0)
    assert remove_before(engine, 9 * DAY_S) == Removed(2, 2)
    assert left(engine) == [0, 0, 0]


def test_a_users_searches_go_with_what_others_did_there_and_what_they_did_elsewhere(
    engine: Engine, clicks: ClickLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "PART", 2)
    for n in range(5):
        record(clicks, f"own{n}", "ann", by="bob")
        record(clicks, f"other{n}", "bob", by="ann")
    record(clicks, "bobs", "bob")
    assert remove_user(engine, clicks.pseudonym("ann")) == Removed(5, 10)
    assert [len(session.events) for session in clicks.sessions()] == [0] * 5 + [1]


def test_traces_are_a_users_searches_and_the_photos_that_nobody_else_searched_with(
    engine: Engine, clicks: ClickLog
) -> None:
    record(clicks, "a", "ann", photo="hers")
    record(clicks, "b", "ann", photo="shared")
    record(clicks, "c", "", photo="shared", by="ann")
    record(clicks, "d", "bob", photo="his")
    record(clicks, "e", "ann", photo="")
    name = clicks.pseudonym("ann")
    assert asdict(traces_of(engine, name)) == {
        "pseudonym": name,
        "search_ids": frozenset("abce"),
        "photos": frozenset({"hers"}),
    }


def test_what_was_removed_is_not_in_sqlites_files(tmp_path: Path) -> None:
    engine = open_database(f"sqlite:///{tmp_path / 'catalogue.db'}")
    clicks = ClickLog(engine, b"s" * 32)
    name, mine = clicks.pseudonym("ann"), []
    others = dict.fromkeys(("category_id", "index_version", "model_version", "session_id"), "")
    for _ in range(20):  # many pages, split and filled again
        users = [name if n % 40 == 0 else secrets.token_urlsafe(16) for n in range(200)]
        ids = [clicks.new_search_id() for _ in users]
        mine += ids[::40]
        rows = [{"search_id": one, "user_id": user} for one, user in zip(ids, users, strict=True)]
        with write(engine) as connection:
            connection.execute(
                insert(searches), [row | others | {"at": 1.0, "photo_hash": "f" * 64, "shown": "[]"} for row in rows]
            )
    assert remove_user(engine, name).searches == len(mine) == 100
    scrub(engine)
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert not [text for text in (name, *mine) if text.encode() in content]
    engine.dispose()


def test_a_reader_that_does_not_end_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    engine = open_database(f"sqlite:///{tmp_path / 'catalogue.db'}")
    clicks = ClickLog(engine, b"s" * 32)
    record(clicks, "s", "ann")
    with engine.connect() as reader:
        reader.execute(select(searches)).first()
        remove_user(engine, clicks.pseudonym("ann"))
        impatient = open_database(f"sqlite:///{tmp_path / 'catalogue.db'}")
        raw = impatient.raw_connection()
        raw.cursor().execute("PRAGMA busy_timeout=1")
        raw.close()  # back into the pool, from where it is taken again
        with pytest.raises(UnavailableError, match="run the same command again"):
            scrub(impatient)
    scrub(impatient)
    impatient.dispose()
    engine.dispose()
