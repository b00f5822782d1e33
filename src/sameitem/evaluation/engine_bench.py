"""The engine beside other engines: one process, the same vectors, each with its best settings.

Every engine is given a grid of settings. Its cheapest ones at a first look that reach the asked recall are timed in
turns with those of the others: whatever else the machine does meanwhile hits all of them. Costs are processor time,
which a busy machine disturbs less than wall time; the least of several turns counts, and the best setting.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sameitem.core.errors import InputError, NotFoundError
from sameitem.engine.build import UNIT_TOLERANCE
from sameitem.evaluation.engine_peers import OURS, PEERS, Contender, Search, Tell, Vectors, contenders

DEPTHS = (10, 60)
TURNS = 5
CHOICES = 3  # settings of an engine that are timed in turns, of batches and of single queries each
SINGLES = 300  # queries that are asked one by one
GLANCES = 100  # queries that are asked one by one of every setting
TURN_S = 1.0  # of processor time, at most, of one setting in one turn; slow engines are asked less often
FEWEST = 50  # queries of a turn, however slow
_LATENT = 48


@dataclass(frozen=True, slots=True)
class Line:
    """What an engine reached."""

    name: str
    setting: str  # of batches; of single queries where that differs
    recall10: float
    recall60: float
    qps_cpu_batch: float | None  # queries a second of processor time, all at once
    qps_cpu_single: float  # one by one
    bytes_per_vector: float | None  # of both builds, where single queries have another one
    build_cpu_s: float  # the same
    p50_ms: float  # wall, of a single query
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Point:
    """What one setting of an engine reached with single queries."""

    name: str
    setting: str
    recall10: float
    qps_cpu_single: float
    on_front: bool  # no other setting of the engine is as good in one and better in the other


@dataclass(frozen=True, slots=True)
class Bench:
    """The table; engines that never reached the asked recall stand in `short`, with their best."""

    rows: int
    dim: int
    asked: float
    engines: list[Line]
    short: dict[str, float]
    ratios: dict[str, float]
    points: list[Point]  # none where the fronts were not asked for

    def as_json(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return asdict(self)


def draw_vectors(rows: int, dim: int, *, queries: int, seed: int = 0) -> tuple[Vectors, Vectors]:
    """Draw unit vectors as product photos have them, and queries: other photos of some of the products.

    Leaves of very different sizes, about four pictures of each product, 48 latent directions bent into all, noise.
    """
    generator = np.random.default_rng(seed)
    leaves = max(2, min(3000, rows // 100))
    popularity = (1 + np.arange(leaves)) ** -0.9
    middles = generator.standard_normal((leaves, _LATENT)).astype(np.float32)
    of_product = generator.choice(leaves, max(1, rows // 4), p=popularity / popularity.sum())
    products = middles[of_product] + 0.5 * generator.standard_normal((len(of_product), _LATENT)).astype(np.float32)
    straight, bent = (generator.standard_normal((_LATENT, dim)).astype(np.float32) / _LATENT**0.5 for _ in range(2))
    common = 0.3 * generator.standard_normal(dim).astype(np.float32)

    def seen(latent: Vectors, noise: float) -> Vectors:
        photos = latent @ straight + np.tanh(latent @ bent) + common
        photos += np.float32(noise) * generator.standard_normal(photos.shape).astype(np.float32)
        photos /= np.linalg.norm(photos, axis=1, keepdims=True)
        return np.asarray(photos, np.float32)

    made = np.empty((rows, dim), np.float32)
    shows = generator.integers(len(products), size=rows)
    for start in range(0, rows, 1 << 16):
        part = shows[start : start + (1 << 16)]
        moved = products[part] + 0.22 * generator.standard_normal((len(part), _LATENT)).astype(np.float32)
        made[start : start + len(part)] = seen(moved, 0.15)
    asked = products[generator.choice(shows, queries)]
    asked = asked + 0.3 * generator.standard_normal(asked.shape).astype(np.float32)
    return made, seen(asked, 0.2)


def read_vectors(file: Path, *, queries: int, seed: int = 0) -> tuple[Vectors, Vectors]:
    """Read features, and take some of them out as queries.

    Raises:
        InputError: not an array (rows, dim) of unit vectors, or too few of them; NotFoundError: no such file.
    """
    try:
        stored = np.load(file, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise NotFoundError(f"no file {file}") from error
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"{file.name} is no .npy file: {error}") from error
    if stored.ndim != 2 or stored.dtype.kind != "f" or len(stored) < queries + 1000:
        raise InputError(
            f"need (rows, dim) floats with at least {queries + 1000:,} rows ({queries:,} of them become queries), "
            f"got {stored.shape} {stored.dtype}"
        )
    lengths = np.linalg.norm(stored[:: max(1, len(stored) // 1000)].astype(np.float32), axis=1)
    if not (np.abs(lengths - 1) < UNIT_TOLERANCE).all():
        raise InputError(f"need vectors of length 1, got lengths of {lengths.min():g} to {lengths.max():g}")
    chosen = np.zeros(len(stored), np.bool_)
    chosen[np.random.default_rng(seed).choice(len(stored), queries, replace=False)] = True
    return np.asarray(stored[~chosen], np.float32), np.asarray(stored[chosen], np.float32)


def nearest(vectors: Vectors, queries: Vectors, k: int) -> NDArray[np.int64]:
    """Return the true k nearest rows of each query, by float32 products."""
    best = np.full((len(queries), k), -np.inf, np.float32)
    rows = np.full((len(queries), k), -1, np.int64)
    for start in range(0, len(vectors), 1 << 15):
        scores = queries @ vectors[start : start + (1 << 15)].T
        names = np.broadcast_to(np.arange(start, start + scores.shape[1]), scores.shape)
        best, rows = np.concatenate([best, scores], 1), np.concatenate([rows, names], 1)
        chosen = np.argpartition(-best, k - 1, axis=1)[:, :k]
        best, rows = np.take_along_axis(best, chosen, 1), np.take_along_axis(rows, chosen, 1)
    return np.take_along_axis(rows, np.argsort(-best, axis=1, kind="stable"), 1)


def recall(found: NDArray[np.int64], truth: NDArray[np.int64], k: int) -> float:
    """Return the mean share of the true first k that was found."""
    return float(
        np.mean([len(set(a[:k].tolist()) & set(b[:k].tolist())) / k for a, b in zip(found, truth, strict=True)])
    )


def bench(
    vectors: Vectors, queries: Vectors, *, asked: Sequence[float], tell: Tell, fronts: bool = False
) -> list[Bench]:
    """Build every engine that is installed, find its best settings for each asked recall and time them in turns.

    Args:
        vectors: (rows, dim) of unit length.
        queries: (n, dim) of unit length.
        asked: recall@10 that each engine must reach, 0..1; a table for each.
        tell: is told what is done.
        fronts: time every setting of each engine's Pareto front in turns too, and return a point for each setting.

    Raises:
        InputError: fewer vectors than a list needs, or a recall that cannot be asked for.
    """
    if len(vectors) < 1000 or not all(0 < one <= 1 for one in asked):
        raise InputError(f"need at least 1000 vectors and recalls in (0, 1], got {len(vectors)} and {asked}")
    tell("true neighbours")
    truth = nearest(vectors, queries, max(DEPTHS))
    with TemporaryDirectory() as scratch:
        tried: dict[str, list[_Tried]] = {}
        for contender in list(contenders(vectors, Path(scratch), tell, peers=PEERS)):
            tell(f"{contender.name}: {len(contender.settings)} settings")
            some = tried.setdefault(contender.name, [])
            some += [_try(contender, label, search, queries, truth) for label, search in contender.settings]
        results = []
        for one in asked:
            tell(f"recall {one:g}, in turns")
            lines = _in_turns([reach for some in tried.values() if (reach := _reach(some, one))], queries, truth)
            short = {name: max(t.recall for t in some) for name, some in tried.items() if not _reach(some, one)}
            results.append(Bench(len(vectors), vectors.shape[1], one, lines, short, _ratios(lines), []))
        if fronts:
            tell("fronts, in turns")
            points = _points(tried, queries[:SINGLES])
            results = [replace(result, points=points) for result in results]
    return results


@dataclass(frozen=True, slots=True, eq=False)
class _Tried:
    """A setting, and what it found at which cost."""

    contender: Contender
    label: str
    search: Search
    recall: float
    batch_s: float  # of processor time, for all queries
    single_s: float  # for one query


def _try(contender: Contender, label: str, search: Search, queries: Vectors, truth: NDArray[np.int64]) -> _Tried:
    begun = time.process_time()
    found = search(queries, DEPTHS[0])
    batch_s = time.process_time() - begun
    glanced = _as_many(queries[:GLANCES], batch_s / len(queries))
    single_s = batch_s / len(queries)
    if contender.has_batch:
        single_s = min(_cpu_of_singles(search, glanced)[0] for _ in range(2)) / len(glanced)
    return _Tried(contender, label, search, recall(found, truth, DEPTHS[0]), batch_s, single_s)


def _reach(tried: Sequence[_Tried], asked: float) -> list[_Tried]:
    return [one for one in tried if one.recall >= asked]


def _cpu_of_singles(search: Search, queries: Vectors) -> tuple[float, list[float]]:
    """Return the processor seconds of asking one by one, and the wall seconds of each."""
    waited = []
    begun = time.process_time()
    for row in range(len(queries)):
        started = time.perf_counter()
        search(queries[row : row + 1], DEPTHS[0])
        waited.append(time.perf_counter() - started)
    return time.process_time() - begun, waited


def pareto(recalls: Sequence[float], costs: Sequence[float]) -> list[int]:
    """Return the places, by rising recall, that no other place beats in one without losing in the other."""
    best, front = float("inf"), []
    for place in sorted(range(len(recalls)), key=lambda place: (-recalls[place], costs[place])):
        if costs[place] < best:
            best = costs[place]
            front.append(place)
    return front[::-1]


def _points(tried: Mapping[str, Sequence[_Tried]], queries: Vectors) -> list[Point]:
    """Time the fronts in turns; a setting that is on none keeps the time of the first look."""
    front = {name: pareto([t.recall for t in some], [t.single_s for t in some]) for name, some in tried.items()}
    timed: dict[_Tried, float] = {}
    for _ in range(TURNS):
        for name, places in front.items():
            for one in (tried[name][place] for place in places):
                asked = _as_many(queries, one.single_s)
                spent = _cpu_of_singles(one.search, asked)[0] / len(asked)
                timed[one] = min(spent, timed.get(one, spent))
    made = []
    for name, some in tried.items():
        costs = [timed.get(one, one.single_s) for one in some]
        still = pareto([one.recall for one in some], costs)
        made += [
            Point(name, one.label, round(one.recall, 4), round(1 / cost), on_front=place in still)
            for place, (one, cost) in enumerate(zip(some, costs, strict=True))
        ]
    return made


def _as_many(queries: Vectors, each_s: float) -> Vectors:
    """Return the first queries, as many as a turn has time for."""
    return queries[: max(FEWEST, int(TURN_S / each_s))]


def _with_batch(some: Sequence[_Tried]) -> list[_Tried]:
    return [one for one in some if one.contender.has_batch]


def _in_turns(reached: Sequence[Sequence[_Tried]], queries: Vectors, truth: NDArray[np.int64]) -> list[Line]:
    """Time the cheapest settings of each engine in turns, and return the best of each."""
    batches = [sorted(_with_batch(some), key=lambda one: one.batch_s)[:CHOICES] for some in reached]
    alones = [sorted(some, key=lambda one: one.single_s)[:CHOICES] for some in reached]
    batch_s: dict[_Tried, float] = {}  # for one query
    single_s: dict[_Tried, float] = {}
    waited: dict[_Tried, list[float]] = {one: [] for some in alones for one in some}
    for _ in range(TURNS):
        for together, alone in zip(batches, alones, strict=True):
            for one in together:
                asked = _as_many(queries, one.batch_s / len(queries))
                begun = time.process_time()
                one.search(asked, DEPTHS[0])
                spent = (time.process_time() - begun) / len(asked)
                batch_s[one] = min(spent, batch_s.get(one, spent))
            for one in alone:
                asked = _as_many(queries[:SINGLES], one.single_s)
                whole, each = _cpu_of_singles(one.search, asked)
                single_s[one] = min(whole / len(asked), single_s.get(one, whole))
                waited[one] += each
    lines = []
    for together, alone in zip(batches, alones, strict=True):
        single = min(alone, key=single_s.__getitem__)
        best = min(together, key=batch_s.__getitem__, default=single)
        built = list({id(one.contender): one.contender for one in (best, single)}.values())
        held = [contender.bytes_per_vector for contender in built]
        line = Line(
            name=best.contender.name,
            setting=best.label if best is single else f"{best.label}; single {single.label}",
            recall10=round(best.recall, 4),
            recall60=round(recall(best.search(queries, DEPTHS[1]), truth, DEPTHS[1]), 4),
            qps_cpu_batch=round(1 / batch_s[best]) if together else None,
            qps_cpu_single=round(1 / single_s[single]),
            bytes_per_vector=None if None in held else round(sum(filter(None, held)), 1),
            build_cpu_s=round(sum(contender.build_cpu_s for contender in built), 1),
            p50_ms=round(1e3 * float(np.median(waited[single])), 3),
            p99_ms=round(1e3 * float(np.quantile(waited[single], 0.99)), 3),
        )
        lines.append(line)
    return lines


def _ratios(lines: Sequence[Line]) -> dict[str, float]:
    """Return how many times as many queries we answer as each peer, by peer and kind."""
    ours = next((line for line in lines if line.name == OURS), None)
    found: dict[str, float] = {}
    for line in lines:
        if ours is None or line is ours:
            continue
        if line.qps_cpu_batch and ours.qps_cpu_batch:
            found[f"{line.name}_batch"] = round(ours.qps_cpu_batch / line.qps_cpu_batch, 2)
        found[f"{line.name}_single"] = round(ours.qps_cpu_single / line.qps_cpu_single, 2)
    return found
