from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sameitem.clicks.log import Event, Search, Session, Shown
from sameitem.core.errors import InputError, ShapeError
from sameitem.core.records import ImageId, ProductId
from sameitem.evaluation.counterfactual import (
    examination,
    impressions,
    reordered,
    reweighted,
    swapped_ranks,
)
from sameitem.pipeline.experiment import Mark

LOOKS = np.array([1.0, 0.6, 0.45, 0.3, 0.2])


def draw() -> np.random.Generator:
    return np.random.default_rng(3)


def searched(number: int, teams: str, clicked: Sequence[int], dismissed: Sequence[int] = (), first: int = 1) -> Session:
    shown = tuple(Shown(first + place, ProductId(f"p{place}"), "0", ImageId(place), 0.5) for place in range(4))
    mark = Mark("x", teams).as_text() if teams else ""
    search = Search(f"s{number}", 1.0, "", None, "", "i", "m", "u", "", shown, experiment=mark)
    events = [Event(f"c{place}", search.search_id, "click", ProductId(""), "", first + place) for place in clicked]
    events += [Event(f"d{place}", search.search_id, "dismiss", ProductId(""), "", first + place) for place in dismissed]
    return Session(search, tuple(events))


class TestSessions:
    """As rows."""

    def test_have_a_row_for_each_shown_place(self) -> None:
        rows = impressions([searched(0, "-BAA", [1, 2], [2]), searched(1, "BABA", [0], first=21)])
        assert rows.query.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
        assert rows.rank.tolist() == [1, 2, 3, 4, 21, 22, 23, 24]
        assert rows.clicked.tolist() == [False, True, False, False, True, False, False, False]
        assert rows.swapped.tolist() == [0, 2, 2, 0, 0, 0, 0, 0]  # a later page may begin between the two of a pair

    def test_may_be_none(self) -> None:
        assert len(impressions([]).query) == 0

    @pytest.mark.parametrize(
        ("teams", "ranks"),
        [
            ("", []),
            ("--", [0, 0]),
            ("AB", [1, 1]),
            ("-BAAB-A", [0, 2, 2, 4, 4, 0, 0]),
            ("A", [0]),
            ("BA-", [1, 1, 0]),
            ("ABBBAB", [1, 1, 0, 0, 0, 0]),
            ("A-BA", [0, 0, 0, 0]),
        ],
    )
    def test_of_an_experiment_know_which_places_a_coin_decided(self, teams: str, ranks: list[int]) -> None:
        assert swapped_ranks(teams) == ranks


class TestExamination:
    """How likely each rank is looked at."""

    @settings(deadline=None, max_examples=20)
    @given(seed=st.integers(0, 999), groups=st.integers(1, 6))
    def test_is_found_exactly_where_clicks_are_what_they_are_expected_to_be(self, seed: int, groups: int) -> None:
        chance = np.random.default_rng(seed)
        attraction = chance.integers(1, 20, groups) / 20  # so that all expected clicks are whole numbers
        shown = chance.integers(1, 4, (groups, 5)) * 400
        group, rank = (each.ravel() for each in np.meshgrid(np.arange(groups), np.arange(1, 6), indexing="ij"))
        clicks = np.rint(shown.ravel() * attraction[group] * LOOKS[rank - 1]).astype(int)
        rows = [
            (np.full(count, g), np.full(count, r), np.arange(count) < clicked)
            for g, r, count, clicked in zip(group, rank, shown.ravel(), clicks, strict=True)
        ]
        found = examination(*(np.concatenate(column) for column in zip(*rows, strict=True)), ranks=5)
        np.testing.assert_allclose(found, LOOKS, rtol=1e-9)

    def test_comes_out_of_pairs_that_a_coin_swapped(self) -> None:
        chance, rows = draw(), 100_000
        upper = chance.integers(1, 5, rows)
        pair = chance.uniform(0, 0.6, (rows, 2)) * np.array([1.0, 0.3])  # one of both is wanted more
        pair = np.where((chance.random(rows) < 0.5)[:, None], pair, pair[:, ::-1])
        clicked = chance.random((rows, 2)) < pair * LOOKS[np.stack((upper, upper + 1), axis=1) - 1]
        group, rank = np.repeat(upper, 2), np.stack((upper, upper + 1), axis=1).ravel()
        np.testing.assert_allclose(examination(group, rank, clicked.ravel(), ranks=5), LOOKS, rtol=0.08)

    def test_of_ranks_that_were_never_compared_is_not_made_up(self) -> None:
        group, rank = np.array([1, 1, 2, 2]), np.array([1, 2, 3, 4])
        with pytest.raises(InputError, match="ranks 3, 4 of 4 were never compared"):
            examination(group, rank, np.ones(4, np.bool_), ranks=4)
        with pytest.raises(InputError, match="ranks 2 of 2 were never clicked"):
            examination(group, rank, rank == 1, ranks=2)

    def test_needs_a_group_and_a_rank_for_each_row(self) -> None:
        with pytest.raises(ShapeError, match="three lists"):
            examination(np.zeros(2, np.int64), np.ones(3, np.int64), np.ones(3, np.bool_), ranks=1)


