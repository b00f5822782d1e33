import csv
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import Engine

from sameitem.clicks.importer import ClickImport, import_clicks
from sameitem.clicks.log import ClickLog, Session
from sameitem.core.errors import AccessError, ConflictError, InputError, NotFoundError, UnavailableError
from sameitem.core.image_intake import ImageIntake
from sameitem.core.jobs import Job, JobTable
from sameitem.core.photo_store import PhotoStore
from sameitem.core.records import Box, CatalogueImage, ContentHash, ImageId, ImageKind, ProductId, Quality
from sameitem.core.settings import ImportSettings, IntakeSettings

QUALITY = Quality(1, 1, 1, 0, 0, 1)
NAMES = {"lamp": ["side.jpg", "front.jpg"], "a/b": ["c/d.jpg"], "灯": ["正面.jpg"], "mug": ["one", "two"]}
CATALOGUE = {
    product: [
        CatalogueImage(
            ImageId(100 * number + place),
            ProductId(product),
            name,
            ImageKind.MAIN if name == "front.jpg" else ImageKind.OTHER,
            ContentHash("c" * 64),
            100,
            100,
            QUALITY,
            0,
        )
        for place, name in enumerate(names, 1)
    ]
    for number, (product, names) in enumerate(NAMES.items(), 1)
}


def picture(number: int, *, width: int = 64, height: int = 48) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    buffer = BytesIO()
    Image.fromarray(pixels).resize((width, height), Image.Resampling.NEAREST).save(buffer, "PNG")
    return buffer.getvalue()


@dataclass
class Bench:
    """What an import needs, in one folder."""

    folder: Path
    engine: Engine
    intake: ImageIntake
    fetched: list[str]

    def __post_init__(self) -> None:
        self.clicks = ClickLog(self.engine, b"s" * 32, clock=lambda: 5e8)
        self.table = JobTable(self.engine)
        self.photos = PhotoStore(self.folder / "query-photos")
        self.log = self.folder / "in" / "log.jsonl"
        self.log.parent.mkdir(exist_ok=True)

    def fetch(self, url: str) -> bytes:
        self.fetched.append(url)
        if "down" in url:
            raise UnavailableError("no complete answer")
        if "private" in url:
            raise AccessError("a private network")
        return picture(len(url))

    def put(self, *records: Mapping[str, Any] | str) -> None:
        lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
        self.log.write_text("\n".join(lines), encoding="utf-8")

    def job(self) -> Job:
        job = self.table.start(self.table.submit("import-clicks", {}).id)
        assert job is not None
        return job

    def run(self, job: Job | None = None, **options: Any) -> ClickImport:
        standard: dict[str, Any] = {
            "columns": {},
            "images_of": lambda product: CATALOGUE.get(product, []),
            "clicks": self.clicks,
            "intake": self.intake,
            "query_photos": self.photos,
            "fetch": self.fetch,
            "table": self.table,
            "job": job or self.job(),
            "settings": ImportSettings(batch_rows=3, fetch_workers=2),
            "max_file_bytes": 100_000,
            "errors_folder": self.folder / "errors",
            "local_root": self.folder,
        }
        return import_clicks(self.log, **(standard | options))

    def sessions(self) -> list[Session]:
        return list(self.clicks.sessions())


@pytest.fixture(scope="module")
def intake() -> Iterator[ImageIntake]:
    with ImageIntake(IntakeSettings(workers=1, stored_side_px=224)) as intake:
        yield intake


@pytest.fixture
def bench(tmp_path: Path, intake: ImageIntake, engine: Engine) -> Bench:
    bench = Bench(tmp_path, engine, intake, [])
    (bench.log.parent / "q.png").write_bytes(picture(1))
    return bench


def row(**values: object) -> dict[str, Any]:
    return {"photo": "q.png", "time": 1e9, "user": "u", "shown": ["lamp", "mug/two"], "clicked": ["lamp"]} | values


def refusals(result: ClickImport) -> dict[str, int]:
    return dict(result.reasons)


def test_a_search_is_in_the_log_with_its_list_its_events_and_its_photo(bench: Bench) -> None:
    events = [{"id": "mug/two", "type": "purchase", "time": 1e9 + 60}]
    bench.put(row(id="1", category="home", events=events))
    result = bench.run()
    assert result == ClickImport(sessions=1, events=2, repeated=0, set_aside=0, reasons={}, error_file="")
    (session,) = bench.sessions()
    assert [(p.rank, p.product_id, p.image_name) for p in session.search.shown] == [
        (1, "lamp", "front.jpg"),
        (2, "mug", "two"),
    ]
    user = bench.clicks.pseudonym("u")
    assert (session.search.at, session.search.user_id, session.search.category_id) == (1e9, user, "home")
    assert sorted((e.type, e.product_id, e.rank, e.ts) for e in session.events) == [
        ("click", "lamp", 1, 1e9),
        ("purchase", "mug", 2, 1e9 + 60),
    ]
    assert bench.photos.has(ContentHash(session.search.photo_hash))


