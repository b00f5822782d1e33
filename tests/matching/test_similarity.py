import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from sameitem.core.errors import InputError, ShapeError
from sameitem.core.records import Pixels
from sameitem.matching.rootsift import LocalFeatures, detect
from sameitem.matching.similarity import fit_similarity, is_same, match, verify, verify_features

Points = NDArray[np.float64]


def random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def similarity(*, turn: float, stretch: float, shift: tuple[float, float]) -> Points:
    cos, sin = stretch * math.cos(turn), stretch * math.sin(turn)
    return np.array([[cos, -sin, shift[0]], [sin, cos, shift[1]]])


def moved(matrix: Points, points: Points) -> Points:
    return points @ matrix[:, :2].T + matrix[:, 2]


def picture(seed: int, *, width: int = 160, height: int = 120) -> Pixels:
    """Random smooth texture with detail of several sizes, in colour."""
    generator = random(seed)
    total = np.zeros((height, width, 3), np.float32)
    for cells in (7, 17, 45):
        for channel in range(3):
            coarse = Image.fromarray(generator.normal(size=(cells, cells)).astype(np.float32))
            total[..., channel] += np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
    return np.clip(128 + 45 * total, 0, 255).astype(np.uint8)


def redrawn(pixels: Pixels, matrix: Points) -> Pixels:
    """The picture after a similarity; both have the size of the first, and pixel centres are whole numbers."""
    linear = np.linalg.inv(matrix[:, :2])
    shift = 0.5 - linear @ (matrix[:, 2] + 0.5)  # Pillow's pixel centres are at halves
    coefficients = np.column_stack([linear, shift]).ravel().tolist()
    image = Image.fromarray(pixels)
    size = (pixels.shape[1], pixels.shape[0])
    turned = image.transform(size, Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC, fillcolor="grey")
    return np.asarray(turned)


def features_of(descriptors: NDArray[np.float64], keypoints: NDArray[np.float64] | None = None) -> LocalFeatures:
    rows = np.zeros((len(descriptors), 128), np.float32)
    rows[:, : descriptors.shape[1]] = descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True)
    places = np.column_stack([np.arange(len(rows)), np.zeros((len(rows), 3))]) if keypoints is None else keypoints
    return LocalFeatures(places.astype(np.float32), rows)


# match


def test_mutual_nearest_neighbours_match() -> None:
    a = features_of(np.array([[1.0, 0.0, 0.1], [0.0, 1.0, 0.1]]))
    b = features_of(np.array([[0.1, 1.0, 0.0], [1.0, 0.1, 0.0]]))
    matches = match(a, b)
    assert matches.rows_a.tolist() == [0, 1]
    assert matches.rows_b.tolist() == [1, 0]


def test_two_answers_that_are_nearly_as_near_are_no_match() -> None:
    a = features_of(np.array([[1.0, 0.0, 0.5]]))
    b = features_of(np.array([[1.0, 0.1, 0.0], [1.0, -0.1, 0.0]]))
    assert not len(match(a, b, ratio=0.99).rows_a)


def test_only_the_nearer_of_two_that_want_the_same_matches() -> None:
    a = features_of(np.array([[1.0, 0.3], [1.0, 0.0]]))
    b = features_of(np.array([[1.0, 0.01], [0.0, 1.0]]))
    matches = match(a, b)
    assert (matches.rows_a.tolist(), matches.rows_b.tolist()) == ([1], [0])


def test_several_directions_at_one_place_match_once() -> None:
    descriptors, places = np.eye(3), np.array([[5, 5, 1, 0], [5, 5, 1, 2], [9, 9, 1, 0]])
    matches = match(features_of(descriptors, places), features_of(descriptors))
    assert len(matches.rows_a) == 2
    assert 2 in matches.rows_a


@pytest.mark.parametrize(("count_a", "count_b"), [(0, 0), (0, 3), (3, 0), (3, 1)])
def test_too_few_features_give_no_match(count_a: int, count_b: int) -> None:
    a, b = (features_of(np.eye(3)[:count]) for count in (count_a, count_b))
    assert not len(match(a, b).rows_a)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_matches_agree_with_a_plain_loop(seed: int) -> None:
    generator = random(seed)
    a, b = (features_of(generator.normal(size=(12, 6))) for _ in range(2))
    expected = []
    for i, one in enumerate(a.descriptors):
        distances = [float(np.linalg.norm(one - other)) for other in b.descriptors]
        j = int(np.argmin(distances))
        back = [float(np.linalg.norm(b.descriptors[j] - other)) for other in a.descriptors]
        if int(np.argmin(back)) == i and distances[j] < 0.8 * sorted(distances)[1]:
            expected.append((i, j))
    matches = match(a, b)
    assert list(zip(matches.rows_a.tolist(), matches.rows_b.tolist(), strict=True)) == expected
    gaps = np.linalg.norm(a.descriptors[matches.rows_a] - b.descriptors[matches.rows_b], axis=1)
    np.testing.assert_allclose(matches.distances, gaps, atol=1e-4)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_the_order_of_the_features_does_not_change_the_pairs(seed: int) -> None:
    generator = random(seed)
    a, b = (features_of(generator.normal(size=(30, 5)).round(1) + 0.01) for _ in range(2))
    order_a, order_b = generator.permutation(30), generator.permutation(30)
    shuffled = match(
        LocalFeatures(a.keypoints[order_a], a.descriptors[order_a]),
        LocalFeatures(b.keypoints[order_b], b.descriptors[order_b]),
    )
    plain = match(a, b)
    assert order_a[shuffled.rows_a].tolist() == plain.rows_a.tolist()
    assert order_b[shuffled.rows_b].tolist() == plain.rows_b.tolist()


