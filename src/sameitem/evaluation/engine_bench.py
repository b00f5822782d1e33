"""The engine beside other engines: one process, the same vectors, each with its best settings.

Every engine is given a grid of settings. Its cheapest one that reaches the asked recall is timed in turns with those
of the others: whatever else the machine does meanwhile hits all of them. Costs are processor time, which a busy machine
disturbs less than wall time; the least of several turns counts.
"""

import gc
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sameitem.core.errors import InputError, NotFoundError
from sameitem.engine.build import UNIT_TOLERANCE
from sameitem.engine.kernels import exact_distances
from sameitem.engine.lists import Effort, lists_for, make_lists
from sameitem.engine.rotation import rotate, rotation_signs

OURS = "sameitem"
DEPTHS = (10, 60)
TURNS = 5
SINGLES = 300  # queries that are asked one by one
_LATENT = 48

Vectors = NDArray[np.float32]
Search = Callable[[Vectors, int], NDArray[np.int64]]  # queries (n, dim) and k to rows (n, k)
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, eq=False)
class Contender:
    """An engine with the vectors in it, and the settings that it may be searched with."""

    name: str
    bytes_per_vector: float | None  # in memory, without the rows for exact distances; None: it does not say
    build_cpu_s: float
    settings: Sequence[tuple[str, Search]]
    has_batch: bool = True


@dataclass(frozen=True, slots=True)
class Line:
    """What an engine reached."""

    name: str
    setting: str  # of batches; of single queries where that differs
    recall10: float
    recall60: float
    qps_cpu_batch: float | None  # queries a second of processor time, all at once
    qps_cpu_single: float  # one by one
    bytes_per_vector: float | None
    build_cpu_s: float
    p50_ms: float  # wall, of a single query
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Bench:
    """The table; engines that never reached the asked recall stand in `short`, with their best."""

    rows: int
    dim: int
    asked: float
    engines: list[Line]
    short: dict[str, float]
    ratios: dict[str, float]

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


def bench(vectors: Vectors, queries: Vectors, *, asked: Sequence[float], tell: Tell) -> list[Bench]:
    """Build every engine that is installed, find its best settings for each asked recall and time them in turns.

    Args:
        vectors: (rows, dim) of unit length.
        queries: (n, dim) of unit length.
        asked: recall@10 that each engine must reach, 0..1; a table for each.
        tell: is told what is done.

    Raises:
        InputError: fewer vectors than a list needs, or a recall that cannot be asked for.
    """
    if len(vectors) < 1000 or not all(0 < one <= 1 for one in asked):
        raise InputError(f"need at least 1000 vectors and recalls in (0, 1], got {len(vectors)} and {asked}")
    tell("true neighbours")
    truth = nearest(vectors, queries, max(DEPTHS))
    with TemporaryDirectory() as scratch:
        built = list(contenders(vectors, Path(scratch), tell))
        tried: list[list[_Tried]] = []
        for contender in built:
            tell(f"{contender.name}: {len(contender.settings)} settings")
            tried.append([_try(label, search, queries, truth) for label, search in contender.settings])
        results = []
        for one in asked:
            tell(f"recall {one:g}, in turns")
            chosen = [
                (c, *_best(some, one, queries)) for c, some in zip(built, tried, strict=True) if _reach(some, one)
            ]
            lines = _in_turns(chosen, queries, truth)
            short = {
                c.name: max(t.recall for t in some)
                for c, some in zip(built, tried, strict=True)
                if not _reach(some, one)
            }
            results.append(Bench(len(vectors), vectors.shape[1], one, lines, short, _ratios(lines)))
    return results


@dataclass(frozen=True, slots=True, eq=False)
class _Tried:
    """A setting, and what it found at which cost."""

    label: str
    search: Search
    recall: float
    cpu_s: float


def _try(label: str, search: Search, queries: Vectors, truth: NDArray[np.int64]) -> _Tried:
    begun = time.process_time()
    found = search(queries, DEPTHS[0])
    return _Tried(label, search, recall(found, truth, DEPTHS[0]), time.process_time() - begun)


