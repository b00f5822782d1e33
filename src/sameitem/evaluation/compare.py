"""Two evaluations of the same queries side by side: what changed, and how sure that is."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sameitem.core.errors import InputError
from sameitem.core.records import ProductId
from sameitem.evaluation.evaluate import Evaluation, LabelledQuery, Outcome
from sameitem.metrics.intervals import Interval, paired_interval
from sameitem.metrics.retrieval import recall_at, reciprocal_rank

MAIN = "recall@1"  # what a gate decides by
LEAST_PRODUCTS = 10  # fewer have no interval worth the name
SEED = 4  # of the resamples

Verdict = Literal["better", "worse", "no clear difference", "too few products"]
_Pair = tuple[Outcome, Outcome]  # of one query: before, after


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure of both sides, and after - before with its 95 % interval over `product_groups`."""

    before: float
    after: float
    delta: Interval


@dataclass(frozen=True, slots=True)
class Part:
    """What changed over a set of queries."""

    queries: int
    products: int  # those that a query asked for together count as one
    measures: Mapping[str, Measure]  # "recall@1", "recall@10", "mrr"
    wins: int  # queries whose first hit is right after and was wrong before
    losses: int  # the other way round

    @property
    def verdict(self) -> Verdict:
        """What the interval of the main measure says."""
        if self.products < LEAST_PRODUCTS:
            return "too few products"
        delta = self.measures[MAIN].delta
        return "better" if delta.low > 0 else "worse" if delta.high < 0 else "no clear difference"


@dataclass(frozen=True, slots=True)
class Side:
    """What answered."""

    index_version: str
    model_version: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two index versions, each with the model that made it, on the same queries."""

    before: Side
    after: Side
    whole: Part
    slices: Mapping[str, Part]
    left_out: int  # queries whose product only one of the two galleries has: not in the figures
    failed: int  # queries that not both could measure, such as of a photo that cannot be read: likewise

    def as_json(self) -> dict[str, Any]:
        """Return the keys of the command line's contract."""
        return {
            "before": asdict(self.before),
            "after": asdict(self.after),
            **_part_json(self.whole),
            "slices": {name: _part_json(part) for name, part in self.slices.items()},
            "left_out": self.left_out,
            "failed": self.failed,
        }


def compare(before: Evaluation, after: Evaluation) -> Comparison:
    """Return what changed from one evaluation to another over the queries that both measured.

    A product that only one of the two galleries has says nothing about the models; its queries are left out and
    counted. A product that neither has counts, as missed by both.

    Raises:
        InputError: they share no query.
    """
    earlier = {outcome.query: outcome for outcome in before.outcomes}
    pairs = [(earlier[outcome.query], outcome) for outcome in after.outcomes if outcome.query in earlier]
    fair = [(one, other) for one, other in pairs if (one.wanted == 0) == (other.wanted == 0)]
    if not fair:
        raise InputError(
            f"no query can be compared: {len(before.outcomes)} and {len(after.outcomes)} were measured, {len(pairs)} "
            "are the same, and of those only one gallery has the product; build both anew"
        )
    by_slice: dict[str, list[_Pair]] = defaultdict(list)
    for pair in fair:
        if pair[0].query.slice:
            by_slice[pair[0].query.slice].append(pair)
    return Comparison(
        before=Side(before.index_version, before.model_version),
        after=Side(after.index_version, after.model_version),
        whole=_part(fair),
        slices={name: _part(part) for name, part in sorted(by_slice.items())},
        left_out=len(pairs) - len(fair),
        failed=len(after.outcomes) + sum(after.failed.values()) - len(pairs),
    )


def product_groups(queries: Sequence[LabelledQuery]) -> NDArray[np.int64]:
    """Return the number of each query's group: queries that share a right product hang together, also through others.

    Source: Galler and Fischer, An improved equivalence algorithm, 1964 (union of trees).
    """
    parents: dict[ProductId, ProductId] = {}

    def root_of(product: ProductId) -> ProductId:
        while (parent := parents.setdefault(product, product)) != product:
            parents[product] = parents[parent]  # halves the way of the next who asks
            product = parent
        return product

    for query in queries:
        for product in query.others:
            parents[root_of(product)] = root_of(query.product_id)
    numbers: dict[ProductId, int] = {}
    return np.array([numbers.setdefault(root_of(query.product_id), len(numbers)) for query in queries], np.int64)


def _part(pairs: Sequence[_Pair]) -> Part:
    products = product_groups([one.query for one, _ in pairs])
    before, after = (_figures([pair[side] for pair in pairs]) for side in (0, 1))
    first = after[MAIN] - before[MAIN]
    return Part(
        queries=len(pairs),
        products=len(set(products.tolist())),
        measures={name: _measure(before[name], after[name], products) for name in before},
        wins=int((first > 0).sum()),
        losses=int((first < 0).sum()),
    )


def _figures(outcomes: Sequence[Outcome]) -> dict[str, NDArray[np.float64]]:
    relevant = np.stack([outcome.relevant for outcome in outcomes])
    return {
        MAIN: recall_at(relevant, 1),
        "recall@10": recall_at(relevant, 10),
        "mrr": reciprocal_rank(relevant),
    }


def _measure(before: NDArray[np.float64], after: NDArray[np.float64], products: NDArray[np.int64]) -> Measure:
    delta = paired_interval(before, after, products, np.random.default_rng(SEED))
    return Measure(float(before.mean()), float(after.mean()), delta)


def _part_json(part: Part) -> dict[str, Any]:
    return {
        "queries": part.queries,
        "products": part.products,
        "measures": {name: {"before": m.before, "after": m.after} for name, m in part.measures.items()},
        "delta": {name: asdict(measure.delta) for name, measure in part.measures.items()},
        "wins": part.wins,
        "losses": part.losses,
        "verdict": part.verdict,
    }
