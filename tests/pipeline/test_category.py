"""The model's word and the vote made one opinion."""

from collections.abc import Collection, Sequence

import numpy as np
import pytest

from sameitem.pipeline.category import Opinion, Prediction, predict_category

EVERYTHING = ("tops", "shoes", "watches", "toys", *(f"c{n}" for n in range(8)))
MODEL = [("tops", 0.6), ("shoes", 0.3), ("watches", 0.1)]


def predict(
    model: Sequence[Opinion],
    vote: Sequence[Opinion],
    *,
    alpha: float,
    votable: Collection[str] = EVERYTHING,
    unlabelled: float = 1.0,
    temperature: float = 1.0,
) -> Prediction:
    return predict_category(model, vote, votable=votable, unlabelled=unlabelled, alpha=alpha, temperature=temperature)


def test_both_opinions_are_weighed_by_alpha_whatever_their_order() -> None:
    found = predict(MODEL, [("shoes", 0.75), ("tops", 0.25)], alpha=0.4)
    shares = dict(found.ranked())
    assert shares == pytest.approx({"tops": 0.39, "shoes": 0.57, "watches": 0.04})
    assert [top for top, _ in found.ranked()] == ["shoes", "tops", "watches"]
    assert (found.source, found.model, found.knn) == ("fused", "tops", "shoes")


def test_a_category_that_the_model_does_not_know_keeps_its_share_of_the_vote() -> None:
    for alpha in (0.0, 0.5, 1.0):
        found = predict(MODEL, [("toys", 0.7), ("tops", 0.3)], alpha=alpha)
        assert dict(found.ranked())["toys"] == pytest.approx(0.7)
        assert found.probabilities.sum() == pytest.approx(1)


def test_one_opinion_alone_counts_whole_and_none_tells_nothing() -> None:
    only_model = predict(MODEL, [], alpha=0.1)
    assert (only_model.source, only_model.ranked(), only_model.knn) == ("model", MODEL, "")
    only_vote = predict([], [("toys", 1.0)], alpha=0.9)
    assert (only_vote.source, only_vote.ranked(), only_vote.model) == ("knn", [("toys", 1.0)], "")
    nothing = predict([], [], alpha=0.5)
    assert (nothing.source, nothing.ranked(), nothing.routed(0.95)) == ("none", [], ())


@pytest.mark.parametrize(
    ("mass", "tops"), [(0.5, ("tops",)), (0.85, ("tops", "shoes")), (1.0, ("tops", "shoes", "watches"))]
)
def test_a_search_is_routed_to_the_fewest_categories_that_hold_the_mass(mass: float, tops: tuple[str, ...]) -> None:
    assert predict(MODEL, [], alpha=0.5).routed(mass) == tops


def test_probabilities_always_sum_to_one() -> None:
    generator = np.random.default_rng(0)
    names = [f"c{n}" for n in range(8)]
    for _ in range(50):
        sides = []
        for _ in range(2):
            shares = generator.dirichlet(np.ones(4))
            sides.append([*zip(generator.permutation(names)[:4].tolist(), shares.tolist(), strict=True)])
        assert predict(*sides, alpha=float(generator.random())).probabilities.sum() == pytest.approx(1)


def test_a_category_that_cannot_be_voted_for_keeps_what_the_model_says() -> None:
    found = predict(MODEL, [("shoes", 0.75), ("tops", 0.25)], alpha=0.0, votable=("tops", "shoes"))
    assert dict(found.ranked()) == pytest.approx({"watches": 0.1, "shoes": 0.9 * 0.75, "tops": 0.9 * 0.25})


def test_a_category_that_is_not_in_the_shop_is_believed_as_far_as_products_have_no_category() -> None:
    vote, votable = [("shoes", 0.75), ("tops", 0.25)], ("tops", "shoes")
    none = predict([("watches", 0.9), ("shoes", 0.1), ("tops", 0.0)], vote, alpha=0.3, votable=votable, unlabelled=0.0)
    assert dict(none.ranked()) == pytest.approx({"shoes": 0.3 + 0.7 * 0.75, "tops": 0.7 * 0.25})
    assert none.model == "watches"
    half = predict([("watches", 0.5), ("shoes", 0.5), ("tops", 0.0)], vote, alpha=0.0, votable=votable, unlabelled=0.5)
    assert dict(half.ranked())["watches"] == pytest.approx(0.25 / 0.75)
    only = predict([("watches", 1.0)], vote, alpha=0.3, votable=votable, unlabelled=0.0)
    assert (only.source, dict(only.ranked())) == ("knn", dict(vote))


def test_a_temperature_below_one_makes_the_fusion_surer_and_keeps_its_order() -> None:
    vote = [("shoes", 0.75), ("tops", 0.25)]
    plain, sure = (predict(MODEL, vote, alpha=0.4, temperature=value) for value in (1.0, 0.5))
    assert [top for top, _ in plain.ranked()] == [top for top, _ in sure.ranked()]
    assert sure.probabilities.max() > plain.probabilities.max()
