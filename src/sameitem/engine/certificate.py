"""The recall certificate: how much of a linear scan with float features an index finds, and what it takes.

The truth is the k nearest entries by the float32 features, before they are rounded to float16. A hit counts where its
exact distance is at most that of the k-th true neighbour plus `TIE`: which of several equally near pictures is shown is
no loss.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sameitem.core.errors import InputError, RefusedError, ShapeError
from sameitem.engine.distances import squared_distances
from sameitem.engine.index import Index
from sameitem.engine.manifest import Certificate
from sameitem.metrics.intervals import Interval, bootstrap_interval

TIE = 1e-6  # squared distances this near count as equal
LEFT_OUT = 2000  # gallery images asked for, each left out of the gallery for its own query
FIRST_CANDIDATES = 256
SLACK = 64  # rows beyond the k-th that the linear scan keeps, to see which of them float16 would put before
SCANNED_ROWS = 4096  # features in memory at once
BELOW = 0.001  # how far under the asked recall the lower end of the interval may lie

Features = Callable[[NDArray[np.int64]], NDArray[np.float32]]  # rows of entries to their features (rows, dim)


@dataclass(frozen=True, slots=True, eq=False)
class _Queries:
    features: NDArray[np.float32]  # (queries, dim)
    own: NDArray[np.int64]  # (queries,) entry that is left out, -1 = none


@dataclass(frozen=True, slots=True, eq=False)
class _Truth:
    limit: NDArray[np.float64]  # (queries,) largest distance that counts as found
    nearest: NDArray[np.int64]  # (queries, k) entries of the linear scan
    by_float16: NDArray[np.float64]  # (queries,) share found when every stored row is ranked


def certify(
    index: Index,
    features: Features,
    *,
    asked: float,
    k: int,
    queries: NDArray[np.float32] | None = None,
    seed: int = 0,
) -> Certificate:
    """Find how many candidates the index needs for the asked recall, measured with the search itself.

    Queries are gallery images, each left out of the gallery for its own query (2,000 drawn by the seed, or all of a
    smaller gallery), and real ones where there are some. Candidates double until the mean recall is at least `asked`
    and the lower end of its bootstrap 95 % interval at least `asked - 0.001`.

    Args:
        index: as built.
        features: gives the float32 features the index was built from, by entry rows.
        asked: recall to reach, 0..1.
        k: depth; no more than the gallery has (less the one left out).
        queries: (rows, dim) features of real query photos.
        seed: of the queries drawn and of the bootstrap.

    Raises:
        RefusedError: not reached although every entry was ranked.
        InputError: k or asked out of range.
        ShapeError: queries of another shape.

    Source: FORMULAS §4; the article's aim is a loss-free search (§03.1).
    """
    entries, dim = index.rows.shape
    if not (k >= 1 and 0 < asked <= 1):
        raise InputError(f"need k >= 1 and an asked recall in (0, 1], got k {k} and {asked}")
    if queries is not None and (queries.ndim != 2 or queries.shape[1] != dim):
        raise ShapeError(f"need queries (rows, {dim}), got {queries.shape}")
    generator = np.random.default_rng(seed)
    k = min(k, max(1, entries - 1))
    asking = _draw_queries(features, entries, queries, generator)
    truth = _scan(index, features, asking, k)
    resampling = int(generator.integers(2**32))

    def judge(found: NDArray[np.float64]) -> tuple[Interval, bool]:
        interval = bootstrap_interval(found, np.random.default_rng(resampling))
        return interval, interval.mean >= asked and interval.low >= asked - BELOW

    needed = _coarse_ranks(index, asking, truth.nearest)
    candidates = min(max(k, FIRST_CANDIDATES), entries)
    while candidates < entries and not judge((needed <= candidates).mean(axis=1))[1]:
        candidates = min(2 * candidates, entries)
    while True:
        interval, reached = judge(_found(index, features, asking, truth.limit, k=k, candidates=candidates))
        certificate = Certificate(
            recall=interval.mean,
            low=interval.low,
            high=interval.high,
            k=k,
            queries=len(asking.own),
            candidates=candidates,
            asked=asked,
            float16_recall=float(truth.by_float16.mean()),
        )
        if reached:
            return certificate
        if candidates == entries:
            raise RefusedError(
                f"recall@{k} is {interval.mean:.5f} (95 % interval from {interval.low:.5f}) with every image ranked, "
                f"asked are {asked}: storing features as float16 costs that; ask for less (engine.recall)"
            )
        candidates = min(2 * candidates, entries)


def _draw_queries(
    features: Features, entries: int, queries: NDArray[np.float32] | None, generator: np.random.Generator
) -> _Queries:
    own = np.arange(entries) if entries <= LEFT_OUT else np.sort(generator.choice(entries, LEFT_OUT, replace=False))
    asked = features(own)
    if entries == 1:  # nothing would be left
        own = np.array([-1])
    if queries is not None:
        asked = np.concatenate([asked, queries])
        own = np.concatenate([own, np.full(len(queries), -1)])
    return _Queries(asked, own)


def _scan(index: Index, features: Features, asking: _Queries, k: int) -> _Truth:
    """Scan all entries: float64 products choose k + SLACK rows a query, the exact kernel orders those.

    The products err by far less than TIE, so a true neighbour can only be missed where more than SLACK others are as
    near as it is, which moves the limit by less than TIE.
    """
    nearest = _nearest_by_product(features, len(index.rows), asking, k + SLACK)
    limit = np.empty(len(asking.own))
    first = np.empty((len(asking.own), k), dtype=np.int64)
    by_float16 = np.empty(len(asking.own))
    for i, query in enumerate(asking.features):
        rows = np.sort(nearest[i][nearest[i] >= 0])
        exact = squared_distances(features(rows), query)
        order = np.lexsort((rows, exact))[:k]
        first[i] = rows[order]
        limit[i] = exact[order[-1]] + TIE
        stored = np.lexsort((rows, squared_distances(index.rows[rows], query)))[:k]
        by_float16[i] = (exact[stored] <= limit[i]).mean()
    return _Truth(limit, first, by_float16)


def _nearest_by_product(features: Features, entries: int, asking: _Queries, count: int) -> NDArray[np.int64]:
    wanted = asking.features.astype(np.float64)
    best = np.full((len(asking.own), count), np.inf)
    rows = np.full((len(asking.own), count), -1, dtype=np.int64)
    for start in range(0, entries, SCANNED_ROWS):
        block = np.arange(start, min(start + SCANNED_ROWS, entries))
        gallery = features(block).astype(np.float64)
        squares = np.einsum("ij,ij->i", gallery, gallery)
        for first in range(0, len(asking.own), 256):
            part = slice(first, first + 256)
            distances = squares - 2 * (wanted[part] @ gallery.T)  # the query's own square changes no order
            own = asking.own[part] - start
            inside = np.flatnonzero((own >= 0) & (own < len(block)))
            distances[inside, own[inside]] = np.inf
            together = np.concatenate([best[part], distances], axis=1)
            names = np.concatenate([rows[part], np.broadcast_to(block, distances.shape)], axis=1)
            chosen = np.argpartition(together, count - 1, axis=1)[:, :count]
            best[part] = np.take_along_axis(together, chosen, axis=1)
            rows[part] = np.where(np.isinf(best[part]), -1, np.take_along_axis(names, chosen, axis=1))
    return rows


def _coarse_ranks(index: Index, asking: _Queries, nearest: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many candidates it takes until each true neighbour is one of them."""
    ranks = np.empty(nearest.shape, dtype=np.int64)
    for i, (query, own) in enumerate(zip(asking.features, asking.own, strict=True)):
        nearness = index.nearness(query)
        if own >= 0:
            nearness[own] = np.iinfo(np.int64).max
        ranks[i] = 1 + np.searchsorted(np.sort(nearness), nearness[nearest[i]])
    return ranks


def _found(
    index: Index, features: Features, asking: _Queries, limit: NDArray[np.float64], *, k: int, candidates: int
) -> NDArray[np.float64]:
    """Return the share of the true first k that the search finds, for each query."""
    allowed = np.ones(len(index.members.image_id), dtype=np.bool_)
    found = np.empty(len(asking.own))
    for i, (query, own) in enumerate(zip(asking.features, asking.own, strict=True)):
        left_out = slice(*index.members.start[own : own + 2]) if own >= 0 else slice(0)
        allowed[left_out] = False
        hits = index.search(query, k=k, allowed=allowed, candidates=candidates)
        allowed[left_out] = True
        rows = np.array([hit.entry_row for hit in hits])
        found[i] = (squared_distances(features(rows), query) <= limit[i]).sum() / k
    return found