@pytest.mark.parametrize("ratio", [0.0, -1.0, 1.1, math.nan])
def test_a_ratio_that_is_none_is_refused(ratio: float) -> None:
    with pytest.raises(InputError, match="above 0 and at most 1"):
        match(features_of(np.eye(3)), features_of(np.eye(3)), ratio=ratio)


# fit_similarity


@given(
    turn=st.floats(-math.pi, math.pi),
    stretch=st.floats(0.25, 4),
    count=st.integers(10, 150),
    wrong_share=st.floats(0, 0.6),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=40, deadline=None)
def test_the_similarity_is_recovered_among_wrong_pairs(
    turn: float, stretch: float, count: int, wrong_share: float, seed: int
) -> None:
    generator = random(seed)
    truth = similarity(turn=turn, stretch=stretch, shift=(30, -20))
    a = generator.uniform(0, 400, (count, 2))
    b = moved(truth, a) + generator.normal(0, 0.3 * min(1, stretch), (count, 2))
    wrong = generator.random(count) < wrong_share
    b[wrong] = generator.uniform(0, 400 * stretch, (int(wrong.sum()), 2))
    assume((~wrong).sum() >= 8)
    fit = fit_similarity(a, b, threshold_px=3.0 * max(1, stretch), generator=generator)
    assert fit is not None
    corners = np.array([[0.0, 0.0], [400, 0], [400, 400], [0, 400]])
    assert np.abs(moved(fit.matrix, corners) - moved(truth, corners)).max() < 4 * max(1, stretch)
    assert fit.inliers[~wrong].mean() > 0.95


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_pairs_give_no_similarity(count: int) -> None:
    points = np.arange(2.0 * count).reshape(count, 2)
    assert fit_similarity(points, points, threshold_px=3, generator=random()) is None


def test_two_pairs_give_the_similarity_through_them() -> None:
    a, b = np.array([[0.0, 0.0], [10.0, 0.0]]), np.array([[5.0, 5.0], [5.0, 25.0]])
    fit = fit_similarity(a, b, threshold_px=1, generator=random())
    assert fit is not None
    np.testing.assert_allclose(fit.matrix, [[0, -2, 5], [2, 0, 5]], atol=1e-9)
    assert fit.inliers.all()


