"""What a score means: the probability that a result shows the same item as the query.

A result is judged by its lead, how much nearer it is than the nearest other product. The distance alone would not do: a
user's photo lies further from every picture of the catalogue than those lie from each other, and more so where it is
dark or busy; that cancels out in a lead. The curves that turn leads into probabilities are fitted at each build, to the
gallery's own images as queries: docs/decisions/0011-same-item-probability.md.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from sameitem.core.errors import InputError
from sameitem.engine.distances import colour_distances, squared_distances
from sameitem.engine.index import Index
from sameitem.engine.members import EntryHit, Members
from sameitem.engine.probability import Curve, fit_curve

EXTRA = "same_item"  # key among the manifest's extras
QUERIES = 2000  # gallery images asked for, each left out of the gallery for its own query
LISTED = 10  # products of a list that are judged
ABSENT = 0.05  # weight of the lists of queries whose product was taken out of the gallery
STRENGTH = 50.0  # of the pull of a category to the curve of all, and of that to the shipped one
UNRELATED = 1.0  # squared distance at least, from which on images have nothing to do with each other
RANDOM_PAIRS = 4000  # of gallery images, to see how far apart such images lie
NEARER = 0.05  # share of random pairs that lies nearer than what counts as unrelated
SHIPPED = Curve(intercept=-0.9, slope=17.0)  # benchmarks/same_item.py, on photos that may teach what we ship
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Rivals:
    """The two nearest products to a query, of all that could be shown: what each hit is compared with."""

    hits: tuple[EntryHit, ...]  # at most 2, nearest first, of different products; distances of the features alone
    products: tuple[int, ...]  # row of the product of each
    unrelated: float  # no rival is further away: whatever is, is no nearer than chance

    def distance(self, hit: EntryHit, product: int) -> float:
        """Return how far away the nearest other product than the hit's is, at most `unrelated`.

        Args:
            hit: of the same query.
            product: row of its product.
        """
        for rival, its_product in zip(self.hits, self.products, strict=True):
            if rival.entry_row != hit.entry_row and its_product != product:
                return min(rival.distance, self.unrelated)
        return self.unrelated


def rivals_of(members: Members, hits: Sequence[EntryHit], unrelated: float) -> Rivals:
    """Return the first two of some hits of different products as rivals."""
    return Rivals(tuple(hits[:2]), tuple(_products(members, hits[:2])), unrelated)


@dataclass(frozen=True, slots=True)
class Fit:
    """A curve and what it was fitted to."""

    curve: Curve
    same: int  # pairs that show the same item
    other: int  # pairs that do not


@dataclass(frozen=True, slots=True)
class Curves:
    """The curves of an index version."""

    queries: int = 0  # gallery images that were asked for; 0: nothing could be learned here, the shipped curve holds
    common: Fit = Fit(SHIPPED, 0, 0)
    categories: Mapping[str, Fit] = field(default_factory=dict)  # by top category id; others take the common one
    unrelated: float = UNRELATED  # squared distance
    format: Literal[1] = 1

    def of(self, category_id: str) -> Curve:
        """Return the curve of a top category."""
        return self.categories.get(category_id, self.common).curve

    def source(self, category_id: str) -> Literal["category", "common", "shipped"]:
        """Return where the curve of a top category comes from."""
        if category_id in self.categories:
            return "category"
        return "common" if self.queries else "shipped"


@dataclass(frozen=True, slots=True)
class Judgement:
    """The score of one hit and everything that led to it."""

    squared_distance: float  # of the features, 0..4
    colour_distance: float | None  # 1 - what the colours share, 0..1; None where they do not count
    colour_weight: float
    distance: float  # by which the list is ordered: squared distance + weight * colour distance
    rival_distance: float  # squared distance of the nearest other product, or of what is unrelated where that is nearer
    curve: Curve
    curve_source: Literal["category", "common", "shipped"]
    score: float  # probability of the same item, 0..1

    @property
    def cosine(self) -> float:
        """Return the cosine of the features of query and image, -1..1."""
        return 1.0 - self.squared_distance / 2

    @property
    def lead(self) -> float:
        """Return how much nearer the hit is than the nearest other product; below 0: the other is nearer."""
        return self.rival_distance - self.squared_distance


def judge(
    index: Index,
    hits: Sequence[EntryHit],
    categories: Sequence[str],
    *,
    query: NDArray[np.float32],
    rivals: Rivals,
    curves: Curves,
    colour: NDArray[np.float32] | None,
    colour_weight: float,
) -> list[Judgement]:
    """Return the judgement of each hit; of one category, a nearer product never has the lower score.

    Args:
        index: that found them.
        hits: of one query.
        categories: top category id of each.
        query: (dim,) feature that was searched with.
        rivals: of the query.
        curves: of the index version.
        colour: (24,) histogram of the query's subject; needed where colour_weight is not 0.
        colour_weight: that the hits were ordered with.
    """
    colours: Sequence[float | None] = [None] * len(hits)
    squared: Sequence[float] = [hit.distance for hit in hits]
    if colour_weight and colour is not None:
        entries = np.array([hit.entry_row for hit in hits], np.int64)
        colours = colour_distances(index.colours_of(entries), colour).tolist()
        squared = squared_distances(index.features(entries), query).tolist()
    judged = []
    products = _products(index.members, hits)
    for hit, product, category, far, hue in zip(hits, products, categories, squared, colours, strict=True):
        rival, curve = rivals.distance(hit, product), curves.of(category)
        score = float(curve.probability(np.array(rival - far)))
        source = curves.source(category)
        judged.append(Judgement(far, hue, colour_weight, hit.distance, rival, curve, source, score))
    return judged


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Queries and what was found for them; row i of every array is one pair."""

    queries: int
    unrelated: float  # squared distance that the leads were reckoned with
    leads: NDArray[np.float64]  # (pairs,)
    same: NDArray[np.bool_]  # (pairs,) whether both show one product
    weights: NDArray[np.float64]  # (pairs,)
    categories: NDArray[np.str_]  # (pairs,) top category id of what was found


