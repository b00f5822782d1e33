import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.strategies import integers

from sameitem.learning.edits import compose, edit


@settings(max_examples=30, deadline=None)
@given(seed=integers(0, 999), width=integers(8, 90), height=integers(8, 90))
def test_an_edit_is_a_picture_and_the_same_for_the_same_seed(seed: int, width: int, height: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    first, again = (edit(pixels, np.random.default_rng(seed)) for _ in range(2))
    assert first.dtype == np.uint8
    assert first.ndim == 3
    assert np.array_equal(first, again)


@settings(max_examples=20, deadline=None)
@given(seed=integers(0, 999), width=integers(8, 90), height=integers(8, 90))
def test_a_composition_is_a_square_picture_and_the_same_for_the_same_seed(seed: int, width: int, height: int) -> None:
    rng = np.random.default_rng(seed)
    item = np.full((height, width, 3), 255, np.uint8)
    item[height // 4 : height // 2, width // 4 : width // 2] = (200, 20, 30)
    background = rng.integers(0, 256, (30, 50, 3), dtype=np.uint8)
    first, again = (compose(item, background, np.random.default_rng(seed)) for _ in range(2))
    assert first.shape == (320, 320, 3)
    assert np.array_equal(first, again)


@pytest.mark.parametrize("seed", range(5))
def test_a_composition_shows_the_subject_and_the_background_but_not_the_backdrop(seed: int) -> None:
    item = np.full((100, 100, 3), 255, np.uint8)
    item[20:80, 30:70] = (220, 10, 10)
    blue = np.full((60, 60, 3), (10, 10, 220), np.uint8)
    scene = compose(item, blue, np.random.default_rng(seed)).astype(int)
    red = (scene[..., 0] > scene[..., 2] + 60).mean()
    assert 0.05 < red < 0.8
    assert (scene[..., 2] > scene[..., 0] + 60).mean() > 0.15
    assert (scene.min(axis=2) > 180).mean() < 0.01
