import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sameitem.category.calibration import softmax
from sameitem.category.fusion import choose_alpha, choose_fusion, fuse
from sameitem.core.errors import InputError, ShapeError

MODEL = np.array([[0.7, 0.3, 0.0], [0.0, 0.0, 0.0], [0.2, 0.2, 0.6], [0.0, 0.0, 0.0]])
VOTE = np.array([[0.1, 0.9, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])


def opinions() -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """The truth, someone who is mostly right and says so, and someone who guesses."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, 500)
    return (
        truth,
        softmax(3 * np.eye(4)[truth] + rng.standard_normal((500, 4))),
        softmax(2 * rng.standard_normal((500, 4))),
    )


def test_where_one_has_no_opinion_the_other_counts_alone() -> None:
    fused = fuse(MODEL, VOTE, 0.25)
    assert fused[0] == pytest.approx([0.25, 0.75, 0.0])
    assert fused[1].tolist() == VOTE[1].tolist()
    assert fused[2].tolist() == MODEL[2].tolist()
    assert fused[3].tolist() == [0, 0, 0]


def test_one_photo_is_fused_as_a_row_of_many() -> None:
    for one, other, both in zip(MODEL, VOTE, fuse(MODEL, VOTE, 0.4), strict=True):
        assert fuse(one, other, 0.4).tolist() == both.tolist()


@settings(deadline=None)
@given(seed=st.integers(0, 999), alpha=st.floats(0, 1))
def test_a_category_that_nobody_can_vote_for_keeps_the_models_probability(seed: int, alpha: float) -> None:
    rng = np.random.default_rng(seed)
    model = softmax(rng.standard_normal((4, 5)))
    knn = softmax(np.where([True, True, False, True, False], rng.standard_normal((4, 5)), -np.inf))
    fused = fuse(model, knn, alpha, voted=np.array([True, True, False, True, False]))
    assert fused.sum(axis=1) == pytest.approx(1)
    assert fused[:, [2, 4]] == pytest.approx(model[:, [2, 4]])


def test_the_chosen_alpha_leans_on_the_one_that_is_right() -> None:
    truth, right, blind = opinions()
    assert choose_alpha(right, blind, truth) >= 0.9
    assert choose_alpha(blind, right, truth) <= 0.1


def test_the_sharpness_is_chosen_with_alpha() -> None:
    truth, right, blind = opinions()
    chosen = choose_fusion(blind, {1.0: blind, 8.0: right}, truth)
    assert chosen.sharpness == 8.0
    assert chosen.alpha <= 0.1


def test_fused_probabilities_get_a_temperature_of_their_own() -> None:
    truth = np.random.default_rng(1).integers(0, 3, 900)
    told = np.where(np.random.default_rng(2).random(900) < 0.9, truth, (truth + 1) % 3)
    timid = softmax(np.eye(3)[told])
    assert choose_fusion(timid, {1.0: timid}, truth).temperature < 0.5  # right 9 times of 10, said with 0.58


def test_opinions_that_err_on_different_photos_are_better_together() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, 600)
    model, knn = (softmax(2 * np.eye(4)[truth] + rng.standard_normal((600, 4)), 0.7) for _ in range(2))
    alpha = choose_alpha(model[:300], knn[:300], truth[:300])
    hits = [(p[300:].argmax(1) == truth[300:]).mean() for p in (model, knn, fuse(model, knn, alpha))]
    assert 0.2 < alpha < 0.8
    assert hits[2] > max(hits[:2]) + 0.03


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ShapeError, match="two equal shapes"):
        fuse(MODEL, VOTE[:2], 0.5)
    with pytest.raises(InputError, match="alpha"):
        fuse(MODEL, VOTE, 1.5)
    with pytest.raises(InputError, match="not negative"):
        fuse(-MODEL, VOTE, 0.5)
    with pytest.raises(ShapeError, match="one flag per category"):
        fuse(MODEL, VOTE, 0.5, voted=np.array([True]))
    with pytest.raises(InputError, match="at least one alpha"):
        choose_alpha(MODEL, VOTE, np.array([0, 1, 2, 0]), [])
