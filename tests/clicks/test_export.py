"""What is exported is what another shop's import reads."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from sameitem.clicks import export
from sameitem.clicks.export import Exported, export_clicks
from sameitem.clicks.importer import import_clicks
from sameitem.clicks.log import ClickLog, Event, Search, Session, Shown
from sameitem.core.database import open_database
from sameitem.core.errors import InputError
from sameitem.core.image_intake import ImageIntake
from sameitem.core.jobs import JobTable
from sameitem.core.photo_store import PhotoStore
from sameitem.core.records import Box, CatalogueImage, ContentHash, ImageId, ImageKind, ProductId, Quality
from sameitem.core.settings import ImportSettings, IntakeSettings

NAMES = ("灯", "a/b", "lamp", "mug")
QUALITY = Quality(1, 1, 1, 0, 0, 1)


def image(product: str, place: int) -> CatalogueImage:
    image_id, content = ImageId(10 * NAMES.index(product) + place), ContentHash("c" * 64)
    return CatalogueImage(image_id, ProductId(product), f"{place} /x", ImageKind.MAIN, content, 9, 9, QUALITY, 0)


IMAGES = {ProductId(name): [image(name, place) for place in range(2)] for name in NAMES}
PLACES = [image for images in IMAGES.values() for image in images]
PHOTO = "f" * 64


def shown(first_rank: int, *places: int) -> tuple[Shown, ...]:
    return tuple(
        Shown(rank, PLACES[place].product_id, PLACES[place].name, PLACES[place].image_id, 0.0)
        for rank, place in enumerate(places, first_rank)
    )


def fill(clicks: ClickLog) -> None:
    for n, (places, box, user, session) in enumerate(
        [
            (shown(1, 0, 1, 2, 7), Box(1.5, 2, 30, 40), "ann", "evening"),
            (shown(11, 5, 3), None, "", "morning"),  # the second page
            ((*shown(2, 4), *shown(9, 6)), None, "ann", ""),  # an imported list with gaps
        ]
    ):
        search = Search(f"s{n}", 1e9 + n / 8, PHOTO, box, "home" if n else "", "v", "m", user, session, places)
        clicks.record_search(search)
        done = [("click", places[-1]), ("cart", places[-1]), ("dismiss", places[0])]
        events = [
            Event(f"{n}-{kind}", search.search_id, kind, place.product_id, place.image_name, place.rank, ts=1e9 + 5.25)  # type: ignore[arg-type]
            for kind, place in done
        ]
        assert clicks.record_events(events).stored == 3


def said(sessions: list[Session]) -> list[Any]:
    """Return what an import can know: who searched and what was done apart from ids, which are of the shop."""
    users: dict[str, int] = {}
    found = []
    for session in sessions:
        search = session.search
        who = users.setdefault(search.user_id or search.session_id, len(users))
        done = {(event.type, event.product_id, event.image_name, event.rank, event.ts) for event in session.events}
        plain = (search.at, search.photo_hash, search.box, search.category_id, search.shown, who, done)
        found.append(plain)
    return found


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_what_is_exported_is_read_back_as_it_was(
    engine: Engine, tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "_ROWS", 2)
    clicks = ClickLog(engine, b"s" * 32)
    fill(clicks)
    file = tmp_path / f"log{ending}"
    assert export_clicks(file, clicks.sessions()) == Exported(file, sessions=3, events=9)
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".part"] == []
    other = open_database(f"sqlite:///{tmp_path / 'other.db'}")
    photos, table = PhotoStore(tmp_path / "photos"), JobTable(other)
    kept = photos.path(ContentHash(PHOTO))
    kept.parent.mkdir(parents=True)
    kept.touch()
    job = table.start(table.submit("import-clicks", {}).id)
    assert job is not None
    theirs = ClickLog(other, b"t" * 32)
    with ImageIntake(IntakeSettings(workers=1)) as intake:
        report = import_clicks(
            file,
            columns={},
            images_of=lambda product: IMAGES.get(product, []),
            clicks=theirs,
            intake=intake,
            query_photos=photos,
            fetch=lambda url: b"",
            table=table,
            job=job,
            settings=ImportSettings(),
            max_file_bytes=1000,
            errors_folder=tmp_path,
        )
    assert (report.sessions, report.events, dict(report.reasons)) == (3, 9, {})
    assert said(list(theirs.sessions())) == said(list(clicks.sessions()))
    other.dispose()


def test_users_and_sessions_are_pseudonyms_in_the_file(engine: Engine, tmp_path: Path) -> None:
    clicks = ClickLog(engine, b"s" * 32)
    fill(clicks)
    text = export_clicks(tmp_path / "log.jsonl", clicks.sessions()).file.read_text(encoding="utf-8")
    assert clicks.pseudonym("ann") in text
    assert not [name for name in ('"ann"', "morning", "evening") if name in text]


@pytest.mark.parametrize("name", ["log.csv", "log", "none/log.jsonl"])
def test_a_file_that_cannot_be_written_is_an_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError):
        export_clicks(tmp_path / name, [])


def test_an_interrupted_export_leaves_the_file_that_was_there(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    file.write_text("before")

    def broken() -> Iterator[Session]:
        yield Session(Search("s", 1.0, "", None, "", "", "", "", "", ()))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_clicks(file, broken())
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("log.jsonl", "before")]
