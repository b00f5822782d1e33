from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis.strategies import booleans, integers, sampled_from

from sameitem.core.errors import InputError, ShapeError
from sameitem.engine.distances import squared_distances
from sameitem.engine.lists import (
    BLOCK,
    Effort,
    Lists,
    code_centres,
    encode,
    find_centres,
    lay_out,
    lay_out_in_parts,
    make_lists,
    nearest,
)
from sameitem.engine.rotation import rotate, rotation_signs

Array = np.ndarray[Any, Any]


def drawn(seed: int, *, rows: int, dim: int) -> Array:
    """Unit features that lie in clusters."""
    generator = np.random.default_rng(seed)
    middles = generator.standard_normal((rows // 20 + 1, dim))
    features = middles[generator.integers(len(middles), size=rows)] + 0.5 * generator.standard_normal((rows, dim))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return features.astype(np.float32)


def gallery(seed: int, *, rows: int, dim: int, lists: int) -> tuple[Array, Lists]:
    features = drawn(seed, rows=rows, dim=dim)
    return features.astype(np.float16), make_lists(lambda wanted: features[wanted], rows, lists=lists, seed=seed)


def bits(mask: Array) -> Array:
    return np.packbits(mask, bitorder="little")


def linear_scan(stored: Array, query: Array, k: int, allowed: Array) -> tuple[Array, Array]:
    distances = squared_distances(stored, query)
    rows = np.flatnonzero(allowed)
    order = rows[np.lexsort((rows, distances[rows]))][:k]
    return order, distances[order]


@given(seed=integers(0, 99), rows=integers(1, 400), k=integers(1, 30), share=sampled_from([0.0, 0.1, 0.6, 1.0]))
def test_with_every_list_and_candidate_the_answer_is_that_of_a_linear_scan(
    seed: int, rows: int, k: int, share: float
) -> None:
    stored, lists = gallery(seed, rows=rows, dim=50, lists=min(rows, 5))
    allowed = np.random.default_rng(seed).random(rows) < share
    queries = drawn(seed + 1, rows=3, dim=50)
    found, distances = lists.search(queries, stored, k=k, effort=Effort(5, rows), wanted=bits(allowed))
    for query, some, how_far in zip(queries, found, distances, strict=True):
        expected, exact = linear_scan(stored, query, k, allowed)
        assert np.array_equal(some[: len(expected)], expected)
        assert np.array_equal(how_far[: len(expected)], exact)
        assert (some[len(expected) :] == -1).all()
        assert np.isinf(how_far[len(expected) :]).all()


@given(
    seed=integers(0, 99),
    k=integers(1, 20),
    candidates=integers(1, 60),
    probes=integers(1, 5),
    slack=sampled_from([0.0, 0.02, 0.1, np.inf]),
    is_hamming=booleans(),
)
def test_a_query_is_answered_to_the_same_bits_whatever_else_is_asked(
    seed: int, k: int, candidates: int, probes: int, slack: float, is_hamming: bool
) -> None:
    features = drawn(seed, rows=300, dim=64)
    features[::3] = features[0]  # many alike
    stored = features.astype(np.float16)
    lists = make_lists(lambda wanted: features[wanted], 300, lists=5, seed=seed, is_hamming=is_hamming)
    queries = drawn(seed + 1, rows=4, dim=64)
    asked = {"k": k, "effort": Effort(probes, candidates, slack)}
    together = lists.search(queries, stored, **asked)
    for row, query in enumerate(queries):
        alone = lists.search(query[None], stored, **asked)
        assert all(np.array_equal(one[row], other[0]) for one, other in zip(together, alone, strict=True))


def test_few_lists_and_candidates_find_nearly_all() -> None:
    stored, lists = gallery(5, rows=4000, dim=96, lists=40)
    generator = np.random.default_rng(1)
    queries = stored[::40].astype(np.float32) + 0.02 * generator.standard_normal((100, 96)).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    found, _ = lists.search(queries, stored, k=10, effort=Effort(10, 60, slack=0.2))
    everything = np.ones(len(stored), np.bool_)
    truth = [linear_scan(stored, query, 10, everything)[0] for query in queries]
    assert np.mean([len(set(some) & set(true)) / 10 for some, true in zip(found, truth, strict=True)]) > 0.97


def test_lists_without_anything_that_may_be_found_do_not_count() -> None:
    stored, lists = gallery(7, rows=600, dim=64, lists=12)
    far = int(np.argmin(lists.centres @ lists.centres[lists.list_of_row[0]]))
    among = lists.list_of_row == far
    only = {"wanted": bits(among), "wanted_lists": bits(np.arange(12) == far)}
    found, _ = lists.search(stored[:1].astype(np.float32), stored, k=5, effort=Effort(1, 50), **only)
    assert set(found[0].tolist()) <= {*np.flatnonzero(among).tolist(), -1}
    assert found[0][0] >= 0


@given(seed=integers(0, 99), candidates=integers(1, 40))
def test_hamming_lists_rank_the_codes_that_differ_in_the_fewest_bits(seed: int, candidates: int) -> None:
    features = drawn(seed, rows=200, dim=64)
    lists = make_lists(lambda wanted: features[wanted], 200, lists=3, seed=seed, is_hamming=True)
    query = drawn(seed + 1, rows=1, dim=64)
    codes, own = (rotate(some, lists.signs) > 0 for some in (features, query))
    differ = (codes != own).sum(axis=1)
    expected = np.lexsort((np.arange(200), differ))[:candidates]
    found, _ = lists.search(query, features.astype(np.float16), k=candidates, effort=Effort(3, candidates))
    assert sorted(found[0].tolist()) == sorted(expected.tolist())


def test_an_estimate_is_near_the_distance_and_not_biased() -> None:
    features = drawn(3, rows=2000, dim=512)
    signs = rotation_signs(512, seed=0)
    rotated = rotate(features, signs)
    centres = np.broadcast_to(rotated.mean(axis=0), rotated.shape)
    packed, slopes, offsets = encode(rotated, centres)
    code = np.where(np.unpackbits(packed, axis=1, bitorder="little"), 1, -1).astype(np.float32)
    for row in range(0, 2000, 400):
        query = rotated[row]
        estimate = ((query - centres[0]) ** 2).sum() + offsets + slopes * (code @ query)
        error = np.delete(estimate - ((rotated - query) ** 2).sum(axis=1), row)
        assert abs(error.mean()) < 0.01
        assert error.std() < 0.1


def test_codes_lie_in_their_lists_in_the_order_of_their_rows() -> None:
    generator = np.random.default_rng(0)
    list_of_row = generator.integers(0, 4, 200).astype(np.int32)
    list_of_row[list_of_row == 2] = 1  # a list without codes
    packed = generator.integers(0, 256, (200, 8), dtype=np.uint8)
    numbers = generator.standard_normal((2, 200)).astype(np.float32)
    starts, codes = lay_out(packed, numbers[0], numbers[1], list_of_row, 4)
    assert starts[2] == starts[3]
    for number in range(4):
        part = slice(starts[number], starts[number + 1])
        filled = np.isfinite(codes.offsets[part])
        rows = np.flatnonzero(list_of_row == number)
        assert np.array_equal(codes.ids[part][filled], rows)
        assert np.array_equal(codes.slopes[part][filled], numbers[0][rows])
        assert np.array_equal(codes.offsets[part][filled], numbers[1][rows])
        assert filled.sum() == len(rows) == filled.size - (-len(rows) % BLOCK)
    slot = np.arange(BLOCK)
    groups = codes.blocks.reshape(len(codes.blocks), 16, 16)[:, :, 2 * (slot % 8) + slot // 8 % 2]
    nibbles = np.where(slot < 16, groups & 15, groups >> 4).transpose(0, 2, 1).reshape(-1, 16)
    filled = np.isfinite(codes.offsets).ravel()
    assert np.array_equal(nibbles[filled][:, ::2] | nibbles[filled][:, 1::2] << 4, packed[codes.ids.ravel()[filled]])
    assert not nibbles[~filled].any()


@given(seed=integers(0, 99), rows=integers(1, 300), lists=integers(1, 8), blocks=integers(1, 9))
def test_codes_laid_out_in_parts_are_those_laid_out_at_once(seed: int, rows: int, lists: int, blocks: int) -> None:
    generator = np.random.default_rng(seed)
    packed = generator.integers(0, 256, (rows, 8), dtype=np.uint8)
    slopes, offsets = generator.standard_normal((2, rows)).astype(np.float32)
    list_of_row = generator.integers(0, lists, rows).astype(np.int32)
    starts, codes = lay_out(packed, slopes, offsets, list_of_row, lists)
    starts_too, parts = lay_out_in_parts(packed, slopes, offsets, list_of_row, lists, blocks=blocks)
    laid_out = list(parts)
    assert np.array_equal(starts_too, starts)
    assert max(len(part.ids) for part in laid_out) <= blocks
    for name in ("blocks", "slopes", "offsets", "ids"):
        assert np.array_equal(np.concatenate([getattr(part, name) for part in laid_out]), getattr(codes, name))


def test_features_are_sorted_into_the_list_of_their_nearest_centre() -> None:
    features = rotate(drawn(2, rows=6000, dim=512), rotation_signs(512, seed=0))
    centres = features[:3000].astype(np.float16)
    found = nearest(features, centres, code_centres(centres))
    exact = centres.astype(np.float64)
    distances = (exact**2).sum(axis=1) - 2 * features.astype(np.float64) @ exact.T
    assert (distances[np.arange(6000), found] <= distances.min(axis=1) + 1e-5).mean() > 0.999


def test_of_equally_near_centres_the_first_is_taken() -> None:
    centres = np.repeat(rotate(drawn(2, rows=4, dim=64), rotation_signs(64, seed=0)), 10, axis=0).astype(np.float16)
    found = nearest(centres.astype(np.float32), centres, code_centres(centres))
    assert found.tolist() == [row // 10 * 10 for row in range(40)]


def test_pictures_that_are_all_the_same_are_all_found() -> None:
    feature = np.full((90, 64), 0.125, np.float32)
    lists = make_lists(lambda rows: feature[rows], 90, lists=3, seed=0)
    found, distances = lists.search(feature[:1], feature.astype(np.float16), k=90, effort=Effort(3, 90))
    assert found[0].tolist() == list(range(90))
    assert not distances.any()


def test_k_means_gives_every_list_something_where_there_are_enough_places() -> None:
    sample = drawn(0, rows=500, dim=64)
    centres = find_centres(sample, 20, generator=np.random.default_rng(0))
    assert centres.shape == (20, 64)
    assert len(np.unique(centres, axis=0)) == 20


def test_what_does_not_fit_is_refused() -> None:
    features = drawn(0, rows=10, dim=64)
    with pytest.raises(InputError, match="need 1 to 10 lists for 10 rows, got 11"):
        make_lists(lambda rows: features[rows], 10, lists=11, seed=0)
    lists = make_lists(lambda rows: features[rows], 10, lists=2, seed=0)
    with pytest.raises(ShapeError, match=r"need queries \(n, 64\) .* got \(3, 32\)"):
        lists.search(np.zeros((3, 32), np.float32), features.astype(np.float16), k=1, effort=Effort(1, 1))
