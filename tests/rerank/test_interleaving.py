from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sameitem.core.errors import InputError, ShapeError
from sameitem.rerank.interleaving import BOTH, A, B, Interleaved, team_draft, team_drafts, winner, winners

coins = st.lists(st.booleans(), min_size=12, max_size=12)
lists = st.lists(st.integers(0, 15), unique=True, max_size=12)
orders = st.integers(0, 12).flatmap(lambda n: st.tuples(*[st.permutations(range(n))] * 2))


@given(a=lists, b=lists, coins=coins)
def test_a_list_holds_every_item_of_both_orders_once(a: list[int], b: list[int], coins: list[bool]) -> None:
    drafted = team_draft(a, b, coins)
    assert sorted(drafted.items) == sorted({*a, *b})
    assert len(drafted.teams) == len(drafted.items)


@given(a=lists, b=lists, coins=coins)
def test_every_place_is_what_its_team_ranks_highest_of_what_is_left(
    a: list[int], b: list[int], coins: list[bool]
) -> None:
    drafted = team_draft(a, b, coins)
    for place, (item, team) in enumerate(zip(drafted.items, drafted.teams, strict=True)):
        above = drafted.items[:place]
        best_a, best_b = (next((other for other in order if other not in above), None) for order in (a, b))
        assert {A: item == best_a, B: item == best_b, BOTH: best_a == best_b == item}[team]


@given(pair=orders, coins=coins)
def test_no_beginning_of_a_list_holds_more_of_one_team_than_one(
    pair: tuple[list[int], list[int]], coins: list[bool]
) -> None:
    teams = team_draft(*pair, coins).teams
    assert all(abs(teams[:end].count(A) - teams[:end].count(B)) <= 1 for end in range(len(teams) + 1))
    assert teams.count(A) == teams.count(B)


@given(order=lists, coins=coins)
def test_equal_orders_come_out_as_they_are_and_credit_nobody(order: list[int], coins: list[bool]) -> None:
    drafted = team_draft(order, order, coins)
    assert (list(drafted.items), drafted.teams) == (order, BOTH * len(order))


@given(pair=orders, coins=coins)
def test_the_other_side_of_every_coin_gives_the_list_with_the_teams_exchanged(
    pair: tuple[list[int], list[int]], coins: list[bool]
) -> None:
    one = team_draft(*pair, coins)
    other = team_draft(*reversed(pair), [not coin for coin in coins])
    assert other.items == one.items
    assert other.teams == one.teams.translate(str.maketrans("AB", "BA"))


@given(pair=orders)
def test_over_all_coins_both_teams_have_every_place_as_often(pair: tuple[list[int], list[int]]) -> None:
    rounds = team_draft(*pair, [False] * 12).teams.count(A)
    if rounds > 4:
        return
    drafted = [team_draft(*pair, list(coins) + [False] * 12).teams for coins in product([False, True], repeat=rounds)]
    assert all(place.count(A) == place.count(B) for place in map("".join, zip(*drafted, strict=True)))


def test_a_list_worked_out_by_hand() -> None:
    # Both take 1. They differ: 2 against 3, the coin says A first. Then both take 4, and so on.
    drafted = team_draft([1, 2, 3, 4, 5, 6], [1, 3, 2, 4, 6, 5], [False, True] * 3)
    assert drafted == Interleaved((1, 2, 3, 4, 6, 5), "-AB-BA")


@given(width=st.integers(1, 9), count=st.integers(1, 6), depth=st.integers(0, 9), seed=st.integers(0, 9999))
def test_many_lists_at_once_are_what_one_by_one_gives(width: int, count: int, depth: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    depth = min(depth, width)
    a, b = (np.array([draw.permutation(width) for _ in range(count)]) for _ in range(2))
    coins = draw.random((count, width)) < 0.5
    items, teams = team_drafts(a, b, coins, depth)
    clicked = draw.random((count, depth)) < 0.3
    for row in range(count):
        drafted = team_draft(a[row].tolist(), b[row].tolist(), coins[row])
        assert items[row].tolist() == list(drafted.items[:depth])
        assert "".join("A-B"[team + 1] for team in teams[row]) == drafted.teams[:depth]
        won = winner(drafted.teams, np.flatnonzero(clicked[row]).tolist())
        assert winners(teams, clicked)[row] == {A: -1, B: 1, "": 0}[won]


@pytest.mark.parametrize(
    ("teams", "clicked", "won"),
    [
        ("AB-BA", [], ""),
        ("AB-BA", [2], ""),
        ("AB-BA", [0], A),
        ("AB-BA", [0, 1], ""),
        ("AB-BA", [1, 3, 0], B),
        ("AB-BA", [1, 1, 0, 4], A),
        ("AB", [1, 7], B),
    ],
)
def test_a_list_is_won_by_the_team_with_more_clicked_places(teams: str, clicked: list[int], won: str) -> None:
    assert winner(teams, clicked) == won


def test_orders_that_hold_an_item_twice_are_refused() -> None:
    with pytest.raises(InputError, match="each item once"):
        team_draft([1, 1], [1, 2], [True, True])
    with pytest.raises(InputError, match="0 to 1 once"):
        team_drafts(np.array([[0, 0]]), np.array([[0, 1]]), np.ones((1, 1), np.bool_), 1)


def test_too_few_coins_are_refused() -> None:
    with pytest.raises(InputError, match="need 2 coins"):
        team_draft([1, 2], [2, 1], [True])
    with pytest.raises(ShapeError, match="at least 1"):
        team_drafts(np.array([[0, 1]]), np.array([[1, 0]]), np.ones((1, 0), np.bool_), 2)
