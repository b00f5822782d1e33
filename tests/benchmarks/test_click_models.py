import numpy as np
import pytest

from click_models import ByPosition, FromTheTop, Rankers, Users

USERS = [ByPosition(), FromTheTop(), FromTheTop(goes_on=1.0, satisfied=1.0), FromTheTop(goes_on=0.5, satisfied=0.0)]


@pytest.mark.parametrize("users", USERS)
def test_users_click_as_often_as_a_list_can_expect(users: Users) -> None:
    draw = np.random.default_rng(1)
    lists = draw.random((3, 6))
    clicked = users.click(np.repeat(lists, 40_000, axis=0), draw).reshape(3, 40_000, 6).sum(axis=2)
    off = (clicked.mean(axis=1) - users.expected(lists)) / (clicked.std(axis=1) / 200)
    assert np.abs(off).max() < 4


def test_a_cascade_of_one_click_has_no_second_one() -> None:
    draw = np.random.default_rng(2)
    clicked = FromTheTop(satisfied=1.0).click(np.full((5000, 8), 0.5), draw)
    assert clicked.sum(axis=1).max() == 1


@pytest.mark.parametrize("users", USERS[:2])
@pytest.mark.parametrize("gain", [0.02, 0.0, -0.05])
def test_the_better_ranker_gets_so_many_more_clicks(users: Users, gain: float) -> None:
    rankers = Rankers.draw(np.random.default_rng(3), queries=500, candidates=20, alike=0.5)
    noise, ratio = rankers.better_b(users, 10, gain=gain)
    a, b = rankers.orders(1.0, noise)
    assert rankers.worth(b, users, 10) / rankers.worth(a, users, 10) == ratio
    assert ratio == pytest.approx(1 + gain, abs=5e-4)
