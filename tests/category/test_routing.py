from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sameitem.category.routing import route, routing_loss
from sameitem.core.errors import InputError, ShapeError


@settings(deadline=None)
@given(weights=st.lists(st.integers(0, 50), min_size=1, max_size=6).filter(any), percent=st.integers(1, 100))
def test_no_smaller_set_of_categories_holds_the_mass(weights: list[int], percent: int) -> None:
    probabilities = np.array(weights) / sum(weights)
    chosen = route(probabilities, percent / 100)
    slack = 1e-9
    assert probabilities[chosen].sum() >= percent / 100 - slack
    for smaller in combinations(range(len(weights)), len(chosen) - 1):
        assert probabilities[list(smaller)].sum() < percent / 100 + slack
    assert sorted(probabilities[chosen], reverse=True) == probabilities[chosen].tolist()


def test_equal_categories_come_in_their_order() -> None:
    assert route(np.array([0.25, 0.25, 0.5]), 0.9).tolist() == [2, 0, 1]


def test_without_an_opinion_every_category_is_searched() -> None:
    assert route(np.zeros(3), 0.95).tolist() == [0, 1, 2]


def test_the_loss_is_the_share_of_photos_whose_category_is_left_out() -> None:
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.0, 0.0]])
    assert routing_loss(probabilities, np.array([0, 1, 1, 1]), 0.8) == 0.25


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="mass"):
        route(np.array([1.0]), 0.0)
    with pytest.raises(InputError, match="not negative"):
        route(np.array([1.0, -1.0]), 0.5)
    with pytest.raises(ShapeError, match="categories"):
        route(np.zeros((2, 2)), 0.5)
    with pytest.raises(ShapeError, match="one true category per row"):
        routing_loss(np.zeros((2, 2)), np.array([0]), 0.5)
