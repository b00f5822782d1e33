"""Measure how far clicked searches lean towards the model that answered them, by what is taken for right.

python benchmarks/gate_labels.py --work FOLDER

FOLDER is that of `benchmarks/gate.py`, whose shops and planted models are used: beside a live model, others are
compared with it on the photos that shoppers clicked for, by what they clicked, and on the photos that they searched
with, by what these show. Everything that this file measures is to be called simulated; `benchmarks/gate.py report`
shows it.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gate import DEGRADED, FLAGS, GOOD, Bench, Planted, Truth, noise, pruned, repaired
from sameitem.clicks.counts import examination
from sameitem.core.settings import load_settings
from sameitem.evaluation.evaluate import read_queries
from sameitem.pipeline.shop import Shop

RESULTS = "labels.json"
Session = Sequence[tuple[str, int]]  # products clicked, with their ranks, in the order of the clicks
RULES: dict[str, Callable[[Session], tuple[set[str], float]]] = {  # right products, weight of the query
    "everything clicked": lambda clicks: ({product for product, _ in clicks}, 1.0),
    "clicked last": lambda clicks: ({clicks[-1][0]}, 1.0),
    "clicked last, weighted by rank": lambda clicks: ({clicks[-1][0]}, 1 / examination(clicks[-1][1])),
}
OTHERS: dict[str, dict[str, Callable[[Bench], NDArray[np.float32]]]] = {
    GOOD: {
        **{f"noise-{share:g}": partial(noise, share=share, number=7) for share in (0.5, 1.0, 2.0, 4.0, 8.0)},
        **{f"pruned-{kept}": partial(pruned, kept=kept) for kept in (200, 96, 48)},
    },
    "pruned": {f"repaired-{share:g}": repaired("pruned", share) for share in (0.05, 0.1, 0.2, 1.0)},
}


def clicked(shop: Shop) -> dict[str, list[Session]]:
    """Return the clicks of each photo's searches."""
    found: dict[str, list[Session]] = defaultdict(list)
    for session in shop.clicks.sessions():
        clicks = [(str(event.product_id), event.rank or 1) for event in session.events if event.type == "click"]
        if clicks:
            found[session.search.photo_hash].append(clicks)
    return found


def compared(
    before: NDArray[np.str_], after: NDArray[np.str_], photos: Mapping[int, list[Session]], rule: str
) -> float:
    """Return by how much recall@1 changes over photos, by what a rule takes for right.

    Args:
        before: (photos,) first product of each by the live model.
        after: (photos,) by the other one.
        photos: clicks by the row of the photo.
        rule: one of RULES.
    """
    above = below = 0.0
    for row, sessions in photos.items():
        judged = [RULES[rule](session) for session in sessions]
        right, weight = set().union(*(found for found, _ in judged)), float(np.mean([share for _, share in judged]))
        above += weight * (float(after[row] in right) - float(before[row] in right))
        below += weight
    return above / below


def run(work: Path, seed: int) -> None:
    """Compare every model by every rule and write the figures."""
    bench, rows = Bench(work, seed), []
    searched = read_queries(work / "drawn" / "searched.csv")
    for live, others in OTHERS.items():
        folder = work / f"live-{live}"
        shop = Shop(folder, load_settings(folder, FLAGS)[0])
        truth, clicks = Truth.of(shop, bench, searched), clicked(shop)
        hashes = [shop.intake.take(query.image.read_bytes()).content_hash for query in searched]
        shop.close()
        photos = {row: clicks[name] for row, name in enumerate(hashes) if name in clicks}
        answers = Planted(live, bench.trunk(), bench.good if live == GOOD else DEGRADED[live](bench))
        before = truth.first(answers, answers)
        for name, projection in others.items():
            other = Planted(name, bench.trunk(), projection(bench))
            after = truth.first(other, other)
            change = (after == truth.wanted).mean() - (before == truth.wanted).mean()
            rules = {rule: compared(before, after, photos, rule) for rule in RULES}
            rows.append({"live": live, "name": name, "photos": len(photos), "true": float(change), **rules})
            print(rows[-1], flush=True)
    (work / RESULTS).write_text(json.dumps(rows, indent=1) + "\n")


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    run(options.work, options.seed)


if __name__ == "__main__":
    main()