def fit_curves(pairs: Pairs, *, shipped: Curve = SHIPPED) -> Curves:
    """Fit the curve of all categories, and one of each category that has pairs, drawn to that of all.

    Args:
        pairs: of `ask_gallery`.
        shipped: what the curve of all is drawn to.
    """

    def fit(rows: NDArray[np.bool_], prior: Curve) -> Fit:
        same = pairs.same[rows]
        curve = fit_curve(pairs.leads[rows], same, pairs.weights[rows], prior=prior, strength=STRENGTH)
        return Fit(curve, int(same.sum()), int((~same).sum()))

    if not pairs.queries:
        return Curves(unrelated=pairs.unrelated)
    common = fit(np.ones(len(pairs.same), np.bool_), shipped)
    names = np.unique(pairs.categories)
    categories = {str(name): fit(pairs.categories == name, common.curve) for name in names}
    return Curves(pairs.queries, common, categories, pairs.unrelated)


def ask_gallery(index: Index, tops: Sequence[str], *, queries: int = QUERIES, seed: int = 0) -> Pairs:
    """Search with images of products that have several pictures, each left out of the gallery for its own query.

    Each list is judged twice: as it is, and without the product asked for, as if the shop did not have it; ABSENT says
    how much the second counts. Pictures that are folded into one entry are one picture here.

    Args:
        index: as built.
        tops: top category id of each member.
        queries: how many at most.
        seed: of their choice.
    """
    members, unrelated = index.members, _unrelated(index, seed)
    asked = _with_siblings(index)
    if len(asked) > queries:
        asked = np.sort(np.random.default_rng(seed).choice(asked, queries, replace=False))
    allowed = index.sieve(np.ones(len(members), np.bool_))
    rows: list[tuple[float, bool, float, str]] = []
    for entry in asked:
        own = np.arange(members.start[entry], members.start[entry + 1])
        wanted = set(members.product[own].tolist())
        allowed.update(own, np.zeros(len(own), np.bool_))
        query = index.rows[entry].astype(np.float32)
        found = index.search(query, k=LISTED + len(wanted), allowed=allowed, one_per_product=True)
        allowed.update(own, np.ones(len(own), np.bool_))
        same = [not wanted.isdisjoint(members.product[[hit.member_row, *hit.duplicates]].tolist()) for hit in found]
        others = [hit for hit, is_same in zip(found, same, strict=True) if not is_same]
        for weight, hits, labels in ((1 - ABSENT, found, same), (ABSENT, others, [False] * len(others))):
            rivals, products = rivals_of(members, hits, unrelated), _products(members, hits)
            for hit, product, is_same in zip(hits[:LISTED], products[:LISTED], labels[:LISTED], strict=True):
                lead = rivals.distance(hit, product) - hit.distance
                rows.append((lead, is_same, weight, tops[hit.member_row]))
    return Pairs(
        queries=len(asked),
        unrelated=unrelated,
        leads=np.array([row[0] for row in rows], np.float64),
        same=np.array([row[1] for row in rows], np.bool_),
        weights=np.array([row[2] for row in rows], np.float64),
        categories=np.array([row[3] for row in rows], np.str_),
    )


def _products(members: Members, hits: Sequence[EntryHit]) -> list[int]:
    """Return the row of the product that each hit shows."""
    rows: list[int] = members.products_of(np.array([hit.member_row for hit in hits], np.int64)).tolist()
    return rows


def _with_siblings(index: Index) -> NDArray[np.int64]:
    """Return the entries, ascending, of which a product has another entry too."""
    members = index.members
    pairs = np.unique(np.stack([members.product.astype(np.int64), members.entry]), axis=1)
    pictures = np.bincount(pairs[0], minlength=members.products)
    return np.unique(pairs[1][pictures[pairs[0]] > 1])


def _unrelated(index: Index, seed: int) -> float:
    """Return the squared distance that few random pairs of pictures lie within, UNRELATED at least."""
    pairs = np.random.default_rng(seed).integers(len(index.rows), size=(RANDOM_PAIRS, 2))
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    distances = np.concatenate(
        [_pair_distances(index, pairs[start : start + 1000]) for start in range(0, len(pairs), 1000)] or [np.empty(0)]
    )
    return max(UNRELATED, float(np.quantile(distances, NEARER))) if len(distances) else UNRELATED


def _pair_distances(index: Index, pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    difference = index.rows[pairs[:, 0]].astype(np.float64) - index.rows[pairs[:, 1]]
    squared: NDArray[np.float64] = np.einsum("ij,ij->i", difference, difference)
    return squared


def as_extra(curves: Curves) -> dict[str, Any]:
    """Return curves as JSON values, to be kept in a manifest."""
    values: dict[str, Any] = TypeAdapter(Curves).dump_python(curves, mode="json")
    return values


def read_curves(extra: Mapping[str, Any]) -> Curves:
    """Return the curves that a manifest keeps; the shipped one where it keeps none that this release reads."""
    if EXTRA not in extra:
        return Curves()
    try:
        return TypeAdapter(Curves).validate_python(extra[EXTRA])
    except (ValidationError, InputError) as error:
        _log.warning("the index version's curves of the same item cannot be read, the shipped one holds: %s", error)
        return Curves()
