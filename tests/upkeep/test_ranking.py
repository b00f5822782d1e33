"""From the click log to an active ranker."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from drawn_evidence import draw_evidence
from sameitem.clicks.log import Event, Search, Shown
from sameitem.core.errors import ConflictError, InputError, RefusedError
from sameitem.core.records import ImageId, ProductId
from sameitem.pipeline.rankers import LOOKS
from sameitem.pipeline.shop import Shop
from sameitem.rerank.features import FEATURES, write_evidence
from sameitem.upkeep import ranking
from sameitem.upkeep.ranking import (
    compare_rankers,
    gate_ranker,
    shown_lists,
    split_by_time,
    switch_ranker,
    train_ranker_version,
)
from shops import open_shop, run

PLACES = 10


def silent(_step: str, _percent: float) -> None:
    pass


def shop_with_clicks(
    folder: Path, searches: int, *, seed: int = 0, loves: str = "rating", since: float = 1000.0
) -> Shop:
    """Return a shop whose users look down the list and click what is rated well, not what is most alike."""
    shop, generator = open_shop(folder), np.random.default_rng(seed)
    for number in range(searches):
        alike = np.sort(generator.uniform(0.7, 0.9, PLACES))[::-1]
        liked = generator.random(PLACES)
        evidence = draw_evidence(int(generator.integers(2**31)), PLACES, visual=alike, **{loves: liked})
        shown = tuple(Shown(rank, ProductId(f"p{rank}"), "a", ImageId(rank), 0.5) for rank in range(1, PLACES + 1))
        user = f"u{number % 60}"
        shop.clicks.record_search(
            Search(
                f"s{number}", since + number, "", None, "", "i", "m", user, "", shown, LOOKS, write_evidence(evidence)
            )
        )
        looks = generator.random(PLACES) < 1 / np.log2(np.arange(2, PLACES + 2))
        clicks = looks & (generator.random(PLACES) < np.where(liked > 0.7, 0.6, 0.02))
        shop.clicks.record_events(
            [
                Event(f"e{number}-{place}", f"s{number}", "click", ProductId(f"p{place + 1}"), user_id=user)
                for place in np.flatnonzero(clicks)
            ]
        )
    return shop


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    shop = shop_with_clicks(tmp_path_factory.mktemp("clicks") / "shop", 900)
    train_ranker_version(shop, name="good", seed=0, hear=silent)
    return shop


def test_what_users_love_is_learned_and_orders_better_than_looks(trained: Shop) -> None:
    comparison = compare_rankers(trained, LOOKS, "good")
    assert comparison.verdict == "better"
    assert gate_ranker(trained, "good").passed
    ranker = trained.ranker("good")
    assert ranker is not None
    assert ranker.dense[FEATURES.index("rating")] > 0 or len(ranker.trees.roots)
    assert ranker.dense[FEATURES.index("position")] <= 0


def test_the_newest_searches_judge_and_taught_nothing(trained: Shop) -> None:
    older, newer = split_by_time(shown_lists(trained))
    assert max(one.at for one in older) < min(one.at for one in newer)
    manifest = json.loads((trained.rankers_root / "good" / "manifest.json").read_text())
    assert manifest["searches"] == len(older)
    assert manifest["clicks"] == sum(int(one.clicked.sum()) for one in older)


def test_the_figures_say_how_well_clicks_are_foretold(trained: Shop) -> None:
    manifest = json.loads((trained.rankers_root / "good" / "manifest.json").read_text())
    figures = manifest["metrics"]
    assert figures["ne"] < 1
    assert 0.7 < figures["calibration"] < 1.4
    assert figures["ndcg@10"] > figures["ndcg@10_visual"]
    assert figures["clicks_ranked"] > figures["clicks_by_looks"]
    whole = manifest["report"]["whole"]["measures"]
    assert all(
        one["low"] <= figures[name] + 1e-4 and figures[name] <= one["high"] + 1e-4 for name, one in whole.items()
    )


def test_a_ranker_that_learned_from_wrong_clicks_is_refused(tmp_path: Path) -> None:
    other = shop_with_clicks(tmp_path / "other", 900, seed=1, loves="price")
    train_ranker_version(other, name="of-another-shop", seed=0, hear=silent)
    shop = shop_with_clicks(tmp_path / "shop", 600, seed=2, since=5000.0)
    (other.rankers_root / "of-another-shop").rename(_made(shop.rankers_root) / "of-another-shop")
    with pytest.raises(RefusedError, match="clicks per search change by"):
        switch_ranker(shop, "of-another-shop", force=False)
    assert shop.active_ranker == LOOKS
    switch_ranker(shop, "of-another-shop", force=True)
    assert shop.active_ranker == "of-another-shop"
    switch_ranker(shop, LOOKS, force=False)
    assert shop.active_ranker == LOOKS


def test_searches_that_taught_do_not_judge(trained: Shop, tmp_path: Path) -> None:
    early = shop_with_clicks(tmp_path / "early", 600, since=10.0)
    shutil.copytree(trained.rankers_root / "good", early.rankers_root / "good")
    assert compare_rankers(early, LOOKS, "good").searches == 0
    said = gate_ranker(early, "good")
    assert not said.passed
    assert "0 searches of 0 users are too few to tell" in said.reasons[0]


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_too_few_clicks_teach_nothing(tmp_path: Path) -> None:
    shop = shop_with_clicks(tmp_path / "shop", 50)
    with pytest.raises(InputError, match=f"a ranker takes {ranking.LEAST_CLICKED}"):
        train_ranker_version(shop, name="", seed=0, hear=silent)


def test_no_user_counts_for_too_many(tmp_path: Path) -> None:
    shop = open_shop(tmp_path / "shop", mining={"sessions_per_user": 3})
    shop.close()
    filled = shop_with_clicks(tmp_path / "shop", 300)
    filled.close()
    again = open_shop(tmp_path / "shop", mining={"sessions_per_user": 3})
    lists = shown_lists(again)
    assert len(lists) == 60 * 3
    assert min(one.at for one in lists) == 1000.0 + 120  # of each user, the newest


def test_a_search_of_another_release_is_passed_over(tmp_path: Path) -> None:
    shop = shop_with_clicks(tmp_path / "shop", 5)
    shown = (Shown(1, ProductId("p"), "a", ImageId(1), 0.5),)
    for number, evidence in enumerate(("", '{"format": 0}', write_evidence(draw_evidence(0, 2)))):
        shop.clicks.record_search(Search(f"x{number}", 2.0, "", None, "", "i", "m", "", "", shown, evidence=evidence))
    assert len(shown_lists(shop)) == 5


def test_a_name_is_taken_once(trained: Shop) -> None:
    with pytest.raises(ConflictError, match="ranker good exists"):
        train_ranker_version(trained, name="good", seed=0, hear=silent)


def test_the_job_trains_as_the_function_does(trained: Shop) -> None:
    result = run(trained, "train", model="ranker", seed=0, name="by-job")
    assert result["version"] == "by-job"
    good, job = ((trained.rankers_root / name / "ranker.json").read_bytes() for name in ("good", "by-job"))
    assert good == job
