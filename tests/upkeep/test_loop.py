"""The loop: what it publishes, what it keeps out, what a kill leaves, what it says of itself."""

import io
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from drawn_graphs import embedding_graph, write_drawn
from generation_shop import GOOD, POOR, PRODUCTS, corner, draw_source, fill, open_models, pattern
from sameitem.catalog.store import Listing
from sameitem.clicks.held_out import is_held_out
from sameitem.clicks.log import Event
from sameitem.core.database import write
from sameitem.core.errors import InputError
from sameitem.core.jobs import run_job
from sameitem.core.records import Product, ProductId
from sameitem.engine.index import open_index
from sameitem.engine.versions import current, list_versions
from sameitem.evaluation.gate import Judgement
from sameitem.pipeline.generations import Generations, go_forward, read_generations
from sameitem.pipeline.online import Searcher, SearchRequest
from sameitem.pipeline.shop import Shop
from sameitem.upkeep.loop_report import read_page, read_report, reports
from sameitem.upkeep.training import Trainers
from sameitem.upkeep.work import work_of
from shops import copied, run

pytestmark = pytest.mark.slow
FLAGS = {
    "gate": {"least_queries": 10},
    "loop": {"least_new_clicks": 5, "keep_models": 1},
    "engine": {"recall": 0.9},  # of features that hardly differ
}
STEPS = ["catalogue", "mine", "train", "index", "gate", "canary", "publish"]


@dataclass
class Trainer:
    """Writes the model that a test has in mind."""

    weights: str = GOOD
    calls: list[Mapping[str, Any]] = field(default_factory=list)
    error: Exception | None = None

    def __call__(self, **given: Any) -> Mapping[str, float]:
        self.calls.append(given)
        if self.error:
            raise self.error
        given["tell"]("feature", 50.0, {})
        graph = embedding_graph(scale=1e-3) if self.weights == GOOD else embedding_graph(weights=corner())
        write_drawn(given["out"], graph, version=given["out"].name)
        return {"loss": 0.25}


