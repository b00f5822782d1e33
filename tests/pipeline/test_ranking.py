"""The order of the first hits by looks and quality."""

from pathlib import Path

import numpy as np
import pytest

from drawn_rankers import add_drawn
from sameitem.clicks.log import Event
from sameitem.metrics.sequential import StopRule
from sameitem.pipeline.experiment import Mark, read_mark
from sameitem.pipeline.online import SearchAnswer, Searcher, SearchRequest
from sameitem.pipeline.rankers import LOOKS, RANKER, activate_ranker
from sameitem.pipeline.shop import Shop
from sameitem.rerank.features import FEATURES, features_of, read_evidence
from sameitem.rerank.order import TOP
from sameitem.rerank.ranker import Ranker
from sameitem.upkeep.demo_shop import DemoShop
from sameitem.upkeep.experiments import start_experiment
from shops import copied, open_shop

pytestmark = pytest.mark.slow


def put_ranker(shop: Shop) -> Ranker:
    ranker = add_drawn(shop.rankers_root, "r1", seed=3)
    activate_ranker(shop.rankers_root, "r1")
    return ranker


@pytest.fixture
def photo(drawn: DemoShop) -> bytes:
    return next((drawn.folder / "queries").glob("*.jpg")).read_bytes()


def ids(answer: SearchAnswer) -> list[int]:
    return [result.image.image_id for result in answer.results]


def test_without_a_ranker_looks_order_and_what_is_known_is_logged_all_the_same(shop: Shop, photo: bytes) -> None:
    answer = Searcher(shop).search(SearchRequest(photo=photo, num=20))
    assert answer.ranker_version == LOOKS
    assert [result.visual_rank for result in answer.results] == list(range(1, 21))
    assert {result.quality for result in answer.results} == {None}
    (session,) = shop.clicks.sessions()
    evidence = read_evidence(session.search.evidence)
    assert evidence.visual_rank.tolist() == list(range(1, 21))
    np.testing.assert_allclose(evidence.visual, [result.visual_score for result in answer.results], atol=1e-6)


def test_what_was_served_can_be_computed_again_from_the_log(shop: Shop, photo: bytes) -> None:
    ranker = put_ranker(shop)
    searcher = Searcher(shop)
    answers = []
    for _ in range(3):
        answers.append(answer := searcher.search(SearchRequest(photo=photo, num=20, user_id="u")))
        best = answer.results[0]
        click = Event(f"e{answer.search_id[:8]}", answer.search_id, "click", best.product.product_id, user_id="u")
        assert shop.clicks.record_events([click]).stored == 1
    for answer, session in zip(answers, shop.clicks.sessions(), strict=True):
        assert session.search.ranker_version == "r1"
        again = ranker.score(features_of(read_evidence(session.search.evidence)))
        np.testing.assert_array_equal(again, [result.quality for result in answer.results])


def test_quality_and_looks_order_the_first_hits_above_the_floor(
    built_folder: Path, tmp_path: Path, photo: bytes
) -> None:
    folder = copied(built_folder, tmp_path / "shop")
    shop = open_shop(folder, rerank={"visual_share": 0.3, "similarity_floor": 0.75})
    put_ranker(shop)
    answer = Searcher(shop).search(SearchRequest(photo=photo, num=100, distinct_product=False), record=False)
    first = answer.results[:TOP]
    best = max(result.visual_score for result in first)
    reaches = [result.visual_score >= 0.75 * best for result in first]
    assert reaches == sorted(reaches, reverse=True)
    mixed = [0.3 * result.visual_score + 0.7 * (result.quality or 0) for result in first]
    for above in (True, False):
        part = [value for value, reached in zip(mixed, reaches, strict=True) if reached is above]
        assert part == sorted(part, reverse=True)
    assert [result.visual_rank for result in first] != sorted(result.visual_rank for result in first)
    assert all(result.quality is None for result in answer.results[TOP:])
    assert [result.rank for result in answer.results] == list(range(1, len(answer.results) + 1))
    shop.close()


def test_a_caller_can_have_the_order_by_looks(shop: Shop, photo: bytes) -> None:
    searcher = Searcher(shop)
    before = searcher.search(SearchRequest(photo=photo), record=False)
    put_ranker(shop)
    ranked = searcher.search(SearchRequest(photo=photo), record=False)
    plain = searcher.search(SearchRequest(photo=photo, rerank=False), record=False)
    assert (plain.ranker_version, ranked.ranker_version) == (LOOKS, "r1")
    assert ids(plain) == ids(before)
    assert ids(ranked) != ids(before)


def test_pages_follow_each_other(shop: Shop, photo: bytes) -> None:
    put_ranker(shop)
    searcher = Searcher(shop)
    whole = ids(searcher.search(SearchRequest(photo=photo, num=40), record=False))
    parts = [
        ids(searcher.search(SearchRequest(photo=photo, num=10, start=start), record=False)) for start in (0, 10, 20, 30)
    ]
    assert [image_id for part in parts for image_id in part] == whole


