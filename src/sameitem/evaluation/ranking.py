"""How well a ranker foretells clicks, and what its order would be worth: on held-out searches, from arrays alone."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from sameitem.core.errors import InputError, ShapeError
from sameitem.evaluation.counterfactual import CLIP, OffPolicy, reordered
from sameitem.metrics.intervals import Interval, paired_interval, ratio_interval
from sameitem.metrics.ranking import auc, log_losses, ndcg_at

Reals = NDArray[np.float64]
DEPTH = 10  # of the NDCG
LEAST_CLICKED = 30  # searches with a click that a category must have to be judged
RESAMPLES = 500
SEED = 6  # of the resamples


@dataclass(frozen=True, slots=True, eq=False)
class ShownRows:
    """What held-out searches showed, one row a place, and what rankers say of it."""

    query: NDArray[np.int64]  # number of the search; intervals draw searches as a whole
    rank_shown: NDArray[np.int64]  # from 1
    clicked: NDArray[np.bool_]
    visual: Reals  # looks, larger is more alike
    score_new: Reals  # 0..1, the chance of a click as the new ranker says
    category: NDArray[np.str_]  # top category of the search
    score_old: Reals | None = None  # the same of the ranker that it shall follow; None = there is none
    rank_new: NDArray[np.int64] | None = None  # from 1, the final order; None = by `score_new`
    rank_old: NDArray[np.int64] | None = None  # None = by `score_old`

    def __post_init__(self) -> None:
        columns = {name: getattr(self, name) for name in self.__slots__ if getattr(self, name) is not None}
        if len({column.shape for column in columns.values()}) > 1 or self.query.ndim != 1:
            shapes = ", ".join(f"{name} {column.shape}" for name, column in columns.items())
            raise ShapeError(f"need lists of one length, got {shapes}")
        if not len(self.query):
            raise InputError("need at least one shown place, got none")

    def __getitem__(self, rows: NDArray[np.bool_]) -> "ShownRows":
        """Return some of the rows."""
        return ShownRows(
            query=self.query[rows],
            rank_shown=self.rank_shown[rows],
            clicked=self.clicked[rows],
            visual=self.visual[rows],
            score_new=self.score_new[rows],
            category=self.category[rows],
            score_old=None if self.score_old is None else self.score_old[rows],
            rank_new=None if self.rank_new is None else self.rank_new[rows],
            rank_old=None if self.rank_old is None else self.rank_old[rows],
        )


@dataclass(frozen=True, slots=True)
class Part:
    """The figures of a set of searches, each with its 95 % interval over searches.

    measures: `ne`, `auc`, `calibration` of the new ranker; `ndcg@10` of its order, `ndcg@10_visual` of looks alone and
    `ndcg@10_gain` over it. Where there is an old ranker: `ne_old`, `auc_old`, `ndcg@10_old`, `ne_gain` (share of the
    log loss that the new one saves) and `ndcg@10_gain_old`.
    clicks: per search that the order of "new", "visual" and "old" would get, and how much that is more than in the log.
    """

    queries: int
    clicked_queries: int
    rows: int
    clicks_logged: int
    measures: Mapping[str, Interval]
    clicks: Mapping[str, OffPolicy]


@dataclass(frozen=True, slots=True)
class RankingReport:
    """What a ranker is worth on searches that it was not trained on."""

    whole: Part
    categories: Mapping[str, Part]  # by top category
    not_judged: Mapping[str, int] = field(default_factory=dict)  # searches of categories with too few clicks

    @property
    def warnings(self) -> tuple[str, ...]:
        """What stands against trusting the estimates of clicks over all categories."""
        return tuple(f"{name}: {estimate.warning}" for name, estimate in self.whole.clicks.items() if estimate.warning)

    def as_json(self) -> dict[str, Any]:
        """Return it as the metrics of a ranker hold it."""
        return {**asdict(self), "warnings": list(self.warnings)}


def report(rows: ShownRows, examined: Reals, *, resamples: int = RESAMPLES) -> RankingReport:
    """Return what a ranker is worth, over all held-out searches and for each top category.

    A click at a rank that is seldom looked at counts more, in the NDCG and in the clicks that an order would get, so
    that the order that was shown has no advantage; at most `CLIP` times.

    Args:
        rows: of searches that the ranker was not trained on.
        examined: (ranks,) how likely each rank is looked at, at least as long as the lists; see `counterfactual`.
        resamples: of the intervals.

    Raises:
        ShapeError: arrays that do not fit each other.
        InputError: no click, everything clicked, a score outside 0..1, or a rank that `examined` does not have.
    """
    whole = _part(rows, examined, np.random.default_rng(SEED), resamples)
    categories: dict[str, Part] = {}
    too_few: dict[str, int] = {}
    for name in np.unique(rows.category).tolist():
        of_it = rows[rows.category == name]
        if len(np.unique(of_it.query[of_it.clicked])) < LEAST_CLICKED or of_it.clicked.all():
            too_few[name] = len(np.unique(of_it.query))
        else:
            categories[name] = _part(of_it, examined, np.random.default_rng(SEED), resamples)
    return RankingReport(whole, categories, too_few)


def _part(rows: ShownRows, examined: Reals, draw: Generator, resamples: int) -> Part:
    clicked, query = rows.clicked.astype(np.float64), rows.query
    losses = log_losses(rows.score_new, rows.clicked)
    entropy = _entropy(rows.clicked)
    shown = np.ones(len(query))
    orders = {
        "new": rows.rank_new if rows.rank_new is not None else _ranks(query, rows.score_new, rows.rank_shown),
        "visual": _ranks(query, rows.visual, rows.rank_shown),
    }
    measures = {
        "ne": ratio_interval(losses / entropy, shown, query, draw, resamples=resamples),
        "auc": _auc_interval(rows.score_new, rows.clicked, query, draw, resamples),
        "calibration": ratio_interval(rows.score_new, clicked, query, draw, resamples=resamples),
    }
    if rows.score_old is not None:
        before = log_losses(rows.score_old, rows.clicked)
        orders["old"] = rows.rank_old if rows.rank_old is not None else _ranks(query, rows.score_old, rows.rank_shown)
        left = ratio_interval(losses, before, query, draw, resamples=resamples)
        measures["ne_old"] = ratio_interval(before / entropy, shown, query, draw, resamples=resamples)
        measures["ne_gain"] = Interval(1 - left.mean, 1 - left.high, 1 - left.low)
        measures["auc_old"] = _auc_interval(rows.score_old, rows.clicked, query, draw, resamples)
    clicks = {
        name: reordered(query, rows.rank_shown, order, rows.clicked, examined, draw, resamples=resamples)
        for name, order in orders.items()
    }
    weight = np.minimum(examined[0] / examined[rows.rank_shown - 1], CLIP) * clicked
    ndcgs = {name: _ndcgs(query, order, weight) for name, order in orders.items()}
    numbers = np.arange(len(ndcgs["new"]))
    nothing = np.zeros(len(numbers))
    for name, title in (("new", ""), ("visual", "_visual"), ("old", "_old")):
        if name in ndcgs:
            found = paired_interval(nothing, ndcgs[name], numbers, draw, resamples=resamples)
            measures[f"ndcg@{DEPTH}{title}"] = found
    for name, title in (("visual", ""), ("old", "_old")):
        if name in ndcgs:
            gain = paired_interval(ndcgs[name], ndcgs["new"], numbers, draw, resamples=resamples)
            measures[f"ndcg@{DEPTH}_gain{title}"] = gain
    return Part(
        queries=len(np.unique(query)),
        clicked_queries=len(numbers),
        rows=len(query),
        clicks_logged=int(rows.clicked.sum()),
        measures=measures,
        clicks=clicks,
    )


def _entropy(clicked: NDArray[np.bool_]) -> float:
    share = float(clicked.mean())
    if not 0 < share < 1:
        raise InputError(f"need rows with and without a click, got {int(clicked.sum())} clicks in {len(clicked)} rows")
    return float(-(share * np.log(share) + (1 - share) * np.log(1 - share)))


def _ranks(query: NDArray[np.int64], score: Reals, tie: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return each row's rank within its query by a score, the ranks that were shown exchanged among the rows.

    The second page of a list stays the second page: its best row gets the smallest rank that this page had.
    """
    best_first = np.lexsort((tie, -score, query))
    as_shown = np.lexsort((tie, query))
    ranks = np.empty(len(query), np.int64)
    ranks[best_first] = tie[as_shown]
    return ranks


