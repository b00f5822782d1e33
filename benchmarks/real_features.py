"""Write the features of the real photographs, for `sameitem bench engine --vectors FILE`.

python benchmarks/real_features.py --out FILE [--data FOLDER] [--threads N]

One view of each photo, the whole of it, by the model that ships; photos whose pixels are the same count once.
"""

import argparse
import hashlib
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sameitem.core.errors import NotFoundError
from sameitem.features.embed import Embedder
from sameitem.features.model_folder import shipped_model
from sameitem.learning.real_sets import RealSets, Row

SHARED = Path(__file__).parents[2] / "shared" / "data"
CHUNK = 64  # photos that a thread decodes and embeds at a time


def features_of(sets: RealSets, *, threads: int) -> tuple[NDArray[np.float32], Counter[str]]:
    """Return (photos, dim) unit features in the manifest's order, and how many photos each archive gave."""
    embedder = Embedder(shipped_model())

    def embed(rows: Sequence[Row]) -> list[tuple[bytes, NDArray[np.float32]]]:
        photos = [sets.pixels(row) for row in rows]
        digests = [hashlib.sha256(repr(photo.shape).encode() + photo.tobytes()).digest() for photo in photos]
        return list(zip(digests, embedder.embed(photos), strict=True))

    chunks = [sets.rows[start : start + CHUNK] for start in range(0, len(sets.rows), CHUNK)]
    distinct: dict[bytes, NDArray[np.float32]] = {}
    counts: Counter[str] = Counter()
    with ThreadPoolExecutor(threads) as pool:
        for rows, found in zip(chunks, pool.map(embed, chunks), strict=True):
            for row, (digest, feature) in zip(rows, found, strict=True):
                if digest not in distinct:
                    distinct[digest] = feature
                    counts[Path(row.archive).stem] += 1
    return np.stack(list(distinct.values())), counts


def main() -> None:
    """Embed and write; a file that stands there already is kept."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="file to write, .npy")
    parser.add_argument("--data", type=Path, default=SHARED, help="folder of the real photographs (manifest.csv)")
    parser.add_argument("--threads", type=int, default=2, help="photos are decoded and embedded by so many")
    options = parser.parse_args()
    if options.out.exists():
        print(f"{options.out} stands already: kept; delete it to make it anew")
        return
    try:
        sets = RealSets(options.data)
    except NotFoundError as error:
        print(f"left out: {error}")
        return
    begun = time.perf_counter()
    features, counts = features_of(sets, threads=options.threads)
    with options.out.open("wb") as stream:
        np.save(stream, features)
    told = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    print(
        f"{len(features):,} features of {features.shape[1]} numbers in {time.perf_counter() - begun:.0f} s ({told}); "
        f"{len(sets.rows) - len(features):,} photos are the same as others"
    )


if __name__ == "__main__":
    main()