@pytest.mark.parametrize(
    ("entry", "key"),
    [
        ("lamp", ("lamp", "front.jpg")),
        ("lamp/side.jpg", ("lamp", "side.jpg")),
        ("a/b/c/d.jpg", ("a/b", "c/d.jpg")),
        ("a/b", ("a/b", "c/d.jpg")),
        (["a/b", "c/d.jpg"], ("a/b", "c/d.jpg")),
        ("灯/正面.jpg", ("灯", "正面.jpg")),
        ({"product_id": "mug"}, ("mug", "one")),
    ],
)
def test_entries_name_an_image_or_a_product(bench: Bench, entry: object, key: tuple[str, str]) -> None:
    bench.put(row(shown=[entry], clicked=[entry]))
    assert bench.run().events == 1
    (session,) = bench.sessions()
    assert (session.events[0].product_id, session.events[0].image_name) == key


def test_what_is_missing_is_counted_and_the_rest_keeps_its_ranks(bench: Bench) -> None:
    bench.put(
        row(id="1", shown=["gone", "lamp", "mug/three", "灯"], clicked=["灯", "gone", "a/b"]),
        row(id="2", shown=["gone"]),
        row(id="3", photo="absent.png"),
        row(id="4", photo="f" * 64),
        "{",
        row(id="5", time="never"),
    )
    result = bench.run()
    assert refusals(result) == {
        "shown entry not in the catalogue": 2,
        "event on what is not in the catalogue": 1,
        "event on what was not shown": 1,
        "nothing shown is in the catalogue": 1,
        "photo missing": 2,
        "line unreadable": 1,
        "no time": 1,
    }
    assert (result.sessions, result.events, result.set_aside) == (1, 1, 9)
    (session,) = bench.sessions()
    assert [(place.rank, place.product_id) for place in session.search.shown] == [(2, "lamp"), (4, "灯")]
    with Path(result.error_file).open(encoding="utf-8-sig", newline="") as file:
        lines = list(csv.reader(file))
    assert lines[0] == ["line", "reason", "detail"]
    assert [int(line[0]) for line in lines[1:]] == [1, 1, 1, 1, 2, 3, 4, 5, 6]


def test_photos_come_from_paths_urls_and_the_store(bench: Bench) -> None:
    bench.put(row(id="1"))
    bench.run()
    kept = bench.sessions()[0].search.photo_hash
    bench.put(
        row(id="2", photo=kept),
        row(id="3", photo="https://shop.example/q.jpg"),
        row(id="4", photo=str(bench.log.parent / "q.png")),
        row(id="5", photo=(bench.log.parent / "q.png").as_uri()),
        row(id="6", photo="https://down.example/q.jpg"),
        row(id="7", photo="https://private.example/q.jpg"),
    )
    result = bench.run()
    assert result.sessions == 4
    assert refusals(result) == {"photo unavailable": 1, "photo refused": 1}
    hashes = [session.search.photo_hash for session in bench.sessions()]
    assert hashes[0] == hashes[1] == hashes[3] == hashes[4] != hashes[2]


@pytest.mark.parametrize("photo", ["../secret.png", "/etc/hostname", "link.png", "q\0.png", "\ud800.png", "x" * 4000])
def test_a_path_that_leads_elsewhere_is_not_read(bench: Bench, photo: str) -> None:
    outside = bench.folder / "secret.png"
    outside.write_bytes(picture(2))
    os.symlink(outside, bench.log.parent / "link.png")
    bench.put(row(photo=photo))
    result = bench.run(local_root=bench.log.parent)
    assert result.sessions == 0
    assert set(result.reasons) <= {"photo refused", "photo missing"}


def test_a_strangers_log_reads_no_files_of_the_server(bench: Bench) -> None:
    bench.put(row(photo="q.png"), row(photo=(bench.log.parent / "q.png").as_uri()))
    assert refusals(bench.run(local_root=None)) == {"photo refused": 2}


def test_files_that_are_no_photos_are_set_aside_by_reason(bench: Bench) -> None:
    (bench.log.parent / "text.jpg").write_text("not a picture")
    (bench.log.parent / "large.jpg").write_bytes(b"x" * 100_001)
    bench.put(row(photo="text.jpg"), row(photo="large.jpg"))
    assert refusals(bench.run()) == {"photo unreadable": 1, "photo too large": 1}


