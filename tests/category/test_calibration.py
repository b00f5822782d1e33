import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sameitem.category.calibration import TEMPERATURES, fit_temperature, log_loss, softmax, temper
from sameitem.core.errors import InputError, ShapeError

Logits = arrays(np.float64, (5, 4), elements=st.floats(-20, 20))


@settings(deadline=None)
@given(logits=Logits, temperature=st.floats(0.1, 10))
def test_a_softmax_is_the_formula(logits: np.ndarray, temperature: float) -> None:
    plain = np.exp(logits / temperature)
    assert softmax(logits, temperature) == pytest.approx(plain / plain.sum(axis=1, keepdims=True), abs=1e-9)


@settings(deadline=None)
@given(logits=Logits, temperature=st.floats(0.2, 10))
def test_tempered_probabilities_are_those_of_tempered_logits(logits: np.ndarray, temperature: float) -> None:
    assert temper(softmax(logits), temperature) == pytest.approx(softmax(logits, temperature), abs=1e-9)


def test_no_opinion_stays_none() -> None:
    assert temper(np.zeros((1, 3)), 0.5).tolist() == [[0, 0, 0]]


def test_large_logits_and_ruled_out_categories_give_finite_probabilities() -> None:
    assert softmax(np.array([1e4, 1e4, -np.inf])).tolist() == [0.5, 0.5, 0.0]


def test_no_temperature_of_a_fine_grid_beats_the_fitted_one() -> None:
    rng = np.random.default_rng(0)
    logits = 3 * rng.standard_normal((400, 6))
    truth = np.array([rng.choice(6, p=row) for row in softmax(logits, 2.0)])
    fitted = fit_temperature(logits, truth)
    best = min(log_loss(softmax(logits, t), truth) for t in np.geomspace(0.2, 20, 400))
    assert log_loss(softmax(logits, fitted), truth) <= best + 1e-9
    assert fitted == pytest.approx(2, rel=0.2)


def test_logits_that_are_always_right_or_always_wrong_end_at_the_limits() -> None:
    logits, truth = np.eye(3), np.arange(3)
    assert fit_temperature(logits, truth) == pytest.approx(TEMPERATURES[0])
    assert fit_temperature(-logits, truth) == pytest.approx(TEMPERATURES[1])


def test_the_loss_of_a_category_that_got_nothing_is_bounded() -> None:
    assert log_loss(np.array([[1.0, 0.0]]), np.array([1])) == pytest.approx(-np.log(1e-6))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ShapeError, match="one true category per row"):
        fit_temperature(np.zeros((2, 3)), np.array([0]))
    with pytest.raises(InputError, match="0 to 2"):
        fit_temperature(np.zeros((1, 3)), np.array([3]))
    with pytest.raises(InputError, match="finite logits"):
        fit_temperature(np.array([[0.0, np.nan]]), np.array([0]))
    with pytest.raises(InputError, match="temperature"):
        softmax(np.zeros(3), 0.0)
    with pytest.raises(ShapeError, match="at least one category"):
        softmax(np.zeros((2, 0)))
