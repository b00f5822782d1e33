"""Erasing a user leaves nothing: not in the database's bytes, not in any file of the shop."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from sqlalchemy import func, select

from sameitem.clicks.counts import product_counts, recount, take_in
from sameitem.clicks.log import Event, Search, Shown, events, searches
from sameitem.clicks.triplet_file import read_report, read_triplets, write_triplets
from sameitem.clicks.triplets import Picture, Tally, Triplet
from sameitem.core.database import metadata
from sameitem.core.errors import UnavailableError
from sameitem.core.jobs import Job, Progress, run_jobs
from sameitem.core.records import Box, ContentHash, ImageId, Photo, ProductId
from sameitem.features.cache import FeatureCache
from sameitem.pipeline.shop import Shop
from sameitem.upkeep import erasure
from sameitem.upkeep.erasure import Erased, erase_user
from shops import open_shop

USER, OTHER = "ann.lee@example.org", "bob@example.org"
ROUNDS = 10  # of four searches, two of them hers
SHOWN = tuple(Shown(n, ProductId(f"p{n}"), "front", ImageId(n), 0.5) for n in range(1, 6))
HERS, SHARED, HIS = (ContentHash(name * 32) for name in ("a1", "b2", "c3"))
BOX = Box(1, 2, 30, 40)


@pytest.fixture
def made(database_url: str, tmp_path: Path) -> Iterator[Shop]:
    """A shop that was never built, where two users searched and clicked, and everything was made of it."""
    shop = open_shop(tmp_path / "shop", catalogue={"url": "" if "sqlite" in database_url else database_url})
    fill(shop)
    yield shop
    shop.close()


def fill(shop: Shop) -> None:
    clicks = shop.clicks
    for n, (user, photo) in enumerate([(USER, HERS), (OTHER, HIS), (USER, SHARED), (OTHER, SHARED)] * ROUNDS):
        session = f"evening of {user}"
        search = Search(clicks.new_search_id(), 1e9 + n, photo, BOX, "", "i", "m", user, session, SHOWN)
        clicks.record_search(search)
        done = [Event(f"{user}-{n}", search.search_id, "click", ProductId("p1"))]
        guest = OTHER if user == USER else USER
        done += [Event(f"guest-{n}", search.search_id, "cart", ProductId("p2"), user_id=guest)]
        assert clicks.record_events(done).stored == 2
    for photo in (HERS, SHARED, HIS):
        shop.query_photos.put(Photo(photo, f"picture {photo}".encode(), 8, 8, np.zeros((8, 8, 3), np.uint8), 8, 8))
    (shop.folder / "query-photos" / "incoming" / f"{HERS}.0123456789abcdef").write_bytes(b"half a picture")
    (shop.folder / ".triplets.parquet.17.part").write_bytes(HERS.encode())  # of a mining that was killed
    for root in (shop.photo_features_root, shop.features_root):
        cache = FeatureCache(root, "model-1", 4)
        cache.put([(HERS, BOX), (HIS, None)], np.ones((2, 4), np.float32), np.ones((2, 24), np.float32))
        cache.put([(HERS, None)], np.ones((1, 4), np.float32), np.ones((1, 24), np.float32))
    triplets = [triplet_of(session.search) for session in clicks.sessions()]
    tally = Tally(triplets=len(triplets))
    for folder in (shop.folder, shop.folder / "loop" / "1"):
        write_triplets(folder / "triplets.parquet", triplets, tally)
    pixels = shop.folder / "training" / "job-1" / "pixels"
    pixels.mkdir(parents=True)
    (pixels / "photos.npy").write_bytes(f"picture {HERS}".encode())


def triplet_of(search: Search) -> Triplet:
    one, other = ContentHash("d" * 64), ContentHash("e" * 64)
    photo = Picture(ContentHash(search.photo_hash), search.box)
    return Triplet(photo, ImageId(1), one, ImageId(2), other, search.search_id, search.user_id, 1.0)


def traces(shop: Shop) -> list[str]:
    """Return what must be found nowhere afterwards."""
    name = shop.clicks.pseudonym(USER)
    ids = [one.search.search_id for one in shop.clicks.sessions() if one.search.user_id == name]
    assert len(ids) == 2 * ROUNDS
    sessions = {one.search.session_id for one in shop.clicks.sessions() if one.search.user_id == name}
    return [USER, name, HERS, *ids, *sessions]


def found_in_files(shop: Shop, wanted: list[str]) -> set[tuple[str, str]]:
    needles = [(text, text.encode()) for text in wanted] + [("bytes of a hash", bytes.fromhex(HERS))]
    found = set()
    for path in shop.folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes() + path.name.encode()
            if path.suffix == ".parquet":  # its pages are compressed
                content = repr(pq.read_table(path).to_pylist()).encode()
            found |= {(path.name, text) for text, needle in needles if needle in content}
    return found


def found_in_rows(shop: Shop, wanted: list[str]) -> set[tuple[str, str]]:
    with shop.database.connect() as connection:
        rows = {table.name: repr(connection.execute(table.select()).all()) for table in metadata.sorted_tables}
    return {(name, text) for name, said in rows.items() for text in wanted if text in said}


class TestAnErasedUser:
    def test_is_found_nowhere_and_others_are_as_they_were(self, made: Shop) -> None:
        take_in(made.database)
        wanted = traces(made)
        before = {name for name, _ in found_in_files(made, wanted)}
        assert {"triplets.parquet", "keys", "photos.npy", f"{HERS}.jpg"} <= before  # the test can see
        assert {name for name, _ in found_in_rows(made, wanted)} == {"searches", "events"}
        erased = erase_user(made, USER)
        assert (erased.photos, erased.features, erased.cancelled) == (1, 4, ())
        assert erased.searches == 2 * ROUNDS
        assert erased.events == 2 * ROUNDS * 2 + 2 * ROUNDS  # on her searches, and hers on his
        assert erased.triplets == 2 * 4 * ROUNDS  # of his searches, too: her clicks may have made them
        assert found_in_files(made, wanted) == set()
        assert found_in_rows(made, wanted) == set()
        assert (made.query_photos.has(HIS), made.query_photos.has(SHARED)) == (True, True)
        cache = FeatureCache(made.photo_features_root, "model-1", 4)
        assert cache.get([(HIS, None), (HERS, BOX), (HERS, None)]).positions.tolist() == [0]
        left = list(made.clicks.sessions())
        assert len(left) == 2 * ROUNDS
        assert all([event.type for event in session.events] == ["click"] for session in left)

    def test_counts_for_nothing_any_more(self, made: Shop) -> None:
        take_in(made.database)
        erase_user(made, USER)
        with made.database.connect() as connection:
            counted = {row.product_id: row[1:] for row in connection.execute(select(product_counts))}
        assert counted["p1"] == (1, 1.0, 1, 0, 0)  # his day
        assert counted["p2"][2:] == (0, 0, 0)
        recount(made.database)
        with made.database.connect() as connection:
            assert counted == {row.product_id: row[1:] for row in connection.execute(select(product_counts))}

    def test_leaves_triplets_of_others_and_a_report_that_fits(self, made: Shop) -> None:
        alone = made.clicks.new_search_id()
        made.clicks.record_search(Search(alone, 2e9, HIS, BOX, "", "i", "m", OTHER, "", SHOWN))
        file = made.folder / "triplets.parquet"
        triplets = [triplet_of(session.search) for session in made.clicks.sessions()]
        write_triplets(file, triplets, Tally(triplets=len(triplets)))
        erase_user(made, USER)
        assert [triplet.search_id for triplet in read_triplets(file)] == [alone]
        assert read_report(file).triplets == 1

    def test_may_be_erased_again_and_so_may_somebody_who_never_came(self, made: Shop) -> None:
        erase_user(made, USER)
        nothing = Erased(0, 0, 0, 0, 0, ())
        assert [erase_user(made, name) for name in (USER, "nobody", "")] == [nothing] * 3

    def test_may_be_erased_while_a_server_searches_counts_and_takes_events(self, made: Shop) -> None:
        stop, failures = threading.Event(), []

        def serve() -> None:
            try:
                while not stop.is_set():
                    search_id = made.clicks.new_search_id()
                    search = Search(search_id, 1.1e9, HIS, BOX, "", "i", "m", OTHER, "", SHOWN)
                    made.clicks.record_search(search)
                    made.clicks.take_events([Event(f"live-{search_id}", search_id, "click", ProductId("p3"))])
                    take_in(made.database)
            except Exception as error:
                failures.append(error)

        threads = [threading.Thread(target=serve) for _ in range(2)]
        for thread in threads:
            thread.start()
        wanted = traces(made)
        erase_user(made, USER)
        stop.set()
        for thread in threads:
            thread.join()
        assert failures == []
        assert found_in_rows(made, wanted) == set()
        take_in(made.database)
        with made.database.connect() as connection:
            counted = connection.execute(select(product_counts)).all()
            recount(made.database)
            assert connection.scalar(select(func.count()).select_from(searches)) == connection.scalar(
                select(func.count()).select_from(events)
            )
        with made.database.connect() as connection:
            assert sorted(counted) == sorted(connection.execute(select(product_counts)).all())


class TestJobsThatLearn:
    def test_are_cancelled_when_nobody_runs_them(self, made: Shop) -> None:
        waiting = made.jobs.submit("train", {})
        left = made.jobs.submit("mine", {})
        made.jobs.start(left.id)  # by a runner that was killed
        build = made.jobs.submit("build", {})
        assert set(erase_user(made, USER).cancelled) == {waiting.id, left.id}
        assert [made.jobs.get(job.id).state for job in (waiting, left, build)] == ["cancelled", "cancelled", "queued"]

    def test_are_waited_for_when_somebody_does(self, made: Shop) -> None:
        job, begun = made.jobs.submit("train", {}), threading.Event()
        folder = made.folder / "training" / job.id
        ended: list[str] = []

        def work(_job: Job, progress: Progress) -> dict[str, Any]:
            folder.mkdir()
            begun.set()
            while True:
                progress(percent=1.0)
                threading.Event().wait(0.01)

        def run() -> None:
            run_jobs(made.jobs, {"train": work})
            ended.append(made.jobs.get(job.id).state)

        thread = threading.Thread(target=run)
        thread.start()
        assert begun.wait(60)
        assert erase_user(made, USER).cancelled == (job.id,)
        thread.join()
        assert (ended, folder.exists()) == (["cancelled"], False)

    def test_that_do_not_stop_are_an_error_and_nothing_is_erased(
        self, made: Shop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def busy(_table: object, job_id: str, _work: object, *, waiting: Callable[[Job], None]) -> None:
            for _ in range(3):
                waiting(made.jobs.get(job_id))

        monkeypatch.setattr(erasure, "run_job", busy)
        made.jobs.submit("train", {})
        times = iter([0.0, 1.0, 61.0])
        with pytest.raises(UnavailableError, match="nothing was erased yet"):
            erase_user(made, USER, clock=lambda: next(times))
        assert len(made.clicks.sessions_of(USER)) == 4 * ROUNDS
        assert made.query_photos.has(HERS)
