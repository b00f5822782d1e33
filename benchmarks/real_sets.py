"""Run the real photographs through the whole pipeline: import, selection, build, search; one table.

python benchmarks/real_sets.py --data FOLDER [--only NAME] [--out FILE] [--keep FOLDER]

The feature alone, beside an untrained network and the raw ImageNet feature, is measured by `benchmarks/features.py`.
"""

import argparse
import csv
import datetime
import os
import platform
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sameitem.core.jobs import run_job
from sameitem.core.photo_store import decode_stored
from sameitem.core.settings import load_settings
from sameitem.evaluation.evaluate import evaluate, read_queries
from sameitem.features.colour import describe_colour
from sameitem.learning.real_sets import RealSets, Row
from sameitem.metrics.intervals import Interval, bootstrap_interval
from sameitem.pipeline.online import Searcher, SearchRequest
from sameitem.pipeline.shop import Shop
from sameitem.upkeep.founding import found_shop
from sameitem.upkeep.work import work_of


@dataclass(frozen=True, slots=True)
class Case:
    """One shop and the photos it is searched with."""

    name: str
    catalogue: Sequence[Row]
    queries: Sequence[Row]
    by_category: bool = False  # queries share categories with the catalogue, not products


@dataclass(frozen=True, slots=True)
class Line:
    """What was measured on one case."""

    case: Case
    listed: int  # images that can be found
    dropped: dict[str, int]
    folded: int  # near-duplicates
    measure: str
    share: Interval
    ten: str  # the same within the first ten, where that means something
    histogram: str
    p50_ms: float


def cases(sets: RealSets) -> list[Case]:
    """Return the shops that the sets make."""
    packages = sets.select("grocery", lambda row: row.category.startswith("Packages"))
    studio = [row for row in packages if row.role == "catalogue"]
    photos = [row for row in packages if row.role == "query"]
    fresh = sets.select("grocery", lambda row: not row.category.startswith("Packages"))
    taught = sets.select("abo", lambda row: row.trainable)
    distractors = sets.select("abo", lambda row: row.split == "val")
    parts = sets.select("eafit_dev")
    clothes = sets.select("clothing", lambda row: bool(row.top14))
    fashion = sets.select("fashion_hi")

    def of(rows: Sequence[Row], *, split: str) -> list[Row]:
        return [row for row in rows if row.split == split]

    return [
        Case("grocery", studio, photos),
        Case("grocery among ABO", [*studio, *distractors], photos),
        Case(
            "fresh among ABO",  # what may teach weights that ship
            [*(row for row in fresh if row.role == "catalogue"), *taught],
            [row for row in fresh if row.role == "query" and row.split == "train"],
        ),
        Case("eafit", [r for r in parts if r.role == "catalogue"], [r for r in parts if r.role == "query"]),
        Case("clothing", of(clothes, split="train"), of(clothes, split="val"), by_category=True),
        Case("fashion", of(fashion, split="train"), of(fashion, split="val"), by_category=True),
    ]


def run(case: Case, data: Path, folder: Path) -> Line:
    """Make a shop of a case and measure it."""
    catalogue = _write_table(folder / "catalogue.csv", case.catalogue, data, folder)
    queries = _write_table(folder / "queries.csv", case.queries, data, folder)
    found_shop(folder)
    shop = Shop(folder, load_settings(folder)[0])
    try:
        _do(shop, "import", {"source": str(catalogue), "columns": {}, "full": False, "uploaded": False})
        report = _do(shop, "build", {})
        measured = _categories(shop, case, folder) if case.by_category else _products(shop, case, queries, folder)
        return Line(case, report["images"], dict(report["dropped"]), report["duplicates"], *measured)
    finally:
        shop.close()


def _write_table(table: Path, rows: Sequence[Row], data: Path, folder: Path) -> Path:
    with table.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["product_id", "image", "category", "kind"])
        for row in rows:
            photo = _photo(folder, row)
            photo.parent.mkdir(parents=True, exist_ok=True)
            with zipfile.ZipFile(data / row.archive) as archive:
                photo.write_bytes(archive.read(row.member))
            writer.writerow([row.product, photo.relative_to(folder), row.top14, "main"])  # none is an extra
    return table


def _photo(folder: Path, row: Row) -> Path:
    return folder / "photos" / row.member


