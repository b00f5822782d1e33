"""Two orders in one list: team draft interleaving, so that every user's clicks compare both.

Each order is a captain who drafts the items it ranks highest. Where both would take the same item next, that item takes
its place without a team: a click on it says nothing about which order is better. Where they differ, a coin says whose
item comes first, and the other's item follows at once, so that both have as many places and neither the better ones.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from sameitem.core.errors import InputError, ShapeError

T = TypeVar("T", bound=Hashable)
A, B, BOTH = "A", "B", "-"  # whose a place is


@dataclass(frozen=True, slots=True)
class Interleaved(Generic[T]):
    """One list made of two."""

    items: tuple[T, ...]
    teams: str  # a letter for each place: whose item it is, or BOTH


def team_draft(a: Sequence[T], b: Sequence[T], coins: Sequence[bool] | NDArray[np.bool_]) -> Interleaved[T]:
    """Return one list of all items of two orders, in which both have equal places.

    Args:
        a: items, best first.
        b: items, best first; usually the same ones. Where one order has no item left, the rest of the other follows.
        coins: fair ones, of the caller's chance; true where B's item comes before A's. As many as the shorter order
            has items are always enough.

    Raises:
        InputError: an item twice in one order, or too few coins.

    Source: Radlinski, Kurup and Joachims, How Does Clickthrough Data Reflect Retrieval Quality?, CIKM 2008, algorithm
        2. That places on which both agree have no team is ours (docs/decisions/0015-which-order-is-better.md).
    """
    if len(set(a)) != len(a) or len(set(b)) != len(b):
        raise InputError("need orders that hold each item once")
    if len(coins) < min(len(a), len(b)):
        raise InputError(f"need {min(len(a), len(b))} coins for orders of {len(a)} and {len(b)}, got {len(coins)}")
    taken: dict[T, str] = {}
    at_a = at_b = round_ = 0
    while True:
        while at_a < len(a) and a[at_a] in taken:
            at_a += 1
        while at_b < len(b) and b[at_b] in taken:
            at_b += 1
        if at_a == len(a) or at_b == len(b):
            taken |= {item: A for item in a[at_a:] if item not in taken}
            taken |= {item: B for item in b[at_b:] if item not in taken}
            return Interleaved(tuple(taken), "".join(taken.values()))
        if a[at_a] == b[at_b]:
            taken[a[at_a]] = BOTH
            continue
        if coins[round_]:
            taken |= {b[at_b]: B, a[at_a]: A}
        else:
            taken |= {a[at_a]: A, b[at_b]: B}
        round_ += 1


def team_drafts(
    a: NDArray[np.intp], b: NDArray[np.intp], coins: NDArray[np.bool_], depth: int
) -> tuple[NDArray[np.intp], NDArray[np.int8]]:
    """Return what `team_draft` does of many pairs of orders, for simulations.

    Args:
        a: (lists, items) each row an order of the numbers 0 to items - 1.
        b: (lists, items) the same numbers in another order.
        coins: (lists, at least depth / 2) true where B's item comes before A's.
        depth: places that are wanted of each list, at most all.

    Returns:
        (lists, depth) items, and (lists, depth) whose they are: 1 of B, -1 of A, 0 of both.

    Raises:
        ShapeError: arrays that do not fit each other.
        InputError: rows that are not orders of the same numbers.
    """
    if a.ndim != 2 or a.shape != b.shape or not 0 <= depth <= a.shape[1]:
        raise ShapeError(f"need orders of one shape and a depth within them, got {a.shape}, {b.shape} and {depth}")
    if coins.ndim != 2 or len(coins) != len(a) or 2 * coins.shape[1] < depth:
        raise ShapeError(f"need ({len(a)}, at least {-(-depth // 2)}) coins, got {coins.shape}")
    count, width = a.shape
    numbers = np.arange(width)
    if (np.sort(a, axis=1) != numbers).any() or (np.sort(b, axis=1) != numbers).any():
        raise InputError(f"need rows that hold each of the numbers 0 to {width - 1} once")
    rows = np.arange(count)
    taken = np.zeros((count, width), np.bool_)
    at_a, at_b, round_ = (np.zeros(count, np.intp) for _ in range(3))
    owed = np.zeros(count, np.int8)  # who is to answer the other's pick
    items, teams = np.empty((count, depth), np.intp), np.empty((count, depth), np.int8)
    for place in range(depth):
        for order, at in ((a, at_a), (b, at_b)):
            while (behind := taken[rows, order[rows, at]]).any():
                at += behind
        next_a, next_b = a[rows, at_a], b[rows, at_b]
        differ = (owed == 0) & (next_a != next_b)
        opens = np.where(coins[rows, np.minimum(round_, coins.shape[1] - 1)], 1, -1) * differ
        teams[:, place] = team = np.where(owed != 0, owed, opens)
        items[:, place] = item = np.where(team > 0, next_b, next_a)
        owed = np.where(differ, -opens, 0).astype(np.int8)
        round_ += differ
        taken[rows, item] = True
    return items, teams


def winner(teams: str, clicked: Sequence[int]) -> str:
    """Return whose places of a list got more clicks: A, B, or "" where neither's did.

    Args:
        teams: of the places, as in `Interleaved`.
        clicked: places that were clicked, from 0; each counts once, those behind the letters for neither.
    """
    letters = [teams[place] for place in set(clicked) if place < len(teams)]
    ahead = letters.count(B) - letters.count(A)
    return B if ahead > 0 else A if ahead < 0 else ""


def winners(teams: NDArray[np.int8], clicked: NDArray[np.bool_]) -> NDArray[np.int8]:
    """Return what `winner` does of many lists: 1 is B, -1 is A, 0 neither.

    Args:
        teams: (lists, places) as of `team_drafts`.
        clicked: (lists, places)
    """
    return np.asarray(np.sign((teams * clicked).sum(axis=1)), np.int8)
