import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sameitem.core.errors import InputError, ShapeError
from sameitem.core.records import ImageId
from sameitem.rerank.order import final_order

TENTHS = st.integers(0, 10).map(lambda tenths: tenths / 10)  # many ties
HITS = st.lists(st.tuples(TENTHS, TENTHS), max_size=30)
SHARE = st.one_of(TENTHS, st.floats(0, 1))


def order(hits: list[tuple[float, float]], *, beta: float, floor: float, top: int = 60) -> list[int]:
    hits = sorted(hits, key=lambda hit: -hit[0])  # as the fine ranking gives them
    ids = [ImageId(1000 - 7 * row) for row in range(len(hits))]
    visual, quality = np.array([v for v, _ in hits]), np.array([q for _, q in hits][:top])
    return final_order(visual, quality, ids, beta=beta, similarity_floor=floor, top=top).tolist()


@given(HITS, SHARE, SHARE, st.integers(1, 12))
def test_no_hit_below_the_floor_stands_above_one_at_or_over_it(
    hits: list[tuple[float, float]], beta: float, floor: float, top: int
) -> None:
    visual = sorted((v for v, _ in hits), reverse=True)
    reaches = [visual[row] >= floor * visual[0] for row in order(hits, beta=beta, floor=floor, top=top)]
    assert reaches == sorted(reaches, reverse=True)


@given(HITS, SHARE, SHARE, st.integers(1, 12))
def test_every_hit_stays_and_those_behind_the_top_keep_their_place(
    hits: list[tuple[float, float]], beta: float, floor: float, top: int
) -> None:
    found = order(hits, beta=beta, floor=floor, top=top)
    assert sorted(found) == list(range(len(hits)))
    assert found[top:] == list(range(len(hits)))[top:]


@given(HITS, SHARE, SHARE)
def test_the_order_agrees_with_a_plain_sort(hits: list[tuple[float, float]], beta: float, floor: float) -> None:
    ranked = sorted(hits, key=lambda hit: -hit[0])

    def key(row: int) -> tuple[bool, float, int]:
        visual, quality = ranked[row]
        return visual < floor * ranked[0][0], -(beta * visual + (1 - beta) * quality), 1000 - 7 * row

    assert order(hits, beta=beta, floor=floor) == sorted(range(len(hits)), key=key)


def test_beta_says_who_decides() -> None:
    hits = [(0.9, 0.1), (0.8, 0.5), (0.7, 0.9)]
    assert order(hits, beta=1, floor=0) == [0, 1, 2]
    assert order(hits, beta=0, floor=0) == [2, 1, 0]
    assert order(hits, beta=0, floor=0.8) == [1, 0, 2]  # 0.7 < 0.8 x 0.9


def test_ties_end_at_the_image_id() -> None:
    visual, quality = np.full(3, 0.5), np.full(3, 0.5)
    ids = [ImageId(number) for number in (9, 3, 7)]
    assert final_order(visual, quality, ids, beta=0.5, similarity_floor=0.5).tolist() == [1, 2, 0]


def test_hits_and_shares_that_do_not_fit_are_refused() -> None:
    ids, two = [ImageId(1), ImageId(2)], np.array([0.5, 0.4])
    with pytest.raises(ShapeError, match=re.escape("got (2,), (1,) and 2 image ids")):
        final_order(two, two[:1], ids, beta=0.5, similarity_floor=0.5)
    with pytest.raises(InputError, match=r"need a beta of 0 to 1, got 1\.5"):
        final_order(two, two, ids, beta=1.5, similarity_floor=0.5)
    with pytest.raises(InputError, match="need a similarity_floor of 0 to 1, got nan"):
        final_order(two, two, ids, beta=0.5, similarity_floor=float("nan"))
    with pytest.raises(InputError, match="need a top of at least 1, got 0"):
        final_order(two, two, ids, beta=0.5, similarity_floor=0.5, top=0)
    with pytest.raises(InputError, match="need visual scores and qualities of 0 to 1"):
        final_order(two, np.array([0.5, np.nan]), ids, beta=0.5, similarity_floor=0.5)
    with pytest.raises(InputError, match="need every image once"):
        final_order(two, two, [ImageId(1), ImageId(1)], beta=0.5, similarity_floor=0.5)