@dataclass
class Ranking:
    """A ranker that passes its gate or not."""

    passes: bool = True
    live: str = ""
    trained: list[tuple[str, str]] = field(default_factory=list)  # name, model active then
    error: Exception | None = None
    kept: int = 0

    def active(self, _shop: Shop) -> str:
        return self.live

    def train(self, shop: Shop, *, name: str, seed: int, hear: Callable[[float], None]) -> Mapping[str, Any]:
        hear(50.0)
        if self.error:
            raise self.error
        self.trained.append((name, shop.active_model))
        return {"auc": 0.7, "seed": seed}

    def gate(self, _shop: Shop, _version: str) -> Judgement:
        return Judgement(self.passes, () if self.passes else ("auc falls",), ())

    def activate(self, _shop: Shop, version: str) -> None:
        self.live = version

    def clear(self, _shop: Shop, *, keep: int) -> None:
        self.kept = keep


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop whose poor model is live, with a photo of each product that may teach and one that is held out."""
    source = draw_source(tmp_path_factory.mktemp("drawn") / "source")[0]
    folder = tmp_path_factory.mktemp("loops") / "shop"
    shop = open_models(folder, **FLAGS)
    fill(shop, source)
    run(shop, "build")
    search_and_click(shop)
    run(shop, "mine", out=str(folder / "warm.parquet"))  # features of the shipped model are paid once
    shop.close()
    return folder


def search_and_click(shop: Shop, *, rounds: int = 0) -> None:
    """Search with a teaching and a held-out photo of each product, and click it."""
    searcher = Searcher(shop)
    for number in range(PRODUCTS):
        for is_test in (False, True):
            answer = searcher.search(SearchRequest(photo=photo_of(shop, number, rounds, is_test=is_test), num=PRODUCTS))
            event = Event(f"{answer.search_id}-1", answer.search_id, "click", ProductId(f"P{number:02}"))
            assert shop.clicks.record_events([event]).stored == 1


def photo_of(shop: Shop, number: int, rounds: int, *, is_test: bool) -> bytes:
    """Return a darker, noisy photo of a product that is held out, or is not."""
    for seed in range(200):
        noise = np.random.default_rng([number, rounds, seed]).normal(-20, 12, (160, 160, 3))
        out = io.BytesIO()
        Image.fromarray(np.clip(np.asarray(pattern(number)) + noise, 0, 255).astype(np.uint8)).save(out, "PNG")
        if is_held_out(shop.intake.take(out.getvalue()).content_hash) is is_test:
            return out.getvalue()
    raise AssertionError("no photo of 200 is on the right side")


@pytest.fixture
def shop(folder: Path, tmp_path: Path) -> Iterator[Shop]:
    shop = open_models(copied(folder, tmp_path / "shop"), **FLAGS)
    yield shop
    shop.close()


def loop(
    shop: Shop,
    trainer: Trainer | None = None,
    *,
    ranking: Ranking | None = None,
    tidy: Mapping[str, Any] | None = None,
    tell: Callable[..., None] = lambda *_: None,
) -> dict[str, Any]:
    """Run a loop; one that was left behind goes on."""
    used = trainer or Trainer()
    work = work_of(shop, tell=tell, trainers=lambda: Trainers(used, used), tidy=tidy or {}, ranking=ranking)
    job = shop.jobs.unfinished("loop", {"seed": 0}) or shop.jobs.submit("loop", {"seed": 0})
    return run_job(shop.jobs, job.id, work).result


def state(shop: Shop) -> tuple[str, str | None]:
    return shop.active_model, current(shop.index_root)


def test_a_model_that_finds_more_goes_live(shop: Shop) -> None:
    result = loop(shop)
    model, index = state(shop)
    assert (result["published"], result["embedding"]["version"], model[:5]) == (True, model, "loop-")
    assert result["live"] == {"index": index, "model": model, "ranker": ""}
    assert [(step["name"], step["state"]) for step in result["steps"][1:]] == [(name, "done") for name in STEPS[1:]]
    assert result["embedding"]["gate"]["comparison"]["delta"]["recall@1"]["low"] > 0
    assert result["embedding"]["canary"]["passed"]
    assert "finds more: recall@1 changes by +" in result["reason"]
    assert read_generations(shop.models_root, start=POOR) == Generations(model, (POOR,))
    assert Searcher(shop).gallery().model_version == model


def test_a_model_that_finds_less_is_kept_out_and_kept_to_be_looked_at(shop: Shop) -> None:
    run(shop, "activate", version=GOOD, force=True, queries="")
    before, versions = state(shop), list_versions(shop.index_root)
    result = loop(shop, Trainer(POOR))
    assert (result["published"], state(shop)) == (False, before)
    assert "the gate kept model loop-" in result["reason"]
    assert (shop.models_root / result["embedding"]["version"]).is_dir()
    assert list_versions(shop.index_root) == versions  # its index takes no place of one to go back to
    assert result["embedding"]["canary"] is None


def test_a_model_that_finds_as_much_is_kept_out(shop: Shop) -> None:
    result = loop(shop, Trainer(POOR))
    assert (result["published"], shop.active_model) == (False, POOR)
    assert "it has to rise" in result["reason"]


def test_labelled_photos_of_the_settings_are_asked_as_well(shop: Shop, folder: Path, tmp_path: Path) -> None:
    labelled = draw_source(tmp_path / "labelled")[1]
    other = open_models(shop.folder, **FLAGS | {"loop": FLAGS["loop"] | {"queries": str(labelled)}})
    comparison = loop(other)["embedding"]["gate"]["comparison"]
    assert {name: part["queries"] for name, part in comparison["slices"].items()} == {
        "clicked searches": PRODUCTS,
        "labelled photos": PRODUCTS,
    }
    assert comparison["queries"] == 2 * PRODUCTS
    other.close()


class TestTooLittleToLearnFrom:
    def test_since_the_last_training_trains_nothing_and_says_so(self, shop: Shop) -> None:
        trainer = Trainer()
        loop(shop, trainer)
        second = loop(shop, trainer)
        assert (len(trainer.calls), second["published"], second["embedding"]) == (1, False, None)
        assert second["reason"] == (
            "no new model: 0 searches were clicked since the last training, it takes 5 (loop.least_new_clicks)"
        )
        assert second["traffic"]["searches"] == 0
        search_and_click(shop, rounds=1)
        third = loop(shop, trainer)
        assert (len(trainer.calls), third["traffic"]["clicked"]) == (2, 2 * PRODUCTS)

    def test_to_be_judged_by_trains_nothing(self, shop: Shop) -> None:
        other = open_models(shop.folder, **FLAGS | {"gate": {"least_queries": 100}})
        trainer = Trainer()
        result = loop(other, trainer)
        assert (trainer.calls, result["embedding"]) == ([], None)
        assert "24 held-out queries of 24 products are too few" in result["reason"]
        other.close()


def test_what_changed_in_the_catalogue_is_published_first(shop: Shop) -> None:
    with write(shop.database) as connection:
        shop.catalogue.upsert(connection, [Listing(Product(ProductId("P00"), price=9.0))])
    result = loop(shop)
    assert [step["state"] for step in result["steps"][:1]] == ["done"]
    assert loop(shop)["steps"][0]["state"] == "nothing to do"


class TestWhatFails:
    def test_ends_nothing_else_and_is_a_warning(self, shop: Shop) -> None:
        before, ranking = state(shop), Ranking()
        result = loop(shop, Trainer(error=InputError("too few photos")), ranking=ranking)
        assert state(shop) == before
        assert (result["embedding"], result["warnings"]) == (None, ["train failed: too few photos"])
        assert (result["published"], ranking.live) == (True, result["ranker"]["version"])

    def test_after_the_switch_is_taken_back(self, shop: Shop) -> None:
        before, told = state(shop), list[float]()

        def harm(step: str, percent: float, _figures: object) -> None:
            told.extend([percent] * (step == "publish"))
            if len(told) == 2:  # the switch was made, and the canary begins
                (shop.index_root / str(current(shop.index_root)) / "rows.npy").unlink()

        result = loop(shop, tell=harm)
        assert state(shop) == before
        assert (result["published"], result["embedding"]["published"]) == (False, False)
        assert "was live and taken back: it fails: ConflictError" in result["reason"]
        assert Searcher(shop).gallery().model_version == POOR

    def test_when_another_index_went_live_meanwhile_switches_nothing(self, shop: Shop) -> None:
        run(shop, "compare", before=POOR, after=GOOD, queries=str(draw_source(shop.folder / "asked")[1]))
        other = list_versions(shop.index_root)[-1]

        def overtake(step: str, _percent: float, _figures: object) -> None:
            if step == "publish":
                go_forward(shop.models_root, shop.index_root, other, start=POOR)

        result = loop(shop, tell=overtake)
        assert state(shop) == (GOOD, other)
        assert "publish failed" in result["reason"]


class TestTheRanker:
    def test_is_trained_after_the_embedding_and_decided_on_its_own(self, shop: Shop) -> None:
        ranking = Ranking(passes=False)
        result = loop(shop, ranking=ranking)
        assert ranking.trained == [(result["ranker"]["version"], result["embedding"]["version"])]
        assert (result["published"], result["ranker"]["published"], ranking.live) == (True, False, "")
        assert "the gate kept ranker loop-" in result["reason"]

    def test_goes_live_when_the_embedding_is_kept_out(self, shop: Shop) -> None:
        ranking = Ranking()
        result = loop(shop, Trainer(POOR), ranking=ranking)
        assert (shop.active_model, ranking.live) == (POOR, result["ranker"]["version"])
        assert (result["published"], result["embedding"]["published"]) == (True, False)

    def test_that_has_too_little_to_learn_from_waits_for_more(self, shop: Shop) -> None:
        result = loop(shop, ranking=Ranking(error=InputError("5 of 48 searches have a click, a ranker takes 200")))
        assert (result["ranker"], result["warnings"]) == (None, [])
        step = result["steps"][-1]
        assert (step["name"], step["state"]) == ("ranker", "nothing to do")
        assert step["reason"] in result["reason"]

    def test_is_left_alone_while_nothing_new_was_clicked(self, shop: Shop) -> None:
        ranking = Ranking()
        loop(shop, ranking=ranking)
        assert loop(shop, ranking=ranking)["ranker"] is None
        assert len(ranking.trained) == 1


class TestAKill:
    @pytest.mark.parametrize("step", STEPS[1:])
    @pytest.mark.parametrize("call", [1, 2])
    def test_in_any_step_leaves_one_version_whole_and_the_loop_goes_on(self, shop: Shop, step: str, call: int) -> None:
        trainer, told = Trainer(), list[str]()

        def kill(name: str, *_: object) -> None:
            told.append(name)
            if told.count(step) == call and name == step:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            loop(shop, trainer, tell=kill)
        live = open_index(shop.index_root / str(current(shop.index_root)))
        assert live.manifest.model_version == shop.active_model
        result = loop(shop, trainer)
        assert (result["published"], state(shop)) == (True, (result["live"]["model"], result["live"]["index"]))
        assert [done["name"] for done in result["steps"]] == STEPS
        assert read_generations(shop.models_root, start=POOR).previous == (POOR,)
        assert [report.id for report in reports(shop.folder)] == [result["id"]]

    def test_after_the_training_does_not_pay_for_it_twice(self, shop: Shop) -> None:
        trainer = Trainer()

        def kill(name: str, *_: object) -> None:
            if name == "index":
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            loop(shop, trainer, tell=kill)
        assert loop(shop, trainer)["published"]
        assert len(trainer.calls) == 1


def test_tidying_comes_first_and_its_counts_are_told(shop: Shop) -> None:
    seen: list[str] = []

    def retention(shop: Shop) -> Mapping[str, int]:
        seen.append(shop.active_model)
        return {"photos": 3}

    result = loop(shop, tidy={"retention": retention})
    assert (seen, result["steps"][0]["name"], result["steps"][0]["figures"]) == ([POOR], "retention", {"photos": 3})


def test_the_detector_is_taught_every_so_many_trainings(shop: Shop) -> None:
    other = open_models(shop.folder, **FLAGS | {"loop": {"least_new_clicks": 1, "detector_every": 2}})
    taught = []
    for rounds in range(1, 5):
        step = loop(other, Trainer(POOR))["steps"][2]
        taught.append(step["figures"]["detector"])
        search_and_click(other, rounds=rounds)
    assert taught == [False, True, False, True]
    other.close()


class TestTheReport:
    def test_is_there_for_programs_and_for_people(self, shop: Shop) -> None:
        result = loop(shop)
        report = read_report(shop.folder, result["id"])
        assert {**report.as_json(), "report": result["report"]} == {**result, "steps": tuple(result["steps"])} or (
            report.reason == result["reason"]
        )
        page = Path(result["report"]).read_bytes()
        assert page == read_page(shop.folder, result["id"])
        assert result["embedding"]["version"].encode() in page

    def test_names_no_photo_and_no_search(self, shop: Shop) -> None:
        result = loop(shop)
        text = Path(result["report"]).read_text() + Path(result["report"]).with_name("report.json").read_text()
        for session in shop.clicks.sessions():
            assert session.search.photo_hash not in text
            assert session.search.search_id not in text

    def test_only_the_newest_are_kept_and_so_are_models(self, shop: Shop) -> None:
        other = open_models(
            shop.folder, **FLAGS | {"loop": {"least_new_clicks": 1, "keep_reports": 2, "keep_models": 1}}
        )
        results = []
        for rounds in range(1, 4):
            results.append(loop(other, Trainer(POOR)))
            search_and_click(other, rounds=rounds)
        assert [report.id for report in reports(shop.folder)] == [results[2]["id"], results[1]["id"]]
        made = sorted(path.name for path in other.models_root.glob("loop-*/"))
        assert made == [results[2]["embedding"]["version"]]
        assert sorted(path.name for path in (other.folder / "features").iterdir()) == ["base-2", made[0], POOR]
        other.close()

    def test_that_is_damaged_is_passed_over(self, shop: Shop) -> None:
        first = loop(shop)
        Path(first["report"]).with_name("report.json").write_text("{")
        second = loop(shop, Trainer(POOR))
        assert [report.id for report in reports(shop.folder)] == [second["id"]]


def test_a_shop_without_a_catalogue_has_nothing_to_do(tmp_path: Path) -> None:
    shop = open_models(tmp_path / "new", **FLAGS)
    result = loop(shop)
    assert [(step["name"], step["state"]) for step in result["steps"]] == [
        ("catalogue", "nothing to do"),
        ("mine", "nothing to do"),
    ]
    assert (result["live"]["index"], result["published"]) == (None, False)
    shop.close()
    shutil.rmtree(tmp_path / "new")