def _reach(tried: Sequence[_Tried], asked: float) -> list[_Tried]:
    return [one for one in tried if one.recall >= asked]


def _best(tried: Sequence[_Tried], asked: float, queries: Vectors) -> tuple[_Tried, _Tried]:
    """Return the cheapest setting for batches, and of the cheap ones there the cheapest for single queries."""
    cheap = sorted(_reach(tried, asked), key=lambda one: one.cpu_s)[:6]
    return cheap[0], min(cheap, key=lambda one: _cpu_of_singles(one.search, queries[:100])[0])


def _cpu_of_singles(search: Search, queries: Vectors) -> tuple[float, list[float]]:
    """Return the processor seconds of asking one by one, and the wall seconds of each."""
    waited = []
    begun = time.process_time()
    for row in range(len(queries)):
        started = time.perf_counter()
        search(queries[row : row + 1], DEPTHS[0])
        waited.append(time.perf_counter() - started)
    return time.process_time() - begun, waited


def _in_turns(
    chosen: Sequence[tuple[Contender, _Tried, _Tried]], queries: Vectors, truth: NDArray[np.int64]
) -> list[Line]:
    singles = queries[:SINGLES]
    batch_s, single_s = [float("inf")] * len(chosen), [float("inf")] * len(chosen)
    waited: list[list[float]] = [[] for _ in chosen]
    for _ in range(TURNS):
        for place, (contender, batch, alone) in enumerate(chosen):
            if contender.has_batch:
                begun = time.process_time()
                batch.search(queries, DEPTHS[0])
                batch_s[place] = min(batch_s[place], time.process_time() - begun)
            spent, each = _cpu_of_singles(alone.search, singles)
            single_s[place] = min(single_s[place], spent)
            waited[place] += each
    return [
        Line(
            name=contender.name,
            setting=batch.label if batch is alone else f"{batch.label}; single {alone.label}",
            recall10=round(batch.recall, 4),
            recall60=round(recall(batch.search(queries, DEPTHS[1]), truth, DEPTHS[1]), 4),
            qps_cpu_batch=round(len(queries) / batch_s[place]) if contender.has_batch else None,
            qps_cpu_single=round(len(singles) / single_s[place]),
            bytes_per_vector=contender.bytes_per_vector and round(contender.bytes_per_vector, 1),
            build_cpu_s=round(contender.build_cpu_s, 1),
            p50_ms=round(1e3 * float(np.median(waited[place])), 3),
            p99_ms=round(1e3 * float(np.quantile(waited[place], 0.99)), 3),
        )
        for place, (contender, batch, alone) in enumerate(chosen)
    ]


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


# ------------------------------------------------------------------------------------------------- the engines


def contenders(vectors: Vectors, scratch: Path, tell: Tell) -> Iterator[Contender]:
    """Yield our engine and each peer that is installed, built from the vectors."""
    for make in (_ours, *PEERS):
        begun = time.process_time()
        try:
            made = make(vectors, scratch, tell)
        except ImportError as error:
            tell(f"left out, as it cannot be loaded ({error}); `pip install faiss-cpu zvec` adds both")
            continue
        if made is not None:
            yield Contender(
                made.name, made.bytes_per_vector, time.process_time() - begun, made.settings, made.has_batch
            )
        gc.collect()


def _ours(vectors: Vectors, _scratch: Path, tell: Tell) -> Contender:
    tell(f"{OURS}: building")
    stored = vectors.astype(np.float16)
    lists = make_lists(lambda rows: vectors[rows], len(vectors), lists=lists_for(len(vectors)), seed=0)

    def search(effort: Effort) -> Search:
        return lambda queries, k: lists.search(queries, stored, k=k, effort=effort)[0]

    settings = [
        (f"probes {probes}, candidates {candidates}, slack {slack}", search(Effort(probes, candidates, slack)))
        for probes, candidates, slack in itertools.product(_probes(len(lists.centres)), (50, 100, 200), (0.02, 0.05))
    ]
    held: list[NDArray[Any]] = [lists.centres, lists.starts, lists.list_of_row]
    for codes in (lists.codes, lists.centre_codes):
        held += [codes.blocks, codes.slopes, codes.offsets, codes.ids]
    return Contender(OURS, sum(array.nbytes for array in held) / len(vectors), 0.0, settings)


