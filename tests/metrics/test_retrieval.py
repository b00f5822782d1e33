import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sameitem.core.errors import InputError, ShapeError
from sameitem.metrics.retrieval import average_precision, recall_at, reciprocal_rank

LISTS = arrays.arrays(np.bool_, st.tuples(st.integers(1, 6), st.integers(1, 12)))


def plain_average_precision(hits: list[bool], wanted: int) -> float:
    found, total = 0, 0.0
    for rank, hit in enumerate(hits, start=1):
        if hit:
            found += 1
            total += found / rank
    return total / max(1, min(wanted, len(hits)))


def plain_reciprocal_rank(hits: list[bool]) -> float:
    return next((1 / rank for rank, hit in enumerate(hits, start=1) if hit), 0.0)


def test_the_measures_of_a_list_are_as_worked_out_by_hand() -> None:
    relevant = np.array([[False, True, False, True]])
    assert [recall_at(relevant, k)[0] for k in (1, 2, 4, 60)] == [0, 1, 1, 1]
    assert average_precision(relevant, np.array([2]))[0] == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert average_precision(relevant, np.array([3]))[0] == pytest.approx((1 / 2 + 2 / 4) / 3)
    assert average_precision(relevant, np.array([9]))[0] == pytest.approx((1 / 2 + 2 / 4) / 4)
    assert reciprocal_rank(relevant)[0] == 0.5


@given(LISTS, st.integers(1, 15))
def test_recall_is_whether_any_of_the_first_k_is_right(relevant: np.ndarray, k: int) -> None:
    assert recall_at(relevant, k).tolist() == [float(any(row[:k])) for row in relevant.tolist()]


@given(LISTS, st.integers(0, 20))
def test_average_precision_agrees_with_a_plain_loop(relevant: np.ndarray, missed: int) -> None:
    wanted = relevant.sum(axis=1) + missed
    expected = [plain_average_precision(row, int(n)) for row, n in zip(relevant.tolist(), wanted, strict=True)]
    assert average_precision(relevant, wanted).tolist() == pytest.approx(expected)


@given(LISTS)
def test_reciprocal_rank_agrees_with_a_plain_loop(relevant: np.ndarray) -> None:
    assert reciprocal_rank(relevant).tolist() == [plain_reciprocal_rank(row) for row in relevant.tolist()]


@given(LISTS)
def test_every_measure_lies_between_zero_and_one_and_a_perfect_list_has_one(relevant: np.ndarray) -> None:
    best = np.sort(relevant, axis=1)[:, ::-1]
    wanted = relevant.sum(axis=1)
    for lists in (relevant, best):
        for measure in (recall_at(lists, 3), average_precision(lists, wanted), reciprocal_rank(lists)):
            assert ((measure >= 0) & (measure <= 1)).all()
    found = wanted > 0
    assert average_precision(best, wanted)[found].tolist() == pytest.approx([1.0] * int(found.sum()))


def test_lists_without_hits_score_zero() -> None:
    empty = np.zeros((2, 0), np.bool_)
    assert recall_at(empty, 5).tolist() == [0, 0]
    assert average_precision(empty, np.array([1, 0])).tolist() == [0, 0]
    assert reciprocal_rank(empty).tolist() == [0, 0]


def test_what_is_not_a_list_per_query_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"need \(queries, depth\) of truth values"):
        recall_at(np.zeros(3, np.bool_), 1)
    with pytest.raises(ShapeError, match=r"need \(queries, depth\) of truth values"):
        reciprocal_rank(np.zeros((3, 3)))  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="at least as many as were found"):
        average_precision(np.ones((1, 3), np.bool_), np.array([2]))
    with pytest.raises(InputError, match="need k >= 1, got 0"):
        recall_at(np.zeros((1, 3), np.bool_), 0)
