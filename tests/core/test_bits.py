import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sameitem.core.bits import binarize, hamming, random_rotation
from sameitem.core.errors import ShapeError


@settings(deadline=None)
@given(dim=st.integers(1, 40), words=st.integers(1, 8), seed=st.integers(0, 99))
def test_the_shorter_side_of_a_rotation_is_orthonormal(dim: int, words: int, seed: int) -> None:
    rotation = random_rotation(dim, 8 * words, seed=seed).astype(np.float64)
    product = rotation.T @ rotation if dim >= 8 * words else rotation @ rotation.T
    assert np.allclose(product, np.eye(min(dim, 8 * words)), atol=1e-5)


def test_a_seed_draws_one_rotation_and_another_seed_another() -> None:
    assert np.array_equal(random_rotation(20, 64, seed=3), random_rotation(20, 64, seed=3))
    assert not np.array_equal(random_rotation(20, 64, seed=3), random_rotation(20, 64, seed=4))


@settings(deadline=None)
@given(rows=st.integers(0, 9), dim=st.integers(1, 20), words=st.integers(1, 4), seed=st.integers(0, 99))
def test_a_bit_says_whether_the_rotated_feature_is_positive(rows: int, dim: int, words: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    features = generator.integers(-3, 4, (rows, dim)).astype(np.float32)
    rotation = generator.integers(-3, 4, (dim, 8 * words)).astype(np.float32)  # whole numbers: no rounding
    codes = binarize(features, rotation)
    assert codes.shape == (rows, words)
    for row in range(rows):
        for bit in range(8 * words):
            value = sum(int(features[row, i]) * int(rotation[i, bit]) for i in range(dim))
            assert bool(codes[row, bit // 8] >> (7 - bit % 8) & 1) == (value > 0)


@settings(deadline=None)
@given(rows=st.integers(0, 30), words=st.integers(1, 64), seed=st.integers(0, 99))
def test_hamming_counts_differing_bits(rows: int, words: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    codes = generator.integers(0, 256, (rows, 8 * words), dtype=np.uint8)
    code = generator.integers(0, 256, 8 * words, dtype=np.uint8)
    expected = [
        (int.from_bytes(row.tobytes(), "big") ^ int.from_bytes(code.tobytes(), "big")).bit_count() for row in codes
    ]
    assert hamming(codes, code).tolist() == expected


def test_hamming_is_the_same_across_its_chunks() -> None:
    codes = np.random.default_rng(5).integers(0, 256, (4099, 64), dtype=np.uint8)
    together = hamming(codes, codes[7])
    assert together.tolist() == [int(hamming(codes[row : row + 1], codes[7])[0]) for row in range(len(codes))]


def test_differing_bits_measure_the_angle() -> None:
    generator = np.random.default_rng(11)
    rotation = random_rotation(600, 512, seed=0)
    for angle in (0.2, 0.7, 1.4):
        first = generator.standard_normal((400, 600))
        first /= np.linalg.norm(first, axis=1, keepdims=True)
        other = generator.standard_normal((400, 600))
        other -= first * (first * other).sum(axis=1, keepdims=True)
        other /= np.linalg.norm(other, axis=1, keepdims=True)
        turned = np.cos(angle) * first + np.sin(angle) * other
        codes = binarize(first.astype(np.float32), rotation), binarize(turned.astype(np.float32), rotation)
        share = np.mean([hamming(a[None], b)[0] for a, b in zip(*codes, strict=True)]) / 512
        assert share == pytest.approx(angle / np.pi, abs=0.005)


@pytest.mark.parametrize(("features", "rotation"), [((3,), (3, 8)), ((2, 3), (4, 8)), ((2, 3), (3, 7))])
def test_binarize_refuses_what_does_not_fit(features: tuple[int, ...], rotation: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="need features"):
        binarize(np.ones(features, np.float32), np.ones(rotation, np.float32))


@pytest.mark.parametrize(("codes", "code"), [((3, 8), (16,)), ((3, 7), (7,)), ((8,), (8,))])
def test_hamming_refuses_what_does_not_fit(codes: tuple[int, ...], code: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="width % 8"):
        hamming(np.zeros(codes, np.uint8), np.zeros(code, np.uint8))


@pytest.mark.parametrize(("dim", "bits"), [(0, 64), (5, 0), (5, 12)])
def test_a_rotation_of_no_size_is_refused(dim: int, bits: int) -> None:
    with pytest.raises(ShapeError, match="multiple of 8"):
        random_rotation(dim, bits, seed=0)
