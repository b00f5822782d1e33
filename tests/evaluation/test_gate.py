"""When a new model may go live."""

import pytest

from sameitem.core.settings import GateSettings
from sameitem.evaluation.compare import Comparison, Measure, Part, Side
from sameitem.evaluation.gate import Judgement, judge
from sameitem.metrics.intervals import Interval


def part(low: float, mean: float, high: float, *, queries: int = 100, products: int = 50) -> Part:
    return Part(queries, products, {"recall@1": Measure(0.5, 0.5 + mean, Interval(mean, low, high))}, 0, 0)


def judged(whole: Part, *, needs_gain: bool = False, **slices: Part) -> Judgement:
    comparison = Comparison(Side("i1", "old"), Side("i2", "new"), whole, slices, 0, 0)
    return judge(comparison, GateSettings(), needs_gain=needs_gain)


@pytest.mark.parametrize(("low", "passes"), [(0.02, True), (0.0, True), (-0.01, True), (-0.0101, False)])
def test_the_interval_may_reach_down_to_the_tolerance(low: float, passes: bool) -> None:
    assert judged(part(low, 0.03, 0.05)).passed is passes


@pytest.mark.parametrize(("mean", "passes"), [(0.001, True), (0.0, False), (-0.001, False)])
def test_where_nobody_asked_for_the_model_it_must_have_gained(mean: float, passes: bool) -> None:
    whole = part(-0.005, mean, 0.005)
    assert judged(whole, needs_gain=True).passed is passes
    assert judged(whole).passed


@pytest.mark.parametrize(("queries", "products"), [(99, 99), (500, 9)])
def test_too_few_queries_or_products_are_refused_whatever_they_say(queries: int, products: int) -> None:
    said = judged(part(0.5, 0.6, 0.7, queries=queries, products=products))
    assert not said.passed
    counts = f"{queries} held-out queries of {products} products are too few to tell, it takes 100 queries"
    assert counts in said.reasons[0]
    assert "(gate.least_queries) of 10 products; give labelled photos with --queries FILE" in said.reasons[0]


def test_what_was_left_out_or_failed_is_told_where_too_few_are_left() -> None:
    whole = part(0.5, 0.6, 0.7, queries=60)
    said = judge(Comparison(Side("i1", "old"), Side("i2", "new"), whole, {}, 30, 15), GateSettings(), needs_gain=False)
    assert "(30 were left out, whose product only one gallery has; 15 could not be measured)" in said.reasons[0]


def test_a_slice_that_falls_beyond_its_interval_is_refused_by_name() -> None:
    said = judged(part(0.02, 0.03, 0.04), dim=part(-0.09, -0.05, -0.01), clear=part(-0.06, -0.02, 0.02))
    assert not said.passed
    change = "-5.0 points [-9.0, -1.0] over 100 queries of 50 products"
    assert said.reasons == (f"in slice 'dim', recall@1 changes by {change}, which is no chance",)


def test_a_slice_of_a_few_products_is_not_judged_and_named() -> None:
    said = judged(part(0.02, 0.03, 0.04), rare=part(-1.0, -1.0, -1.0, products=9))
    assert (said.passed, said.not_judged) == (True, ("rare",))


def test_every_reason_is_told_with_its_figures() -> None:
    said = judged(part(-0.08, -0.05, -0.02), needs_gain=True, dim=part(-0.2, -0.1, -0.05))
    assert len(said.reasons) == 3
    assert "recall@1 changes by -5.0 points [-8.0, -2.0] over 100 queries of 50 products" in said.reasons[0]
    assert "may not end below -1.0 (gate.tolerance)" in said.reasons[0]
