import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sameitem.core.errors import InputError, ShapeError
from sameitem.evaluation.ranking import LEAST_CLICKED, ShownRows, _ndcgs, _ranks, report
from sameitem.metrics.ranking import auc, calibration_ratio, ndcg_at, normalised_entropy

LOOKS = np.arange(1, 9) ** -0.7


def drawn(queries: int = 400, seed: int = 1, *, noise: float = 0.0) -> ShownRows:
    """Return searches of eight places in the order of looks; the new ranker knows what is wanted, up to the noise."""
    chance = np.random.default_rng(seed)
    wanted = chance.beta(1, 4, (queries, 8))
    visual = -np.sort(-chance.random((queries, 8)), axis=1)
    clicked = chance.random((queries, 8)) < wanted * LOOKS
    score = np.clip(wanted * 0.45 + noise * chance.normal(size=wanted.shape), 0.001, 0.999)
    return ShownRows(
        query=np.repeat(np.arange(queries), 8),
        rank_shown=np.tile(np.arange(1, 9), queries),
        clicked=clicked.ravel(),
        visual=visual.ravel(),
        score_new=score.ravel(),
        category=np.repeat(np.where(np.arange(queries) % 2, "shoes", "bags"), 8),
    )


def test_a_report_says_what_the_measures_say() -> None:
    rows = drawn()
    found = report(rows, LOOKS, resamples=50).whole
    assert found.measures["ne"].mean == pytest.approx(normalised_entropy(rows.score_new, rows.clicked))
    assert found.measures["auc"].mean == pytest.approx(auc(rows.score_new, rows.clicked))
    assert found.measures["calibration"].mean == pytest.approx(calibration_ratio(rows.score_new, rows.clicked))
    assert (found.queries, found.rows, found.clicks_logged) == (400, 3200, rows.clicked.sum())
    assert all(interval.low <= interval.mean <= interval.high for interval in found.measures.values())


def test_a_ranker_that_knows_more_than_looks_is_seen_to_be_better() -> None:
    found = report(drawn(2000), LOOKS, resamples=200)
    assert found.whole.measures["ndcg@10_gain"].low > 0
    assert found.whole.clicks["new"].change.low > 0
    assert found.whole.clicks["visual"].change.mean == 0  # the log was in this order
    assert found.warnings == ()


def test_the_clicks_of_an_order_are_those_it_would_get() -> None:
    rows = drawn(20_000)
    wanted = rows.score_new.reshape(-1, 8) / 0.45
    true = (-np.sort(-wanted, axis=1) * LOOKS).sum(axis=1).mean()
    value = report(rows, LOOKS, resamples=100).whole.clicks["new"].value
    assert value.low < true < value.high


def test_an_old_ranker_is_compared_with() -> None:
    worse = drawn(1000, noise=0.3).score_new
    found = report(replace(drawn(1000), score_old=worse), LOOKS, resamples=100).whole
    assert found.measures["ne_gain"].low > 0
    assert found.measures["ndcg@10_gain_old"].low > 0
    assert found.clicks["new"].value.mean > found.clicks["old"].value.mean
    same = report(replace(drawn(1000), score_old=drawn(1000).score_new), LOOKS, resamples=100).whole
    assert (same.measures["ne_gain"].low, same.measures["ndcg@10_gain_old"].high) == pytest.approx((0.0, 0.0))


def test_the_final_order_counts_where_it_is_given() -> None:
    rows = drawn()
    kept = report(replace(rows, rank_new=rows.rank_shown), LOOKS, resamples=50).whole
    assert kept.clicks["new"].change.mean == 0
    assert kept.measures["auc"] == report(rows, LOOKS, resamples=50).whole.measures["auc"]


def test_categories_have_parts_of_their_own_where_enough_was_clicked() -> None:
    rows = drawn(400)
    few = np.where(np.repeat(np.arange(400) < 4, 8), "toys", rows.category)
    found = report(replace(rows, category=few), LOOKS, resamples=50)
    assert set(found.categories) == {"bags", "shoes"}
    assert found.not_judged == {"toys": 4}
    assert min(part.clicked_queries for part in found.categories.values()) >= LEAST_CLICKED
    alone = report(rows[few == "bags"], LOOKS, resamples=50).whole
    assert found.categories["bags"].measures["ne"] == alone.measures["ne"]


def test_a_report_is_json() -> None:
    written = json.loads(json.dumps(report(drawn(), LOOKS, resamples=20).as_json(), allow_nan=False))
    assert {"whole", "categories", "not_judged", "warnings"} == set(written)
    assert {"mean", "low", "high"} == set(written["whole"]["measures"]["ndcg@10"])


@settings(deadline=None)
@given(seed=st.integers(0, 999), queries=st.integers(1, 6))
def test_ndcg_is_that_of_each_list_by_itself(seed: int, queries: int) -> None:
    chance = np.random.default_rng(seed)
    lengths = chance.integers(1, 14, queries)
    query = np.repeat(chance.permutation(50)[:queries], lengths)
    rank = np.concatenate([chance.permutation(length) + 1 for length in lengths])
    gain = chance.integers(0, 3, len(query)).astype(np.float64)
    mixed = chance.permutation(len(query))
    expected = []
    for number in np.unique(query):
        own = gain[query == number][np.argsort(rank[query == number])]
        if own.any():
            expected.append(ndcg_at(np.log2(1 + own)[None], 10)[0])
    assert _ndcgs(query[mixed], rank[mixed], gain[mixed]).tolist() == pytest.approx(expected)


def test_ranks_are_exchanged_within_a_page() -> None:
    query, shown = np.array([5, 5, 5, 2, 2]), np.array([21, 22, 23, 1, 2])
    assert _ranks(query, np.array([0.1, 0.9, 0.5, 0.3, 0.3]), shown).tolist() == [23, 21, 22, 1, 2]


def test_rows_that_say_nothing_are_refused() -> None:
    rows = drawn(5)
    with pytest.raises(InputError, match="with and without a click"):
        report(replace(rows, clicked=rows.clicked & False), LOOKS)
    with pytest.raises(ShapeError, match="lists of one length"):
        replace(rows, visual=rows.visual[1:])
    with pytest.raises(InputError, match="at least one shown place"):
        rows[np.zeros(40, np.bool_)]
    with pytest.raises(InputError, match="ranks of 1 to 4"):
        report(rows, LOOKS[:4])
