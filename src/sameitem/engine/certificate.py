"""The recall certificate: how much of a linear scan with float features an index finds, and what it takes.

The truth is the k nearest entries by the float32 features, before they are rounded to float16. A hit counts where its
exact distance is at most that of the k-th true neighbour plus `TIE`: which of several equally near pictures is shown is
no loss.
"""

import math
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sameitem.core.errors import InputError, RefusedError, ShapeError
from sameitem.engine.distances import squared_distances
from sameitem.engine.index import Index
from sameitem.engine.kernels import keep_nearest, keep_smallest
from sameitem.engine.lists import Effort
from sameitem.engine.manifest import Certificate
from sameitem.metrics.intervals import Interval, bootstrap_interval

TIE = 1e-6  # squared distances this near count as equal
LEFT_OUT = 2000  # gallery images asked for, each left out of the gallery for its own query
MANY = 16  # candidates for each hit that are surely enough
CANDIDATES = (1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0)  # for each hit
SLACKS = (0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2)
SPARE_ROWS = 64  # rows beyond the k-th that the linear scan keeps, to see which of them float16 would put before
SCANNED_ROWS = 4096  # features in memory at once
QUERIES_AT_ONCE = 256  # whose products with those are in memory
BELOW = 0.001  # how far under the asked recall the lower end of the interval may lie

Features = Callable[[NDArray[np.int64]], NDArray[np.float32]]  # rows of entries to their features (rows, dim)


@dataclass(frozen=True, slots=True, eq=False)
class _Queries:
    features: NDArray[np.float32]  # (queries, dim)
    own: NDArray[np.int64]  # (queries,) entry that is left out, -1 = none


@dataclass(frozen=True, slots=True, eq=False)
class _Truth:
    limit: NDArray[np.float64]  # (queries,) largest distance that counts as found
    by_float16: NDArray[np.float64]  # (queries,) share found when every stored row is ranked
    near: list[NDArray[np.int64]]  # rows of each query at most that far away
    is_whole: NDArray[np.bool_]  # (queries,) all of them stand there


