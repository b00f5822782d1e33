"""Two generations of the model: compared, gated, switched, taken back."""

import io
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from galleries import is_switching
from generation_shop import GOOD, POOR, PRODUCTS, draw_source, fill, open_models
from live import live_server
from sameitem.catalog.store import Listing
from sameitem.clicks.held_out import is_held_out
from sameitem.clicks.log import Event, Search, Shown
from sameitem.core.database import write
from sameitem.core.errors import ConflictError, InputError, NotFoundError, RefusedError, UnavailableError
from sameitem.core.jobs import Cancelled, run_jobs
from sameitem.core.records import ContentHash, ImageId, Photo, ProductId
from sameitem.engine.index import open_index
from sameitem.engine.manifest import read_manifest
from sameitem.engine.versions import current, list_versions
from sameitem.evaluation.evaluate import LabelledQuery, evaluate
from sameitem.pipeline.generations import Generations, go_forward, read_generations
from sameitem.pipeline.models import list_models, roll_back_model
from sameitem.pipeline.offline import build
from sameitem.pipeline.online import Searcher, SearchRequest
from sameitem.pipeline.shop import Shop
from sameitem.pipeline.versions import switch_version
from sameitem.upkeep.generations import activate, held_out_queries
from sameitem.upkeep.work import work_of
from shops import NOW, copied, run

pytestmark = pytest.mark.slow
KILLS = int(os.environ.get("SAMEITEM_TEST_KILLS", "5"))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return draw_source(tmp_path_factory.mktemp("drawn") / "source")


