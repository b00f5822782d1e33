"""Curves that turn a lead into a probability."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis.strategies import booleans, floats, integers, lists, tuples

from sameitem.core.errors import InputError, ShapeError
from sameitem.engine.probability import LEAST_SLOPE, Curve, fit_curve

PRIOR = Curve(-1.0, 17.0)
LEADS = floats(-2, 1)
PAIRS = lists(tuples(LEADS, booleans(), floats(0, 2)), max_size=40)


def fit(pairs: list[tuple[float, bool, float]], *, prior: Curve = PRIOR, strength: float = 5.0) -> Curve:
    leads, same, weights = (np.array([pair[part] for pair in pairs]) for part in range(3))
    return fit_curve(leads.astype(float), same.astype(bool), weights.astype(float), prior=prior, strength=strength)


def cost(curve: Curve, pairs: list[tuple[float, bool, float]], strength: float) -> float:
    """The sum that the fit makes small, written as a loop."""
    total = strength / 2 * ((curve.intercept - PRIOR.intercept) ** 2 + (curve.slope / PRIOR.slope - 1) ** 2)
    for lead, same, weight in pairs:
        z = curve.intercept + curve.slope * lead
        total += weight * (math.log1p(math.exp(-abs(z))) + max(0.0, -z if same else z))
    return total


@given(intercept=floats(-50, 50), slope=floats(0.01, 500), leads=lists(LEADS, min_size=1))
def test_a_larger_lead_is_never_less_probable(intercept: float, slope: float, leads: list[float]) -> None:
    found = Curve(intercept, slope).probability(np.array(sorted(leads)))
    assert (np.diff(found) >= 0).all()
    assert ((found >= 0) & (found <= 1)).all()


@given(pairs=PAIRS, intercept=floats(-3, 3), share=floats(LEAST_SLOPE, 4), strength=floats(0.5, 50))
def test_no_other_curve_explains_the_pairs_better(
    pairs: list[tuple[float, bool, float]], intercept: float, share: float, strength: float
) -> None:
    found = fit(pairs, strength=strength)
    other = Curve(intercept, share * PRIOR.slope)
    assert cost(found, pairs, strength) <= cost(other, pairs, strength) + 1e-6


@given(pairs=PAIRS, seed=integers(0, 99))
def test_the_order_of_the_pairs_does_not_matter(pairs: list[tuple[float, bool, float]], seed: int) -> None:
    shuffled = [pairs[row] for row in np.random.default_rng(seed).permutation(len(pairs))]
    one, other = fit(pairs), fit(shuffled)
    assert (one.intercept, one.slope) == pytest.approx((other.intercept, other.slope), rel=1e-5, abs=1e-5)


@given(pairs=PAIRS)
def test_a_fitted_slope_is_never_below_its_least(pairs: list[tuple[float, bool, float]]) -> None:
    assert fit(pairs).slope >= LEAST_SLOPE * PRIOR.slope * (1 - 1e-9)


def test_without_pairs_it_is_what_was_believed_before() -> None:
    assert fit([]) == PRIOR
    assert fit([(0.3, True, 0.0)]) == PRIOR


def test_the_more_pairs_the_less_counts_what_was_believed_before() -> None:
    generator = np.random.default_rng(1)
    leads = generator.uniform(-0.6, 0.6, 4000)
    truth = Curve(-0.5, 8.0)
    same = generator.random(4000) < truth.probability(leads)
    off = []
    for count in (20, 200, 4000):
        found = fit_curve(leads[:count], same[:count], np.ones(count), prior=PRIOR, strength=10.0)
        off.append(abs(found.slope - truth.slope))
    assert off[0] > off[1] > off[2]
    assert off[2] < 0.5


@pytest.mark.parametrize(
    ("leads", "same"),
    [
        ([0.2] * 50, [True] * 50),  # nothing else
        ([-0.3] * 50, [False] * 50),
        ([-0.5] * 50 + [0.5] * 50, [False] * 50 + [True] * 50),  # parted without exception
        ([0.0] * 100, [True, False] * 50),  # no lead says anything
    ],
)
def test_data_that_has_no_best_curve_of_its_own_gives_a_finite_one(leads: list[float], same: list[bool]) -> None:
    found = fit([(lead, label, 1.0) for lead, label in zip(leads, same, strict=True)])
    assert abs(found.intercept) < 20
    assert 0 < found.slope < 50 * PRIOR.slope


def test_where_the_further_is_right_more_often_the_curve_is_nearly_flat() -> None:
    found = fit([(-0.5, True, 1.0)] * 500 + [(0.5, False, 1.0)] * 500)
    assert found.slope == pytest.approx(LEAST_SLOPE * PRIOR.slope)


def test_what_cannot_be_fitted_is_refused() -> None:
    one = np.ones(1)
    right = np.ones(1, np.bool_)
    with pytest.raises(ShapeError):
        fit_curve(np.ones(2), right, one, prior=PRIOR, strength=1.0)
    for leads, weights, strength in ((one * np.nan, one, 1.0), (one, -one, 1.0), (one, one, 0.0)):
        with pytest.raises(InputError):
            fit_curve(leads, right, weights, prior=PRIOR, strength=strength)
    for intercept, slope in ((np.nan, 1.0), (0.0, 0.0), (0.0, np.inf)):
        with pytest.raises(InputError):
            Curve(intercept, slope)
