import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sameitem.core.errors import InputError, ShapeError
from sameitem.metrics.ranking import auc, calibration_ratio, log_losses, ndcg_at, normalised_entropy

ROWS = st.lists(st.tuples(st.integers(0, 10), st.booleans()), min_size=1, max_size=40)  # tenths: many ties
BOTH = ROWS.filter(lambda rows: len({clicked for _, clicked in rows}) == 2)
GRADES = arrays.arrays(np.float64, st.tuples(st.integers(1, 5), st.integers(0, 12)), elements=st.integers(0, 4))


def columns(rows: list[tuple[int, bool]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([tenths / 10 for tenths, _ in rows]), np.array([clicked for _, clicked in rows])


def plain_loss(probability: float, clicked: bool) -> float:
    return -math.log(max(probability if clicked else 1 - probability, 1e-12))


def plain_gain(grades: list[float], k: int) -> float:
    return sum((2**grade - 1) / math.log2(rank + 1) for rank, grade in enumerate(grades[:k], start=1))


@given(ROWS)
def test_the_loss_of_each_row_agrees_with_a_plain_loop(rows: list[tuple[int, bool]]) -> None:
    probabilities, clicked = columns(rows)
    expected = [plain_loss(p, c) for p, c in zip(probabilities.tolist(), clicked.tolist(), strict=True)]
    assert log_losses(probabilities, clicked).tolist() == pytest.approx(expected)


@given(BOTH)
def test_normalised_entropy_is_the_loss_over_that_of_the_share_of_clicks(rows: list[tuple[int, bool]]) -> None:
    probabilities, clicked = columns(rows)
    share = sum(clicked) / len(clicked)
    losses = [plain_loss(p, c) for p, c in zip(probabilities.tolist(), clicked.tolist(), strict=True)]
    silent = [plain_loss(share, c) for c in clicked.tolist()]
    assert normalised_entropy(probabilities, clicked) == pytest.approx(sum(losses) / sum(silent))
    assert normalised_entropy(np.full(len(clicked), share), clicked) == pytest.approx(1)


@given(BOTH)
def test_the_auc_agrees_with_a_loop_over_all_pairs(rows: list[tuple[int, bool]]) -> None:
    scores, clicked = columns(rows)
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[clicked].tolist() for b in scores[~clicked].tolist()]
    assert auc(scores, clicked) == pytest.approx(sum(pairs) / len(pairs))


@given(ROWS.filter(lambda rows: any(clicked for _, clicked in rows)))
def test_calibration_is_clicks_foretold_over_clicks(rows: list[tuple[int, bool]]) -> None:
    probabilities, clicked = columns(rows)
    assert calibration_ratio(probabilities, clicked) == pytest.approx(sum(probabilities) / sum(clicked.tolist()))


@given(GRADES, st.integers(1, 15))
def test_discounted_gain_agrees_with_a_plain_loop(grades: np.ndarray, k: int) -> None:
    for found, row in zip(ndcg_at(grades, k).tolist(), grades.tolist(), strict=True):
        best = plain_gain(sorted(row, reverse=True), k)
        assert found == pytest.approx(plain_gain(row, k) / best if best else 0)


def test_discounted_gain_is_as_worked_out_by_hand() -> None:
    found = ndcg_at(np.array([[0.0, 2.0, 1.0]]), 10)[0]
    assert found == pytest.approx((3 / math.log2(3) + 1 / 2) / (3 + 1 / math.log2(3)))
    assert ndcg_at(np.array([[2.0, 1.0, 0.0], [0.0, 0.0, 0.0]]), 2).tolist() == [1, 0]


def test_zeros_behind_a_list_change_nothing() -> None:
    grades = np.array([[1.0, 0.0, 3.0]])
    assert ndcg_at(np.pad(grades, ((0, 0), (0, 9))), 10)[0] == ndcg_at(grades, 10)[0]


def test_rows_that_do_not_fit_are_refused() -> None:
    two, both = np.array([0.2, 0.3]), np.array([True, False])
    for measure in (log_losses, normalised_entropy, auc, calibration_ratio):
        with pytest.raises(ShapeError, match="need one score and one truth value per row"):
            measure(two, np.array([True]))
        with pytest.raises(ShapeError, match="need one score and one truth value per row"):
            measure(two, np.array([1.0, 0.0]))
        with pytest.raises(InputError, match="need at least one row"):
            measure(np.empty(0), np.empty(0, np.bool_))
    with pytest.raises(InputError, match="need probabilities of 0 to 1"):
        log_losses(np.array([0.2, np.nan]), both)
    with pytest.raises(InputError, match="need finite scores"):
        auc(np.array([0.2, np.inf]), both)
    for measure in (normalised_entropy, auc):
        with pytest.raises(InputError, match="need rows with and without a click, got 2 clicks in 2 rows"):
            measure(two, ~np.zeros(2, np.bool_))
    with pytest.raises(InputError, match="need at least one click"):
        calibration_ratio(two, np.zeros(2, np.bool_))


def test_grades_that_are_none_are_refused() -> None:
    with pytest.raises(ShapeError, match="need \\(queries, depth\\) of grades"):
        ndcg_at(np.ones(3), 10)
    with pytest.raises(InputError, match="need k >= 1, got 0"):
        ndcg_at(np.ones((1, 3)), 0)
    for grade in (-1.0, np.nan):
        with pytest.raises(InputError, match="need grades that are finite and not negative"):
            ndcg_at(np.array([[grade]]), 10)
