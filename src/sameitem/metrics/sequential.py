"""When to stop comparing two things that win or lose, so that looking early does not mislead.

A decided session was won by A or by B. Of two that are equal each wins with the chance of a fair coin, so that the
lead of one is a random walk whose chances can be added up exactly, without any approximation by normal numbers. The
walk is looked at a fixed number of times; each look may spend a part of `alpha`, little in the beginning.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sameitem.core.errors import InputError
from sameitem.metrics.intervals import Interval

Verdict = Literal["go on", "a better", "b better", "no difference worth finding"]
HOPELESS = 0.1  # a trial ends where a preference worth finding would still be found with a smaller chance
_NORMAL = NormalDist()
_SPREADS = 9.0  # standard deviations of a walk beyond which its chance (1e-18) is left out
_MOST = 10_000_000  # decided sessions of a plan


@dataclass(frozen=True, slots=True)
class StopRule:
    """What a trial is to find. A preference is (wins of B - wins of A) / decided sessions, -1..1."""

    alpha: float = 0.05  # chance that one of two equal things is called better
    power: float = 0.9  # chance that a preference of `worth` is found
    worth: float = 0.02  # the smallest preference worth finding
    looks: int = 20  # times that the trial may end

    def __post_init__(self) -> None:
        if not (0 < self.alpha <= 0.5 and 0.5 <= self.power < 1 and 0 < self.worth <= 0.5):
            raise InputError(
                "need alpha of 0 to 0.5, power of 0.5 to 1 and worth of 0 to 0.5, none of them 0 or 1, "
                f"got {self.alpha:g}, {self.power:g} and {self.worth:g}"
            )
        if not 1 <= self.looks <= 100:
            raise InputError(f"need 1 to 100 looks, got {self.looks}", field="looks")


@dataclass(frozen=True, slots=True)
class Plan:
    """When a trial is looked at, and what ends it."""

    decided: tuple[int, ...]  # decided sessions at each look, rising
    bounds: tuple[int, ...]  # a lead of so many wins shows that one is better
    futile: tuple[int, ...]  # a lead of no more ends the trial without a winner; -1: none does

    @property
    def most(self) -> int:
        """Decided sessions after which every trial has ended."""
        return self.decided[-1]


@dataclass(frozen=True, slots=True)
class Chances:
    """How a trial ends if the preference is what was supposed."""

    a_better: float
    b_better: float
    decided: float  # sessions on average


@dataclass(frozen=True, slots=True)
class Trial:
    """A running comparison: whole numbers, so that any process can go on with it. It changes no more once it ended."""

    a_wins: int = 0
    b_wins: int = 0
    ties: int = 0  # sessions that neither won
    looks: int = 0  # taken so far
    lead: int = 0  # wins of B - wins of A at the last look
    verdict: Verdict = "go on"

    @property
    def decided(self) -> int:
        """Sessions that one of both won."""
        return self.a_wins + self.b_wins

    @property
    def sessions(self) -> int:
        """All sessions that were taken in."""
        return self.decided + self.ties


@lru_cache(maxsize=32)
def plan(rule: StopRule) -> Plan:
    """Return the shortest plan that keeps a rule: after a share t of the sessions alpha * t^2 is spent.

    Raises:
        InputError: it would take more than ten million decided sessions.

    Source: Kim and DeMets, Design and analysis of group sequential tests based on the type I error spending rate
        function, Biometrika 1987. Why this function: docs/decisions/0015-which-order-is-better.md.
    """
    return shortest_plan(rule, lambda share: rule.alpha * share**2)


def shortest_plan(rule: StopRule, spent: Callable[[float], float]) -> Plan:
    """Return the shortest plan with bounds of a spending function that reaches a rule's power.

    A trial also ends without a winner, where one is not to be expected any more. That is never needed to keep `alpha`,
    and the power allows for it.

    Args:
        rule: to be kept.
        spent: chance of a wrong verdict that is used up after a share of the sessions, rising to alpha at 1.

    Raises:
        InputError: it would take more than ten million decided sessions.

    Source: ending early by conditional power: Lachin, A review of methods for futility stopping based on conditional
        power, Statistics in Medicine 2005.
    """
    least = ((_NORMAL.inv_cdf(1 - rule.alpha / 2) + _NORMAL.inv_cdf(rule.power)) / rule.worth) ** 2
    low, high = int(0.9 * least) + rule.looks, int(1.5 * least) + 10 * rule.looks
    if high > _MOST:
        raise InputError(f"to find {rule.worth:g} takes about {least:,.0f} decided sessions; need a larger worth")

    def of(most: int) -> Plan:
        decided = tuple(math.ceil(most * look / rule.looks) for look in range(1, rule.looks + 1))
        bounds = spending_bounds(decided, [spent(count / most) for count in decided])
        return Plan(decided, bounds, _futile(decided, bounds[-1], rule.worth))

    while high - low > max(1, low // 500):
        middle = (low + high) // 2
        if chances(of(middle), rule.worth).b_better >= rule.power:
            high = middle
        else:
            low = middle
    return of(high)


def _futile(decided: Sequence[int], bound: int, worth: float) -> tuple[int, ...]:
    """Return for each look the lead from which the last bound is reached with the chance HOPELESS at most."""
    left = [decided[-1] - count for count in decided[:-1]]
    slow = [bound - rest * worth + _NORMAL.inv_cdf(HOPELESS) * math.sqrt(rest) for rest in left]
    return (*(max(-1, math.floor(lead)) for lead in slow), bound - 1)


def spending_bounds(decided: Sequence[int], spent: Sequence[float]) -> tuple[int, ...]:
    """Return for each look the smallest lead that equal things reach with no more chance than may be spent by then.

    Args:
        decided: sessions at each look, rising.
        spent: chance of a wrong verdict up to each look, rising.
    """
    walk, used, bounds = _Walk(0.5), 0.0, []
    for count, allowed in zip(decided, spent, strict=True):
        walk.go_on(count)
        lead = np.abs(walk.leads)
        order = np.argsort(-lead, kind="stable")
        tail = np.cumsum(walk.chance[order])
        inside = lead[order][tail > allowed - used]  # leads that chance reaches too often
        bounds.append(int(inside[0]) + 1 if len(inside) else 0)
        used += walk.leave(lead >= bounds[-1])
    return tuple(bounds)


def chances(plan: Plan, preference: float) -> Chances:
    """Return how a trial by this plan ends where the true preference is so much."""
    walk, ends, sessions = _Walk((1 + preference) / 2), [0.0, 0.0], 0.0
    for count, bound, futile in zip(plan.decided, plan.bounds, plan.futile, strict=True):
        walk.go_on(count)
        won = [walk.leave(walk.leads <= -bound), walk.leave(walk.leads >= bound)]
        without = walk.leave(np.abs(walk.leads) <= futile)
        ends = [end + more for end, more in zip(ends, won, strict=True)]
        sessions += count * (sum(won) + without)
    return Chances(a_better=ends[0], b_better=ends[1], decided=sessions)


class _Walk:
    """How likely each lead of B is, among the walks that did not end."""

    def __init__(self, b_wins: float) -> None:
        self._b_wins = b_wins
        self._count = 0
        self._first = 0  # wins of B that the first chance is of
        self.chance = np.ones(1)

    @property
    def leads(self) -> NDArray[np.int64]:
        """(chances,) wins of B - wins of A."""
        return np.asarray(2 * (self._first + np.arange(len(self.chance))) - self._count, np.int64)

    def go_on(self, count: int) -> None:
        """Let so many sessions be decided in all."""
        first, step = _binomial(count - self._count, self._b_wins)
        self._count, self._first = count, self._first + first
        self.chance = np.convolve(self.chance, step)
        some = np.flatnonzero(self.chance > 1e-22)
        if len(some):
            self._first += int(some[0])
            self.chance = self.chance[some[0] : some[-1] + 1]

    def leave(self, leaving: NDArray[np.bool_]) -> float:
        """End the walks of some leads; return how likely they were."""
        gone = float(self.chance[leaving].sum())
        self.chance = np.where(leaving, 0.0, self.chance)
        return gone


@lru_cache(maxsize=256)
def _binomial(count: int, share: float) -> tuple[int, NDArray[np.float64]]:
    """Return the chances of so many wins in count sessions, from the first number that has one worth counting."""
    middle, wide = count * share, _SPREADS * math.sqrt(count) / 2 + 10
    wins = np.arange(max(0, math.floor(middle - wide)), min(count, math.ceil(middle + wide)) + 1)
    ways = math.lgamma(count + 1) - np.array([math.lgamma(w + 1) + math.lgamma(count - w + 1) for w in wins.tolist()])
    return int(wins[0]), np.exp(ways + wins * math.log(share) + (count - wins) * math.log1p(-share))


def add(trial: Trial, rule: StopRule, winner: str) -> Trial:
    """Return the trial after one more session, which "A", "B" or nobody ("") won.

    Raises:
        InputError: another winner.
    """
    if winner not in ("A", "B", ""):
        raise InputError(f'need "A", "B" or "" as the winner, got {winner!r}')
    return add_all(trial, rule, np.array([{"A": -1, "B": 1, "": 0}[winner]], np.int8))


def add_all(trial: Trial, rule: StopRule, wins: NDArray[np.int8]) -> Trial:
    """Return the trial after more sessions, up to the one that ends it.

    Args:
        trial: so far.
        rule: the same for the whole trial.
        wins: (sessions,) in their order: 1 B won, -1 A, 0 neither.
    """
    steps = plan(rule)
    while trial.verdict == "go on" and len(wins):
        until = steps.decided[trial.looks] - trial.decided
        at = np.searchsorted(np.cumsum(wins != 0), until) + 1 if until > 0 else 0
        part, wins = wins[:at], wins[at:]
        b_wins, decided = int((part > 0).sum()), int((part != 0).sum())
        trial = replace(
            trial,
            a_wins=trial.a_wins + decided - b_wins,
            b_wins=trial.b_wins + b_wins,
            ties=trial.ties + len(part) - decided,
        )
        if decided == until:
            trial = _look(trial, steps)
    return trial


def _look(trial: Trial, steps: Plan) -> Trial:
    lead = trial.b_wins - trial.a_wins
    verdict: Verdict = "go on"
    if abs(lead) >= steps.bounds[trial.looks]:
        verdict = "b better" if lead > 0 else "a better"
    elif abs(lead) <= steps.futile[trial.looks]:
        verdict = "no difference worth finding"
    return replace(trial, looks=trial.looks + 1, lead=lead, verdict=verdict)


def preference(trial: Trial, rule: StopRule) -> Interval:
    """Return the preference for B at the last look with an interval that holds at all looks together.

    Its level is 1 - alpha. Before the first look nothing is known: 0, from -1 to 1. A trial that ended early for one
    side leans to it: the interval allows for that, the middle does not.

    Source: Jennison and Turnbull, Interim analyses: the repeated confidence interval approach, JRSS B 1989.
    """
    if trial.looks == 0:
        return Interval(0.0, -1.0, 1.0)
    steps = plan(rule)
    count, bound = steps.decided[trial.looks - 1], steps.bounds[trial.looks - 1]
    ends = max(-1.0, (trial.lead - bound) / count), min(1.0, (trial.lead + bound) / count)
    return Interval(trial.lead / count, *ends)
