"""Measure local features: time, correct matches under a known homography, and what tells the same from another.

python benchmarks/local_features.py --data FOLDER [--out FILE]
"""

import argparse
import csv
import datetime
import os
import platform
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from sameitem.core.records import Pixels
from sameitem.learning.real_sets import RealSets
from sameitem.matching.rootsift import LocalFeatures, detect
from sameitem.matching.similarity import Verification, is_same, match, verify_features

PHOTOS = 150  # of grocery, and of the other sets together
UNRELATED = 3000  # pairs
SETS = ("abo", "ccp", "clothing", "ecssd_dev", "fashion_hi")


@dataclass(frozen=True, slots=True)
class Described:
    """A picture's features, its longest side and what it shows."""

    features: LocalFeatures
    side_px: int
    shows: str
    seconds: float


def describe(pixels: Pixels, shows: str = "") -> Described:
    """Detect and take the time."""
    begun = time.process_time()
    features = detect(pixels)
    return Described(features, max(pixels.shape[:2]), shows, time.process_time() - begun)


def check(a: Described, b: Described) -> Verification:
    """Verify two described pictures."""
    return verify_features(a.features, b.features, side_a_px=a.side_px, side_b_px=b.side_px)


def read(path: Path) -> Pixels:
    """Read a picture as it is stored."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def homography_rows(data: Path) -> Iterable[str]:
    """Yield per pair with a known homography how many matches are right."""
    with (data / "local" / "pairs.csv").open(newline="") as stream:
        pairs = [cells for cells in csv.DictReader(stream) if cells["kind"] == "homography"]
    for cells in pairs:
        a, b = (describe(read(data / cells[name])) for name in ("image0", "image1"))
        matches = match(a.features, b.features)
        places = a.features.keypoints[matches.rows_a, :2], b.features.keypoints[matches.rows_b, :2]
        truth = np.array(cells["gt"].split(), float).reshape(3, 3)
        mapped = np.column_stack([places[0], np.ones(len(places[0]))]) @ truth.T
        error = np.hypot(*(mapped[:, :2] / mapped[:, 2:] - places[1]).T)
        found = check(a, b)
        counts = [len(error), int((error < 3).sum()), int((error < 5).sum()), found.inliers]
        name = f"{cells['sequence']} 1-{Path(cells['image1']).stem}"
        yield f"| {name} | {' | '.join(map(str, counts))} | {is_same(found.inliers, found.matches)} |"


def row(name: str, pairs: Sequence[tuple[Described, Described]]) -> str:
    """Format what verification says about pairs of one kind."""
    begun = time.process_time()
    found = [check(a, b) for a, b in pairs]
    ms = 1e3 * (time.process_time() - begun) / len(pairs)
    matches, inliers = np.array([(one.matches, one.inliers) for one in found]).T
    low, middle, high = np.percentile(inliers, [5, 50, 95])
    same = np.mean([is_same(one.inliers, one.matches) for one in found])
    cells = [len(pairs), f"{np.median(matches):.0f}", f"{low:.0f} / {middle:.0f} / {high:.0f}", inliers.max()]
    return f"| {name} | {' | '.join(map(str, cells))} | {same:.4f} | {ms:.1f} |"


def edited_pairs(data: Path) -> dict[str, list[tuple[Described, Described]]]:
    """Return the pairs of one photo and its edits, and those of different photos."""
    with (data / "dups" / "pdq.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    pictures = {cells["variant"]: describe(read(data / cells["image"])) for cells in rows}
    others = [describe(read(data / cells["image"])) for cells in rows if cells["variant"] == "distractor"]
    original = pictures["aaa-orig"]
    edits = [cells["variant"] for cells in rows if cells["group"] == "bridge-mods" and cells["variant"] != "aaa-orig"]
    turns = [cells["variant"] for cells in rows if cells["group"] == "dihedral" and "rotate" in cells["variant"]]
    flips = [cells["variant"] for cells in rows if cells["group"] == "dihedral" and "flip" in cells["variant"]]
    different = [original, *others]
    return {
        "pdq, blurred, sharpened, shrunk": [(original, pictures[name]) for name in edits if "square" not in name],
        "pdq, squeezed to a square": [(original, pictures[name]) for name in edits if "square" in name],
        "pdq, turned": [(original, pictures[name]) for name in turns],
        "pdq, mirrored": [(original, pictures[name]) for name in flips],
        "pdq, different photos": [(a, b) for a in different for b in different if a is not b],
    }


def product_pairs(sets: RealSets) -> dict[str, list[tuple[Described, Described]]]:
    """Return pairs of phone photo and studio image of grocery's packages, and of unrelated pictures of other sets."""
    generator = np.random.default_rng(0)
    packages = sets.select("grocery", lambda row: row.category.startswith("Packages"))
    photos = [one for one in packages if one.role == "query"]
    studio = [describe(sets.pixels(one), one.product) for one in packages if one.role == "catalogue"]
    chosen = [photos[place] for place in generator.permutation(len(photos))[:PHOTOS]]
    queries = [describe(sets.pixels(one), one.product) for one in chosen]
    mixed = []
    for name in SETS:
        rows = sets.select(name)
        places = generator.permutation(len(rows))[: PHOTOS // len(SETS)]
        mixed += [describe(sets.pixels(rows[place]), rows[place].product) for place in places]
    one, other = np.triu_indices(len(mixed), 1)
    pairs = [(mixed[i], mixed[j]) for i, j in zip(one, other, strict=True) if mixed[i].shows != mixed[j].shows]
    drawn = generator.permutation(len(pairs))[:UNRELATED]
    return {
        "grocery, right product": [(a, b) for a in queries for b in studio if a.shows == b.shows],
        "grocery, wrong product": [(a, b) for a in queries for b in studio if a.shows != b.shows],
        "unrelated pictures": [pairs[place] for place in drawn],
    }


def main() -> None:
    """Measure, print the tables and, where asked, keep them in a file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the real photographs (manifest.csv)")
    parser.add_argument("--out", type=Path, help="also write the tables to this file")
    options = parser.parse_args()
    lines = ["| pair | matches | within 3 px | within 5 px | inliers | same |", "|---" * 6 + "|"]
    lines += homography_rows(options.data)
    kinds = edited_pairs(options.data) | product_pairs(RealSets(options.data))
    lines += ["", "| pairs | count | matches | inliers 5 / 50 / 95 % | most | called the same | CPU ms |"]
    lines += ["|---" * 7 + "|", *(row(name, pairs) for name, pairs in kinds.items())]
    seconds = [picture.seconds for pairs in kinds.values() for pair in pairs for picture in pair]
    ms = 1e3 * np.percentile(list(set(seconds)), [50, 95])
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    text = (
        f"# Local features\n\n`python benchmarks/local_features.py --data FOLDER`, "
        f"{datetime.date.today().isoformat()}, {machine}, NumPy {np.__version__}. "
        f"CPU time of `detect` for a picture: median {ms[0]:.0f} ms, 95 % {ms[1]:.0f} ms.\n\n" + "\n".join(lines) + "\n"
    )
    print(text)
    if options.out is not None:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
