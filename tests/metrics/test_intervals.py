import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sameitem.core.errors import InputError
from sameitem.metrics.intervals import bootstrap_interval


@settings(deadline=None)
@given(values=st.lists(st.floats(0, 1), min_size=1, max_size=50), seed=st.integers(0, 99))
def test_the_mean_lies_in_its_interval_and_the_interval_in_the_values(values: list[float], seed: int) -> None:
    interval = bootstrap_interval(np.array(values), np.random.default_rng(seed), resamples=200)
    assert interval.mean == pytest.approx(sum(values) / len(values))
    assert min(values) - 1e-12 <= interval.low <= interval.high <= max(values) + 1e-12


def test_the_interval_of_shares_is_as_wide_as_the_binomial_says() -> None:
    hits = np.repeat([0.0, 1.0], [200, 800])
    interval = bootstrap_interval(hits, np.random.default_rng(1), resamples=4000)
    error = (0.8 * 0.2 / 1000) ** 0.5
    assert (interval.low, interval.high) == pytest.approx((0.8 - 1.96 * error, 0.8 + 1.96 * error), abs=0.002)


@pytest.mark.parametrize("values", [np.zeros(0), np.zeros((2, 2))])
def test_no_values_have_no_interval(values: np.ndarray) -> None:
    with pytest.raises(InputError, match="at least one value"):
        bootstrap_interval(values, np.random.default_rng(1))
