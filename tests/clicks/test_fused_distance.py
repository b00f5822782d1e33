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
    quantile,
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

    found = feature_distance(features, features)([A, B], [A, B, C])
    np.testing.assert_allclose(found, [[0, 2, np.nan], [2, 0, np.nan]])


def test_a_picture_may_have_another_feature_as_an_anchor_than_among_the_others() -> None:
    def right(pictures: Sequence[Picture]) -> NDArray[np.float32]:
        return np.array([[1.0, 0.0] for _ in pictures], dtype=np.float32)

    def up(pictures: Sequence[Picture]) -> NDArray[np.float32]:
        return np.array([[0.0, 1.0] for _ in pictures], dtype=np.float32)

    np.testing.assert_allclose(feature_distance(right, up)([A], [A, B]), [[2, 2]])


@given(seed=st.integers(0, 9999), part=st.integers(1, 6))
def test_distances_do_not_depend_on_what_else_is_asked(seed: int, part: int) -> None:
    generator = np.random.default_rng(seed)
    pictures = [Picture(ContentHash(str(number))) for number in range(9)]
    drawn = generator.standard_normal((9, 33)).astype(np.float32)
    rows = dict(zip(pictures, drawn / np.linalg.norm(drawn, axis=1, keepdims=True), strict=True))

    def features(asked: Sequence[Picture]) -> NDArray[np.float32]:
        return np.stack([rows[picture] for picture in asked])

    distance = feature_distance(features, features)
    together = distance(pictures[:3], pictures[3:])
    np.testing.assert_array_equal(distance(pictures[:1], pictures[3 : 3 + part]), together[:1, :part])


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
