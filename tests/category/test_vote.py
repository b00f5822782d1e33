import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sameitem.category.vote import NO_TOP, ranking, vote
from sameitem.core.errors import InputError, SameItemError, ShapeError

Neighbours = st.lists(st.tuples(st.floats(0, 4), st.integers(0, 5)), max_size=30)
TOPS = np.array([0, 0, 1, 2, 2, NO_TOP])


@settings(deadline=None)
@given(neighbours=Neighbours, sharpness=st.floats(0, 50))
def test_the_vote_is_the_formula(neighbours: list[tuple[float, int]], sharpness: float) -> None:
    result = vote(
        np.array([distance for distance, _ in neighbours]),
        np.array([leaf for _, leaf in neighbours], dtype=np.int64),
        TOPS,
        sharpness=sharpness,
    )
    weights = [math.exp(-sharpness * distance) for distance, _ in neighbours]
    for leaf in range(len(TOPS)):
        of_leaf = sum(w for w, (_, other) in zip(weights, neighbours, strict=True) if other == leaf)
        assert result.leaves[leaf] == pytest.approx(of_leaf / sum(weights) if weights else 0, abs=1e-9)
    known = sum(w for w, (_, leaf) in zip(weights, neighbours, strict=True) if TOPS[leaf] != NO_TOP)
    for top in range(3):
        of_top = sum(w for w, (_, leaf) in zip(weights, neighbours, strict=True) if TOPS[leaf] == top)
        assert result.tops[top] == pytest.approx(of_top / known if known else 0, abs=1e-9)
    assert result.neighbours == len(neighbours)


@settings(deadline=None)
@given(neighbours=Neighbours.filter(bool), sharpness=st.floats(1e3, 1e9))
def test_a_huge_sharpness_lets_the_nearest_decide(neighbours: list[tuple[float, int]], sharpness: float) -> None:
    distances = np.array([distance for distance, _ in neighbours])
    leaves = np.array([leaf for _, leaf in neighbours], dtype=np.int64)
    result = vote(distances, leaves, TOPS, sharpness=sharpness)
    assert result.leaves.sum() == pytest.approx(1)
    assert result.leaves[leaves[distances == distances.min()]].min() > 0


def test_nearer_neighbours_weigh_more() -> None:
    result = vote(np.array([0.1, 0.5, 0.5]), np.array([0, 2, 2]), TOPS, sharpness=10)
    assert result.tops.tolist() == pytest.approx([1 / (1 + 2 * math.exp(-4)), 2 / (math.exp(4) + 2), 0])


def test_nobody_votes_nothing() -> None:
    result = vote(np.zeros(0), np.zeros(0, np.int64), TOPS, sharpness=10)
    assert (result.leaves.sum(), result.tops.sum(), result.neighbours) == (0, 0, 0)


def test_neighbours_of_unknown_top_categories_still_vote_for_their_leaf() -> None:
    result = vote(np.array([0.0, 3.9]), np.array([5, 3]), TOPS, sharpness=1e6)
    assert result.leaves.tolist() == [0, 0, 0, 0, 0, 1]
    assert result.tops.tolist() == [0, 0, 1]


def test_a_ranking_ends_ties_at_the_row_and_leaves_out_who_got_nothing() -> None:
    assert ranking(np.array([0.2, 0.4, 0.0, 0.4])).tolist() == [1, 3, 0]


@pytest.mark.parametrize(
    ("distances", "leaves", "sharpness", "error"),
    [
        ([0.1], [0, 1], 1.0, ShapeError),
        ([0.1], [6], 1.0, InputError),
        ([0.1], [-1], 1.0, InputError),
        ([math.nan], [0], 1.0, InputError),
        ([0.1], [0], -1.0, InputError),
        ([0.1], [0], math.inf, InputError),
    ],
)
def test_a_vote_that_makes_no_sense_is_refused(
    distances: list[float], leaves: list[int], sharpness: float, error: type[SameItemError]
) -> None:
    with pytest.raises(error, match="need"):
        vote(np.array(distances), np.array(leaves), TOPS, sharpness=sharpness)
