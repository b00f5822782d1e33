"""Time one query of the exhaustive engine: coarse filter (Hamming over all codes) and fine ranking, CPU ms.

    python benchmarks/engine_scan.py [--rows 1000 10000 100000] [--dims 768 1024] [--certify]

Features are drawn: leaves of products of images, unit length; the query is a member moved a little. With `--certify`,
the recall certificate (2,000 left-out queries) chooses the candidates and its own CPU seconds are printed; without,
1,024 are kept.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sameitem.core.bits import binarize, hamming
from sameitem.engine.build import COLOUR_BINS, write_index
from sameitem.engine.certificate import certify
from sameitem.engine.distances import squared_distances
from sameitem.engine.index import open_index
from sameitem.engine.members import Members

BITS = 512
CANDIDATES = 1024
BLOCK = 4096
LATENT = 48


def draw(rows: int, dim: int, generator: np.random.Generator) -> NDArray[np.float32]:
    """Draw unit vectors: leaves of about 300 images, products of about 4, in 48 latent directions with noise."""
    latent = np.zeros((rows, LATENT), np.float32)
    for share, size in ((0.7, 300), (0.6, 4), (0.25, 1)):
        centres = generator.standard_normal((rows // size + 1, LATENT)).astype(np.float32)
        latent += np.float32(share) * centres[generator.integers(len(centres), size=rows)]
    features = latent @ generator.standard_normal((LATENT, dim)).astype(np.float32) / np.float32(LATENT**0.5)
    features += np.float32(0.1) * generator.standard_normal((rows, dim)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return features


def cpu_ms(work: Callable[[], object], repeats: int = 20) -> str:
    """Return median and 95th percentile of the CPU milliseconds of one call."""
    work()
    taken = []
    for _ in range(repeats):
        begun = time.process_time()
        work()
        taken.append(1e3 * (time.process_time() - begun))
    return f"{np.median(taken):7.2f} /{np.quantile(taken, 0.95):7.2f}"


def main() -> None:
    """Print one line per size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--dims", type=int, nargs="+", default=[768, 1024])
    parser.add_argument("--certify", action="store_true")
    wanted = parser.parse_args()
    print("CPU ms per query, median / p95:  coarse filter, fine ranking, whole search k=60, the same one per product")
    for dim in wanted.dims:
        for rows in wanted.rows:
            with tempfile.TemporaryDirectory() as folder:
                measure(Path(folder) / "index", rows, dim, certified=wanted.certify)


def measure(folder: Path, rows: int, dim: int, *, certified: bool) -> None:
    """Build an index of drawn features and time its parts."""
    generator = np.random.default_rng(1)
    features = draw(rows, dim, generator)

    def blocks() -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        for start in range(0, rows, BLOCK):
            part = features[start : start + BLOCK]
            yield part, np.full((len(part), COLOUR_BINS), 1 / COLOUR_BINS, np.float32)

    ids = np.arange(rows)
    begun = time.process_time()
    write_index(
        folder,
        blocks(),
        members=Members(ids, ids, ids, (ids // 2).astype(np.int32)),
        version="20000101-000000-0000",
        model_version="drawn",
        created=datetime.now(UTC),
        dim=dim,
        bits=BITS,
    )
    built_s = time.process_time() - begun
    index = open_index(folder)
    candidates = min(CANDIDATES, rows)
    if certified:
        begun = time.process_time()
        certificate = certify(index, lambda wanted: features[wanted], asked=0.999, k=60)
        candidates = certificate.candidates
        print(f"  certificate in {time.process_time() - begun:.1f} CPU s: {certificate}")
    index = replace(index, codes=np.array(index.codes), rows=np.array(index.rows))  # in memory: no disk in the figures
    query = features[5] + generator.standard_normal(dim).astype(np.float32) * np.float32(0.3 / dim**0.5)
    query /= np.linalg.norm(query)
    code = binarize(query[None], index.rotation)[0]
    kept = np.sort(generator.choice(rows, candidates, replace=False))
    allowed = np.ones(rows, dtype=np.bool_)
    timed = [
        cpu_ms(lambda: hamming(index.codes, code)),
        cpu_ms(lambda: squared_distances(index.rows[kept], query)),
        cpu_ms(lambda: index.search(query, k=60, allowed=allowed, candidates=candidates)),
        cpu_ms(lambda: index.search(query, k=60, allowed=allowed, candidates=candidates, one_per_product=True)),
    ]
    print(f"{rows:7d} rows {dim:4d} dims {candidates:5d} kept " + "  ".join(timed) + f"   built in {built_s:.1f} CPU s")


if __name__ == "__main__":
    main()
