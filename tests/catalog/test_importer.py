"""Imports into a catalogue, on both backends."""

import csv
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import Engine

from sameitem.catalog.importer import ImportReport, import_catalogue
from sameitem.catalog.store import Catalogue, Listing
from sameitem.core.database import open_database, write
from sameitem.core.errors import ConflictError
from sameitem.core.image_intake import ImageIntake
from sameitem.core.jobs import Job, JobTable, Progress, run_job
from sameitem.core.photo_store import PhotoStore
from sameitem.core.records import Box, ContentHash, ImageKind, Product, ProductId
from sameitem.core.settings import ImportSettings, IntakeSettings

KILLS = int(os.environ.get("SAMEITEM_TEST_KILLS", "8"))


def picture(number: int, width: int = 48, height: int = 40) -> bytes:
    """A drawn PNG that differs for every number."""
    pixels = np.random.default_rng(number).integers(0, 255, (5, 6, 3), dtype=np.uint8)
    buffer = BytesIO()
    Image.fromarray(pixels).resize((width, height), Image.Resampling.NEAREST).save(buffer, "PNG")
    return buffer.getvalue()


def put_pictures(folder: Path, *names: str) -> None:
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(sum(name.encode()) + number))


def put_feed(folder: Path, header: str, *rows: str, name: str = "feed.csv") -> Path:
    path = folder / name
    path.write_text("\n".join([header, *rows, ""]), encoding="utf-8")
    return path


class CountingIntake(ImageIntake):
    """The intake, counting what it was asked to decode."""

    asked = 0

    def take(self, data: bytes) -> Any:
        self.asked += 1
        return super().take(data)


@pytest.fixture(scope="module")
def shared_intake() -> Iterator[CountingIntake]:
    with CountingIntake(IntakeSettings(workers=1, deadline_s=60)) as intake:
        yield intake


@dataclass
class Shop:
    folder: Path
    engine: Engine
    intake: CountingIntake

    @property
    def catalogue(self) -> Catalogue:
        return Catalogue(self.engine)

    @property
    def store(self) -> PhotoStore:
        return PhotoStore(self.folder / "images")

    def load(self, source: Path, *, batch_rows: int = 64, **options: Any) -> ImportReport:
        table = JobTable(self.engine)
        reports: list[ImportReport] = []
        settings = ImportSettings(batch_rows=batch_rows, allow_private_addresses=options.pop("private", False))

        def work(job: Job, _progress: Progress) -> Mapping[str, Any]:
            arguments: dict[str, Any] = {"local_root": source.parent, **options}
            report = import_catalogue(
                source,
                catalogue=self.catalogue,
                intake=self.intake,
                store=self.store,
                table=table,
                job=job,
                settings=settings,
                max_file_bytes=100_000,
                errors_folder=self.folder,
                **arguments,
            )
            reports.append(report)
            return asdict(report)

        job = run_job(table, table.submit("import", {}).id, {"import": work})
        assert job.result == asdict(reports[0])
        return reports[0]

    def names(self, product_id: str) -> list[str]:
        return [image.name for image in self.catalogue.images(ProductId(product_id))]

    def products(self) -> set[str]:
        return {product.product_id for batch in self.catalogue.scan() for _, product in batch}


@pytest.fixture
def shop(tmp_path: Path, engine: Engine, shared_intake: CountingIntake) -> Shop:
    return Shop(tmp_path, engine, shared_intake)


@pytest.fixture
def small_shop(tmp_path: Path, shared_intake: CountingIntake) -> Iterator[Shop]:
    """A shop on SQLite alone, for what does not depend on the database."""
    engine = open_database(f"sqlite:///{tmp_path / 'catalogue.db'}")
    yield Shop(tmp_path, engine, shared_intake)
    engine.dispose()


def test_rows_and_images_come_in_and_are_counted(shop: Shop) -> None:
    put_pictures(shop.folder, "a.png", "b.png", "c.png")
    feed = put_feed(
        shop.folder, "id,title,price,image,colour", "1,Lamp,¥1\u00a0299.00,a.png|b.png,red", "2,Chair,abc,c.png,"
    )
    report = shop.load(feed)
    assert (report.read, report.added, report.updated, report.unchanged, report.set_aside) == (2, 2, 0, 0, 0)
    assert (report.images, report.reasons, report.warnings, report.error_file) == (3, {}, {"price": 1}, "")
    assert shop.catalogue.product(ProductId("1")) == Product(
        ProductId("1"), title="Lamp", price=1299.0, currency="CNY", attributes={"colour": "red"}
    )
    first, second = shop.catalogue.images(ProductId("1"))
    assert (first.name, first.kind, first.width, first.height) == ("a.png", ImageKind.MAIN, 48, 40)
    assert (second.name, second.kind) == ("b.png", ImageKind.OTHER)
    assert shop.store.pixels(first.content_hash).shape == (40, 48, 3)