def _probes(lists: int) -> list[int]:
    usual = (4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
    return sorted({*(probes for probes in usual if probes < lists), min(lists, usual[-1])})


def _faiss_rabitq(vectors: Vectors, _scratch: Path, tell: Tell) -> Contender:
    import faiss

    tell("faiss IVFRaBitQFastScan: building")
    faiss.omp_set_num_threads(1)
    rows, dim = vectors.shape
    signs = rotation_signs(dim, seed=1)
    lists = lists_for(rows)
    clusters = faiss.Kmeans(dim, lists, niter=8, seed=1, max_points_per_centroid=50)
    turned = rotate(vectors, signs)[:, :dim] if signs.shape[1] == dim else vectors
    clusters.train(turned)
    flat = faiss.IndexFlatL2(dim)
    flat.add(clusters.centroids)
    graph = faiss.IndexHNSWFlat(dim, 32)
    graph.add(clusters.centroids)
    index = faiss.IndexIVFRaBitQFastScan(flat, dim, lists, faiss.METRIC_L2)
    index.train(turned[: 50 * lists])
    index.add(turned)
    exact = faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_L2)
    exact.train(turned[:1000])
    exact.add(turned)
    del turned
    refined = faiss.IndexRefine(index, exact)

    def search(probes: int, factor: int, coarse: Any) -> Search:
        def one(queries: Vectors, k: int) -> NDArray[np.int64]:
            index.quantizer, index.nprobe = coarse, probes
            refined.k_factor = max(1.0, factor * 10 / k)
            asked = rotate(queries, signs) if signs.shape[1] == dim else queries
            return np.asarray(refined.search(asked, k)[1])

        return one

    graph.hnsw.efSearch = 128
    settings = [
        (f"nprobe {probes}, k_factor {factor}, {name}", search(probes, factor, coarse))
        for probes, factor, (name, coarse) in itertools.product(
            _probes(lists), (5, 10, 20), (("flat", flat), ("hnsw", graph))
        )
    ]
    held = index.code_size + 8 + 4 * dim * lists / rows  # codes with factors, ids, centroids
    return Contender("faiss_rabitq", held, 0.0, settings)


def _faiss_binary(vectors: Vectors, _scratch: Path, tell: Tell) -> Contender | None:
    import faiss

    rows, dim = vectors.shape
    if dim % 8:
        return None
    tell("faiss BinaryIVF: building")
    signs = rotation_signs(dim, seed=1)
    middle = vectors[: 1 << 16].mean(axis=0)
    lists = lists_for(rows)

    def coded(some: Vectors) -> NDArray[np.uint8]:
        return np.packbits(rotate(some - middle, signs)[:, :dim] > 0, axis=1, bitorder="little")

    codes = np.concatenate([coded(vectors[start : start + (1 << 15)]) for start in range(0, rows, 1 << 15)])
    index = faiss.IndexBinaryIVF(faiss.IndexBinaryFlat(dim), dim, lists)
    index.train(codes[: 50 * lists])
    index.add(codes)
    stored = vectors.astype(np.float16)
    halves = stored.view(np.uint16)

    def search(probes: int, candidates: int) -> Search:
        def one(queries: Vectors, k: int) -> NDArray[np.int64]:
            index.nprobe = probes
            found = index.search(coded(queries), max(k, candidates))[1]
            best = np.full((len(queries), k), -1, np.int64)
            for row, some in enumerate(found):
                some = some[some >= 0]
                distances = np.empty(len(some), np.float64)
                exact_distances(queries[row], halves, some, distances)
                order = np.argsort(distances)[:k]
                best[row, : len(order)] = some[order]
            return best

        return one

    settings = [
        (f"nprobe {probes}, candidates {candidates}", search(probes, candidates))
        for probes, candidates in itertools.product(_probes(lists), (100, 200, 400, 1200))
    ]
    return Contender("faiss_binary_ivf", dim / 8 + 8 + dim / 8 * lists / rows, 0.0, settings)


