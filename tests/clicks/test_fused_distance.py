from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from sameitem.clicks.fused_distance import (
    FusedDistance,
    LocalCheck,
    Term,
    feature_distance,
    fit_weights,
    quantile,
    random_pairs,
)
from sameitem.clicks.triplets import Distance, Picture
from sameitem.core.errors import InputError, ShapeError
from sameitem.core.records import ContentHash

EVEN = np.arange(1, 101) / 100  # a distance of 0.37 is nearer than 63 % of these
A, B, C = (Picture(ContentHash(name)) for name in "abc")


def constant(*values: float) -> Distance:
    return lambda anchors, others: np.tile(np.array(values), (len(anchors), 1))[:, : len(others)]


def test_the_fused_distance_is_the_weighted_sum_of_quantiles() -> None:
    fused = FusedDistance((Term("one", constant(0.2, 0.9), EVEN, 3.0), Term("two", constant(0.6, 0.1), EVEN, 1.0)))
    assert fused([A], [B, C]) == pytest.approx(np.array([[0.3, 0.7]]))


def test_a_term_that_cannot_tell_leaves_the_others_to_decide() -> None:
    fused = FusedDistance((Term("one", constant(np.nan, np.nan), EVEN, 9.0), Term("two", constant(0.6, np.nan), EVEN)))
    found = fused([A], [B, C])
    assert found[0, 0] == pytest.approx(0.6)
    assert np.isnan(found[0, 1])


def test_local_features_are_asked_only_about_undecided_pairs_and_only_prove_sameness() -> None:
    asked: list[tuple[Picture, Picture]] = []

    def inliers(anchor: Picture, other: Picture) -> int:
        asked.append((anchor, other))
        return 30 if other == B else 3

    local = LocalCheck(inliers, same_from=20, above=0.3, below=0.7)
    near_b = FusedDistance((Term("one", constant(0.5, 0.6), EVEN),), local)
    assert near_b([A], [B, C]) == pytest.approx(np.array([[0.0, 0.6]]))
    assert asked == [(A, B), (A, C)]
    asked.clear()
    decided = FusedDistance((Term("one", constant(0.3, 0.7, np.nan), EVEN),), local)
    decided([A], [B, C, A])
    assert asked == []


@given(
    pairs=st.lists(st.floats(0, 4), min_size=1, max_size=40),
    distances=st.lists(st.floats(0, 5), min_size=1, max_size=20),
)
def test_quantiles_lie_around_the_share_of_nearer_pairs_and_keep_the_order(
    pairs: list[float], distances: list[float]
) -> None:
    sample, asked = np.sort(np.array(pairs)), np.sort(np.array(distances))
    found = quantile(asked, sample)
    assert (np.diff(found) >= 0).all()
    for distance, share in zip(asked, found, strict=True):
        above = sample[sample > distance]
        upper = np.mean(sample <= above[0]) if len(above) else 1.0
        assert np.mean(sample <= distance) <= share + 1e-12
        assert share <= upper + 1e-12


def test_distances_below_every_random_pair_keep_their_order() -> None:
    low, lower, lowest = quantile(np.array([0.5, 0.1, 0.0]), np.linspace(1, 2, 100))
    assert 0.01 > low > lower > lowest == 0.0


def test_feature_distances_are_those_of_unit_vectors_and_nan_where_a_feature_is_missing() -> None:
    rows = {A: [1.0, 0.0], B: [0.0, 1.0], C: [np.nan, np.nan]}

    def features(pictures: Sequence[Picture]) -> NDArray[np.float32]:
        return np.array([rows[picture] for picture in pictures], dtype=np.float32)

    found = feature_distance(features)([A, B], [A, B, C])
    np.testing.assert_allclose(found, [[0, 2, np.nan], [2, 0, np.nan]])


@given(seed=st.integers(0, 9999), part=st.integers(1, 6))
def test_distances_do_not_depend_on_what_else_is_asked(seed: int, part: int) -> None:
    generator = np.random.default_rng(seed)
    pictures = [Picture(ContentHash(str(number))) for number in range(9)]
    drawn = generator.standard_normal((9, 33)).astype(np.float32)
    rows = dict(zip(pictures, drawn / np.linalg.norm(drawn, axis=1, keepdims=True), strict=True))
    distance = feature_distance(lambda asked: np.stack([rows[picture] for picture in asked]))
    together = distance(pictures[:3], pictures[3:])
    np.testing.assert_array_equal(distance(pictures[:1], pictures[3 : 3 + part]), together[:1, :part])


