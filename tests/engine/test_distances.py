import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from galleries import histograms, unit_rows
from sameitem.core.errors import ShapeError
from sameitem.engine.distances import colour_distances, squared_distances


@settings(deadline=None)
@given(rows=st.integers(1, 200), dim=st.integers(1, 130), seed=st.integers(0, 999), picks=st.data())
def test_the_distance_of_a_row_does_not_depend_on_the_rows_around_it(
    rows: int, dim: int, seed: int, picks: st.DataObject
) -> None:
    generator = np.random.default_rng(seed)
    gallery = unit_rows(generator, rows, dim).astype(np.float16)
    query = unit_rows(generator, 1, dim)[0]
    together = squared_distances(gallery, query)
    chosen = picks.draw(st.lists(st.integers(0, rows - 1), min_size=1, max_size=70))
    assert squared_distances(gallery[chosen], query).tobytes() == together[chosen].tobytes()


@settings(deadline=None)
@given(rows=st.integers(0, 70), dim=st.integers(1, 70), seed=st.integers(0, 999))
def test_squared_distances_equal_a_plain_sum(rows: int, dim: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    gallery = unit_rows(generator, rows, dim).astype(np.float16)
    query = unit_rows(generator, 1, dim)[0]
    expected = [math.fsum(float(d) ** 2 for d in row.astype(np.float32) - query) for row in gallery]
    assert squared_distances(gallery, query).tolist() == pytest.approx(expected, rel=1e-13)


@settings(deadline=None)
@given(rows=st.integers(0, 70), seed=st.integers(0, 999))
def test_colour_distance_is_what_two_histograms_do_not_share(rows: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    gallery, colour = histograms(generator, rows).astype(np.float16), histograms(generator, 1)[0]
    expected = [1 - sum(min(float(a), float(b)) for a, b in zip(row, colour, strict=True)) for row in gallery]
    assert colour_distances(gallery, colour).tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("rows", "query"), [((2, 3), (4,)), ((3,), (3,)), ((2, 0), (0,))])
def test_rows_and_query_of_different_dims_are_refused(rows: tuple[int, ...], query: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="need rows"):
        squared_distances(np.zeros(rows, np.float16), np.zeros(query, np.float32))
