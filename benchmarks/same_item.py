"""How far scores may be believed: calibration of "same item" on labelled user photos, before and after.

    python benchmarks/same_item.py SHOP=QUERIES.csv [SHOP=QUERIES.csv ...] [--teach SHOP ...] [--out FILE]

SHOP is the folder of a built shop, for example one that `sameitem demo` or `real_sets.py --keep FOLDER` made;
QUERIES.csv holds labelled photos as `sameitem evaluate` takes them. Each photo is asked for twice: as it is, and with
its own products taken out of the list, as if the shop did not have them. The curve of the photos of the shops named by
`--teach` is printed last, every shop counting the same: `SHIPPED` in pipeline/same_item.py comes from there.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sameitem.core.settings import load_settings
from sameitem.engine.probability import Curve, fit_curve
from sameitem.evaluation.evaluate import LabelledQuery, read_queries
from sameitem.metrics.calibration import expected_calibration_error
from sameitem.pipeline.online import Searcher, SearchRequest
from sameitem.pipeline.same_item import ABSENT, LISTED, SHIPPED, Curves, ask_gallery, fit_curves
from sameitem.pipeline.shop import Shop

ASKED = 2 * LISTED  # products of a list, so that LISTED are left without the right ones
GOOD = (0.3, 0.4, 0.5, 0.6, 0.7)  # scores from which a match may be called good
LEAST = 30  # right pairs of a category that is worth a line
Scorer = Callable[["List"], NDArray[np.float64]]


@dataclass(frozen=True, slots=True, eq=False)
class List:
    """What was found for one photo, best first, one hit a product."""

    distances: NDArray[np.float64]  # squared, of the features
    same: NDArray[np.bool_]
    categories: list[str]
    unrelated: float  # squared distance that no rival is beyond

    def absent(self) -> "List":
        """Return the list of a shop that does not have the product."""
        keep = np.flatnonzero(~self.same)
        return List(self.distances[keep], self.same[keep], [self.categories[row] for row in keep], self.unrelated)

    @property
    def leads(self) -> NDArray[np.float64]:
        """Return how much nearer each is than the nearest other product."""
        if len(self.distances) == 0:
            return self.distances
        rivals = np.full(len(self.distances), self.distances[0])
        rivals[0] = self.distances[1] if len(self.distances) > 1 else np.inf
        rivals = np.minimum(rivals, self.unrelated)
        return rivals - self.distances


def ask(searcher: Searcher, queries: Sequence[LabelledQuery], unrelated: float) -> list[List]:
    """Search with every photo."""
    found = []
    for query in queries:
        answer = searcher.search(SearchRequest(photo=query.image.read_bytes(), num=ASKED), record=False)
        listed = [{r.product.product_id, *(other.product_id for other in r.duplicates)} for r in answer.results]
        same = np.array([not query.products.isdisjoint(products) for products in listed], np.bool_)
        distances = np.array([result.judgement.squared_distance for result in answer.results])
        found.append(List(distances, same, [result.category_id for result in answer.results], unrelated))
    return found


def by_curves(curves: Curves) -> Scorer:
    """Score by the lead."""

    def score(one: List) -> NDArray[np.float64]:
        pairs = zip(one.leads, one.categories, strict=True)
        return np.array([float(curves.of(category).probability(np.array(lead))) for lead, category in pairs])

    return score


def by_cosine(one: List) -> NDArray[np.float64]:
    """Score as releases before did."""
    return np.clip(1 - one.distances / 2, 0, 1)


def by_distance(gallery_lists: Sequence[List]) -> Scorer:
    """Score by a logistic curve of the distance alone, fitted as the curves of leads are."""
    parts = [(one, weight) for one in gallery_lists for one, weight in ((one, 1 - ABSENT), (one.absent(), ABSENT))]
    distances = np.concatenate([one.distances[:LISTED] for one, _ in parts])
    same = np.concatenate([one.same[:LISTED] for one, _ in parts])
    weights = np.concatenate([np.full(len(one.distances[:LISTED]), weight) for one, weight in parts])
    curve = fit_curve(-distances, same, weights, prior=Curve(4.0, 10.0), strength=0.1)
    return lambda one: curve.probability(-one.distances)


def gallery_lists(searcher: Searcher) -> list[List]:
    """Return the lists that a build fits its curves to, as distances."""
    gallery = searcher.gallery()
    index, members = gallery.index, gallery.index.members
    product, allowed = members.product, index.sieve(np.ones(len(members), np.bool_))
    found = []
    for entry in np.random.default_rng(0).permutation(len(index.rows))[:1000]:
        own = np.arange(members.start[entry], members.start[entry + 1])
        wanted = set(product[own].tolist())
        if np.unique(members.entry[np.isin(product, list(wanted))]).size < 2:
            continue
        allowed.update(own, np.zeros(len(own), np.bool_))
        hits = index.search(index.rows[entry].astype(np.float32), k=ASKED, allowed=allowed, one_per_product=True)
        allowed.update(own, np.ones(len(own), np.bool_))
        same = [not wanted.isdisjoint(product[[hit.member_row, *hit.duplicates]].tolist()) for hit in hits]
        categories = [gallery.top_of(hit) for hit in hits]
        found.append(List(np.array([hit.distance for hit in hits]), np.array(same), categories, np.inf))
    return found


def error(lists: Sequence[List], score: Scorer, depth: int, category: str | None = None) -> tuple[float, float, int]:
    """Return expected calibration error, bias and number of right pairs among the first hits of lists."""
    scores, same = [], []
    for one in lists:
        rows = [row for row in range(min(depth, len(one.same))) if category in (None, one.categories[row])]
        scores.append(score(one)[rows])
        same.append(one.same[rows])
    sure, right = np.concatenate(scores), np.concatenate(same)
    return expected_calibration_error(sure, right), float(sure.mean() - right.mean()), int(right.sum())


def report(name: str, lists: Sequence[List], ways: dict[str, Scorer]) -> list[str]:
    """Return the tables of one shop."""
    absent = [one.absent() for one in lists]
    first = np.array([one.same[:1].any() for one in lists])
    lines = [f"## {name}: {len(lists)} photos, right at first {first.mean():.3f}", ""]
    lines += [
        "| score | first hit: ECE, bias | so, 1 photo in 6 absent | first ten: ECE, bias | absent: first hit's mean |"
    ]
    lines += ["|---|---|---|---|---|"]
    for way, score in ways.items():
        one, ten = error(lists, score, 1), error(lists, score, LISTED)
        mixed = error([*lists, *absent[::5]], score, 1)
        gone = np.mean([score(one)[0] for one in absent if len(one.same)])
        cells = (f"{one[0]:.3f}, {one[1]:+.3f}", f"{mixed[0]:.3f}", f"{ten[0]:.3f}, {ten[1]:+.3f}", f"{gone:.3f}")
        lines.append(f"| {way} | {' | '.join(cells)} |")
    way, score = list(ways.items())[-1]
    best = np.array([score(one)[0] for one in lists])
    gone = np.array([score(one)[0] for one in absent if len(one.same)])
    cosine = np.array([by_cosine(one)[0] for one in lists])
    cosine_gone = np.array([by_cosine(one)[0] for one in absent if len(one.same)])
    lines += ["", "| good match from | right first hits called doubtful | wrong ones | item not in the shop |"]
    lines += ["|---|---|---|---|"]
    for limit, values, others in [(0.6, cosine, cosine_gone), *((limit, best, gone) for limit in GOOD)]:
        label = f"cosine {limit}" if values is cosine else f"{limit}"
        wrong = (values[~first] < limit).mean() if (~first).any() else np.nan
        lines.append(
            f"| {label} | {(values[first] < limit).mean():.3f} | {wrong:.3f} | {(others < limit).mean():.3f} |"
        )
    categories = sorted({category for one in lists for category in one.categories[:LISTED]})
    known = [c for c in categories if error(lists, by_cosine, LISTED, c)[2] >= LEAST]
    if len(known) > 1:
        lines += [
            "",
            f"| category | right pairs | first ten, cosine: ECE | first ten, {way}: ECE, bias |",
            "|---|---|---|---|",
        ]
        for category in known:
            before, after = error(lists, by_cosine, LISTED, category), error(lists, score, LISTED, category)
            lines.append(f"| {category} | {after[2]} | {before[0]:.3f} | {after[0]:.3f}, {after[1]:+.3f} |")
    return [*lines, ""]


def together(shops: Sequence[Sequence[List]]) -> Curve:
    """Return the curve of all photos, every shop counting the same."""
    leads, same, weights = [], [], []
    for lists in shops:
        for present in lists:
            for one, weight in ((present, 1 - ABSENT), (present.absent(), ABSENT)):
                leads.append(one.leads[:LISTED])
                same.append(one.same[:LISTED])
                weights.append(np.full(len(leads[-1]), weight * 1000 / len(lists)))
    arrays = (np.concatenate(leads), np.concatenate(same), np.concatenate(weights))
    return fit_curve(*arrays, prior=SHIPPED, strength=0.1)


def told(curve: Curve) -> str:
    """Return a curve in words."""
    return f"intercept {curve.intercept:.2f}, slope {curve.slope:.1f}"


def main() -> None:
    """Measure every shop and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shops", nargs="+", metavar="SHOP=QUERIES", help="folder of a built shop, and its photos")
    parser.add_argument("--teach", action="append", default=[], metavar="SHOP", help="fit a curve to its photos")
    parser.add_argument("--out", type=Path, help="also write the tables to this file")
    options = parser.parse_args()
    lines: list[str] = []
    teachers = []
    for pair in options.shops:
        folder, _, queries = pair.partition("=")
        shop = Shop(Path(folder), load_settings(Path(folder))[0])
        try:
            searcher = Searcher(shop)
            gallery = searcher.gallery()
            tops = [gallery.member_tops.values[code] for code in gallery.member_tops.codes]
            curves = fit_curves(ask_gallery(gallery.index, tops))
            lists = ask(searcher, read_queries(Path(queries)), curves.unrelated)
            ways = {"cosine": by_cosine, "lead, shipped curve": by_curves(Curves())}
            if curves.queries >= LEAST:
                ways["distance, fitted to the gallery"] = by_distance(gallery_lists(searcher))
                ways["lead, fitted to the gallery"] = by_curves(curves)
            part = report(Path(folder).name, lists, ways)
            fitted = f"{told(curves.common.curve)}; unrelated {curves.unrelated:.2f}"
            own = f"\nFitted to {curves.queries} gallery images: {fitted}."
            part[1:1] = [own, f"Photos alone would give {told(together([lists]))}."]
        finally:
            shop.close()
        print("\n".join(part), flush=True)
        lines += part
        if folder in options.teach:
            teachers.append(lists)
    if teachers:
        lines.append(
            f"{', '.join(Path(folder).name for folder in options.teach)} together: {told(together(teachers))}."
        )
        print(lines[-1])
    if options.out is not None:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
