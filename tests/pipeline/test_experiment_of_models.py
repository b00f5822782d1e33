"""Searches of an experiment between two models: one list of what both find."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from generation_shop import GOOD, POOR, draw_source, fill, open_models
from sameitem.core.errors import ConflictError, InputError
from sameitem.engine.versions import current, list_versions
from sameitem.metrics.sequential import StopRule
from sameitem.pipeline.experiment import Mark, read_mark
from sameitem.pipeline.generations import newest_index
from sameitem.pipeline.online import SearchAnswer, Searcher, SearchRequest
from sameitem.pipeline.shop import Shop
from sameitem.upkeep.experiments import start_experiment
from shops import run

RULE = StopRule()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return draw_source(tmp_path_factory.mktemp("source") / "drawn")


@pytest.fixture
def shop(tmp_path: Path, source: tuple[Path, Path]) -> Iterator[Shop]:
    """A shop whose poor model answers, with an index of the good one beside it."""
    shop = open_models(tmp_path / "shop")
    fill(shop, source[0])
    run(shop, "build")
    run(shop, "compare", before=POOR, after=GOOD, queries=str(source[1]))
    yield shop
    shop.close()


@pytest.fixture
def photo(source: tuple[Path, Path]) -> bytes:
    return (source[0].parent / "P07-photo.png").read_bytes()


def products(answer: SearchAnswer) -> list[str]:
    return [result.product.product_id for result in answer.results]


def test_a_list_is_made_of_both_and_says_whose_each_place_is(shop: Shop, photo: bytes) -> None:
    good = newest_index(shop.index_root, GOOD)
    alone = {
        "A": products(Searcher(shop).search(SearchRequest(photo=photo, num=20), record=False)),
        "B": products(Searcher(shop, good).search(SearchRequest(photo=photo, num=20), record=False)),
    }
    assert alone["A"] != alone["B"]
    started = start_experiment(shop, POOR, GOOD, share=1.0, rule=RULE, now=1.0)
    assert started.kind == "model"
    searcher = Searcher(shop)
    request = SearchRequest(photo=photo, num=20, user_id="u")
    answer = searcher.search(request)
    assert answer.model_version == f"{POOR} + {GOOD}"
    assert [result.rank for result in answer.results] == list(range(1, 21))
    assert len(set(products(answer))) == 20
    (session,) = shop.clicks.sessions()
    mark = read_mark(session.search.experiment)
    assert mark is not None
    assert (mark.id, len(mark.teams), session.search.evidence) == (started.id, 20, "")
    assert [place.product_id for place in session.search.shown] == products(answer)
    for team, order in alone.items():
        own = [one for one, letter in zip(products(answer), mark.teams, strict=True) if letter in (team, "-")]
        assert own == sorted(own, key=order.index)
    first, second = (searcher.search(SearchRequest(photo=photo, num=10, start=at, user_id="u")) for at in (0, 10))
    assert products(first) + products(second) == products(answer)
    assert read_mark(list(shop.clicks.sessions())[-1].search.experiment) == Mark(started.id, mark.teams[10:])


def test_who_takes_no_part_is_answered_by_the_live_model(shop: Shop, photo: bytes) -> None:
    start_experiment(shop, POOR, GOOD, share=1.0, rule=RULE, now=1.0)
    searcher = Searcher(shop)
    nobody = searcher.search(SearchRequest(photo=photo))
    deep = searcher.search(SearchRequest(photo=photo, user_id="u", num=10, start=95))
    unseen = searcher.search(SearchRequest(photo=photo, user_id="u"), record=False)
    assert {nobody.model_version, deep.model_version, unseen.model_version} == {POOR}
    assert {session.search.experiment for session in shop.clicks.sessions()} == {""}


def test_once_another_model_is_live_it_says_nothing_more(shop: Shop, photo: bytes, source: tuple[Path, Path]) -> None:
    start_experiment(shop, POOR, GOOD, share=1.0, rule=RULE, now=1.0)
    run(shop, "activate", version=GOOD, force=True, queries=str(source[1]))
    answer = Searcher(shop).search(SearchRequest(photo=photo, user_id="u"))
    assert answer.model_version == GOOD
    assert [session.search.experiment for session in shop.clicks.sessions()] == [""]


def test_builds_leave_the_index_that_is_compared(shop: Shop) -> None:
    compared = newest_index(shop.index_root, GOOD)
    start_experiment(shop, POOR, GOOD, share=1.0, rule=RULE, now=1.0)
    for _ in range(shop.settings.engine.keep_versions + 1):
        run(shop, "build")
    assert compared in list_versions(shop.index_root)
    assert len(list_versions(shop.index_root)) == shop.settings.engine.keep_versions + 1


def test_only_the_model_that_answers_can_be_compared_with_one_that_has_an_index(shop: Shop) -> None:
    with pytest.raises(ConflictError, match=f"A must be the model that answers now, which is {POOR}"):
        start_experiment(shop, GOOD, POOR, share=1.0, rule=RULE, now=1.0)
    with pytest.raises(ConflictError, match="base-2 has no index as fresh as the live one"):
        start_experiment(shop, POOR, "base-2", share=1.0, rule=RULE, now=1.0)
    with pytest.raises(InputError, match="two different models"):
        start_experiment(shop, POOR, POOR, share=1.0, rule=RULE, now=1.0)
    assert current(shop.index_root) is not None
