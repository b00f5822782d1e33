"""Filtered searches: recall against a linear scan over what the filter leaves, and what they cost.

    python benchmarks/filters.py [--rows 1000000] [--dim 512] [--queries 200]

Vectors are drawn (`evaluation.engine_bench.draw_vectors`); the index is certified for recall 0.999 at 60. Filters leave
images drawn by chance, or (worse) whole clusters of images alike that the query does not belong to.
"""

import argparse
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from sameitem.engine.build import seal, write_index
from sameitem.engine.certificate import certify
from sameitem.engine.index import Index, open_index
from sameitem.engine.members import Members
from sameitem.evaluation.engine_bench import draw_vectors

K = 60
SHARES = (0.0001, 0.001, 0.01, 0.05, 0.1, 0.5, 0.95, 1.0)
COLOUR = np.full((1, 24), 1 / 24, np.float32)


def make_index(folder: Path, vectors: np.ndarray) -> Index:
    """Build an index of one member and product an entry, and certify it."""
    rows, dim = vectors.shape
    ids = np.arange(rows)
    write_index(
        folder,
        (
            (vectors[start : start + 4096], np.repeat(COLOUR, min(4096, rows - start), 0))
            for start in range(0, rows, 4096)
        ),
        members=Members(ids, ids, ids, ids.astype(np.int32)),
        version="20261126-000000-0000",
        model_version="drawn",
        created=datetime.now(UTC),
        dim=dim,
    )
    seal(folder, certificate=certify(open_index(folder), lambda wanted: vectors[wanted], asked=0.999, k=K))
    return open_index(folder)


def main() -> None:
    """Build, measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--queries", type=int, default=200)
    options = parser.parse_args()
    vectors, queries = draw_vectors(options.rows, options.dim, queries=options.queries)
    generator = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as temporary:
        index = make_index(Path(temporary) / "20261126-000000-0000", vectors)
        index.warm()
        print(index.manifest.certificate, flush=True)
        print("| images left | recall@60 | ms of processor a search | ms to prepare |\n|---|---|---|---|", flush=True)
        cluster = index.lists.list_of_row
        for share in (None, *SHARES, "one list of images alike"):
            mask = np.ones(options.rows, np.bool_)
            if isinstance(share, float):
                mask = generator.random(options.rows) < share
            elif share is not None:
                mask = cluster == generator.integers(len(index.lists.centres))
            begun = time.process_time()
            sieve = None if share is None else index.sieve(mask)
            prepared = time.process_time() - begun
            truth = [index.search(query, k=K, allowed=sieve, exact=True) for query in queries[: options.queries // 2]]
            begun = time.process_time()
            found = [index.search(query, k=K, allowed=sieve) for query in queries[: options.queries // 2]]
            spent = (time.process_time() - begun) / len(found)
            wanted = [{hit.entry_row for hit in hits} for hits in truth]
            hit = sum(
                len(some & {hit.entry_row for hit in hits}) for some, hits in zip(wanted, found, strict=True)
            ) / sum(map(len, wanted))
            name = "no filter" if share is None else f"{share:.2%}" if isinstance(share, float) else share
            print(f"| {name} | {hit:.4f} | {1e3 * spent:.2f} | {1e3 * prepared:.1f} |", flush=True)


if __name__ == "__main__":
    main()