def test_random_pairs_are_drawn_by_the_generator_ascending_without_unknown_ones() -> None:
    pictures = [Picture(ContentHash(str(number))) for number in range(30)]

    def distance(anchors: Sequence[Picture], others: Sequence[Picture], /) -> NDArray[np.float64]:
        numbers = np.array([float(other.content_hash) for other in others])
        return np.array([np.where(numbers < 3, np.nan, numbers + int(anchor.content_hash)) for anchor in anchors])

    def draw(seed: int) -> NDArray[np.float64]:
        return random_pairs(distance, pictures, pictures, pairs=400, generator=np.random.default_rng(seed))

    first = draw(1)
    assert 300 < len(first) <= 420
    assert (np.diff(first) >= 0).all()
    np.testing.assert_array_equal(first, draw(1))
    assert not np.array_equal(first[:50], draw(2)[:50])


def labelled(seed: int, *, pairs: int = 600) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Draw pairs of which the first term tells much, the second little and the third nothing."""
    generator = np.random.default_rng(seed)
    is_same = generator.random(pairs) < 0.4
    told = np.where(is_same[:, None], [[0.2, 0.45, 0.5]], [[0.6, 0.55, 0.5]])
    return np.clip(told + generator.normal(0, 0.15, (pairs, 3)), 0, 1), is_same


@pytest.mark.parametrize("seed", range(5))
def test_fitted_weights_prefer_the_terms_that_tell(seed: int) -> None:
    weights = fit_weights(*labelled(seed))
    assert weights.sum() == pytest.approx(1)
    assert (weights >= 0).all()
    assert weights[0] > weights[1] > weights[2]


@pytest.mark.parametrize("seed", range(5))
def test_fitted_weights_tell_pairs_apart_at_least_as_well_as_equal_ones(seed: int) -> None:
    weights = fit_weights(*labelled(seed))
    quantiles, is_same = labelled(seed + 100)

    def auc(with_weights: NDArray[np.float64]) -> float:
        distances = quantiles @ with_weights
        return float(np.mean(distances[is_same][:, None] < distances[~is_same][None, :]))

    assert auc(weights) > auc(np.full(3, 1 / 3))


def test_a_term_that_counts_backwards_is_left_out() -> None:
    quantiles, is_same = labelled(0)
    assert fit_weights(np.c_[quantiles[:, 0], 1 - quantiles[:, 0]], is_same).tolist() == [1.0, 0.0]
    assert fit_weights(1 - quantiles[:, :1], is_same).tolist() == [1.0]


def test_pairs_that_one_term_separates_completely_still_give_finite_weights() -> None:
    is_same = np.arange(40) < 20
    weights = fit_weights(np.c_[~is_same, np.full(40, 0.5)].astype(np.float64), is_same)
    assert weights.tolist() == [1.0, 0.0]


def test_the_fit_is_the_minimum_of_the_penalised_loss() -> None:
    quantiles, is_same = labelled(3)
    weights = fit_weights(quantiles[:, :2], is_same)
    scaled = (quantiles[:, :2] - quantiles[:, :2].mean(axis=0)) / quantiles[:, :2].std(axis=0)
    found = np.zeros(3)
    design = np.c_[scaled, np.ones(len(scaled))]
    for _ in range(20_000):  # plain gradient descent as the oracle
        chance = 1 / (1 + np.exp(-design @ found))
        found -= 0.5 * (design.T @ (chance - is_same) / len(design) + np.array([1e-3, 1e-3, 0]) * found)
    plain = -found[:2] / quantiles[:, :2].std(axis=0)
    assert weights == pytest.approx(plain / plain.sum(), abs=1e-6)


@pytest.mark.parametrize(
    ("quantiles", "is_same", "error"),
    [
        (np.zeros((3, 2)), np.array([True, False]), ShapeError),
        (np.zeros(3), np.array([True, False, True]), ShapeError),
        (np.full((2, 1), np.nan), np.array([True, False]), InputError),
        (np.zeros((2, 1)), np.array([True, True]), InputError),
    ],
)
def test_pairs_that_nothing_can_be_fitted_to_are_refused(
    quantiles: NDArray[np.float64], is_same: NDArray[np.bool_], error: type[Exception]
) -> None:
    with pytest.raises(error, match="need"):
        fit_weights(quantiles, is_same)


@pytest.mark.parametrize("sample", [EVEN[:99], EVEN[::-1], EVEN - 1, np.r_[EVEN, np.inf], EVEN.reshape(10, 10)])
def test_random_pairs_that_make_no_scale_are_refused(sample: NDArray[np.float64]) -> None:
    with pytest.raises(InputError, match="need"):
        Term("one", constant(0.5), sample)


def test_a_fused_distance_needs_a_term_that_counts() -> None:
    with pytest.raises(InputError, match="need a term"):
        FusedDistance((Term("one", constant(0.5), EVEN, 0.0),))


def test_a_term_of_another_shape_is_refused() -> None:
    with pytest.raises(ShapeError, match="'one'"):
        FusedDistance((Term("one", constant(0.5), EVEN),))([A], [B, C])
