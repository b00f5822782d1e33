from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sameitem.core.errors import InputError, ShapeError
from sameitem.metrics.intervals import bootstrap_interval, paired_interval, ratio_interval, wilson_interval


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


class TestADifference:
    """After - before over the same queries, groups drawn as a whole."""

    def test_of_two_groups_is_the_one_worked_out_by_hand(self) -> None:
        # Product 7 has the differences 1, 1, product 3 has 0. Drawing two products with replacement gives, with the
        # probabilities 1/4, 1/2, 1/4, the means 0/2 = 0, 2/3 and 4/4 = 1; 2.5 % and 97.5 % are the ends.
        before, after = np.array([0.0, 0.0, 1.0]), np.array([1.0, 1.0, 1.0])
        interval = paired_interval(before, after, np.array([7, 7, 3]), np.random.default_rng(1))
        assert (interval.mean, interval.low, interval.high) == pytest.approx((2 / 3, 0.0, 1.0))

    def test_has_the_quantiles_of_every_way_to_draw_the_groups(self) -> None:
        differences = [[0.5, -1.0, 0.25], [1.0], [0.0, 0.75], [-0.5, -0.25]]
        groups = np.repeat(np.arange(4), [len(group) for group in differences])
        drawn = [[d for group in draw for d in differences[group]] for draw in product(range(4), repeat=4)]
        low, high = np.quantile([np.mean(values) for values in drawn], (0.025, 0.975))
        after = np.concatenate(differences)
        interval = paired_interval(np.zeros(8), after, groups, np.random.default_rng(2), resamples=20_000)
        assert interval.mean == pytest.approx(after.mean())
        assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.02)

    def test_is_wider_where_queries_hang_together(self) -> None:
        generator = np.random.default_rng(3)
        after = np.repeat(generator.integers(0, 2, 40).astype(np.float64), 10)  # ten queries a product agree
        before, apart = np.full(400, 0.5), np.arange(400)
        together = paired_interval(before, after, apart // 10, np.random.default_rng(4))
        alone = paired_interval(before, after, apart, np.random.default_rng(4))
        assert together.high - together.low > 2.5 * (alone.high - alone.low)  # sqrt(10) as often

    def test_of_nothing_changed_is_zero(self) -> None:
        same = np.random.default_rng(5).random(30)
        interval = paired_interval(same, same, np.arange(30) // 3, np.random.default_rng(5))
        assert (interval.mean, interval.low, interval.high) == (0.0, 0.0, 0.0)

    def test_needs_queries_and_lists_of_one_length(self) -> None:
        generator, none = np.random.default_rng(6), np.zeros(0)
        with pytest.raises(InputError, match="at least one query"):
            paired_interval(none, none, none.astype(np.int64), generator)
        with pytest.raises(ShapeError, match="one length"):
            paired_interval(np.zeros(3), np.zeros(2), np.zeros(3, np.int64), generator)


class TestARatio:
    """Sum above / sum below, groups drawn as a whole."""

    def test_of_two_groups_is_the_one_worked_out_by_hand(self) -> None:
        # Group 7 has 2 / 2, group 3 has 3 / 1. Drawn twice, once each, twice: 4/4, 5/3 and 6/2.
        above, below = np.array([1.0, 1.0, 3.0]), np.array([2.0, 0.0, 1.0])
        interval = ratio_interval(above, below, np.array([7, 7, 3]), np.random.default_rng(1))
        assert (interval.mean, interval.low, interval.high) == pytest.approx((5 / 3, 1.0, 3.0))

    def test_has_no_resample_without_anything_below_the_line(self) -> None:
        above, below = np.array([1.0, 1.0]), np.array([0.0, 1.0])
        interval = ratio_interval(above, below, np.arange(2), np.random.default_rng(1))
        assert (interval.mean, interval.low, interval.high) == pytest.approx((2.0, 1.0, 2.0))

    def test_needs_lists_of_one_length_and_something_below_the_line(self) -> None:
        generator, one = np.random.default_rng(6), np.ones(1)
        with pytest.raises(ShapeError, match="one length"):
            ratio_interval(one, one, np.zeros(2, np.int64), generator)
        for below in (np.zeros(1), -one, np.full(1, np.nan)):
            with pytest.raises(InputError, match="below the line"):
                ratio_interval(one, below, np.zeros(1, np.int64), generator)


class TestWilson:
    def test_gives_the_interval_that_books_give(self) -> None:
        found = wilson_interval(10, 50)  # Newcombe 1998, by the same formula worked out by hand
        assert (found.mean, round(found.low, 4), round(found.high, 4)) == (0.2, 0.1124, 0.3304)

    @given(total=st.integers(1, 10_000), share=st.floats(0, 1))
    def test_holds_the_share_and_mirrors(self, total: int, share: float) -> None:
        hits = round(share * total)
        found, mirrored = wilson_interval(hits, total), wilson_interval(total - hits, total)
        assert 0 <= found.low <= found.mean <= found.high <= 1
        assert (1 - mirrored.high, 1 - mirrored.low) == pytest.approx((found.low, found.high), abs=1e-12)

    @pytest.mark.parametrize(("hits", "total"), [(0, 0), (-1, 5), (6, 5)])
    def test_refuses_what_is_no_share(self, hits: int, total: int) -> None:
        with pytest.raises(InputError, match="0 <= hits <= total"):
            wilson_interval(hits, total)