def a_log(searches: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_], NDArray[np.float64]]:
    """Return rows of lists of five in an order that does not help, and how attractive each row is."""
    chance = draw()
    attraction = chance.uniform(0, 0.5, (searches, 5))
    clicked = chance.random((searches, 5)) < attraction * LOOKS
    query = np.repeat(np.arange(searches), 5)
    return query, np.tile(np.arange(1, 6), searches), clicked.ravel(), attraction


class TestAnotherOrder:
    """Of what was shown."""

    def test_is_worth_what_users_would_click_in_it(self) -> None:
        query, rank, clicked, attraction = a_log(20_000)
        new = np.argsort(np.argsort(-attraction, axis=1), axis=1) + 1
        found = reordered(query, rank, new.ravel(), clicked, LOOKS, draw())
        true = float((attraction * LOOKS[new - 1]).sum(axis=1).mean())
        logged = float((attraction * LOOKS).sum(axis=1).mean())
        assert found.value.low < true < found.value.high
        assert found.change.low < true / logged - 1 < found.change.high
        assert found.change.low > 0.05
        assert found.warning == ""

    def test_that_is_the_old_one_changes_nothing(self) -> None:
        query, rank, clicked, _ = a_log(500)
        found = reordered(query, rank, rank, clicked, LOOKS, draw())
        assert found.value.mean == pytest.approx(clicked.sum() / 500)
        assert (found.change.low, found.change.high) == (0.0, 0.0)
        assert found.effective == clicked.sum()

    def test_counts_searches_without_a_click(self) -> None:
        query, rank = np.repeat(np.arange(4), 2), np.tile([1, 2], 4)
        clicked = np.array([0, 1, 0, 0, 0, 0, 0, 0], np.bool_)
        found = reordered(query, rank, 3 - rank, clicked, np.array([1.0, 0.5]), draw())
        assert found.value.mean == 0.5  # one click at rank 2 that counts twice, over four searches

    def test_is_warned_of_where_a_few_clicks_outweigh_the_others(self) -> None:
        query, rank = np.repeat(np.arange(200), 2), np.tile([1, 2], 200)
        clicked = (rank == 1) | (query < 2)
        found = reordered(query, rank, 3 - rank, clicked, np.array([1.0, 0.001]), draw(), clip=1000.0)
        assert found.effective == pytest.approx(2, abs=0.1)
        assert "no more than 2 equal ones" in found.warning

    def test_counts_no_click_more_often_than_the_clip(self) -> None:
        query, rank, clicked = np.array([0, 0]), np.array([1, 2]), np.array([False, True])
        found = reordered(query, rank, 3 - rank, clicked, np.array([1.0, 0.01]), draw())
        assert (found.value.mean, found.clipped) == (10.0, 1.0)

    def test_needs_ranks_whose_chances_are_known(self) -> None:
        query, rank, clicked, _ = a_log(3)
        with pytest.raises(InputError, match="ranks of 1 to 4, got 1 to 5"):
            reordered(query, rank, rank, clicked, LOOKS[:4], draw())
        with pytest.raises(InputError, match="above 0"):
            reordered(query, rank, rank, clicked, LOOKS * 0, draw())
        with pytest.raises(InputError, match="at least one click"):
            reordered(query, rank, rank, clicked & False, LOOKS, draw())
        with pytest.raises(ShapeError, match="four lists"):
            reordered(query[1:], rank, rank, clicked, LOOKS, draw())


class TestAnotherPolicy:
    """Whose chances are known."""

    def test_is_worth_what_it_would_have_got(self) -> None:
        chance, rows = draw(), 8_000
        value, old, new = np.array([0.02, 0.05, 0.2]), np.array([0.5, 0.4, 0.1]), np.array([0.1, 0.2, 0.7])
        chosen = chance.choice(3, rows, p=old)
        reward = (chance.random(rows) < value[chosen]).astype(np.float64)
        ips, snips = reweighted(reward, (new / old)[chosen], np.arange(rows), chance)
        for interval in (ips.value, snips):
            assert interval.low < float((value * new).sum()) < interval.high

    def test_of_weights_that_are_all_the_same_is_the_mean_of_the_log(self) -> None:
        reward = np.array([1.0, 0.0, 1.0, 0.0, 0.0])
        ips, snips = reweighted(reward, np.full(5, 2.0), np.arange(5), draw())
        assert (ips.value.mean, snips.mean, ips.effective) == pytest.approx((0.8, 0.4, 2.0))

    @pytest.mark.parametrize("weight", [[0.0, 0.0], [1.0, -1.0], [1.0, float("inf")]])
    def test_needs_weights_that_mean_something(self, weight: list[float]) -> None:
        with pytest.raises(InputError, match="need weights"):
            reweighted(np.ones(2), np.array(weight), np.arange(2), draw())
