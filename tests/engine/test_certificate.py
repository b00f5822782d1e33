from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from galleries import draw, in_memory, plain_search, unit_rows
from sameitem.core.errors import InputError, RefusedError, SameItemError, ShapeError
from sameitem.engine.certificate import TIE, certify
from sameitem.engine.index import Index
from sameitem.engine.lists import Effort


def plain_recall(index: Index, features: NDArray[np.float32], query: int, *, k: int, effort: Effort) -> float:
    """Measure one left-out query by loops: hits no farther than the k-th true neighbour, over k."""
    exact = features.astype(np.float64)
    distances = ((exact - exact[query]) ** 2).sum(axis=1)
    limit = sorted(np.delete(distances, query))[k - 1] + TIE
    rows, _ = index.lists.search(features[query][None], index.rows, k=k + 1, effort=effort)
    return sum(bool(distances[row] <= limit) for row in [row for row in rows[0] if row not in (query, -1)][:k]) / k


@pytest.mark.parametrize("entries", [60, 300])
def test_the_certified_recall_is_what_a_linear_scan_with_float_features_measures(entries: int) -> None:
    drawn = draw(1, entries=entries, dim=24)
    index = in_memory(drawn, lists=4)
    certificate = certify(index, lambda rows: drawn.features[rows], asked=0.98, k=10)
    effort = replace(index, manifest=replace(index.manifest, certificate=certificate)).effort_for(10)
    measured = [plain_recall(index, drawn.features, query, k=10, effort=effort) for query in range(entries)]
    assert certificate.queries == entries
    assert certificate.recall == pytest.approx(np.mean(measured), abs=1e-12)
    assert certificate.low <= certificate.recall <= certificate.high
    assert certificate.recall >= 0.98


def test_more_recall_costs_more() -> None:
    drawn = draw(2, entries=600, dim=24)
    index = in_memory(drawn, lists=12)
    little, much = (certify(index, lambda rows: drawn.features[rows], asked=asked, k=10) for asked in (0.8, 0.999))
    assert little.probes <= much.probes
    assert little.candidates <= much.candidates
    assert little.probes * little.candidates < much.probes * much.candidates
    assert little.recall >= 0.8
    assert much.recall >= 0.999 > little.recall


def test_a_gallery_whose_stored_rows_are_not_the_features_is_refused() -> None:
    drawn = draw(4, entries=100)
    index = replace(in_memory(drawn), rows=unit_rows(np.random.default_rng(9), 100, 16).astype(np.float16))
    with pytest.raises(RefusedError, match="every image ranked"):
        certify(index, lambda rows: drawn.features[rows], asked=0.999, k=60)


def test_codes_that_say_nothing_are_made_up_for_by_ranking_everything() -> None:
    drawn = draw(5, entries=300)
    index = in_memory(drawn, lists=3)
    index.lists.codes.blocks[:] = np.random.default_rng(1).integers(0, 256, index.lists.codes.blocks.shape)
    certificate = certify(index, lambda rows: drawn.features[rows], asked=0.999, k=10)
    assert (certificate.probes, certificate.candidates, certificate.slack) == (3, 300, None)
    assert certificate.recall == certificate.float16_recall


def test_rounding_to_float16_shows_in_the_certificate_where_neighbours_are_nearly_as_near() -> None:
    generator = np.random.default_rng(6)
    features = unit_rows(generator, 1, 64) + 0.02 * unit_rows(generator, 600, 64)  # one tight cluster
    drawn = replace(draw(6, entries=600), features=features / np.linalg.norm(features, axis=1, keepdims=True))
    coarse = np.round(drawn.features * 256) / 256  # rounder than float16
    index = replace(in_memory(drawn), rows=coarse.astype(np.float16))
    certificate = certify(index, lambda rows: drawn.features[rows], asked=0.1, k=10)
    assert certificate.float16_recall < 0.99


@pytest.mark.parametrize("spread", [1e-6, 1e-4, 1e-3])
def test_more_neighbours_than_float32_products_tell_apart_change_nothing(spread: float) -> None:
    generator = np.random.default_rng(11)
    features = unit_rows(generator, 1, 64) + spread * unit_rows(generator, 400, 64)
    drawn = replace(draw(6, entries=400), features=features / np.linalg.norm(features, axis=1, keepdims=True))
    index = in_memory(drawn, lists=4)
    certificate = certify(index, lambda rows: drawn.features[rows], asked=0.5, k=10)
    effort = replace(index, manifest=replace(index.manifest, certificate=certificate)).effort_for(10)
    measured = [plain_recall(index, drawn.features, query, k=10, effort=effort) for query in range(400)]
    assert certificate.recall == pytest.approx(np.mean(measured), abs=1e-12)


def test_pictures_exactly_alike_may_stand_for_each_other() -> None:
    drawn = draw(7, entries=200)
    drawn.features[:] = np.repeat(unit_rows(np.random.default_rng(8), 2, 16), 100, axis=0)
    certificate = certify(in_memory(drawn), lambda rows: drawn.features[rows], asked=1.0, k=60)
    assert certificate.recall == 1.0


@settings(max_examples=25, deadline=None)
@given(entries=st.integers(1, 12), extra=st.integers(0, 10), real=st.integers(0, 3), seed=st.integers(0, 99))
def test_a_gallery_smaller_than_k_is_certified_at_what_it_has(entries: int, extra: int, real: int, seed: int) -> None:
    drawn = draw(seed, entries=entries, extra_members=extra)
    queries = unit_rows(np.random.default_rng(seed), real, 16)
    certificate = certify(in_memory(drawn), lambda rows: drawn.features[rows], asked=0.9, k=60, queries=queries)
    assert certificate.k == max(1, entries - 1)
    assert certificate.queries == entries + real
    assert certificate.recall == 1.0


def test_real_queries_are_searched_without_leaving_anything_out() -> None:
    drawn = draw(8, entries=100)
    index = in_memory(drawn)
    queries = unit_rows(np.random.default_rng(3), 50, 16)
    certificate = certify(index, lambda rows: drawn.features[rows], asked=0.999, k=5, queries=queries)
    assert certificate.queries == 150
    assert certificate.recall == 1.0
    assert all(len(plain_search(index, query, k=5)) == 5 for query in queries)


def test_the_same_index_gets_the_same_certificate() -> None:
    drawn = draw(9, entries=100)
    first, again = (certify(in_memory(drawn), lambda rows: drawn.features[rows], asked=0.9, k=3) for _ in range(2))
    assert first == again


@pytest.mark.slow
def test_a_large_gallery_is_certified_by_two_thousand_of_its_images() -> None:
    drawn = draw(9, entries=2100, dim=4)
    assert certify(in_memory(drawn), lambda rows: drawn.features[rows], asked=0.9, k=3).queries == 2000


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"k": 0}, InputError),
        ({"asked": 0.0}, InputError),
        ({"asked": 1.1}, InputError),
        ({"queries": np.ones((2, 3), np.float32)}, ShapeError),
    ],
)
def test_a_certificate_that_means_nothing_is_refused(wrong: dict[str, object], error: type[SameItemError]) -> None:
    drawn = draw(10, entries=5)
    with pytest.raises(error, match="need"):
        certify(in_memory(drawn), lambda rows: drawn.features[rows], **({"asked": 0.9, "k": 3} | wrong))
