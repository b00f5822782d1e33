"""Evidence and the features made of it."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drawn_evidence import draw_evidence
from sameitem.core.errors import InputError, ShapeError
from sameitem.rerank.features import (
    COLUMNS,
    FEATURES,
    NUMBERS,
    POSITION,
    Evidence,
    features_of,
    read_evidence,
    write_evidence,
)


def column(evidence: Evidence, name: str) -> np.ndarray:
    return features_of(evidence)[:, FEATURES.index(name)]


@given(st.integers(0, 500), st.integers(1, 60))
def test_what_the_log_keeps_gives_the_very_features_that_were_served(seed: int, candidates: int) -> None:
    evidence = draw_evidence(seed, candidates)
    kept = read_evidence(write_evidence(evidence))
    np.testing.assert_array_equal(features_of(kept), features_of(evidence))


@given(st.integers(0, 100), st.data())
def test_a_page_keeps_what_its_places_had_in_the_whole_list(seed: int, data: st.DataObject) -> None:
    evidence = draw_evidence(seed, 20)
    rows = data.draw(st.lists(st.integers(0, 19), min_size=1, max_size=10, unique=True))
    np.testing.assert_array_equal(features_of(evidence.take(rows)), features_of(evidence)[rows])


def test_features_are_finite_or_missing_whatever_is_said() -> None:
    for seed in range(50):
        assert not np.isinf(features_of(draw_evidence(seed, 30))).any()


def test_only_the_position_depends_on_the_rank() -> None:
    evidence = draw_evidence(1, 8)
    first, later = features_of(evidence), features_of(evidence, np.arange(3.0, 11.0))
    others = np.arange(len(FEATURES)) != POSITION
    np.testing.assert_array_equal(first[:, others], later[:, others])
    assert first[:, POSITION].tolist() == [1.0] * 8
    assert later[0, POSITION] == 2.0  # log2(1 + 3)


def test_a_rate_is_pulled_to_that_of_all_and_moves_with_the_looks() -> None:
    evidence = draw_evidence(0, 3, examined=[0.0, 20.0, 980.0], clicks=[0, 4, 196], click_rate=0.1)
    np.testing.assert_allclose(column(evidence, "click_rate"), [0.1, 0.15, 0.198])


def test_a_price_is_compared_with_the_middle_of_the_list() -> None:
    evidence = draw_evidence(0, 3, price=[5.0, 10.0, math.nan], middle_price=10.0)
    np.testing.assert_allclose(column(evidence, "price_of_list"), [math.log(0.5), 0.0, math.nan])


def test_a_rating_of_few_reviews_says_little() -> None:
    evidence = draw_evidence(0, 2, rating=[5.0, 5.0], review_count=[0.0, 95.0], middle_rating=4.0)
    np.testing.assert_allclose(column(evidence, "rating_of_list"), [0.0, 0.95])


def test_what_is_new_is_fresh() -> None:
    evidence = draw_evidence(0, 3, age_days=[0.0, 30.0, 60.0])
    np.testing.assert_allclose(column(evidence, "freshness"), [1.0, 0.5, 0.25])


def test_columns_must_fit_each_other() -> None:
    with pytest.raises(ShapeError, match="one number per candidate"):
        draw_evidence(0, 3, price=[1.0])


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"format": 2, "columns": [], "list": []}', '{"format": 1, "columns": [[1]], "list": [1]}'],
)
def test_damaged_evidence_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        read_evidence(text)


def test_the_log_says_which_format_it_is_in() -> None:
    said = json.loads(write_evidence(draw_evidence(0, 2)))
    assert said["format"] == 1
    assert (len(said["columns"]), len(said["list"])) == (len(COLUMNS), len(NUMBERS))