@pytest.mark.parametrize("is_collapsed", [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("count", [2, 20, 200])
def test_pairs_that_lie_on_one_point_give_no_similarity(is_collapsed: tuple[bool, bool], count: int) -> None:
    a, b = (np.full((count, 2), 7.0) if same else random().uniform(0, 99, (count, 2)) for same in is_collapsed)
    assert fit_similarity(a, b, threshold_px=3, generator=random()) is None


def test_a_map_that_shrinks_everything_to_a_point_explains_little() -> None:
    a, b = random(1).uniform(0, 400, (60, 2)), 200 + random(2).uniform(-6, 6, (60, 2))
    fit = fit_similarity(a, b, threshold_px=4, generator=random())
    assert fit is None or fit.inliers.sum() < 6


def test_points_on_a_line_give_their_similarity() -> None:
    a = np.column_stack([np.arange(20.0), np.arange(20.0)]) * 9
    truth = similarity(turn=0.5, stretch=1.5, shift=(3, 4))
    fit = fit_similarity(a, moved(truth, a), threshold_px=2, generator=random())
    assert fit is not None
    np.testing.assert_allclose(fit.matrix, truth, atol=1e-6)


def test_one_generator_state_gives_one_result() -> None:
    a, b = random(1).uniform(0, 400, (300, 2)), random(2).uniform(0, 400, (300, 2))
    one, other = (fit_similarity(a, b, threshold_px=8, generator=random(5)) for _ in range(2))
    assert one is not None
    assert other is not None
    assert one.matrix.tobytes() == other.matrix.tobytes()
    assert one.inliers.tobytes() == other.inliers.tobytes()


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (np.zeros((3, 2)), np.zeros((4, 2)), "with one n"),
        (np.zeros((3, 3)), np.zeros((3, 3)), "with one n"),
        (np.zeros((3, 2)), np.full((3, 2), np.nan), "finite"),
        (np.full((3, 2), np.inf), np.zeros((3, 2)), "finite"),
    ],
)
def test_points_that_are_no_pairs_are_refused(a: Points, b: Points, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        fit_similarity(a, b, threshold_px=3, generator=random())


@pytest.mark.parametrize("threshold_px", [0.0, -1.0, math.nan, math.inf])
def test_a_threshold_that_is_not_positive_is_refused(threshold_px: float) -> None:
    with pytest.raises(InputError, match="positive number of pixels"):
        fit_similarity(np.eye(2), np.eye(2), threshold_px=threshold_px, generator=random())


# verify


@given(
    seed=st.integers(0, 2**16),
    turn=st.floats(-math.pi, math.pi),
    stretch=st.floats(0.7, 1.5),
    contrast=st.floats(0.6, 1.0),
    light=st.floats(0, 50),
)
@settings(max_examples=6, deadline=None)
def test_a_turned_stretched_and_lighter_copy_is_recognised_and_laid_right(
    seed: int, turn: float, stretch: float, contrast: float, light: float
) -> None:
    original, middle = picture(seed), np.array([79.5, 59.5])
    about_origin = similarity(turn=turn, stretch=stretch, shift=(0, 0))
    x, y = middle - moved(about_origin, middle[None])[0]
    truth = similarity(turn=turn, stretch=stretch, shift=(float(x), float(y)))
    copy = np.clip(redrawn(original, truth) * contrast + light, 0, 255).astype(np.uint8)
    found = verify(original, copy)
    assert is_same(found.inliers, found.matches)
    assert found.transform is not None
    inner = np.array([[40.0, 30.0], [120.0, 30.0], [120.0, 90.0], [40.0, 90.0]])
    assert np.abs(moved(found.transform, inner) - moved(truth, inner)).max() < 1.5


@given(st.integers(0, 2**16), st.integers(1, 2**16))
@settings(max_examples=6, deadline=None)
def test_unrelated_pictures_are_not_the_same(seed: int, apart: int) -> None:
    found = verify(picture(seed), picture(seed + apart))
    assert not is_same(found.inliers, found.matches)


@given(st.integers(2, 128), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_matches_at_random_places_are_not_the_same(count: int, seed: int) -> None:
    generator = random(seed)
    a, b = (
        features_of(
            np.eye(count),
            np.column_stack(
                [
                    generator.uniform(0, 480, (count, 2)),
                    2 * 2 ** generator.exponential(0.8, count),
                    generator.uniform(0, 2 * math.pi, count),
                ]
            ),
        )
        for _ in range(2)
    )
    found = verify_features(a, b, side_a_px=480, side_b_px=480)
    assert found.matches == count
    assert not is_same(found.inliers, found.matches)


def test_the_order_of_the_features_does_not_change_the_verification() -> None:
    generator, (a, b) = random(3), (detect(picture(4)[:, left : left + 140]) for left in (0, 20))
    order = generator.permutation(len(a.keypoints))
    shuffled = LocalFeatures(a.keypoints[order], a.descriptors[order])
    one, other = (verify_features(first, b, side_a_px=140, side_b_px=140) for first in (a, shuffled))
    assert one.transform is not None
    assert other.transform is not None
    assert (one.matches, one.inliers) == (other.matches, other.inliers)
    assert one.transform.tobytes() == other.transform.tobytes()


def test_the_transform_is_in_the_pixels_of_both_pictures() -> None:
    small = picture(5)
    large = np.asarray(Image.fromarray(small).resize((640, 480), Image.Resampling.BICUBIC))
    found = verify(large, small)
    assert found.transform is not None
    np.testing.assert_allclose(found.transform, [[0.25, 0, -0.375], [0, 0.25, -0.375]], atol=0.3)
    assert found.inliers > 0.9 * found.matches > 20


def test_noise_is_not_the_same_as_other_noise() -> None:
    one, other = (random(seed).integers(0, 256, (160, 160, 3), dtype=np.uint8) for seed in (1, 2))
    found = verify(one, other)
    assert len(detect(one).keypoints) > 20
    assert not is_same(found.inliers, found.matches)


def test_a_picture_without_texture_verifies_nothing() -> None:
    plain = np.full((100, 100, 3), 128, np.uint8)
    found = verify(plain, picture(1))
    assert (found.matches, found.inliers, found.transform) == (0, 0, None)


def test_a_thing_is_found_before_another_background() -> None:
    scene = picture(8, width=240, height=180).copy()
    scene[40:140, 70:210] = picture(9)[10:110, 10:150]
    found = verify(picture(9), scene)
    assert is_same(found.inliers, found.matches)
    assert found.transform is not None
    np.testing.assert_allclose(found.transform, [[1, 0, 60], [0, 1, 30]], atol=0.5)


def test_no_match_at_all_is_not_the_same() -> None:
    assert not is_same(0, 0)
    assert not is_same(2, 2)