def _ndcgs(query: NDArray[np.int64], rank: NDArray[np.int64], gain: Reals) -> Reals:
    """Return the NDCG of each query with a click, in the order of the query numbers."""
    order = np.lexsort((rank, query))
    _, number = np.unique(query[order], return_inverse=True)
    starts = np.flatnonzero(np.diff(number, prepend=-1))
    place = np.arange(len(number)) - starts[number]
    grades = np.zeros((len(starts), int(place.max()) + 1))
    grades[number, place] = np.log2(1 + gain[order])  # ndcg_at turns a grade into the gain 2^grade - 1
    return ndcg_at(grades[grades.any(axis=1)], DEPTH)


def _auc_interval(
    score: Reals, clicked: NDArray[np.bool_], query: NDArray[np.int64], draw: Generator, resamples: int
) -> Interval:
    """Return the AUC and its bootstrap 95 % interval, queries drawn as a whole.

    A drawn query counts as often as it was drawn, so that scores are sorted once for all resamples.
    """
    _, query_of = np.unique(query, return_inverse=True)
    values, level = np.unique(score, return_inverse=True)
    queries = int(query_of.max()) + 1
    found: list[float] = []
    while len(found) < resamples:
        times = np.bincount(draw.integers(queries, size=queries), minlength=queries)[query_of]
        hits = np.bincount(level, weights=times * clicked, minlength=len(values))
        misses = np.bincount(level, weights=times * ~clicked, minlength=len(values))
        if hits.any() and misses.any():
            below = np.cumsum(misses) - misses / 2
            found.append(float((hits * below).sum() / (hits.sum() * misses.sum())))
    low, high = np.quantile(found, (0.025, 0.975))
    return Interval(auc(score, clicked), float(low), float(high))