def test_importing_again_changes_and_decodes_nothing(shop: Shop) -> None:
    put_pictures(shop.folder, "a.png", "b.png")
    feed = put_feed(shop.folder, "id,title,image", "1,Lamp,a.png", "2,Chair,b.png")
    shop.load(feed)
    seq, asked = shop.catalogue.snapshot_seq(), shop.intake.asked
    report = shop.load(feed)
    assert (report.added, report.updated, report.unchanged, report.images) == (0, 0, 2, 0)
    assert (shop.catalogue.snapshot_seq(), shop.intake.asked) == (seq, asked)


def test_a_changed_picture_or_box_is_taken_again(small_shop: Shop) -> None:
    put_pictures(small_shop.folder, "a.png")
    small_shop.load(put_feed(small_shop.folder, "id,image,box", "1,a.png,"))
    before = small_shop.catalogue.image(ProductId("1"), "a.png")
    (small_shop.folder / "a.png").write_bytes(picture(99))
    report = small_shop.load(put_feed(small_shop.folder, "id,image,box", '1,a.png,"4,4,20,20"'))
    after = small_shop.catalogue.image(ProductId("1"), "a.png")
    assert report.updated == 1
    assert after.content_hash != before.content_hash
    assert after.box == Box(4, 4, 20, 20)


def test_a_box_is_scaled_with_the_stored_copy_and_cut_at_its_edge(small_shop: Shop) -> None:
    (small_shop.folder / "a.png").write_bytes(picture(1, width=2048, height=1024))
    small_shop.load(put_feed(small_shop.folder, "id,image,box", '1,a.png,"512,256,9999,512"'))
    image = small_shop.catalogue.image(ProductId("1"), "a.png")
    assert (image.width, image.height) == (1024, 512)
    assert image.box == Box(256, 128, 1024, 256)


def test_what_cannot_be_taken_is_set_aside_with_line_and_reason(shop: Shop) -> None:
    put_pictures(shop.folder, "a.png", "b.png")
    (shop.folder / "broken.png").write_bytes(b"not a picture")
    (shop.folder / "large.png").write_bytes(bytes(100_001))
    feed = put_feed(
        shop.folder,
        "id,title,image",
        "1,Lamp,a.png|broken.png",
        ",no id,a.png",
        "3,no picture,",
        "4,missing,none.png",
        "5,too,many,fields",
        "6,large,large.png",
        "7,data,data:image/png;base64,AAAA".replace(",AAAA", ";AAAA"),
        "=8,formula,b.png|../secret.png",
        "=8,,gone.png",
    )
    report = shop.load(feed)
    assert report.reasons == {
        "columns": 1,
        "image location": 1,
        "image missing": 2,
        "image refused": 1,
        "image too large": 1,
        "image unreadable": 1,
        "no image": 1,
        "no_product_id": 1,
    }
    assert report.set_aside == 9
    assert shop.products() == {"1", "=8"}
    with Path(report.error_file).open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["line"], row["product"], row["image"]) for row in rows] == [
        ("2", "1", "broken.png"),
        ("3", "", ""),
        ("4", "3", ""),
        ("5", "4", "none.png"),
        ("6", "", ""),
        ("7", "6", "large.png"),
        ("8", "7", "data:image/png;base64;AAAA"),
        ("9", "'=8", "../secret.png"),
        ("10", "'=8", "gone.png"),
    ]


