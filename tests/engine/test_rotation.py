import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.strategies import integers

from sameitem.core.errors import ShapeError
from sameitem.engine.rotation import ROUNDS, rotate, rotation_signs


@settings(deadline=None)  # the first example compiles
@given(dim=integers(1, 300), rows=integers(1, 5), seed=integers(0, 99))
def test_lengths_and_angles_stay(dim: int, rows: int, seed: int) -> None:
    features = np.random.default_rng(seed).standard_normal((rows, dim)).astype(np.float32)
    rotated = rotate(features, rotation_signs(dim, seed=seed))
    assert rotated.shape == (rows, -(-dim // 64) * 64)
    assert rotated @ rotated.T == pytest.approx(features @ features.T, abs=1e-3)


@settings(deadline=None)
@given(dim=integers(1, 300), rows=integers(2, 9), seed=integers(0, 99))
def test_a_row_is_turned_to_the_same_bits_whatever_stands_beside_it(dim: int, rows: int, seed: int) -> None:
    features = np.random.default_rng(seed).standard_normal((rows, dim)).astype(np.float32)
    signs = rotation_signs(dim, seed=seed)
    assert np.array_equal(rotate(features, signs)[1:2], rotate(features[1:2], signs))


@pytest.mark.parametrize("dim", [128, 512, 768, 1000])
def test_one_number_is_spread_over_all_bits_as_a_random_direction_is(dim: int) -> None:
    axes = np.eye(dim, dtype=np.float32)[:: dim // 8]
    rotated = rotate(axes, rotation_signs(dim, seed=3))
    bits = rotated.shape[1]
    spread = rotated * bits**0.5
    assert np.abs(spread).max() < 6
    assert (spread**4).mean() == pytest.approx(3, abs=0.6)  # of a normal distribution
    assert len(np.unique(rotated > 0, axis=0)) == len(axes)


def test_the_seed_draws_the_rotation() -> None:
    one, same, other = (rotation_signs(200, seed=seed) for seed in (1, 1, 2))
    assert one.shape == (ROUNDS, 256)
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_a_shape_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"need features \(rows, dim\) with dim of 65 to 128, got \(3, 200\)"):
        rotate(np.zeros((3, 200), np.float32), rotation_signs(100, seed=0))
    for dim in (0, 1025):
        with pytest.raises(ShapeError, match=f"need a dim of 1 to 1024, got {dim}"):
            rotation_signs(dim, seed=0)