def _faiss_hnsw(vectors: Vectors, _scratch: Path, tell: Tell) -> Contender | None:
    import faiss

    if len(vectors) > 200_000:  # an hour of building
        return None
    tell("faiss HNSW SQ8: building")
    dim = vectors.shape[1]
    graph = faiss.IndexHNSWSQ(dim, faiss.ScalarQuantizer.QT_8bit, 24, faiss.METRIC_L2)
    graph.hnsw.efConstruction = 120
    graph.train(vectors[:20_000])
    graph.add(vectors)
    exact = faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_L2)
    exact.train(vectors[:1000])
    exact.add(vectors)
    refined = faiss.IndexRefine(graph, exact)

    def search(breadth: int) -> Search:
        def one(queries: Vectors, k: int) -> NDArray[np.int64]:
            graph.hnsw.efSearch, refined.k_factor = breadth, 2.0
            return np.asarray(refined.search(queries, k)[1])

        return one

    settings = [(f"efSearch {breadth}", search(breadth)) for breadth in (16, 32, 64, 128, 256, 512, 1024)]
    return Contender("faiss_hnsw_sq8", dim + 4 * 2 * 24, 0.0, settings)


def _zvec(vectors: Vectors, scratch: Path, tell: Tell) -> Contender:
    import zvec

    tell("zvec IVF_RABITQ: building")
    rows, dim = vectors.shape
    inner = zvec.MetricType.IP
    zvec.init(log_level=zvec.LogLevel.WARN, query_threads=1, optimize_threads=1, log_dir=str(scratch / "logs"))
    schema = zvec.CollectionSchema(
        "bench",
        vectors=zvec.VectorSchema("v", zvec.DataType.VECTOR_FP32, dim, zvec.FlatIndexParam(metric_type=inner)),
    )
    path = str(scratch / "zvec")
    collection = zvec.create_and_open(path, schema, zvec.CollectionOption(enable_mmap=True))
    for start in range(0, rows, 1000):
        part = range(start, min(rows, start + 1000))
        collection.insert([zvec.Doc(id=str(row), vectors={"v": vectors[row]}) for row in part])
    collection.flush()
    how = zvec.IvfRabitqIndexParam(
        metric_type=inner, nlist=lists_for(rows), total_bits=1, sample_count=min(rows, 100_000)
    )
    collection.create_index("v", how, zvec.IndexOption(concurrency=1))
    collection.optimize(zvec.OptimizeOption(concurrency=1))
    collection.flush()
    collection.close()
    opened = zvec.open(path, zvec.CollectionOption(read_only=True, enable_mmap=True))
    names = np.full(rows, -1, np.int64)  # zvec's own numbers to ours: resolved once, outside of what is timed
    for start in range(0, rows, 10_000):
        inside = np.arange(start, min(rows, start + 10_000))
        names[inside] = [int(name) for name in opened.resolve_internal_ids(inside)]

    def search(probes: int, factor: float) -> Search:
        how = zvec.IvfRabitqQueryParam(nprobe=probes, is_using_refiner=True, scale_factor=factor)

        def one(queries: Vectors, k: int) -> NDArray[np.int64]:
            found = [
                np.asarray(opened.query_internal_ids(zvec.Query("v", vector=query, param=how), topk=k))
                for query in queries
            ]
            return np.array([[names[row] if row >= 0 else -1 for row in some] for some in found], np.int64)

        return one

    settings = [
        (f"nprobe {probes}, refiner x{factor}", search(probes, float(factor)))
        for probes, factor in itertools.product(_probes(lists_for(rows)), (5, 10, 20))
    ]
    return Contender("zvec", None, 0.0, settings, has_batch=False)


PEERS: tuple[Callable[[Vectors, Path, Tell], Contender | None], ...] = (
    _faiss_rabitq,
    _faiss_binary,
    _faiss_hnsw,
    _zvec,
)