def test_the_batch_size_changes_no_result(tmp_path: Path, shared_intake: CountingIntake) -> None:
    names = [f"{i}.png" for i in range(9)]
    put_pictures(tmp_path, *names)
    feed = put_feed(
        tmp_path,
        "operation,id,title,brand,image",
        "add,1,Lamp,Acme,0.png",
        "add,1,,,1.png",
        "add,2,Chair,,2.png",
        "add,1,Lamp 2,,3.png",
        "delete,2,,,",
        "add,2,Chair 2,,2.png",
        "add,3,Sofa,,4.png",
        "delete,3,,,4.png",
        "add,3,Sofa,,5.png",
        "add,,no id,,5.png",
        "add,4,,,none.png",
        "add,4,Desk,,6.png",
        "delete,9,,,",
    )
    found = []
    for size in (1, 2, 3, 5, 100):
        engine = open_database(f"sqlite:///{tmp_path / f'{size}.db'}")
        shop = Shop(tmp_path, engine, shared_intake)
        report = shop.load(feed, batch_rows=size)
        held = {i: (shop.catalogue.product(ProductId(i)), shop.names(i)) for i in ("1", "2", "3", "4")}
        found.append((held, report.read, report.set_aside, report.deleted, report.reasons))
        engine.dispose()
    assert found[0][0] == {
        "1": (Product(ProductId("1"), title="Lamp 2"), ["0.png", "1.png", "3.png"]),
        "2": (Product(ProductId("2"), title="Chair 2"), ["2.png"]),
        "3": (Product(ProductId("3"), title="Sofa"), ["5.png"]),
        "4": (Product(ProductId("4"), title="Desk"), ["6.png"]),
    }
    assert found[0][1:4] == (13, 2, 1)
    assert all(other == found[0] for other in found[1:])


def test_attributes_and_images_may_come_in_two_files(shop: Shop) -> None:
    put_pictures(shop.folder, "a.png", "b.png")
    shop.load(put_feed(shop.folder, "id,title,price", "1,Lamp,5", "2,Chair,6", name="products.csv"))
    shop.load(put_feed(shop.folder, "id,image", "1,a.png", "2,b.png", name="images.csv"))
    shop.load(put_feed(shop.folder, "id,price", "1,7", name="prices.csv"))
    assert shop.catalogue.product(ProductId("1")) == Product(ProductId("1"), title="Lamp", price=7.0)
    assert shop.names("1") == ["a.png"]


def test_a_known_product_is_updated_though_its_row_names_no_image(small_shop: Shop) -> None:
    put_pictures(small_shop.folder, "a.png")
    small_shop.load(put_feed(small_shop.folder, "id,title,image", "1,Lamp,a.png"))
    report = small_shop.load(put_feed(small_shop.folder, "id,title,image", "1,New lamp,", "2,Chair,"))
    assert (report.updated, report.reasons) == (1, {"no image": 1})
    assert small_shop.catalogue.product(ProductId("1")).title == "New lamp"


def test_a_folder_of_pictures_is_imported(small_shop: Shop) -> None:
    put_pictures(small_shop.folder / "photos", "sku1/1.png", "sku1/2.png", "sku2_1.png", "sku2_2.png", "Lamps/s3/a.png")
    report = small_shop.load(small_shop.folder / "photos", local_root=small_shop.folder / "photos")
    assert (report.read, report.added, report.images) == (5, 3, 5)
    assert small_shop.products() == {"sku1", "sku2", "Lamps/s3"}
    assert small_shop.catalogue.product(ProductId("Lamps/s3")).category == "Lamps"


def test_an_uploaded_file_reads_no_file_of_the_server(small_shop: Shop) -> None:
    put_pictures(small_shop.folder, "a.png")
    names = ["a.png", str(small_shop.folder / "a.png"), f"file://{small_shop.folder}/a.png", "~/a.png", "C:\\a.png"]
    feed = put_feed(small_shop.folder, "id,image", *(f"{i},{name}" for i, name in enumerate(names)))
    report = small_shop.load(feed, local_root=None)
    assert report.reasons == {"image refused": len(names)}


def test_no_path_leaves_its_folder(small_shop: Shop) -> None:
    put_pictures(small_shop.folder, "secret.png", "shop/a.png")
    (small_shop.folder / "shop/link.png").symlink_to(small_shop.folder / "secret.png")
    os.mkfifo(small_shop.folder / "shop/pipe.png")
    names = [
        "../secret.png",
        "link.png",
        str(small_shop.folder / "secret.png"),
        "pipe.png",
        ".",
        "a\\..\\..\\secret.png",
    ]
    feed = put_feed(
        small_shop.folder / "shop", "id,image", *(f"{i},{name}" for i, name in enumerate(names)), "ok,a.png"
    )
    report = small_shop.load(feed, local_root=feed.parent)
    assert report.reasons == {"image refused": 4, "image missing": 2}
    assert small_shop.products() == {"ok"}


