import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis.strategies import booleans, integers, sampled_from

import drawn_codes
from drawn_codes import digest, distances_of, draw, scan_all, scores_of
from sameitem.engine.distances import squared_distances
from sameitem.engine.kernels import LARGEST, fill_table, keep_nearest, keep_smallest

EVERYTHING = np.zeros(0, np.uint8)


@given(seed=integers(0, 9999), blocks=integers(1, 5), bits=sampled_from([64, 128, 192, 512, 1024]))
def test_scores_are_those_of_numpy_to_the_bit(seed: int, blocks: int, bits: int) -> None:
    drawn = draw(seed, blocks=blocks, bits=bits)
    assert np.array_equal(scores_of(drawn), drawn.scores())


@given(seed=integers(0, 9999), blocks=integers(1, 12), kept=integers(1, 40), is_filtered=booleans())
def test_a_scan_keeps_the_smallest_scores_of_what_may_be_found(
    seed: int, blocks: int, kept: int, is_filtered: bool
) -> None:
    drawn = draw(seed, blocks=blocks, bits=64)
    allowed = np.random.default_rng(seed).random(blocks * 32) < 0.3 if is_filtered else np.ones(blocks * 32, np.bool_)
    wanted = np.packbits(allowed, bitorder="little") if is_filtered else EVERYTHING
    scores, ids = drawn.scores().ravel(), drawn.ids.ravel()
    expected = sorted(
        (score, row) for score, row in zip(scores, ids, strict=True) if np.isfinite(score) and allowed[row]
    )
    assert scan_all(drawn, kept=kept, wanted=wanted) == expected[:kept]


def test_what_scores_above_the_limit_is_not_found() -> None:
    drawn = draw(1, blocks=3, bits=64)
    scores = np.sort(drawn.scores().ravel())
    assert [score for score, _ in scan_all(drawn, kept=50, wanted=EVERYTHING, limit=scores[10])] == list(scores[:11])


@given(seed=integers(0, 9999), rows=integers(1, 6), dim=integers(1, 200))
def test_exact_distances_are_those_of_numpy_to_the_bit(seed: int, rows: int, dim: int) -> None:
    generator = np.random.default_rng(seed)
    stored = (generator.standard_normal((rows, dim)) * 10.0 ** generator.integers(-8, 3)).astype(np.float16)
    query = generator.standard_normal(dim).astype(np.float32)
    assert np.array_equal(distances_of(stored, query), squared_distances(stored, query))


@given(seed=integers(0, 9999), rows=integers(1, 400), kept=integers(1, 30), own=integers(-1, 399))
def test_the_nearest_rows_of_all_blocks_but_the_own_one_are_kept(seed: int, rows: int, kept: int, own: int) -> None:
    generator = np.random.default_rng(seed)
    products, squares = generator.integers(-9, 9, (2, rows)).astype(np.float32), generator.random(rows, np.float32)
    scores, found = np.full((2, kept + 5), np.inf, np.float32), np.full((2, kept + 5), -1)
    counts, limits = np.zeros(2, np.int64), np.full(2, np.inf, np.float32)
    for first in range(0, rows, 150):
        part = slice(first, first + 150)
        block = np.ascontiguousarray(products[:, part])
        keep_nearest(block, squares[part], first, np.array([own, -1]), kept, scores, found, counts, limits)
    for query, left_out in enumerate((own, -1)):
        expected = sorted((squares[row] - 2 * products[query, row], row) for row in range(rows) if row != left_out)
        kept_here = sorted(zip(scores[query][: counts[query]], found[query][: counts[query]], strict=True))
        assert kept_here[:kept] == expected[:kept]


@given(seed=integers(0, 9999), count=integers(1, 200), values=integers(1, 300))
def test_the_smallest_are_kept_and_of_equal_ones_the_first_rows(seed: int, count: int, values: int) -> None:
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, values, count).astype(np.float32)
    rows = generator.permutation(count).astype(np.uint32)
    kept = int(generator.integers(1, count + 1))
    expected = sorted(zip(scores, rows, strict=True))
    largest = keep_smallest(scores, rows, count, kept)
    assert sorted(zip(scores[:kept], rows[:kept], strict=True)) == expected[:kept]
    assert largest == expected[kept - 1][0]
    assert sorted(zip(scores, rows, strict=True)) == expected


@given(seed=integers(0, 9999), groups=integers(1, 128))
def test_the_table_gives_the_product_of_a_query_and_signs_within_half_a_step_a_group(seed: int, groups: int) -> None:
    generator = np.random.default_rng(seed)
    rotated = generator.standard_normal(4 * groups).astype(np.float32)
    table = np.empty((groups, 16), np.uint8)
    step, least = fill_table(rotated, table)
    bits = generator.random((50, 4 * groups)) < 0.5
    numbers = (bits.reshape(50, groups, 4) << np.arange(4)).sum(axis=2)
    sums = table[np.arange(groups), numbers].sum(axis=1, dtype=np.int64)
    assert step * sums + least == pytest.approx(
        np.where(bits, 1, -1) @ rotated.astype(np.float64), abs=groups * 0.51 * step + 1e-4
    )
    assert table.max() == LARGEST  # the widest group uses all there is


def test_a_query_of_zeros_has_a_table_of_zeros() -> None:
    table = np.empty((16, 16), np.uint8)
    assert fill_table(np.zeros(64, np.float32), table) == (0, 0)
    assert not table.any()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("processor", "features"),
    [("haswell", "+avx2,+f16c,+fma"), ("nehalem", "+ssse3"), ("generic", "")],
)
def test_a_processor_with_fewer_instructions_gives_the_same_bits(processor: str, features: str, tmp_path: Path) -> None:
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        pytest.skip("these are processors of another family")
    source = Path(__file__).parents[2] / "src"
    plays = {"NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": features, "NUMBA_CACHE_DIR": str(tmp_path)}
    said = subprocess.run(
        [sys.executable, drawn_codes.__file__],
        env=os.environ | plays | {"PYTHONPATH": str(source)},
        capture_output=True,
        check=True,
        text=True,
    )
    assert said.stdout.strip() == digest()