def certify(
    index: Index,
    features: Features,
    *,
    asked: float,
    k: int,
    queries: NDArray[np.float32] | None = None,
    first: Effort | None = None,
    seed: int = 0,
) -> Certificate:
    """Find how much the search must look at for the asked recall, measured with the search itself.

    Queries are gallery images, each left out of the gallery for its own query (2,000 drawn by the seed, or all of a
    smaller gallery), and real ones where there are some. Enough is what finds a mean recall of at least `asked`, with
    the lower end of its bootstrap 95 % interval at least `asked - 0.001`.

    Args:
        index: as built.
        features: gives the float32 features the index was built from, by entry rows.
        asked: recall to reach, 0..1.
        k: depth; no more than the gallery has (less the one left out).
        queries: (rows, dim) features of real query photos.
        first: kept where it is enough.
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

    def judge(effort: Effort) -> tuple[Interval, bool]:
        found = _found(index, features, asking, truth, k=k, effort=effort)
        interval = bootstrap_interval(found, np.random.default_rng(resampling))
        return interval, interval.mean >= asked and interval.low >= asked - BELOW

    is_hamming = index.lists.is_hamming
    effort, interval, is_enough = _effort(
        judge, lists=len(index.lists.centres), entries=entries, k=k, slack=not is_hamming, first=first
    )
    if not is_enough:
        raise RefusedError(
            f"with every image ranked, recall@{k} is {interval.mean:.5f}, 95 % interval from {interval.low:.5f}, over "
            f"{len(asking.own)} queries; needed are {asked} and {asked - BELOW:.5f}. Storing features as float16 alone "
            f"leaves {truth.by_float16.mean():.5f}; ask for less (engine.recall)"
        )
    return Certificate(
        recall=interval.mean,
        low=interval.low,
        high=interval.high,
        k=k,
        queries=len(asking.own),
        probes=effort.probes,
        candidates=effort.candidates,
        slack=None if math.isinf(effort.slack) else effort.slack,
        asked=asked,
        float16_recall=float(truth.by_float16.mean()),
    )


def _effort(
    judge: Callable[[Effort], tuple[Interval, bool]],
    *,
    lists: int,
    entries: int,
    k: int,
    slack: bool,
    first: Effort | None,
) -> tuple[Effort, Interval, bool]:
    """Return an effort that is enough, what it finds, and whether it is; everything, where nothing is.

    First the lists, within a factor of two, with many candidates for each hit; where all lists are not enough, more
    candidates, then the lists again. Then the candidates, then how early their ranking may end.
    """

    def enough(probes: Iterable[int], candidates: int) -> Effort | None:
        return next((one for one in (Effort(p, candidates) for p in probes) if judge(one)[1]), None)

    if first is not None:
        interval, is_enough = judge(first)
        if is_enough:
            return first, interval, True
    doubled = [1 << power for power in range((lists - 1).bit_length())] + [lists]
    most = min(entries, MANY * k)
    best = enough(doubled, most)
    while best is None and most < entries:
        most = min(entries, 4 * most)
        best = enough(doubled, most) if enough([lists], most) else None
    if best is None:
        everything = Effort(lists, entries)
        return everything, judge(everything)[0], False
    tighter = [replace(best, candidates=math.ceil(share * k)) for share in CANDIDATES if math.ceil(share * k) < most]
    best = next((one for one in tighter if judge(one)[1]), best)
    early = [replace(best, slack=limit) for limit in SLACKS] if slack else []
    best = next((one for one in early if judge(one)[1]), best)
    return best, judge(best)[0], True


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
    """Scan all entries: float32 products choose k + SPARE_ROWS rows a query, the exact kernel orders those.

    For the few queries where these are not surely enough, float64 products choose. They err by far less than TIE, so a
    true neighbour can only be missed where more than SPARE_ROWS others are as near as it is, which moves the limit by
    less than TIE.
    """
    nearest, is_whole = _nearest_by_product(features, len(index.rows), asking, k, np.float32)
    if not is_whole.all():
        doubtful = ~is_whole
        some = _Queries(asking.features[doubtful], asking.own[doubtful])
        nearest[doubtful], is_whole[doubtful] = _nearest_by_product(features, len(index.rows), some, k, np.float64)
    limit = np.empty(len(asking.own))
    by_float16 = np.empty(len(asking.own))
    near = []
    for i, query in enumerate(asking.features):
        rows = np.sort(nearest[i][nearest[i] >= 0])
        exact = squared_distances(features(rows), query)
        order = np.lexsort((rows, exact))[:k]
        limit[i] = exact[order[-1]] + TIE
        stored = np.lexsort((rows, squared_distances(index.rows[rows], query)))[:k]
        by_float16[i] = (exact[stored] <= limit[i]).mean()
        near.append(rows[exact <= limit[i]])
    return _Truth(limit, by_float16, near, is_whole)


def _nearest_by_product(
    features: Features, entries: int, asking: _Queries, k: int, number: type[np.float32] | type[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the k + SPARE_ROWS nearest rows by products, and whether all within the k-th distance + TIE are there.

    A sum of n products of unit vectors errs by at most n u in any order, u being half the number's epsilon. A score,
    the row's square less twice the product, so errs by at most e = 3 n u and a few u. The k-th score lies at most e
    beside the k-th distance, and what is not further than that + TIE scores at most 2 e + TIE above the k-th score:
    where the last row that is kept scores more, nothing of it was left out.
    """
    count = k + SPARE_ROWS
    wanted: NDArray[Any] = asking.features.astype(number)
    scores = np.full((len(wanted), 4 * count), np.inf, number)
    rows = np.full(scores.shape, -1, np.int64)
    counts, limits = np.zeros(len(wanted), np.int64), np.full(len(wanted), np.inf, number)
    for start in range(0, entries, SCANNED_ROWS):
        block = np.arange(start, min(start + SCANNED_ROWS, entries))
        gallery: NDArray[Any] = features(block).astype(number, copy=False)
        squares = np.einsum("ij,ij->i", gallery, gallery)
        for first in range(0, len(wanted), QUERIES_AT_ONCE):
            part = slice(first, first + QUERIES_AT_ONCE)
            products = wanted[part] @ gallery.T
            keep_nearest(
                products, squares, start, asking.own[part], count, scores[part], rows[part], counts[part], limits[part]
            )
    for i, found in enumerate(counts):
        if found > count:
            keep_smallest(scores[i], rows[i], found, count)
        rows[i, min(found, count) :] = -1
    kept = np.where(rows[:, :count] >= 0, scores[:, :count], np.inf)
    margin = TIE + (3 * wanted.shape[1] + 16) * np.finfo(number).eps
    is_whole = (np.isinf(limits) & (counts <= count)) | (
        kept.max(axis=1) > np.partition(kept, k - 1, axis=1)[:, k - 1] + margin
    )
    return rows[:, :count], is_whole


def _found(
    index: Index, features: Features, asking: _Queries, truth: _Truth, *, k: int, effort: Effort
) -> NDArray[np.float64]:
    """Return the share of the true first k that the search finds, for each query.

    One more is asked for, and the entry that is left out is left out of what comes.
    """
    parts = np.array_split(asking.features, min(len(asking.own), os.cpu_count() or 1))
    with ThreadPoolExecutor(len(parts)) as pool:
        some_rows = pool.map(lambda some: index.lists.search(some, index.rows, k=k + 1, effort=effort)[0], parts)
        rows = np.concatenate(list(some_rows))
    found = np.empty(len(asking.own))
    for i, (query, own, some) in enumerate(zip(asking.features, asking.own, rows, strict=True)):
        others = some[(some != own) & (some >= 0)][:k]
        if truth.is_whole[i]:
            is_found = np.isin(others, truth.near[i])
        else:
            is_found = squared_distances(features(others), query) <= truth.limit[i]
        found[i] = is_found.sum() / k
    return found
