"""Two orders of the same lists, compared by the clicks of the log."""

import numpy as np
import pytest

from sameitem.core.settings import GateSettings
from sameitem.evaluation.counterfactual import CLIP
from sameitem.evaluation.orders import OrderComparison, compare_orders, judge_order, looked_at, seen_clicks
from sameitem.metrics.intervals import Interval

SHOWN = np.arange(1.0, 6.0)


def clicked(*places: int) -> np.ndarray:
    return np.isin(np.arange(5), places)


def test_the_order_that_was_shown_gets_the_clicks_that_came() -> None:
    assert seen_clicks(SHOWN, SHOWN, clicked(0, 3)) == pytest.approx(2.0)


def test_a_click_counts_by_how_likely_its_new_place_is_looked_at() -> None:
    assert seen_clicks(np.array([2.0, 1, 3, 4, 5]), SHOWN, clicked(1)) == pytest.approx(np.log2(3))
    assert seen_clicks(np.array([2.0, 1, 3, 4, 5]), SHOWN, clicked(0)) == pytest.approx(1 / np.log2(3))
    assert seen_clicks(SHOWN, SHOWN, clicked()) == 0.0


def test_one_deep_click_does_not_decide() -> None:
    shown = np.array([5000.0])
    assert seen_clicks(np.array([1.0]), shown, np.array([True])) == CLIP


def test_the_estimate_is_right_on_average_where_users_look_as_assumed() -> None:
    """Of lists shown by looks to users who click what they look at and like, what another order would get."""
    generator = np.random.default_rng(0)
    utility, other = np.array([0.1, 0.2, 0.3, 0.4, 0.5]), np.array([5.0, 4, 3, 2, 1])
    looked = generator.random((20_000, 5)) < looked_at(SHOWN)
    clicks = looked & (generator.random((20_000, 5)) < utility)
    found = np.mean([seen_clicks(other, SHOWN, row) for row in clicks])
    assert found == pytest.approx(float((utility * looked_at(other)).sum()), rel=0.03)


def test_what_changes_is_told_with_its_interval() -> None:
    before, after = np.tile([0.0, 1.0], 200), np.tile([1.0, 1.0], 200)
    found = compare_orders(before, after, np.arange(400) // 2, np.random.default_rng(0))
    assert (found.searches, found.users, found.before, found.after) == (400, 200, 0.5, 1.0)
    assert found.delta.low == found.delta.mean == found.delta.high == 0.5
    assert found.verdict == "better"
    assert found.as_json()["verdict"] == "better"


def comparison(low: float, *, searches: int = 500, users: int = 50) -> OrderComparison:
    return OrderComparison(searches, users, 0.5, 0.52, Interval(0.02, low, 0.05))


@pytest.mark.parametrize(("low", "passes"), [(0.001, True), (0.0, False), (-0.01, False)])
def test_an_order_has_to_get_more_clicks_beyond_chance(low: float, passes: bool) -> None:
    said = judge_order(comparison(low), GateSettings())
    assert said.passed is passes
    if not passes:
        assert "clicks per search change by +4.0 %" in said.reasons[0]


@pytest.mark.parametrize(("searches", "users"), [(99, 50), (500, 9)])
def test_too_few_searches_tell_nothing(searches: int, users: int) -> None:
    said = judge_order(comparison(0.1, searches=searches, users=users), GateSettings())
    assert not said.passed
    assert "too few to tell" in said.reasons[0]
