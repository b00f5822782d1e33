"""Two orders of the same lists: how many clicks each would have got, estimated from the clicks of the log."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sameitem.clicks.counts import examination
from sameitem.core.settings import GateSettings
from sameitem.evaluation.counterfactual import CLIP
from sameitem.evaluation.gate import Judgement
from sameitem.metrics.intervals import Interval, paired_interval

LEAST_USERS = 10  # groups of searches without which there is no interval worth the name


@dataclass(frozen=True, slots=True)
class OrderComparison:
    """Clicks per search that two orders would get."""

    searches: int
    users: int  # searches nobody signed count one each
    before: float
    after: float
    delta: Interval  # after - before, 95 % over users

    @property
    def verdict(self) -> Literal["better", "worse", "no clear difference", "too few users"]:
        """What the interval says."""
        if self.users < LEAST_USERS:
            return "too few users"
        return "better" if self.delta.low > 0 else "worse" if self.delta.high < 0 else "no clear difference"

    def as_json(self) -> dict[str, Any]:
        """Return the figures."""
        return asdict(self) | {"verdict": self.verdict}


def seen_clicks(new_ranks: NDArray[np.float64], shown_ranks: NDArray[np.float64], clicked: NDArray[np.bool_]) -> float:
    """Return how many clicks a list would have got in another order.

    A click at a deep place counts for more, at most `CLIP` times: few looked that far. Each counts as often as its new
    place is looked at.

    Args:
        new_ranks: (places,) from 1.
        shown_ranks: (places,) likewise.
        clicked: (places,)

    Source: Joachims, Swaminathan and Schnabel, Unbiased Learning-to-Rank with Biased Feedback, WSDM 2017.
    """
    weight = np.minimum(looked_at(new_ranks) / looked_at(shown_ranks), CLIP)
    return float(weight[clicked].sum())


def looked_at(ranks: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how likely places of a list are looked at, 1 for the first."""
    return np.array([examination(int(rank)) for rank in ranks], np.float64)


def compare_orders(
    before: NDArray[np.float64], after: NDArray[np.float64], groups: NDArray[np.int64], generator: np.random.Generator
) -> OrderComparison:
    """Return what changes from one order to another.

    Args:
        before: (searches,) clicks of each by `seen_clicks`.
        after: (searches,) the same of the other order.
        groups: (searches,) whose searches belong together, such as those of a user.
        generator: draws the resamples.
    """
    if len(before) == 0:
        return OrderComparison(0, 0, 0.0, 0.0, Interval(0.0, 0.0, 0.0))
    return OrderComparison(
        searches=len(before),
        users=len(np.unique(groups)),
        before=float(before.mean()),
        after=float(after.mean()),
        delta=paired_interval(before, after, groups, generator),
    )


def judge_order(comparison: OrderComparison, settings: GateSettings) -> Judgement:
    """Return whether the later order may replace the earlier one: it has to get more clicks, beyond chance."""
    if comparison.searches < settings.least_queries or comparison.users < LEAST_USERS:
        reason = (
            f"{comparison.searches:,} searches of {comparison.users:,} users are too few to tell, it takes "
            f"{settings.least_queries:,} (gate.least_queries) of {LEAST_USERS} users; wait for more clicks"
        )
        return Judgement(False, (reason,), ())
    delta = comparison.delta
    if delta.low <= 0:
        share = 100 / comparison.before if comparison.before > 0 else float("nan")
        reason = (
            f"clicks per search change by {share * delta.mean:+.1f} % [{share * delta.low:+.1f}, "
            f"{share * delta.high:+.1f}] over {comparison.searches:,} searches; they have to rise beyond chance"
        )
        return Judgement(False, (reason,), ())
    return Judgement(True, (), ())
