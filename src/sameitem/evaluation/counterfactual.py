"""What users would have clicked in another order, from the log of the order they saw.

A place is clicked when it is looked at and what stands there is wanted (the position-based model). How likely each rank
is looked at follows from things of equal attraction that stood at different ranks; a click then counts as often as the
new order would have let it be looked at more. Such an estimate says which rankers are worth an experiment
(`upkeep.experiments`); it is no substitute for one: users who stop when they are satisfied look less far than this.
"""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from sameitem.clicks.log import CLICK_TYPES, Session
from sameitem.core.errors import InputError, ShapeError
from sameitem.metrics.intervals import Interval, ratio_interval
from sameitem.pipeline.experiment import read_mark
from sameitem.rerank.interleaving import BOTH, A, B

Reals = NDArray[np.float64]
CLIP = 10.0  # a click counts at most so many times
FEW = 100  # clicks of equal weight below which an estimate says little
_STEPS = 100  # of fitting, at most; it takes about 8
_SETTLED = 1e-9  # relative change of the last step


@dataclass(frozen=True, slots=True, eq=False)
class Impressions:
    """What a log showed, one row a place."""

    query: NDArray[np.int64]  # number of the search, rising
    rank: NDArray[np.int64]  # from 1
    clicked: NDArray[np.bool_]
    swapped: NDArray[np.int64]  # where a coin put one of two items here and the other beside it: the upper rank; else 0


def impressions(sessions: Iterable[Session]) -> Impressions:
    """Return the shown places of sessions; a click that was taken back does not count."""
    rows: list[tuple[int, int, bool, int]] = []
    for number, session in enumerate(sessions):
        dismissed = {event.rank for event in session.events if event.type == "dismiss"}
        clicked = {event.rank for event in session.events if event.type in CLICK_TYPES} - dismissed
        mark = read_mark(session.search.experiment)
        places = session.search.shown
        is_first_page = mark is not None and places and places[0].rank == 1
        upper = swapped_ranks(mark.teams) if mark and is_first_page else [0] * len(places)
        for shown, swap in zip(places, upper, strict=True):
            rows.append((number, shown.rank, shown.rank in clicked, swap))
    query, rank, clicks, swapped = (np.array(column) for column in zip(*rows, strict=True)) if rows else _nothing()
    return Impressions(query.astype(np.int64), rank.astype(np.int64), clicks.astype(np.bool_), swapped.astype(np.int64))


def _nothing() -> tuple[Reals, Reals, Reals, Reals]:
    return np.empty(0), np.empty(0), np.empty(0), np.empty(0)


def swapped_ranks(teams: str) -> list[int]:
    """Return for each place of an interleaved list the upper rank of the two whose items a coin could have exchanged.

    0 where both rankers agreed, where the list ends between the two, and from where on the letters do not come in pairs
    (a list of which something was left out).

    Args:
        teams: from the first place on, as `rerank.interleaving` gives them.
    """
    ranks = [0] * len(teams)
    place = 0
    while place + 1 < len(teams):
        pair = teams[place : place + 2]
        if pair[0] == BOTH:
            place += 1
        elif set(pair) == {A, B}:
            ranks[place] = ranks[place + 1] = place + 1
            place += 2
        else:
            break
    return ranks