def test_absolute_paths_may_lie_where_the_caller_allows(small_shop: Shop) -> None:
    put_pictures(small_shop.folder, "elsewhere/a.png", "shop/unused.png")
    feed = put_feed(small_shop.folder / "shop", "id,image", f"1,{small_shop.folder / 'elsewhere/a.png'}")
    assert small_shop.load(feed, local_root=small_shop.folder).added == 1


def test_a_bucket_that_was_copied_beside_the_file_is_read_there(small_shop: Shop) -> None:
    put_pictures(small_shop.folder, "shop/chairs/a.png")
    rows = ["gs://bucket/chairs/a.png,,set,p1,homegoods-v2", "oss://bucket/chairs/none.png,,set,p2,homegoods-v2"]
    feed = put_feed(small_shop.folder / "shop", *rows)
    report = small_shop.load(feed, local_root=feed.parent)
    assert (report.added, report.reasons) == (1, {"image location": 1})


def test_images_are_fetched_from_the_web_once(small_shop: Shop) -> None:
    put_pictures(small_shop.folder / "www", "a.png", "b.png")

    class Quiet(SimpleHTTPRequestHandler):
        asked: ClassVar[list[str]] = []

        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(small_shop.folder / "www"))

        def log_message(self, *_arguments: object) -> None:
            self.asked.append(self.path)

    with ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        base = f"http://127.0.0.1:{server.server_port}"
        feed = put_feed(small_shop.folder, "id,image_link", f"1,{base}/a.png", f"2,{base}/b.png", f"3,{base}/c.png")
        refused = small_shop.load(feed)
        first = small_shop.load(feed, private=True, local_root=None)
        again = small_shop.load(feed, private=True, local_root=None)
        server.shutdown()
    assert refused.reasons == {"image refused": 3}
    assert (first.added, first.reasons) == (2, {"image missing": 1})
    assert (again.unchanged, again.images) == (2, 0)
    assert sum(path == "/a.png" for path in Quiet.asked) == 1


def full_feed(folder: Path, products: Sequence[int], *extra: str) -> Path:
    put_pictures(folder, *(f"{i}.png" for i in range(10)))
    return put_feed(folder, "id,title,image", *(f"{i},Lamp {i},{i}.png" for i in products), *extra)


def test_a_full_feed_deletes_what_it_does_not_name(shop: Shop) -> None:
    shop.load(full_feed(shop.folder, range(6)), full=True)
    asked: list[tuple[int, int]] = []
    report = shop.load(
        full_feed(shop.folder, [0, 1, 2, 7], "3,its picture is gone,none.png"),
        full=True,
        confirm=lambda count, total: not asked.append((count, total)),  # type: ignore[func-returns-value]
    )
    assert asked == [(2, 7)]
    assert report.deleted == 2
    assert shop.products() == {"0", "1", "2", "3", "7"}


def test_a_feed_that_is_not_full_deletes_nothing(small_shop: Shop) -> None:
    small_shop.load(full_feed(small_shop.folder, range(6)))
    assert small_shop.load(full_feed(small_shop.folder, [0])).deleted == 0
    assert len(small_shop.products()) == 6


def test_a_full_feed_does_not_take_most_of_the_catalogue_unasked(shop: Shop) -> None:
    shop.load(full_feed(shop.folder, range(6)))
    with pytest.raises(ConflictError, match="lacks 4 of 6 products"):
        shop.load(full_feed(shop.folder, [0, 1]), full=True)
    assert len(shop.products()) == 6
    report = shop.load(full_feed(shop.folder, [0, 1]), full=True, confirm=lambda _count, _total: True)
    assert (report.deleted, shop.products()) == (4, {"0", "1"})


def test_a_full_feed_with_unreadable_rows_deletes_nothing_and_says_so(shop: Shop) -> None:
    shop.load(full_feed(shop.folder, range(6)))
    report = shop.load(full_feed(shop.folder, range(5), "5,a row,cut"), full=True)
    assert report.deleted == 0
    report = shop.load(full_feed(shop.folder, range(5), "5"), full=True)
    assert report.deleted == 0
    assert "1 of its rows could not be read" in report.deletion_withheld
    assert len(shop.products()) == 6