def _do(shop: Shop, kind: str, arguments: dict[str, Any]) -> dict[str, Any]:
    job = run_job(shop.jobs, shop.jobs.submit(kind, arguments).id, work_of(shop))
    if job.state != "done":
        raise SystemExit(f"{kind} of {shop.folder} {job.state}: {job.error}")
    return job.result


def _products(shop: Shop, case: Case, queries: Path, folder: Path) -> tuple[str, Interval, str, str, float]:
    evaluation = evaluate(shop, read_queries(queries))
    if evaluation.failed or evaluation.unknown:
        raise SystemExit(f"{case.name}: failed {evaluation.failed}, unknown {evaluation.unknown}")
    recall = evaluation.whole.recall
    histogram = _histogram(case, folder, lambda row: row.product, neighbours=1)
    return "Recall@1", recall[1], f"{recall[10].mean:.3f}", histogram, evaluation.ms["p50"]


def _categories(shop: Shop, case: Case, folder: Path) -> tuple[str, Interval, str, str, float]:
    searcher = Searcher(shop)
    right, times = [], []
    for row in case.queries:
        photo = _photo(folder, row).read_bytes()
        begun = time.perf_counter()
        answer = searcher.search(SearchRequest(photo=photo, num=1), record=False)
        times.append(1e3 * (time.perf_counter() - begun))
        right.append(float(answer.category_id == shop.taxonomy.top_of(row.top14)))
    histogram = _histogram(case, folder, lambda row: row.top14, neighbours=30)
    share = bootstrap_interval(np.array(right), np.random.default_rng(0))
    return "top category", share, "", histogram, float(np.median(times))


def _histogram(case: Case, folder: Path, label_of: Callable[[Row], str], *, neighbours: int) -> str:
    """Return the share that a colour histogram alone gets right, by a vote of the nearest."""

    def describe(rows: Sequence[Row]) -> np.ndarray:
        return np.stack([np.sqrt(describe_colour(decode_stored(_photo(folder, row).read_bytes()))) for row in rows])

    labels, place = np.unique([label_of(row) for row in case.catalogue], return_inverse=True)
    alike = describe(case.queries) @ describe(case.catalogue).T
    nearest = np.argsort(-alike, axis=1, kind="stable")[:, :neighbours]
    votes = [labels[np.bincount(place[row]).argmax()] for row in nearest]
    return f"{np.mean([vote == label_of(row) for vote, row in zip(votes, case.queries, strict=True)]):.3f}"


def table(lines: Sequence[Line]) -> str:
    """Format one row per case."""
    text = [
        "| shop | catalogue | listed | folded | dropped | queries | measure | sameitem | in ten | colours | p50 ms |"
    ]
    text.append("|---" * 11 + "|")
    for line in lines:
        dropped = ", ".join(f"{reason} {count}" for reason, count in sorted(line.dropped.items())) or "-"
        share = f"{line.share.mean:.3f} ({line.share.low:.3f}-{line.share.high:.3f})"
        cells = [line.case.name, len(line.case.catalogue), line.listed, line.folded, dropped, len(line.case.queries)]
        cells += [line.measure, share, line.ten or "-", line.histogram, f"{line.p50_ms:.0f}"]
        text.append(f"| {' | '.join(str(cell) for cell in cells)} |")
    return "\n".join(text)


def main() -> None:
    """Measure, print the table and, where asked, keep it in a file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the real photographs (manifest.csv)")
    parser.add_argument("--only", help="run this shop alone")
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    parser.add_argument("--keep", type=Path, help="leave the shops in this folder, for benchmarks/same_item.py")
    options = parser.parse_args()
    wanted = [case for case in cases(RealSets(options.data)) if options.only in (None, case.name)]
    lines = []
    for case in wanted:
        with tempfile.TemporaryDirectory() as folder:
            place = options.keep / case.name.replace(" ", "-") if options.keep else Path(folder)
            place.mkdir(parents=True, exist_ok=True)
            lines.append(run(case, options.data, place))
        print(table(lines[-1:]), flush=True)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    text = (
        f"# Real photographs through the pipeline\n\n`python benchmarks/real_sets.py --data FOLDER`, "
        f"{datetime.date.today().isoformat()}, {machine}. Bootstrap 95 % intervals in brackets; colours: a colour "
        f"histogram of the whole photo alone.\n\n{table(lines)}\n"
    )
    print(text)
    if options.out is not None:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
