import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sameitem.core.errors import InputError, ShapeError
from sameitem.metrics.calibration import expected_calibration_error

ANSWERS = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40)


@given(ANSWERS, st.integers(1, 20))
def test_the_error_agrees_with_a_loop_over_the_bins(answers: list[tuple[float, bool]], bins: int) -> None:
    total = 0.0
    for place in range(bins):
        inside = [(sure, right) for sure, right in answers if min(int(sure * bins), bins - 1) == place]
        if inside:
            confidence = sum(sure for sure, _ in inside) / len(inside)
            accuracy = sum(right for _, right in inside) / len(inside)
            total += len(inside) / len(answers) * abs(confidence - accuracy)
    sure, right = np.array([s for s, _ in answers]), np.array([r for _, r in answers])
    assert expected_calibration_error(sure, right, bins=bins) == pytest.approx(total, abs=1e-9)


def test_sure_and_right_is_perfect_and_sure_and_wrong_is_worst() -> None:
    sure = np.ones(5)
    assert expected_calibration_error(sure, np.ones(5, np.bool_)) == 0
    assert expected_calibration_error(sure, np.zeros(5, np.bool_)) == 1


def test_answers_that_are_none_are_refused() -> None:
    with pytest.raises(ShapeError, match="need one confidence per answer"):
        expected_calibration_error(np.ones(2), np.ones(3, np.bool_))
    for confidence in (np.empty(0), np.array([1.5]), np.array([np.nan])):
        with pytest.raises(InputError, match="need at least one answer, and confidences of 0 to 1"):
            expected_calibration_error(confidence, np.ones(len(confidence), np.bool_))
