"""What the engine costs from a hundred thousand vectors to ten million: building, memory, queries warm and cold.

    python benchmarks/engine_growth.py [--rows 100000 300000 1000000 3000000 10000000] [--json OUT] [--plot OUT.svg]

Each size is built (`write_index`, `certify`, `seal`) and measured in a process of its own in a temporary folder, which
needs 1.1 GB for each million vectors of 512 numbers. Sizes that stand in the JSON file already are kept there, so that
they may be measured one after the other.

Vectors follow the recipe of `draw_vectors` in `evaluation/engine_bench.py`, but their random numbers are a function of
the row: any row can be drawn at any time, and none of the float32 features need be kept.
"""

import argparse
import gc
import json
import math
import mmap
import multiprocessing
import os
import resource
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, fields, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import NormalDist
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sameitem.engine.build import COLOUR_BINS, seal, write_index
from sameitem.engine.certificate import certify
from sameitem.engine.index import Index, open_index
from sameitem.engine.lists import lists_for
from sameitem.engine.members import Members
from sameitem.engine.residency import resident_share

DIM = 512
K = 60
ASKED = 0.999
REAL_QUERIES = 1000  # other photos of products in the gallery, certified beside 2,000 of its own
TURNS = 3  # of what is timed warm; the least counts
COLD = 400  # queries asked after the rows were dropped from memory
BLOCK_ROWS = 4096
BYTES_A_ROW = 1100  # on the disk
MARGIN_BYTES = 3_000_000_000  # that stay free on the disk
_LATENT = 48

Vectors = NDArray[np.float32]
Rows = NDArray[np.integer[Any]]


# ------------------------------------------------------------------------------------------------- vectors by row


@njit(nogil=True)
def fill_normal(stream: int, rows: Any, quantiles: Any, out: Any) -> None:
    """Fill each row of `out` with normal numbers that depend on the stream, the row and the column only.

    Args:
        stream: which of many independent sets.
        rows: (n,)
        quantiles: (65536,) of the normal distribution.
        out: (n, width) float32, width a multiple of four.
    """
    for place in range(len(rows)):
        state = np.uint64(stream) * np.uint64(0xD1342543DE82EF95) + np.uint64(rows[place]) * np.uint64(
            0x2545F4914F6CDD1D
        )
        for at in range(0, out.shape[1], 4):  # a step of splitmix64 gives four numbers of 16 bits
            state += np.uint64(0x9E3779B97F4A7C15)
            bits = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            bits ^= bits >> np.uint64(31)
            for one in range(4):
                out[place, at + one] = quantiles[(bits >> np.uint64(16 * one)) & np.uint64(0xFFFF)]