def test_a_box_is_kept_on_the_stored_photo(bench: Bench) -> None:
    (bench.log.parent / "big.png").write_bytes(picture(3, width=896, height=448))  # stored at 224 x 112
    bench.put(
        row(id="1", photo="big.png", box=[8, 16, 400, 4480]),
        row(id="2", photo="big.png", box=[900, 0, 950, 40]),
    )
    assert refusals(bench.run()) == {"box outside the photo": 1}
    assert [session.search.box for session in bench.sessions()] == [Box(2, 4, 100, 112), None]


def test_a_log_imported_twice_changes_nothing_and_loads_no_photo_again(bench: Bench) -> None:
    bench.put(row(photo="https://shop.example/q.jpg"), row(photo="https://shop.example/q.jpg", user="v"))
    first, before = bench.run(), bench.sessions()
    second = bench.run()
    assert second == replace(first, repeated=2)
    assert bench.sessions() == before
    assert len(bench.fetched) == 2


def test_a_row_that_stands_in_the_log_twice_is_one_session(bench: Bench) -> None:
    bench.put(row(), row())
    assert (bench.run().repeated, len(bench.sessions())) == (1, 1)


def test_a_killed_import_goes_on_and_counts_as_if_nothing_had_happened(bench: Bench) -> None:
    bench.put(*(row(id=str(n), shown=["lamp", "gone"], user=f"u{n}") for n in range(11)))
    job, batches = bench.job(), 0

    class Killed(BaseException):
        pass

    def die(percent: float, counts: Mapping[str, int]) -> None:
        nonlocal batches
        batches += 1
        if batches == 2:
            raise Killed

    with pytest.raises(Killed):
        bench.run(job, on_progress=die)
    assert len(bench.sessions()) == 6
    error_file = bench.folder / "errors" / f"clicks-{job.id}.csv"
    with error_file.open("a", encoding="utf-8") as file:
        file.write("7,of a batch that was not finished,x\n")
    result = bench.run(bench.table.get(job.id))
    assert (result.sessions, result.events, result.set_aside, result.repeated) == (11, 11, 11, 0)
    with error_file.open(encoding="utf-8-sig", newline="") as file:
        assert [line[0] for line in csv.reader(file)] == ["line", *map(str, range(1, 12))]


def test_a_list_may_say_its_ranks_and_each_is_taken_once(bench: Bench) -> None:
    said = [("lamp", 12), ("mug", 11), ("a/b", 12)]
    bench.put(row(shown=[{"product_id": product, "rank": rank} for product, rank in said], clicked=["lamp"]))
    result = bench.run()
    assert (result.events, refusals(result)) == (1, {"rank taken": 1})
    (session,) = bench.sessions()
    assert [(place.rank, place.product_id) for place in session.search.shown] == [(11, "mug"), (12, "lamp")]


def test_events_that_a_kill_left_out_come_with_the_next_import(bench: Bench) -> None:
    bench.put(row())

    class Killed(BaseException):
        pass

    class Dying(ClickLog):
        def record_events(self, batch: object) -> Any:
            raise Killed

    with pytest.raises(Killed):
        bench.run(clicks=Dying(bench.engine, b"s" * 32))
    assert [session.events for session in bench.sessions()] == [()]
    assert bench.run().events == 1
    assert len(bench.sessions()[0].events) == 1


def test_a_row_that_the_log_refuses_costs_only_itself(bench: Bench) -> None:
    bench.put(row(user="u" * 200), row(user="nul\0"), row())
    result = bench.run()
    assert (result.sessions, refusals(result)) == (1, {"row refused": 2})


def test_an_error_file_runs_nothing_in_a_spreadsheet(bench: Bench) -> None:
    bench.put(row(shown=["=cmd()", "lamp"]))
    text = Path(bench.run().error_file).read_text(encoding="utf-8-sig")
    assert re.search(r",'=cmd\(\)", text)


def test_a_cancelled_import_stops_between_batches(bench: Bench) -> None:
    bench.put(*(row(user=f"u{n}") for n in range(9)))
    job = bench.job()
    bench.table.request_cancel(job.id)
    with pytest.raises(ConflictError, match="cancelled"):
        bench.run(job)
    assert len(bench.sessions()) == 3


def test_a_log_that_cannot_be_read_at_all_is_refused(bench: Bench) -> None:
    with pytest.raises(NotFoundError, match=r"log\.jsonl"):
        bench.run()
    bench.put(row())
    with pytest.raises(InputError, match="fields are"):
        bench.run(columns={"nonsense": "x"})
