import numpy as np
import pytest

from click_models import ByPosition, Rankers
from interleaving import World, run, wilson


def a_world(*, is_dealt: bool) -> World:
    rankers = Rankers.draw(np.random.default_rng(1), queries=100, candidates=15, alike=0.5)
    return World(rankers.attraction, *rankers.orders(2.0, 0.0), ByPosition(), is_dealt)


def test_a_much_better_ranker_is_found_by_every_experiment() -> None:
    found = run(a_world(is_dealt=False), np.random.default_rng(2), 5)
    assert found["ends"] == {"b better": 5}


def test_orders_that_are_dealt_by_chance_win_as_often() -> None:
    wins = next(a_world(is_dealt=True).wins(np.random.default_rng(3)))
    decided = np.count_nonzero(wins)
    assert abs(int(wins.sum())) < 4 * decided**0.5


def test_the_interval_of_a_share_is_the_one_of_the_textbook() -> None:
    found = wilson(8, 10)
    assert (found["low"], found["high"]) == pytest.approx((0.4902, 0.9433), abs=1e-4)