def examination(group: NDArray[np.int64], rank: NDArray[np.int64], clicked: NDArray[np.bool_], *, ranks: int) -> Reals:
    """Return how likely each rank is looked at, that of the first rank being 1.

    Clicks at rank r of group g are expected to be e_r * a_g for each time it was shown; e and a are the ones that make
    sums of ranks and of groups right (the likeliest of Poisson numbers, which needs only the means to be as said).

    Args:
        group: (rows,) of rows that are equally attractive at whatever rank. The `swapped` ranks of an experiment, where
            a coin saw to that (leave out the rows with 0), take 100,000 searches to be 3 % off; 20 groups of equal
            score of the logged ranker stay 5 % off from 20,000 searches on (benchmarks/counterfactual.md).
        rank: (rows,) from 1; ranks beyond `ranks` are left out.
        clicked: (rows,)
        ranks: how many are wanted.

    Raises:
        ShapeError: arrays of different lengths.
        InputError: a rank was never clicked, or shares no group with the others; says which.

    Source: Agarwal et al., Estimating Position Bias without Intrusive Interventions, WSDM 2019 (intervention
        harvesting); swaps as interventions: Joachims, Swaminathan and Schnabel, WSDM 2017, §5.1.
    """
    if not group.shape == rank.shape == clicked.shape or group.ndim != 1:
        raise ShapeError(f"need three lists of one length, got {group.shape}, {rank.shape} and {clicked.shape}")
    kept = (rank >= 1) & (rank <= ranks)
    _, group_of = np.unique(group[kept], return_inverse=True)
    cells, cell_of = np.unique(group_of * ranks + rank[kept] - 1, return_inverse=True)
    shown = np.bincount(cell_of, minlength=len(cells)).astype(np.float64)
    clicks = np.bincount(cell_of, weights=clicked[kept], minlength=len(cells))
    some = np.bincount(cells // ranks, weights=clicks)[cells // ranks] > 0  # a group without clicks says nothing
    _, groups = np.unique(cells[some] // ranks, return_inverse=True)
    places, shown, clicks = cells[some] % ranks, shown[some], clicks[some]
    _check_connected(groups, places, clicks, ranks)
    return _fit(groups, places, shown, clicks, ranks)


def _fit(groups: NDArray[np.intp], places: NDArray[np.int64], shown: Reals, clicks: Reals, ranks: int) -> Reals:
    """Return the e of `examination` by Newton's method on their logarithms, the a being known where the e are."""
    table = np.zeros((int(groups.max()) + 1, ranks))
    table[groups, places] = shown
    of_group, of_rank = np.bincount(groups, weights=clicks), np.bincount(places, weights=clicks, minlength=ranks)
    logs = np.zeros(ranks)
    for _ in range(_STEPS):
        shares = table * np.exp(logs)
        shares /= shares.sum(axis=1, keepdims=True)  # of a group's clicks, by rank
        expected = of_group @ shares
        curvature = np.diag(expected) - shares.T @ (shares * of_group[:, None])
        step = np.linalg.solve(curvature[1:, 1:], (of_rank - expected)[1:])
        logs[1:] += np.clip(step, -1, 1)
        if np.abs(step).max(initial=0) < _SETTLED:
            break
    return np.exp(logs)


def _check_connected(groups: NDArray[np.intp], places: NDArray[np.int64], clicks: Reals, ranks: int) -> None:
    without = sorted(set(range(ranks)) - set(places[clicks > 0].tolist()))
    known = np.zeros(ranks, np.bool_)
    known[:1] = True
    while not without:
        touched = np.bincount(groups, weights=known[places]) > 0
        more = known.copy()
        more[places[touched[groups]]] = True
        if (more == known).all():
            break
        known = more
    apart = without or np.flatnonzero(~known).tolist()
    if apart:
        why = "were never clicked" if without else "were never compared with those above"
        raise InputError(
            f"ranks {', '.join(str(place + 1) for place in apart[:10])} of {ranks} {why}; ask for fewer ranks, count "
            "several as one, or take a longer log",
            field="ranks",
        )


@dataclass(frozen=True, slots=True)
class OffPolicy:
    """What was estimated for an order, or a policy, that did not make the log."""

    value: Interval  # inverse propensity scoring: clicks per search (rewards per row)
    change: Interval  # share by which that is more than in the log, the log's own chance taken out
    effective: float  # clicks of equal weight that would say as much
    clipped: float  # share of the clicks whose weight was cut to `CLIP`
    warning: str  # "" = none

    def as_json(self) -> dict[str, Any]:
        """Return it as reports hold it."""
        return asdict(self)


def reordered(
    query: NDArray[np.int64],
    rank_shown: NDArray[np.int64],
    rank_new: NDArray[np.int64],
    clicked: NDArray[np.bool_],
    examined: Reals,
    generator: Generator,
    *,
    clip: float = CLIP,
    resamples: int = 1000,
) -> OffPolicy:
    """Return the clicks per search that another order of the shown places would get.

    Args:
        query: (rows,) number of the search.
        rank_shown: (rows,) from 1.
        rank_new: (rows,) from 1, the rank in the new order.
        clicked: (rows,)
        examined: (ranks,) how likely each rank is looked at, of `examination` or assumed; as long as the lists.
        generator: draws the resamples of the intervals, searches as a whole.
        clip: a click counts at most so many times; less spread for more bias towards the log.
        resamples: of the intervals.

    Raises:
        ShapeError: arrays of different lengths.
        InputError: no click, or a rank outside those that `examined` has.

    Source: Joachims, Swaminathan and Schnabel, Unbiased Learning-to-Rank with Biased Feedback, WSDM 2017, equation 5.
    """
    if not query.shape == rank_shown.shape == rank_new.shape == clicked.shape or query.ndim != 1:
        raise ShapeError(
            f"need four lists of one length, got {query.shape}, {rank_shown.shape}, {rank_new.shape}, {clicked.shape}"
        )
    ranks = np.stack((rank_shown, rank_new))
    if ranks.size and (ranks.min() < 1 or ranks.max() > len(examined)):
        raise InputError(f"need ranks of 1 to {len(examined)}, got {ranks.min()} to {ranks.max()}", field="rank")
    if not (np.isfinite(examined) & (examined > 0)).all():
        raise InputError("need chances above 0 of looking at each rank", field="examined")
    weights = examined[rank_new - 1] / examined[rank_shown - 1]
    if not clicked.any():
        raise InputError("need at least one click in the log", field="clicked")
    first = np.zeros(len(query))
    first[np.unique(query, return_index=True)[1]] = 1.0  # a search counts once
    return _estimate(clicked.astype(np.float64), weights, first, query, generator, clip, resamples)


def reweighted(
    reward: Reals,
    weight: Reals,
    group: NDArray[np.int64],
    generator: Generator,
    *,
    clip: float = math.inf,
) -> tuple[OffPolicy, Interval]:
    """Return the reward per row of a policy that would have chosen each row `weight` times as often as the log's.

    Args:
        reward: (rows,) 0 or more, such as clicks.
        weight: (rows,) chance under the policy / chance under the log's.
        group: (rows,) rows of one group are drawn together.
        generator: draws the resamples of the intervals.
        clip: the largest weight.

    Returns:
        The estimate by inverse propensity scoring, and the self-normalised one, which divides by the sum of weights.

    Raises:
        ShapeError: arrays of different lengths.
        InputError: no reward, or weights that are negative, not finite or all 0.

    Source: Swaminathan and Joachims, The Self-Normalized Estimator for Counterfactual Learning, NeurIPS 2015.
    """
    if not reward.shape == weight.shape == group.shape or reward.ndim != 1:
        raise ShapeError(f"need three lists of one length, got {reward.shape}, {weight.shape} and {group.shape}")
    if not (np.isfinite(weight) & (weight >= 0)).all() or not weight.any() or not reward.sum() > 0:
        raise InputError("need weights that are finite, not negative and not all 0, and at least one reward")
    found = _estimate(reward, weight, np.ones(len(reward)), group, generator, clip, 1000)
    cut = np.minimum(weight, clip)
    return found, ratio_interval(cut * reward, cut, group, generator)


def _estimate(
    reward: Reals,
    weight: Reals,
    counted: Reals,
    group: NDArray[np.int64],
    generator: Generator,
    clip: float,
    resamples: int,
) -> OffPolicy:
    cut = np.minimum(weight, clip)
    worth = cut * reward
    ratio = ratio_interval(worth, reward, group, generator, resamples=resamples)
    some = reward > 0
    squares = float((worth**2).sum())
    effective = float(worth.sum()) ** 2 / squares if squares > 0 else 0.0
    return OffPolicy(
        value=ratio_interval(worth, counted, group, generator, resamples=resamples),
        change=Interval(ratio.mean - 1, ratio.low - 1, ratio.high - 1),
        effective=effective,
        clipped=float((weight[some] > clip).mean()),
        warning=""
        if effective >= FEW
        else f"the clicks of the log weigh no more than {effective:.0f} equal ones would, it takes {FEW} to tell much; "
        "take a longer log, or an experiment",
    )