def test_a_ranker_that_cannot_be_read_costs_nobody_the_answer(shop: Shop, photo: bytes) -> None:
    put_ranker(shop)
    (shop.rankers_root / "r1" / RANKER).write_bytes(b"{}")
    answer = Searcher(shop).search(SearchRequest(photo=photo), record=False)
    assert answer.ranker_version == LOOKS
    assert answer.results


def test_an_explanation_names_what_the_ranker_went_by_and_who_voted(shop: Shop, photo: bytes) -> None:
    ranker = put_ranker(shop)
    answer = Searcher(shop).search(SearchRequest(photo=photo, explain=True))
    assert answer.voters
    assert sum(voter.share for voter in answer.voters) <= 1 + 1e-9
    assert shop.catalogue.listings([voter.image_id for voter in answer.voters])
    (session,) = shop.clicks.sessions()
    features = features_of(read_evidence(session.search.evidence))
    result = answer.results[0]
    effect = result.effects[0]
    usual = features[:1].copy()
    usual[0, FEATURES.index(effect.feature)] = ranker.middle[FEATURES.index(effect.feature)]
    change = ranker.log_odds(features[:1]) - ranker.log_odds(usual)
    assert effect.effect == pytest.approx(float(change[0]))
    assert [abs(one.effect) for one in result.effects] == sorted(
        (abs(one.effect) for one in result.effects), reverse=True
    )


def test_a_user_with_a_history_is_told_apart_from_one_without(shop: Shop, photo: bytes) -> None:
    searcher = Searcher(shop)
    for number in range(3):
        answer = searcher.search(SearchRequest(photo=photo, user_id="known"))
        best = answer.results[0].product
        shop.clicks.record_events([Event(f"e{number}", answer.search_id, "click", best.product_id, user_id="known")])
    searcher.search(SearchRequest(photo=photo, user_id="known"))
    searcher.search(SearchRequest(photo=photo, user_id="new"))
    *_, known, new = [read_evidence(session.search.evidence) for session in shop.clicks.sessions()]
    assert known.taste_category[0] == 1.0
    assert np.isnan(new.taste_category).all()


def test_an_experiment_shows_both_orders_to_its_users_and_marks_whose_each_place_is(shop: Shop, photo: bytes) -> None:
    add_drawn(shop.rankers_root, "r1", seed=3)
    add_drawn(shop.rankers_root, "r2", seed=4)
    searcher = Searcher(shop)
    alone = {}
    for version in ("r1", "r2"):
        activate_ranker(shop.rankers_root, version)
        alone[version] = ids(searcher.search(SearchRequest(photo=photo, num=20), record=False))
    started = start_experiment(shop, "r1", "r2", share=1.0, rule=StopRule(), now=1.0)
    request = SearchRequest(photo=photo, num=20, user_id="u")
    answer, again = searcher.search(request), searcher.search(request)
    assert ids(answer) == ids(again)
    assert answer.ranker_version == "r1 + r2"
    mark = read_mark(next(iter(shop.clicks.sessions())).search.experiment)
    assert mark is not None
    assert (mark.id, len(mark.teams)) == (started.id, 20)
    assert abs(mark.teams.count("A") - mark.teams.count("B")) <= 1
    for team, version in (("A", "r1"), ("B", "r2")):
        own = [one for one, letter in zip(ids(answer), mark.teams, strict=True) if letter in (team, "-")]
        assert own == sorted(own, key=[*alone[version], *own].index)  # in the order of its captain
    first, second = (searcher.search(SearchRequest(photo=photo, num=10, start=at, user_id="u")) for at in (0, 10))
    assert ids(first) + ids(second) == ids(answer)
    assert read_mark(list(shop.clicks.sessions())[-1].search.experiment) == Mark(started.id, mark.teams[10:])


def test_who_is_not_part_of_an_experiment_is_shown_the_active_order(shop: Shop, photo: bytes) -> None:
    put_ranker(shop)
    start_experiment(shop, "looks", "r1", share=1e-9, rule=StopRule(), now=1.0)
    answer = Searcher(shop).search(SearchRequest(photo=photo, user_id="u"))
    assert answer.ranker_version == "r1"
    assert next(iter(shop.clicks.sessions())).search.experiment == ""


def test_searches_of_nobody_known_take_no_part_in_an_experiment(shop: Shop, photo: bytes) -> None:
    put_ranker(shop)
    start_experiment(shop, "looks", "r1", share=1.0, rule=StopRule(), now=1.0)
    searcher = Searcher(shop)
    for request in (SearchRequest(photo=photo), SearchRequest(photo=photo, session_id="s")):
        searcher.search(request)
    assert [bool(session.search.experiment) for session in shop.clicks.sessions()] == [False, True]


def test_an_experiment_with_a_broken_ranker_says_nothing(shop: Shop, photo: bytes) -> None:
    put_ranker(shop)
    start_experiment(shop, "looks", "r1", share=1.0, rule=StopRule(), now=1.0)
    (shop.rankers_root / "r1" / RANKER).write_bytes(b"{}")
    fresh = open_shop(shop.folder)
    answer = Searcher(fresh).search(SearchRequest(photo=photo, user_id="u"))
    assert answer.ranker_version == LOOKS
    assert next(iter(fresh.clicks.sessions())).search.experiment == ""
    fresh.close()