class Drawn:
    """Vectors of product photos and queries, any of them at any time."""

    def __init__(self, rows: int, dim: int, *, seed: int = 0) -> None:
        generator = np.random.default_rng(seed)
        leaves = max(2, min(3000, rows // 100))
        popularity = (1 + np.arange(leaves)) ** -0.9
        self._middles = generator.standard_normal((leaves, _LATENT)).astype(np.float32)
        self._leaf = generator.choice(leaves, max(1, rows // 4), p=popularity / popularity.sum()).astype(np.int16)
        self._straight, self._bent = (
            generator.standard_normal((_LATENT, dim)).astype(np.float32) / np.float32(_LATENT**0.5) for _ in range(2)
        )
        self._common = (0.3 * generator.standard_normal(dim)).astype(np.float32)
        self._quantiles = np.array([NormalDist().inv_cdf((i + 0.5) / 65536) for i in range(65536)], np.float32)
        self.product = generator.integers(len(self._leaf), size=rows, dtype=np.int32)  # that each row shows
        self._asked = generator.choice(self.product, 1 << 16)
        self.cpu_s = 0.0  # spent on drawing
        self.wall_s = 0.0

    def features(self, rows: Rows) -> Vectors:
        """Return the vectors of some rows, of unit length."""
        return self._timed(lambda: self._photos(self.product[rows], rows, streams=(2, 3), moved=0.22, noise=0.15))

    def queries(self, count: int) -> Vectors:
        """Return other photos of some products."""
        return self._photos(self._asked[:count], np.arange(count), streams=(4, 5), moved=0.3, noise=0.2)

    def _timed(self, draw: Callable[[], Vectors]) -> Vectors:
        wall, cpu = time.perf_counter(), time.process_time()
        drawn = draw()
        self.wall_s += time.perf_counter() - wall
        self.cpu_s += time.process_time() - cpu
        return drawn

    def _photos(self, products: Rows, names: Rows, *, streams: tuple[int, int], moved: float, noise: float) -> Vectors:
        latent = self._middles[self._leaf[products]] + np.float32(0.5) * self._normal(1, products, _LATENT)
        latent += np.float32(moved) * self._normal(streams[0], names, _LATENT)
        photos = np.tanh(latent @ self._bent)
        photos += latent @ self._straight
        photos += self._common
        photos += np.float32(noise) * self._normal(streams[1], names, photos.shape[1])
        photos /= np.linalg.norm(photos, axis=1, keepdims=True)
        return np.asarray(photos, np.float32)

    def _normal(self, stream: int, rows: Rows, width: int) -> Vectors:
        out = np.empty((len(rows), width), np.float32)
        fill_normal(stream, rows, self._quantiles, out)
        return out


# ------------------------------------------------------------------------------------------------- memory and disk


class Watch:
    """Samples the memory of this process that no file stands behind, twenty times a second."""

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._done.wait(0.05):
            self.peak_bytes = max(self.peak_bytes, own_bytes())


def own_bytes() -> int:
    """Return the memory of this process that no file stands behind."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith(("RssAnon:", "RssShmem:")))


def mapped_bytes(folder: Path) -> dict[str, int]:
    """Return how many bytes of a folder's files this process has mapped, as Rss and as its share of it, Pss."""
    found = {"Rss": 0, "Pss": 0}
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name, *rest = line.split()
        if not name.endswith(":"):
            inside = bool(rest) and rest[-1].startswith(str(folder))
        elif inside and name[:-1] in found:
            found[name[:-1]] += 1024 * int(rest[0])
    return found


def all_bytes() -> dict[str, int]:
    """Return Rss and Pss of this process."""
    lines = [line.split() for line in Path("/proc/self/smaps_rollup").read_text().splitlines()]
    return {name[:-1]: 1024 * int(rest[0]) for name, *rest in lines if name in ("Rss:", "Pss:")}


def drop(path: Path) -> None:
    """Ask the kernel to forget what it keeps of a file; nobody may have it mapped."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_in(path: Path) -> None:
    """Read a file, so that the kernel keeps it."""
    with path.open("rb") as file:
        while file.read(1 << 24):
            pass


def kept_share(path: Path) -> float:
    """Return which share of an array's file the kernel keeps in memory."""
    return round(resident_share(np.load(path, mmap_mode="r")) or 0.0, 4)


def arrays(part: object) -> list[NDArray[Any]]:
    """Return the arrays that an object has or consists of."""
    if isinstance(part, np.ndarray):
        return [part]
    inner = [getattr(part, field.name) for field in fields(part)] if is_dataclass(part) else part
    return [array for one in inner for array in arrays(one)] if isinstance(inner, list | tuple) else []


# ------------------------------------------------------------------------------------------------- measuring


def measure(rows: int, folder: Path) -> dict[str, Any]:
    """Build an index of so many vectors in a folder and return its figures."""
    drawn = Drawn(rows, DIM)
    drawn.features(np.arange(2))  # compiles
    drawn.cpu_s = drawn.wall_s = 0
    index_folder = folder / "index"
    figures: dict[str, Any] = {"rows": rows, "lists": lists_for(rows), "steps": {}}
    before = own_bytes()
    with Watch() as watch:
        _build(drawn, rows, index_folder, figures)
        queries = drawn.queries(REAL_QUERIES)
        with _Step(figures, "certificate", drawn):
            certificate = certify(open_index(index_folder), drawn.features, asked=ASKED, k=K, queries=queries)
        with _Step(figures, "seal", drawn):
            seal(index_folder, certificate=certificate)
    figures["certificate"] = asdict(certificate)
    figures["before_bytes"], figures["peak_own_bytes"] = before, watch.peak_bytes
    figures["peak_rss_bytes"] = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    figures["disk_bytes"] = sum(path.stat().st_size for path in index_folder.iterdir())
    _search_warm(index_folder, queries, figures)
    for name, is_random in (("cold", False), ("cold_random", True)):
        figures[name] = _search_cold(index_folder, queries, is_random=is_random)
    return figures


class _Step:
    """Notes wall and processor seconds of a step, less those of drawing."""

    def __init__(self, figures: dict[str, Any], name: str, drawn: Drawn) -> None:
        self._figures, self._name, self._drawn = figures, name, drawn

    def __enter__(self) -> None:
        self._begun = self._now()

    def __exit__(self, *_: object) -> None:
        wall, cpu = (now - begun for now, begun in zip(self._now(), self._begun, strict=True))
        self._figures["steps"][self._name] = {"wall_s": round(wall, 1), "cpu_s": round(cpu, 1)}

    def _now(self) -> tuple[float, float]:
        return time.perf_counter() - self._drawn.wall_s, time.process_time() - self._drawn.cpu_s


def _build(drawn: Drawn, rows: int, folder: Path, figures: dict[str, Any]) -> None:
    ids = np.arange(rows)
    members = Members(ids, ids, ids, drawn.product)
    colours = np.full((BLOCK_ROWS, COLOUR_BINS), 1 / COLOUR_BINS, np.float32)
    storing, sorting = _Step(figures, "rows", drawn), _Step(figures, "lists", drawn)

    def blocks() -> Iterator[tuple[Vectors, Vectors]]:
        for start in range(0, rows, BLOCK_ROWS):
            part = ids[start : start + BLOCK_ROWS]
            yield drawn.features(part), colours[: len(part)]
        storing.__exit__()
        sorting.__enter__()

    storing.__enter__()
    write_index(
        folder,
        blocks(),
        members=members,
        version=folder.name,
        model_version="drawn",
        created=datetime.now(UTC),
        dim=DIM,
    )
    sorting.__exit__()


def _search_warm(folder: Path, queries: Vectors, figures: dict[str, Any]) -> None:
    """Time searches of an index whose files were read just before: the rows too, where memory holds them."""
    index = _opened(folder)
    read_in(folder / "rows.npy")
    effort = index.effort_for(K)

    def batch() -> None:
        index.lists.search(queries, index.rows, k=K, effort=effort)

    def single() -> None:
        for row in range(len(queries)):
            index.lists.search(queries[row : row + 1], index.rows, k=K, effort=effort)

    for name, work in (("batch", batch), ("single", single)):
        work()
        spent = []
        for _ in range(TURNS):
            begun = time.process_time()
            work()
            spent.append(time.process_time() - begun)
        figures[f"qps_cpu_{name}"] = round(len(queries) / min(spent))
    best = [_ask(index, queries) for _ in range(TURNS)]
    figures["warm"] = min(best, key=lambda one: float(one["p50_ms"])) | {"rows_kept": kept_share(folder / "rows.npy")}
    for name, part in (("codes", index.lists), ("members", index.members)):
        figures[f"bytes_{name}"] = round(sum(array.nbytes for array in arrays(part)) / len(index.rows), 1)


def _search_cold(folder: Path, queries: Vectors, *, is_random: bool) -> dict[str, Any]:
    """Time searches with everything but the rows in memory, of which nothing is.

    Args:
        folder: of the index.
        queries: some of them are asked once each.
        is_random: tell the kernel that rows are read here and there, so that it reads nothing around them.
    """
    gc.collect()
    drop(folder / "rows.npy")
    dropped = kept_share(folder / "rows.npy")
    index = _opened(folder)
    if is_random:
        mapped = index.rows
        while not isinstance(mapped, mmap.mmap):
            mapped = mapped.base
        mapped.madvise(mmap.MADV_RANDOM)
    figures = _ask(index, queries[-COLD:])
    return figures | {"rows_kept_before": dropped, "rows_kept": kept_share(folder / "rows.npy")}


def _opened(folder: Path) -> Index:
    """Open an index and read all of its files but the rows."""
    for path in folder.iterdir():
        if path.name not in ("rows.npy", "colour.npy"):
            read_in(path)
    index = open_index(folder)
    for array in arrays(index.lists):
        int(array.reshape(-1).view(np.uint8)[:: mmap.PAGESIZE].sum())  # into this process
    return index


def _ask(index: Index, queries: Vectors) -> dict[str, Any]:
    """Ask one by one as a server does, and return what each waited and what all cost."""
    waited = []
    cpu = time.process_time()
    for query in queries:
        begun = time.perf_counter()
        index.search(query, k=K)
        waited.append(time.perf_counter() - begun)
    cpu = time.process_time() - cpu
    p50, p99 = np.quantile(waited, [0.5, 0.99])
    return {
        "p50_ms": round(1e3 * float(p50), 3),
        "p99_ms": round(1e3 * float(p99), 3),
        "qps_cpu": round(len(queries) / cpu),
    }


def share_memory(folder: Path, processes: int) -> list[dict[str, Any]]:
    """Let some processes open the same index, ask the same queries, and say at the same time what they hold."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(processes)
    answers: Any = context.Queue()
    workers = [context.Process(target=_worker, args=(folder, barrier, answers)) for _ in range(processes)]
    for worker in workers:
        worker.start()
    found = [answers.get(timeout=600) for _ in workers]
    for worker in workers:
        worker.join()
    return found


def _worker(folder: Path, barrier: Any, answers: Any) -> None:
    index = _opened(folder)
    _ask(index, index.rows[:: max(1, len(index.rows) // REAL_QUERIES)].astype(np.float32))
    barrier.wait(timeout=600)
    answers.put({"process": all_bytes(), "index": mapped_bytes(folder), "own": own_bytes()})
    barrier.wait(timeout=600)


# ------------------------------------------------------------------------------------------------- the plot

_WIDTH, _HEIGHT = 640, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 110, 24, 48
_LINES = (  # key, label, dashes, marker
    ("qps_cpu_batch", "in batches", "", "circle"),
    ("qps_cpu_single", "one by one", "7 4", "square"),
    ("qps_cpu_search", "whole search", "2 3", "triangle"),
)


def plot(results: Sequence[dict[str, Any]]) -> str:
    """Return an SVG of queries a processor second against the number of vectors, both by powers of ten."""
    sizes = [one["rows"] for one in results]
    heights = [one[key] for one in results for key, *_ in _LINES]
    left, right = math.log10(min(sizes)), math.log10(max(sizes) * 1.0001)
    low, high = math.floor(4 * math.log10(min(heights))) / 4, math.ceil(4 * math.log10(max(heights))) / 4

    def x(size: float) -> float:
        return _LEFT + (math.log10(size) - left) / (right - left) * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - (math.log10(value) - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    marks = []
    for value in (digit * 10**power for power in range(7) for digit in (1, 2, 5)):
        if low <= math.log10(value) <= high:
            marks.append(f'<path class="grid" d="M{_LEFT} {y(value):.1f}H{_WIDTH - _RIGHT}"/>')
            marks.append(f'<text x="{_LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{value:,}</text>')
    for size in sizes:
        marks.append(f'<path class="grid" d="M{x(size):.1f} {_TOP}V{_HEIGHT - _BOTTOM}"/>')
        marks.append(f'<text x="{x(size):.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{_short(size)}</text>')
    taken: list[float] = []
    for key, label, dashes, marker in _LINES:
        places = [(x(one["rows"]), y(one[key])) for one in results]
        corners = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
        marks.append(f'<polyline points="{corners}" stroke-dasharray="{dashes or "none"}"/>')
        marks += [_marker(marker, a, b) for a, b in places]
        at = places[-1][1] + 4
        while any(abs(at - other) < 14 for other in taken):
            at += 1
        taken.append(at)
        marks.append(f'<text x="{places[-1][0] + 10:.1f}" y="{at:.1f}" class="name">{label}</text>')
    title = f"Queries a second of processor time, recall@{K} at least {ASKED}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{title}">\n'
        "<style>svg { background: #fff; } text { font: 12px system-ui, sans-serif; fill: #424a53; } .name { fill: "
        "#1b1f24; } .title { font-weight: 600; fill: #1b1f24; } .grid { stroke: #d8dee4; } polyline { fill: none; "
        "stroke: #1b1f24; stroke-width: 2; } .mark { fill: #fff; stroke: #1b1f24; stroke-width: 2; }</style>\n"
        f'<text x="8" y="15" class="title">{title}</text>\n'
        + "\n".join(marks)
        + f'\n<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 8}" text-anchor="middle">vectors of {DIM} numbers'
        "</text>\n</svg>\n"
    )


def _marker(kind: str, x: float, y: float) -> str:
    if kind == "circle":
        return f'<circle class="mark" cx="{x:.1f}" cy="{y:.1f}" r="4"/>'
    corners = [(-4, -4), (4, -4), (4, 4), (-4, 4)] if kind == "square" else [(0, -5), (5, 4), (-5, 4)]
    return f'<polygon class="mark" points="{" ".join(f"{x + a:.1f},{y + b:.1f}" for a, b in corners)}"/>'


def _short(size: int) -> str:
    return f"{size / 1e6:g} million" if size >= 1_000_000 else f"{size:,}"


# ------------------------------------------------------------------------------------------------- the run


def table(results: Sequence[dict[str, Any]]) -> str:
    """Return the figures as Markdown."""
    lines: list[tuple[str, Callable[[dict[str, Any]], str]]] = [
        ("lists", lambda r: f"{r['lists']:,}"),
        (
            "certified recall@60 (95 % interval)",
            lambda r: "{recall:.4f} ({low:.4f} to {high:.4f})".format(**r["certificate"]),
        ),
        (
            "lists looked through, candidates, slack",
            lambda r: "{probes}, {candidates}, {slack}".format(**r["certificate"]),
        ),
        ("queries a processor second, batch", lambda r: f"{r['qps_cpu_batch']:,}"),
        ("one by one", lambda r: f"{r['qps_cpu_single']:,}"),
        ("the whole search, one by one", lambda r: f"{r['qps_cpu_search']:,}"),
        ("warm p50 / p99, ms", lambda r: "{p50_ms:.2f} / {p99_ms:.2f}".format(**r["warm"])),
        ("cold p50 / p99, ms", lambda r: "{p50_ms:.1f} / {p99_ms:.1f}".format(**r["cold"])),
        ("cold, nothing read around, ms", lambda r: "{p50_ms:.1f} / {p99_ms:.1f}".format(**r["cold_random"])),
        (
            "share of the rows in memory: warm, after cold",
            lambda r: (
                f"{r['warm']['rows_kept']:.0%}, {r['cold']['rows_kept']:.1%}, {r['cold_random']['rows_kept']:.1%}"
            ),
        ),
        ("bytes a vector: codes, members", lambda r: f"{r['bytes_codes']}, {r['bytes_members']}"),
        *(
            (
                f"built, {name}: wall / processor s",
                lambda r, name=name: "{wall_s:,.0f} / {cpu_s:,.0f}".format(**r["steps"][name]),
            )
            for name in ("rows", "lists", "certificate")
        ),
        (
            "peak memory of the build, GB (before it)",
            lambda r: f"{r['peak_own_bytes'] / 1e9:.2f} ({r['before_bytes'] / 1e9:.2f})",
        ),
        ("with mapped files, GB", lambda r: f"{r['peak_rss_bytes'] / 1e9:.2f}"),
        ("on the disk, GB", lambda r: f"{r['disk_bytes'] / 1e9:.2f}"),
    ]
    head = [
        "| vectors | " + " | ".join(_short(one["rows"]) for one in results) + " |",
        "|---" * (len(results) + 1) + "|",
    ]
    return "\n".join(head + [f"| {name} | " + " | ".join(show(one) for one in results) + " |" for name, show in lines])


def run(rows: int, folder: Path) -> dict[str, Any]:
    """Measure one size in a process of its own, then how several processes share its index."""
    free, needed = shutil.disk_usage(folder).free, BYTES_A_ROW * rows + MARGIN_BYTES
    if free < needed:
        raise SystemExit(f"{rows:,} rows need {needed / 1e9:.1f} GB on the disk of {folder}, free are {free / 1e9:.1f}")
    with TemporaryDirectory(dir=folder) as scratch:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            found = pool.submit(measure, rows, Path(scratch)).result()
        found["qps_cpu_search"] = found["warm"]["qps_cpu"]
        found["shared"] = {count: share_memory(Path(scratch) / "index", count) for count in (1, 2)}
    return found


def main() -> None:
    """Measure the sizes, print the table, write the figures and the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = [100_000, 300_000, 1_000_000, 3_000_000, 10_000_000]
    parser.add_argument("--rows", type=int, nargs="*", default=sizes)
    parser.add_argument("--folder", type=Path, help="where there is room; default: the system's temporary folder")
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--plot", type=Path, default=Path(__file__).with_suffix(".svg"))
    options = parser.parse_args()
    with TemporaryDirectory(dir=options.folder) as scratch:
        for rows in options.rows:
            print(f"{rows:,} vectors", flush=True)
            found = run(rows, Path(scratch))
            print(json.dumps(found), flush=True)
            known = json.loads(options.json.read_text()) if options.json.is_file() else []
            results = sorted([one for one in known if one["rows"] != rows] + [found], key=lambda one: one["rows"])
            options.json.write_text(json.dumps(results, indent=1) + "\n")
    results = json.loads(options.json.read_text())
    options.plot.write_text(plot(results))
    print(table(results))


if __name__ == "__main__":
    main()