def test_a_product_written_while_a_full_feed_is_read_is_kept(small_shop: Shop) -> None:
    small_shop.load(full_feed(small_shop.folder, range(6)))

    def write_one(_percent: float, _counts: Mapping[str, int]) -> None:
        with write(small_shop.engine) as connection:
            small_shop.catalogue.upsert(connection, [Listing(Product(ProductId("new"), title="by REST"))])

    small_shop.load(full_feed(small_shop.folder, range(6)), full=True, on_progress=write_one)
    assert small_shop.catalogue.product(ProductId("new")).title == "by REST"


def test_a_cancelled_import_stops_and_keeps_its_batches(small_shop: Shop) -> None:
    table = JobTable(small_shop.engine)
    feed = full_feed(small_shop.folder, range(10))
    job = table.submit("import", {})
    ended: list[int] = []

    def cancel(_percent: float, counts: Mapping[str, int]) -> None:
        ended.append(counts["read"])
        if len(ended) == 1:
            table.request_cancel(job.id)
        time.sleep(0.25)  # the job looks for a request a few times a second

    def work(running: Job, _progress: Progress) -> Mapping[str, Any]:
        report = import_catalogue(
            feed, catalogue=small_shop.catalogue, intake=small_shop.intake, store=small_shop.store, table=table,
            job=running, settings=ImportSettings(batch_rows=2), max_file_bytes=100_000,
            errors_folder=small_shop.folder, local_root=feed.parent, on_progress=cancel,
        )  # fmt: skip
        return asdict(report)

    finished = run_job(table, job.id, {"import": work})
    assert finished.state == "cancelled"
    assert small_shop.catalogue.counts().products == ended[-1] + 2 < 10


def start(folder: Path, url: str) -> "subprocess.Popen[str]":
    paths = [str(Path(__file__).parents[2] / "src"), str(Path(__file__).parent)]
    return subprocess.Popen(
        [sys.executable, str(Path(__file__).parent / "import_process.py"), str(folder), url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
    )


def contents(url: str) -> tuple[list[tuple[Any, Any]], Job, list[Any]]:
    """All listings without their ids, the newest job, and what it set aside."""
    engine = open_database(url)
    catalogue, job = Catalogue(engine), JobTable(engine).list(1)[0]
    listings = [(replace(image, image_id=0), product) for batch in catalogue.scan() for image, product in batch]
    aside = catalogue.list_set_aside(job.id)
    engine.dispose()
    return sorted(listings, key=repr), job, aside


@pytest.mark.slow
def test_an_import_killed_again_and_again_ends_like_an_undisturbed_one(tmp_path: Path, database_url: str) -> None:
    rng = random.Random(7)
    pictures = 24 * KILLS
    put_pictures(tmp_path, *(f"{i}.png" for i in range(pictures)))
    rows = [f"p{i // 2},Lamp {i // 2},{i}.png" for i in range(pictures)]
    rows[7:7] = ["p3,cut"]
    rows[20:20] = ["p9,Lamp 9,none.png"]
    put_feed(tmp_path, "id,title,image", *rows)
    calm_url = f"sqlite:///{tmp_path / 'calm.db'}"
    calm = start(tmp_path, calm_url)
    _, err = calm.communicate(timeout=600)
    assert calm.returncode == 0, err
    expected, calm_job, calm_aside = contents(calm_url)
    kills = 0
    for _ in range(KILLS + 1):
        process = start(tmp_path, database_url)
        assert process.stdout is not None
        for _ in range(rng.randrange(4)):
            process.stdout.readline()
        if kills < KILLS:
            time.sleep(rng.uniform(0, 0.05))
            process.kill()
        _, err = process.communicate(timeout=600)
        if process.returncode == 0:
            break
        assert process.returncode == -9, err
        kills += 1
        found, job, _ = contents(database_url)
        assert {product.product_id for _, product in found} == {f"p{i}" for i in range(job.counts.get("added", 0))}
        assert all(PhotoStore(tmp_path / "images").has(ContentHash(image.content_hash)) for image, _ in found)
    found, job, aside = contents(database_url)
    assert kills == KILLS
    assert aside == calm_aside
    assert found == expected
    assert job.result == {**calm_job.result, "error_file": job.result["error_file"]}
    assert (tmp_path / f"errors-{job.id}.csv").is_file()