@pytest.fixture(scope="module")
def folder(source: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "shop"
    shop = open_models(folder)
    fill(shop, source[0])
    run(shop, "build")
    shop.close()
    return folder


@pytest.fixture
def models(folder: Path, tmp_path: Path) -> Iterator[Shop]:
    """A shop whose live index is the poor model's."""
    shop = open_models(copied(folder, tmp_path / "shop"))
    yield shop
    shop.close()


@pytest.fixture
def queries(source: tuple[Path, Path]) -> str:
    return str(source[1])


def state(shop: Shop) -> tuple[str, str | None]:
    """Return the active model and the live index."""
    return shop.active_model, current(shop.index_root)


def touch(shop: Shop) -> None:
    """Change something in the catalogue, so that every index is behind."""
    with write(shop.database) as connection:
        shop.catalogue.upsert(connection, [Listing(replace(shop.catalogue.product(ProductId("P00")), price=9.0))])


class TestAComparison:
    def test_builds_the_index_that_is_missing_beside_the_live_one(self, models: Shop, queries: str) -> None:
        before = state(models)
        result = run(models, "compare", before=POOR, after=GOOD, queries=queries)
        assert state(models) == before
        versions = list_versions(models.index_root)
        assert [read_manifest(models.index_root / name).model_version for name in versions] == [POOR, GOOD]
        assert (result["verdict"], result["queries"], result["losses"]) == ("better", PRODUCTS, 0)
        assert result["after"] == {"index_version": versions[1], "model_version": GOOD}

    def test_the_other_way_round_is_the_same_with_another_sign(self, models: Shop, queries: str) -> None:
        one = run(models, "compare", before=POOR, after=GOOD, queries=queries)
        count = len(list_versions(models.index_root))
        other = run(models, "compare", before=GOOD, after=POOR, queries=queries)
        assert len(list_versions(models.index_root)) == count  # nothing is built twice
        for name, delta in one["delta"].items():  # type: ignore[attr-defined]
            turned = other["delta"][name]  # type: ignore[index]
            assert (-turned["mean"], -turned["high"], -turned["low"]) == pytest.approx(
                tuple(delta[end] for end in ("mean", "low", "high"))
            )

    def test_says_what_is_missing(self, models: Shop, queries: str, tmp_path: Path) -> None:
        cases = [
            (POOR, "absent", queries, NotFoundError, "absent"),
            (POOR, POOR, queries, InputError, "twice"),
            (POOR, GOOD, "", InputError, "--queries FILE"),
            (POOR, GOOD, str(tmp_path / "none.csv"), NotFoundError, "none.csv"),
        ]
        for before, after, file, kind, message in cases:
            with pytest.raises(kind, match=message):
                run(models, "compare", before=before, after=after, queries=file)
        assert len(list_versions(models.index_root)) == 1


class TestAnActivation:
    def test_of_a_better_model_goes_live_and_servers_follow(self, models: Shop, queries: str) -> None:
        searcher = Searcher(models)
        image = models.catalogue.images(ProductId("P03"))[0]
        request = SearchRequest(image_of=(image.product_id, image.name))
        assert searcher.search(request, record=False).model_version == POOR
        result = run(models, "activate", version=GOOD, force=False, queries=queries)
        assert state(models) == (GOOD, result["index"])
        assert searcher.search(request, record=False).model_version == GOOD
        gate = result["gate"]
        assert (gate["passed"], gate["reasons"], gate["forced"]) == (True, [], False)  # type: ignore[index]
        assert gate["comparison"]["delta"]["recall@1"]["low"] > 0  # type: ignore[index]
        assert result["previous"] == [POOR]
        assert {m["version"]: (m["active"], m["live"]) for m in list_models(models)} == {
            "base-2": (False, False),
            GOOD: (True, True),
            POOR: (False, False),
        }

    def test_is_what_the_next_build_uses(self, models: Shop, queries: str) -> None:
        run(models, "activate", version=GOOD, force=False, queries=queries)
        version = str(run(models, "build")["version"])
        assert read_manifest(models.index_root / version).model_version == GOOD

    def test_of_a_worse_model_is_refused_and_nothing_is_switched(self, models: Shop, queries: str) -> None:
        run(models, "activate", version=GOOD, force=False, queries=queries)
        before = state(models)
        with pytest.raises(RefusedError, match=r"recall@1 changes by -.* points \[.*--force"):
            run(models, "activate", version=POOR, force=False, queries=queries)
        assert state(models) == before

    def test_of_a_worse_model_can_be_forced_and_says_what_the_gate_said(self, models: Shop, queries: str) -> None:
        run(models, "activate", version=GOOD, force=False, queries=queries)
        result = run(models, "activate", version=POOR, force=True, queries=queries)
        assert state(models)[0] == POOR
        gate = result["gate"]
        assert (gate["passed"], gate["forced"]) == (False, True)  # type: ignore[index]
        assert gate["reasons"]  # type: ignore[index]

    def test_with_too_few_queries_is_refused_before_an_index_is_built_in_vain(self, models: Shop) -> None:
        with pytest.raises(RefusedError, match="0 held-out queries of 0 products are too few"):
            run(models, "activate", version=GOOD, force=False, queries="")
        assert len(list_versions(models.index_root)) == 1

    @pytest.mark.parametrize("harm", ["live manifest", "live rows", "live model", "products"])
    def test_that_cannot_be_compared_can_be_forced_and_says_why(
        self, models: Shop, queries: str, harm: str, tmp_path: Path
    ) -> None:
        live = models.index_root / str(current(models.index_root))
        if harm == "live manifest":
            (live / "manifest.json").write_text("{")
        elif harm == "live rows":
            (live / "rows.npy").unlink()
        elif harm == "live model":
            (models.models_root / POOR).rename(tmp_path / "away")
        else:
            file = tmp_path / "queries.csv"
            file.write_text("image,product_id\n" + "".join(f"x.png,unknown-{n}\n" for n in range(PRODUCTS)))
            queries = str(file)
        with pytest.raises((ConflictError, InputError, NotFoundError)):
            run(models, "activate", version=GOOD, force=False, queries=queries)
        result = run(models, "activate", version=GOOD, force=True, queries=queries)
        assert state(models) == (GOOD, result["index"])
        gate = result["gate"]
        assert (gate["passed"], gate["forced"], gate["comparison"]) == (False, True, None)  # type: ignore[index]
        assert gate["reasons"][0].startswith("the two could not be compared: ")  # type: ignore[index]

    def test_of_a_damaged_model_is_refused_however_forced(self, models: Shop, tmp_path: Path) -> None:
        build(models, tell=lambda _step, _share: None, now=NOW + timedelta(days=2), beside=GOOD)
        before = state(models)
        harm(models, GOOD, "damaged", tmp_path)
        with pytest.raises(ConflictError, match="model good is missing or damaged"):
            run(models, "activate", version=GOOD, force=True, queries="")
        assert state(models) == before

    def test_that_is_cancelled_while_it_compares_switches_nothing_however_forced(
        self, models: Shop, queries: str
    ) -> None:
        before = state(models)

        def cancel(_step: str, _percent: float) -> None:
            raise Cancelled("job 1 was cancelled")

        with pytest.raises(Cancelled):
            activate(
                models,
                GOOD,
                force=True,
                queries=Path(queries),
                cursor={},
                keep=lambda _cursor: None,
                build=lambda model: (
                    build(models, tell=lambda _step, _share: None, now=NOW + timedelta(days=2), beside=model).version
                ),
                hear=cancel,
            )
        assert state(models) == before

    def test_clears_away_under_the_lock_of_switches(
        self, models: Shop, queries: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[bool] = []

        def look(index_root: Path, **_: object) -> None:
            seen.append(is_switching(index_root))

        monkeypatch.setattr("sameitem.pipeline.versions.prune", look)
        run(models, "activate", version=GOOD, force=False, queries=queries)
        assert (seen, is_switching(models.index_root)) == ([True], False)

    def test_in_a_shop_without_an_index_needs_no_comparison(self, source: tuple[Path, Path], tmp_path: Path) -> None:
        shop = open_models(tmp_path / "new")
        fill(shop, source[0])
        result = run(shop, "activate", version=GOOD, force=False, queries="")
        assert state(shop) == (GOOD, result["index"])
        shop.close()

    def test_of_what_is_live_already_changes_nothing(self, models: Shop) -> None:
        before = state(models)
        result = run(models, "activate", version=POOR, force=False, queries="")
        assert (state(models), result["gate"], result["previous"]) == (before, None, [])

    def test_takes_an_index_as_fresh_as_the_live_one_and_builds_anew_when_it_is_behind(
        self, models: Shop, queries: str
    ) -> None:
        compared = run(models, "compare", before=POOR, after=GOOD, queries=queries)
        touch(models)
        run(models, "build")  # the live index now knows more
        result = run(models, "activate", version=GOOD, force=False, queries=queries)
        assert result["index"] > compared["after"]["index_version"]  # type: ignore[index,operator]

    def test_goes_on_where_it_was_killed(self, models: Shop, queries: str) -> None:
        kept: list[dict[str, object]] = []
        arguments = {"force": False, "queries": Path(queries), "hear": lambda _step, _percent: None}

        def build_one(model: str) -> str:
            return build(models, tell=lambda _step, _share: None, now=NOW + timedelta(days=2), beside=model).version

        def killed(cursor: object) -> None:
            kept.append(dict(cursor))  # type: ignore[call-overload]
            raise KeyboardInterrupt

        def refuse(*_: object) -> str:
            raise AssertionError("this was done before")

        with pytest.raises(KeyboardInterrupt):
            activate(models, GOOD, cursor={}, keep=killed, build=build_one, **arguments)  # type: ignore[arg-type]
        assert state(models)[0] == POOR
        arguments["hear"] = refuse  # no query is asked again
        result = activate(models, GOOD, cursor=kept[0], keep=refuse, build=refuse, **arguments)  # type: ignore[arg-type]
        assert (state(models), result["gate"]) == ((GOOD, kept[0]["index"]), kept[0]["gate"])

    def test_of_a_model_that_is_not_there_says_which_there_are(self, models: Shop) -> None:
        with pytest.raises(NotFoundError, match="base-2, good, poor"):
            run(models, "activate", version="absent", force=True, queries="")


class TestARollback:
    def test_makes_the_previous_generation_live_at_once(self, models: Shop) -> None:
        before = state(models)
        run(models, "activate", version=GOOD, force=True, queries="")
        versions = list_versions(models.index_root)
        result = roll_back_model(models)
        assert state(models) == before == (result["version"], result["index"])
        assert list_versions(models.index_root) == versions
        with pytest.raises(NotFoundError, match="no model was active before poor"):
            roll_back_model(models)

    def test_is_still_possible_after_many_builds(self, models: Shop) -> None:
        before = state(models)
        run(models, "activate", version=GOOD, force=True, queries="")
        for _ in range(models.settings.engine.keep_versions + 1):
            run(models, "build")
        roll_back_model(models)
        assert state(models) == before

    def test_whose_index_is_gone_says_what_to_do(self, models: Shop) -> None:
        index = models.index_root / str(current(models.index_root))
        run(models, "activate", version=GOOD, force=True, queries="")
        before = state(models)
        index.rename(models.folder / "elsewhere")
        with pytest.raises(ConflictError, match="sameitem models activate poor --force"):
            roll_back_model(models)
        assert state(models) == before


class TestAnIndexWhoseModelCannotBeUsed:
    """The good model is live, the poor one's index lies beside it, and the poor one's folder is gone or damaged."""

    @pytest.fixture(params=["gone", "damaged"])
    def harmed(self, request: pytest.FixtureRequest, models: Shop, tmp_path: Path) -> Iterator[tuple[Shop, str]]:
        """Another process's view of the shop, and the index that nothing can be searched with."""
        old = str(current(models.index_root))
        run(models, "activate", version=GOOD, force=True, queries="")
        harm(models, POOR, request.param, tmp_path)
        shop = open_models(models.folder)
        yield shop, old
        shop.close()

    def test_does_not_go_live_again(self, harmed: tuple[Shop, str]) -> None:
        shop, old = harmed
        before = state(shop)
        with pytest.raises(ConflictError, match=r"model poor is missing or damaged.*nothing was switched") as refused:
            switch_version(shop, old)
        assert str(shop.folder) not in str(refused.value)
        with pytest.raises((ConflictError, NotFoundError), match="poor"):
            roll_back_model(shop)
        assert state(shop) == before

    @pytest.mark.parametrize("how", ["gone", "damaged"])
    def test_answers_that_it_is_not_available_and_what_the_operator_can_do(
        self, models: Shop, how: str, tmp_path: Path
    ) -> None:
        harm(models, POOR, how, tmp_path)
        image = models.catalogue.images(ProductId("P03"))[0]
        request, searcher = SearchRequest(image_of=(image.product_id, image.name)), Searcher(models)
        with pytest.raises(UnavailableError, match="the operator can run `sameitem models rollback`") as refused:
            searcher.search(request)
        assert str(models.folder) not in str(refused.value)
        with live_server(models) as client:
            assert (client("GET", "/readyz").status, client("GET", "/healthz").status) == (503, 200)
            asked = {"product_id": image.product_id, "image_name": image.name}
            assert client("POST", "/v1/search", json=asked).status == 503


def harm(shop: Shop, model: str, how: str, tmp_path: Path) -> None:
    """Take a model's folder away, or damage its graph."""
    if how == "gone":
        (shop.models_root / model).rename(tmp_path / "away")
    else:
        (shop.models_root / model / "embed.onnx").write_bytes(b"damaged")


def test_a_build_that_another_model_overtook_publishes_nothing(models: Shop) -> None:
    other = build(models, tell=lambda _step, _share: None, now=NOW + timedelta(days=2), beside=GOOD).version

    def overtake(step: str, _share: float) -> None:
        if step == "certificate":
            go_forward(models.models_root, models.index_root, other, start=POOR)

    with pytest.raises(ConflictError, match="good was made the active one while poor built"):
        build(models, tell=overtake, now=NOW + timedelta(days=3))
    assert state(models) == (GOOD, other)


class TestHeldOutQueries:
    @staticmethod
    def keep(shop: Shop, number: int) -> str:
        """Keep something under the hash of a photo that nobody decodes."""
        content_hash = f"{number:064x}"
        file = shop.query_photos.path(ContentHash(content_hash))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        return content_hash

    @staticmethod
    def record(shop: Shop, number: int, photo: str, events: dict[str, str]) -> str:
        """Record a search that showed P00 to P09, and events as type by product."""
        search_id = f"s{number}"
        shown = tuple(Shown(n + 1, ProductId(f"P{n:02}"), "main", ImageId(n + 1), 0.5) for n in range(10))
        shop.clicks.record_search(Search(search_id, 1e9 + number, photo, None, "", "i", "m", "u", "", shown))
        for product, kind in events.items():
            event = Event(f"{search_id}-{product}-{kind}", search_id, kind, ProductId(product))  # type: ignore[arg-type]
            assert shop.clicks.record_events([event]).stored == 1
        return search_id

    def test_are_the_searches_with_held_out_photos_and_what_was_clicked(self, models: Shop) -> None:
        photos = [self.keep(models, n % 30) for n in range(60)]  # each is searched with twice
        for n, photo in enumerate(photos):
            self.record(models, n, photo, {f"P{n % 10:02}": "click"})
        expected = [n for n, photo in enumerate(photos[:30]) if is_held_out(photo)]
        found = held_out_queries(models)
        assert [query.product_id for query in found] == [f"P{n % 10:02}" for n in expected]
        assert [query.image for query in found] == [models.query_photos.path(ContentHash(photos[n])) for n in expected]
        assert 0 < len(found) < 10

    def test_ask_a_photo_once_whoever_searched_with_it(self, models: Shop) -> None:
        photo = next(f"{n:064x}" for n in range(1000) if is_held_out(f"{n:064x}"))
        self.keep(models, int(photo, 16))
        for n, product in enumerate(("P01", "P02", "P01")):
            self.record(models, n, photo, {product: "click"})
        (query,) = held_out_queries(models)
        assert (query.product_id, query.others) == ("P01", ("P02",))

    def test_leave_out_what_shows_no_choice_or_no_photo(self, models: Shop) -> None:
        photo, gone = (f"{n:064x}" for n in islice((n for n in range(1000) if is_held_out(f"{n:064x}")), 2))
        self.keep(models, int(photo, 16))
        without_photo = next(n for n in range(10, 200) if is_held_out(f"s{n}"))
        self.record(models, 1, photo, {"P01": "impression"})
        self.record(models, 2, photo, {})
        self.record(models, without_photo, "", {"P01": "click"})
        self.record(models, 3, gone, {"P01": "click"})
        assert held_out_queries(models) == []
        self.record(models, 4, photo, {"P03": "purchase", "P02": "click", "P04": "click"})
        (query,) = held_out_queries(models)
        assert (query.product_id, query.others) == ("P03", ())  # bought

    @pytest.mark.parametrize(
        ("events", "right"),
        [
            ((("P01", "click"), ("P02", "click")), ["P02"]),
            ((("P02", "click"), ("P01", "click"), ("P02", "click")), ["P02"]),
            ((("P01", "cart"), ("P02", "click")), ["P01"]),
            ((("P01", "cart"), ("P02", "cart"), ("P03", "click")), ["P01", "P02"]),
            ((("P01", "cart"), ("P02", "purchase")), ["P02"]),
            ((("P01", "click"), ("P02", "click"), ("P02", "dismiss")), ["P01"]),
            ((("P01", "click"), ("P01", "dismiss")), []),
        ],
    )
    def test_take_for_right_what_the_search_ended_with(
        self, models: Shop, events: tuple[tuple[str, str], ...], right: list[str]
    ) -> None:
        photo = next(f"{n:064x}" for n in range(1000) if is_held_out(f"{n:064x}"))
        self.keep(models, int(photo, 16))
        search_id = self.record(models, 1, photo, {})
        made = [
            Event(f"e{n}", search_id, kind, ProductId(product))  # type: ignore[arg-type]
            for n, (product, kind) in enumerate(events)
        ]
        assert models.clicks.record_events(made).stored == len(made)
        assert [product for query in held_out_queries(models) for product in (query.product_id, *query.others)] == right

    @staticmethod
    def held_out_photo(shop: Shop, file: Path) -> Photo:
        """Return a picture as taken in, its edges cut until its hash is one of those that are held out."""
        picture = Image.open(file).convert("RGB")
        for edge in range(50):
            out = io.BytesIO()
            picture.crop((edge, 0, picture.width, picture.height)).save(out, "PNG")
            photo = shop.intake.take(out.getvalue())
            if is_held_out(photo.content_hash):
                return photo
        raise AssertionError("no photo of 50 is held out")

    def test_decide_an_activation(self, folder: Path, models: Shop, source: tuple[Path, Path]) -> None:
        for number in range(10):
            photo = self.held_out_photo(models, source[0].parent / f"P{number:02}-photo.png")
            models.query_photos.put(photo)
            self.record(models, number, photo.content_hash, {f"P{number:02}": "click"})
        shop = open_models(models.folder, gate={"least_queries": 10})
        gate = run(shop, "activate", version=GOOD, force=False, queries="")["gate"]
        assert (gate["passed"], gate["comparison"]["queries"]) == (True, 10)  # type: ignore[index]
        shop.close()


def test_a_query_is_right_with_any_of_its_products(models: Shop, source: tuple[Path, Path]) -> None:
    photo = source[0].parent / "P05.png"
    wrong = LabelledQuery(photo, ProductId("P00"))
    either = replace(wrong, others=(ProductId("P05"),))
    wrong_one, right_one = evaluate(models, [wrong, either]).outcomes
    assert (wrong_one.rank == 1, right_one.rank) == (False, 1)
    assert (wrong_one.wanted, right_one.wanted) == (1, 2)
    unknown = replace(either, product_id=ProductId("nobody's"))
    assert evaluate(models, [unknown]).unknown == 0


def test_a_version_beside_the_live_one_is_searched_with_its_own_model(models: Shop) -> None:
    other = build(models, tell=lambda _step, _share: None, now=NOW + timedelta(days=2), beside=GOOD).version
    image = models.catalogue.images(ProductId("P03"))[0]
    request = SearchRequest(image_of=(image.product_id, image.name))
    answer = Searcher(models, other).search(request, record=False)
    assert (answer.index_version, answer.model_version) == (other, GOOD)
    with pytest.raises(NotFoundError, match="20260101-000000-0000"):
        Searcher(models, "20260101-000000-0000").search(request, record=False)


def test_an_activation_killed_at_any_moment_never_leaves_half_a_switch(models: Shop) -> None:
    """SAMEITEM_TEST_KILLS sets how often; queries are answered all the while."""
    image = models.catalogue.images(ProductId("P03"))[0]
    request = SearchRequest(image_of=(image.product_id, image.name), num=PRODUCTS - 1)
    searcher, stop = Searcher(models), threading.Event()
    read: list[bool] = []

    def keep_reading() -> None:
        while not stop.is_set():
            answer = searcher.search(request, record=False)
            made = read_manifest(models.index_root / answer.index_version).model_version
            read.append(answer.model_version == made and len(answer.results) == PRODUCTS - 1)

    reader, moments = threading.Thread(target=keep_reading), np.random.default_rng(5)
    said: list[str] = []
    reader.start()
    try:
        for _ in range(KILLS):
            said += killed_after(moments.uniform(0.0, 3.0), models.folder)
            live = current(models.index_root)
            open_index(models.index_root / str(live), verify=True)
            generations = read_generations(models.models_root, start=POOR)
            assert {generations.version, *generations.previous} <= {GOOD, POOR}
            if said:
                assert str(live) >= said[-1]
    finally:
        stop.set()
        reader.join()
    assert all(read)
    assert len(read) > KILLS
    assert said, "no activation came to its end"
    run_jobs(models.jobs, work_of(models))  # what the last kill left behind
    last = run(models, "activate", version=GOOD, force=True, queries="")
    assert state(models) == (GOOD, last["index"])
    assert read_generations(models.models_root, start=POOR) == Generations(GOOD, (POOR,))
    assert roll_back_model(models)["version"] == POOR


def killed_after(seconds: float, folder: Path) -> list[str]:
    """Let a process activate and kill it so long after it is ready; return the indexes that it said are live."""
    here = Path(__file__).parent
    paths = os.pathsep.join(map(str, (here.parent, here.parents[1] / "src")))
    process = subprocess.Popen(
        [sys.executable, str(here / "activate_process.py"), str(folder)],
        env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
    said = process.communicate()[0].split()
    assert process.returncode == -9, "the process ended by itself"
    return said
