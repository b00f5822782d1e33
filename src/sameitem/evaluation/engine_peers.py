"""The engines that are compared, ours first: each built from the same vectors, with the settings that it may be given.

A peer is optional: one that cannot be imported is left out. Where a peer has only codes, its candidates are ranked as
ours are, by exact distances to float16 rows.
"""

import gc
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sameitem.engine.kernels import exact_distances
from sameitem.engine.lists import Effort, lists_for, make_lists
from sameitem.engine.rotation import rotate, rotation_signs

OURS = "sameitem"
INSTALL = "pip install faiss-cpu hnswlib lancedb scann usearch zvec"
GRAPH_ROWS = 200_000  # most vectors of a graph over floats: an hour of building otherwise
DEGREES = (16, 32)
BREADTHS = (10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512, 1024)

Vectors = NDArray[np.float32]
Search = Callable[[Vectors, int], NDArray[np.int64]]  # queries (n, dim) and k to rows (n, k)
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, eq=False)
class Contender:
    """An engine with the vectors in it, and the settings that it may be searched with.

    An engine that can be built in several ways is several contenders of one name.
    """

    name: str
    bytes_per_vector: float | None  # in memory, without the rows for exact distances; None: it does not say
    settings: Sequence[tuple[str, Search]]
    has_batch: bool = True
    build_cpu_s: float = 0.0


Make = Callable[[Vectors, Path, Tell], Iterator[Contender]]


def contenders(vectors: Vectors, scratch: Path, tell: Tell, *, peers: Sequence[Make]) -> Iterator[Contender]:
    """Yield our engine and each peer that is installed, built from the vectors, with what the building cost.

    Args:
        vectors: (rows, dim) of unit length.
        scratch: folder for engines that need files.
        tell: is told what is done, and who is left out.
        peers: to build after ours.
    """
    for make in (ours, *peers):
        made = make(vectors, scratch, tell)
        while True:
            begun = time.process_time()
            try:
                contender = next(made, None)
            except ImportError as error:
                tell(f"left out, as it cannot be loaded ({error}); `{INSTALL}` adds all")
                break
            if contender is None:
                break
            yield replace(contender, build_cpu_s=time.process_time() - begun)
            gc.collect()


def ours(vectors: Vectors, _scratch: Path, tell: Tell) -> Iterator[Contender]:
    """Build our lists as `sameitem build` does."""
    tell(f"{OURS}: building")
    stored = vectors.astype(np.float16)
    lists = make_lists(lambda rows: vectors[rows], len(vectors), lists=lists_for(len(vectors)), seed=0)

    def search(effort: Effort) -> Search:
        return lambda queries, k: lists.search(queries, stored, k=k, effort=effort)[0]

    settings = [
        (f"probes {probes}, candidates {candidates}, slack {slack}", search(Effort(probes, candidates, slack)))
        for probes, candidates, slack in itertools.product(
            _probes(len(lists.centres)), (50, 100, 200), (0.02, 0.05, 0.1)
        )
    ]
    held: list[NDArray[Any]] = [lists.centres, lists.starts, lists.list_of_row]
    for codes in (lists.codes, lists.centre_codes):
        held += [codes.blocks, codes.slopes, codes.offsets, codes.ids]
    yield Contender(OURS, sum(array.nbytes for array in held) / len(vectors), settings)


def _probes(lists: int) -> list[int]:
    usual = (4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
    return sorted({*(probes for probes in usual if probes < lists), min(lists, usual[-1])})


class _Signs:
    """One-bit codes for engines that have nothing else, and the float16 rows that rank their candidates."""

    def __init__(self, vectors: Vectors) -> None:
        self._signs = rotation_signs(vectors.shape[1], seed=1)
        self._middle = vectors[: 1 << 16].mean(axis=0)
        self._halves = vectors.astype(np.float16).view(np.uint16)
        parts = [self.coded(vectors[start : start + (1 << 15)]) for start in range(0, len(vectors), 1 << 15)]
        self.codes = np.concatenate(parts)

    def coded(self, some: Vectors) -> NDArray[np.uint8]:
        """Turn vectors (n, dim) into signs (n, dim / 8) around the middle, after a random rotation."""
        turned = rotate(some - self._middle, self._signs)[:, : some.shape[1]]
        return np.packbits(turned > 0, axis=1, bitorder="little")

    def ranked(self, queries: Vectors, candidates: NDArray[np.int64], k: int) -> NDArray[np.int64]:
        """Return the k nearest of each query's candidates (n, any), of which -1 is none."""
        best = np.full((len(queries), k), -1, np.int64)
        for row, some in enumerate(candidates):
            some = some[some >= 0]
            distances = np.empty(len(some), np.float64)
            exact_distances(queries[row], self._halves, some, distances)
            order = np.argsort(distances)[:k]
            best[row, : len(order)] = some[order]
        return best


def _faiss_rabitq(vectors: Vectors, _scratch: Path, tell: Tell) -> Iterator[Contender]:
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
    exact = _exact_rows(turned)
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
    yield Contender("faiss_rabitq", held, settings)


def _exact_rows(vectors: Vectors) -> Any:
    """Return faiss's float16 rows, by which it refines."""
    import faiss

    exact = faiss.IndexScalarQuantizer(vectors.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_L2)
    exact.train(vectors[:1000])
    exact.add(vectors)
    return exact


def _faiss_binary(vectors: Vectors, _scratch: Path, tell: Tell) -> Iterator[Contender]:
    import faiss

    rows, dim = vectors.shape
    if dim % 8:
        return
    faiss.omp_set_num_threads(1)
    tell("faiss BinaryIVF: building")
    signs = _Signs(vectors)
    lists = lists_for(rows)
    index = faiss.IndexBinaryIVF(faiss.IndexBinaryFlat(dim), dim, lists)
    index.train(signs.codes[: 50 * lists])
    index.add(signs.codes)

    def search(probes: int, candidates: int) -> Search:
        def one(queries: Vectors, k: int) -> NDArray[np.int64]:
            index.nprobe = probes
            return signs.ranked(queries, index.search(signs.coded(queries), max(k, candidates))[1], k)

        return one

    settings = [
        (f"nprobe {probes}, candidates {candidates}", search(probes, candidates))
        for probes, candidates in itertools.product(_probes(lists), (100, 200, 400, 1200))
    ]
    yield Contender("faiss_binary_ivf", dim / 8 + 8 + dim / 8 * lists / rows, settings)

    tell("faiss BinaryFlat: building")
    flat = faiss.IndexBinaryFlat(dim)
    flat.add(signs.codes)

    def scan(candidates: int) -> Search:
        return lambda queries, k: signs.ranked(queries, flat.search(signs.coded(queries), max(k, candidates))[1], k)

    fewer = [candidates for candidates in (50, 100, 200, 400, 1200) if candidates < rows]
    settings = [(f"candidates {candidates}", scan(candidates)) for candidates in fewer]
    yield Contender("faiss_binary_flat", dim / 8, settings)


def _faiss_hnsw(vectors: Vectors, _scratch: Path, tell: Tell) -> Iterator[Contender]:
    import faiss

    if len(vectors) > GRAPH_ROWS:
        return
    faiss.omp_set_num_threads(1)
    dim = vectors.shape[1]
    exact = _exact_rows(vectors)

    def search(graph: Any, refined: Any, breadth: int) -> Search:
        def one(queries: Vectors, k: int) -> NDArray[np.int64]:
            graph.hnsw.efSearch, refined.k_factor = breadth, 2.0
            return np.asarray(refined.search(queries, k)[1])

        return one

    for degree in DEGREES:
        tell(f"faiss HNSW SQ8, M {degree}: building")
        graph = faiss.IndexHNSWSQ(dim, faiss.ScalarQuantizer.QT_8bit, degree, faiss.METRIC_L2)
        graph.hnsw.efConstruction = 200
        graph.train(vectors[:20_000])
        graph.add(vectors)
        refined = faiss.IndexRefine(graph, exact)
        settings = [(f"M {degree}, ef {breadth}", search(graph, refined, breadth)) for breadth in BREADTHS]
        yield Contender("faiss_hnsw_sq8", dim + 4 * 2 * degree, settings)


def _hnswlib(vectors: Vectors, _scratch: Path, tell: Tell) -> Iterator[Contender]:
    import hnswlib

    rows, dim = vectors.shape
    if rows > GRAPH_ROWS:
        return

    def search(graph: Any, breadth: int) -> Search:
        def one(queries: Vectors, k: int) -> NDArray[np.int64]:
            graph.set_ef(max(k, breadth))
            return np.asarray(graph.knn_query(queries, k, num_threads=1)[0], np.int64)

        return one

    for degree in DEGREES:
        tell(f"hnswlib, M {degree}: building")
        graph = hnswlib.Index("ip", dim)
        graph.init_index(rows, M=degree, ef_construction=200, random_seed=1)
        graph.add_items(vectors, num_threads=1)
        settings = [(f"M {degree}, ef {breadth}", search(graph, breadth)) for breadth in BREADTHS]
        yield Contender("hnswlib", graph.index_file_size() / rows, settings)  # with its float32 rows


def _usearch(vectors: Vectors, _scratch: Path, tell: Tell) -> Iterator[Contender]:
    from usearch.index import Index

    rows, dim = vectors.shape
    if rows > GRAPH_ROWS:
        return

    def search(graph: Any, breadth: int) -> Search:
        def one(queries: Vectors, k: int) -> NDArray[np.int64]:
            graph.expansion_search = max(k, breadth)
            return _keys(graph, queries, k)

        return one

    for degree in DEGREES:
        tell(f"usearch f16, connectivity {degree}: building")
        graph = Index(ndim=dim, metric="ip", dtype="f16", connectivity=degree, expansion_add=128)
        graph.add(np.arange(rows), vectors, threads=1)
        settings = [(f"connectivity {degree}, expansion {breadth}", search(graph, breadth)) for breadth in BREADTHS]
        yield Contender("usearch_f16", graph.serialized_length / rows, settings)  # with its float16 rows


def _usearch_bits(vectors: Vectors, _scratch: Path, tell: Tell) -> Iterator[Contender]:
    from usearch.index import Index

    rows, dim = vectors.shape
    if dim % 8:
        return
    signs = _Signs(vectors)

    def search(graph: Any, breadth: int) -> Search:
        def one(queries: Vectors, k: int) -> NDArray[np.int64]:
            graph.expansion_search = max(k, breadth)
            return signs.ranked(queries, _keys(graph, signs.coded(queries), max(k, breadth)), k)

        return one

    for degree in DEGREES:
        tell(f"usearch b1, connectivity {degree}: building")
        graph = Index(ndim=dim, metric="hamming", dtype="b1", connectivity=degree, expansion_add=128)
        graph.add(np.arange(rows), signs.codes, threads=1)
        settings = [
            (f"connectivity {degree}, expansion and candidates {breadth}", search(graph, breadth))
            for breadth in BREADTHS
            if breadth < rows
        ]
        yield Contender("usearch_b1", graph.serialized_length / rows, settings)


def _keys(graph: Any, queries: NDArray[Any], k: int) -> NDArray[np.int64]:
    found = graph.search(queries if len(queries) > 1 else queries[0], k, threads=1)
    keys = np.asarray(found.keys, np.int64).reshape(len(queries), -1)
    return np.pad(keys, ((0, 0), (0, k - keys.shape[1])), constant_values=-1)


def _scann(vectors: Vectors, _scratch: Path, tell: Tell) -> Iterator[Contender]:
    import scann

    rows, dim = vectors.shape
    lists = lists_for(rows)
    spilled = {"soar_lambda": 1.5, "overretrieve_factor": 2.0}  # as in the article on SOAR, arXiv 2404.00774

    def search(index: Any, leaves: int, candidates: int) -> Search:
        def one(queries: Vectors, k: int) -> NDArray[np.int64]:
            how = {
                "final_num_neighbors": k,
                "pre_reorder_num_neighbors": max(k, candidates),
                "leaves_to_search": leaves,
            }
            if len(queries) == 1:
                return np.asarray(index.search(queries[0], **how)[0], np.int64)[None]
            return np.asarray(index.search_batched(queries, **how)[0], np.int64)

        return one

    for name, tree in (("tree", {}), ("SOAR", spilled)):
        tell(f"ScaNN, {name}: building")
        builder = scann.scann_ops_pybind.builder(vectors, 10, "dot_product").set_n_training_threads(1)
        builder = builder.tree(num_leaves=lists, num_leaves_to_search=16, **tree)
        index = builder.score_ah(2, anisotropic_quantization_threshold=0.2).reorder(100).build()
        settings = [
            (f"{name}, leaves {leaves}, candidates {candidates}", search(index, leaves, candidates))
            for leaves, candidates in itertools.product(_probes(lists), (30, 50, 100, 200))
        ]
        held = (1 + bool(tree)) * (dim / 4 + 4) + 4 * dim * lists / rows  # 4 bits for two numbers, ids, centroids
        yield Contender("scann", held, settings)


def _lancedb(vectors: Vectors, scratch: Path, tell: Tell) -> Iterator[Contender]:
    import lancedb
    import pyarrow

    tell("LanceDB IVF_RQ: building")
    rows, dim = vectors.shape
    lists = lists_for(rows)
    column = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(vectors.reshape(-1)), dim)
    table = lancedb.connect(scratch / "lancedb").create_table(
        "bench", pyarrow.table({"id": pyarrow.array(np.arange(rows)), "v": column})
    )
    table.create_index("l2", num_partitions=lists, vector_column_name="v", index_type="IVF_RQ", num_bits=1)

    def search(probes: int, factor: int) -> Search:
        def part(queries: Vectors, k: int) -> NDArray[np.int64]:
            asked = table.search(list(queries) if len(queries) > 1 else queries[0], vector_column_name="v")
            asked = asked.nprobes(probes).refine_factor(factor).limit(k).select(["id", "_distance"])
            found = asked.to_arrow()
            names = np.asarray(found["id"].to_numpy(), np.int64)
            if len(queries) > 1:  # answers of a batch stand mixed
                names = names[np.lexsort((found["_distance"].to_numpy(), found["query_index"].to_numpy()))]
            return names.reshape(len(queries), k)

        return lambda queries, k: np.concatenate(
            [part(queries[start : start + 100], k) for start in range(0, len(queries), 100)]
        )

    settings = [
        (f"nprobes {probes}, refine_factor {factor}", search(probes, factor))
        for probes, factor in itertools.product(_probes(lists)[::3], (5, 10))
    ]
    yield Contender("lancedb", None, settings)


def _zvec(vectors: Vectors, scratch: Path, tell: Tell) -> Iterator[Contender]:
    import zvec

    zvec.init(log_level=zvec.LogLevel.WARN, query_threads=1, optimize_threads=1, log_dir=str(scratch / "logs"))
    tell("zvec IVF_RABITQ: building")
    rows, dim = vectors.shape
    inner = zvec.MetricType.IP
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
    yield Contender("zvec", None, settings, has_batch=False)


PEERS: tuple[Make, ...] = (
    _faiss_rabitq,
    _faiss_binary,
    _faiss_hnsw,
    _hnswlib,
    _usearch,
    _usearch_bits,
    _scann,
    _lancedb,
    _zvec,
)
