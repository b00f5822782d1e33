"""Measures a shop on labelled photos: recall by slice, category, latency."""

import csv
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sameitem.core.errors import InputError, NotFoundError, SameItemError
from sameitem.core.records import Box, ImageId, ProductId
from sameitem.metrics.calibration import expected_calibration_error
from sameitem.metrics.intervals import Interval, bootstrap_interval
from sameitem.metrics.retrieval import average_precision, recall_at, reciprocal_rank
from sameitem.pipeline.online import MAX_PAGE, SearchAnswer, Searcher, SearchRequest
from sameitem.pipeline.shop import Shop

DEPTHS = (1, 5, 10, 60)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LabelledQuery:
    """A photo and what it shows."""

    image: Path
    product_id: ProductId
    category: str = ""  # as in the catalogue; "" = not labelled
    box: Box | None = None  # true box of the subject, pixels of the upright photo
    slice: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one query found."""

    query: LabelledQuery
    relevant: NDArray[np.bool_]  # (MAX_PAGE,) whether hit i shows the product
    wanted: int  # images of the product in the gallery
    shown: tuple[tuple[ImageId, ProductId, float], ...]  # the first hits: image, product, visual score
    category_id: str  # predicted, "" = none
    confidence: float
    ms: float

    @property
    def rank(self) -> int | None:
        """Rank of the first right hit, from 1."""
        return int(self.relevant.argmax()) + 1 if self.relevant.any() else None


@dataclass(frozen=True, slots=True)
class Figures:
    """Recall of a set of queries, with bootstrap 95 % intervals."""

    queries: int
    recall: Mapping[int, Interval]
    map: float
    mrr: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Everything that was measured."""

    index_version: str
    model_version: str
    gallery: int  # listed images that can be found
    whole: Figures
    slices: Mapping[str, Figures]
    category_accuracy: float | None  # of the kNN vote; None = no labelled query, or nothing that votes
    category_ece: float | None
    failed: Mapping[str, int]  # queries without an answer, by reason: not in the figures
    unknown: int  # queries whose product is not in the catalogue: not in the figures
    ms: Mapping[str, float]  # p50 and p99 of a query of the full depth
    outcomes: tuple[Outcome, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the keys of the command line's contract; what does not exist yet is null."""
        recall = self.whole.recall
        accuracy = {"model": None, "knn": self.category_accuracy, "fused": None}
        return {
            "queries": self.whole.queries,
            "gallery": self.gallery,
            "index_version": self.index_version,
            "model_version": self.model_version,
            **_recall_json(self.whole),
            "map": self.whole.map,
            "mrr": self.whole.mrr,
            "category": {"accuracy": accuracy, "ece": self.category_ece},
            "boxes": {"mean_iou": None, "iou50": None, "iou70": None},
            "slices": {
                name: {"queries": part.queries, **_recall_json(part), "map": part.map, "mrr": part.mrr}
                for name, part in self.slices.items()
            },
            "failed": dict(self.failed),
            "unknown": self.unknown,
            "query_ms": dict(self.ms),
        } | ({} if recall else {"note": "no query could be measured"})


def read_queries(path: Path) -> list[LabelledQuery]:
    """Read labelled photos: CSV with image, product_id and optionally category, box ("left,top,right,bottom"), slice.

    Paths are relative to the file's folder.

    Raises:
        NotFoundError: there is no such file.
        InputError: a column is missing, or a line cannot be read; names the line.
    """
    if not path.is_file():
        raise NotFoundError(f"no file {path}")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = {"image", "product_id"} - set(reader.fieldnames or ())
            if missing:
                raise InputError(
                    f"{path.name}: need columns image and product_id, got {', '.join(reader.fieldnames or ['none'])}"
                )
            queries = [_query(path, reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path.name} is not a CSV file in UTF-8: {error}") from error
    if not queries:
        raise InputError(f"{path.name} has no line below its header; need at least one query")
    return queries


def evaluate(
    shop: Shop, queries: Sequence[LabelledQuery], *, tell: Callable[[int, int], None] = lambda done, total: None
) -> Evaluation:
    """Search with every photo and compare what is found with what it shows.

    A hit is right when it shows the product, or when a listing of the product is folded behind it: the page shows both
    there. A product that the catalogue has and selection dropped counts as missed. Nothing is written to the click
    log.

    Args:
        shop: with a published index.
        queries: labelled photos.
        tell: is told how many are done.

    Raises:
        UnavailableError: nothing was published yet.
    """
    searcher = Searcher(shop)
    gallery = searcher.gallery()
    numbers = np.bincount(gallery.index.members.product[gallery.alive], minlength=len(gallery.products))
    images_of = {product.product_id: int(n) for product, n in zip(gallery.products, numbers, strict=True)}
    in_catalogue = {product.product_id for product in shop.catalogue.products({query.product_id for query in queries})}
    outcomes: list[Outcome] = []
    failed: Counter[str] = Counter()
    unknown = 0
    for done, query in enumerate(queries):
        tell(done, len(queries))
        if query.product_id not in in_catalogue:
            unknown += 1
            continue
        try:
            outcomes.append(_ask(searcher, query, images_of.get(query.product_id, 0)))
        except (SameItemError, OSError) as error:
            _log.warning("query %s failed: %s", query.image.name, error)
            failed[str(error)[:200]] += 1
    tell(len(queries), len(queries))
    by_slice: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        if outcome.query.slice:
            by_slice[outcome.query.slice].append(outcome)
    accuracy, ece = _category(shop, outcomes)
    times = np.array([outcome.ms for outcome in outcomes] or [0.0])
    return Evaluation(
        index_version=gallery.version,
        model_version=gallery.model_version,
        gallery=int(gallery.alive.sum()),
        whole=_figures(outcomes),
        slices={name: _figures(part) for name, part in sorted(by_slice.items())},
        category_accuracy=accuracy,
        category_ece=ece,
        failed=dict(failed),
        unknown=unknown,
        ms={"p50": float(np.percentile(times, 50)), "p99": float(np.percentile(times, 99))},
        outcomes=tuple(outcomes),
    )


def _ask(searcher: Searcher, query: LabelledQuery, wanted: int) -> Outcome:
    photo = query.image.read_bytes()
    begun = time.perf_counter()
    request = SearchRequest(photo=photo, num=MAX_PAGE, distinct_product=False)
    answer: SearchAnswer = searcher.search(request, record=False)
    ms = 1e3 * (time.perf_counter() - begun)
    relevant = np.zeros(MAX_PAGE, np.bool_)
    for place, result in enumerate(answer.results):
        folded = {listing.product_id for listing in result.duplicates}
        relevant[place] = query.product_id == result.product.product_id or query.product_id in folded
    best = answer.categories[0] if answer.categories else None
    return Outcome(
        query=query,
        relevant=relevant,
        wanted=max(wanted, int(relevant.sum())),
        shown=tuple((r.image.image_id, r.product.product_id, r.visual_score) for r in answer.results[:5]),
        category_id=best.id if best else "",
        confidence=best.score if best else 0.0,
        ms=ms,
    )


def _figures(outcomes: Sequence[Outcome]) -> Figures:
    if not outcomes:
        return Figures(0, {}, 0.0, 0.0)
    relevant = np.stack([outcome.relevant for outcome in outcomes])
    wanted = np.array([outcome.wanted for outcome in outcomes], np.int64)
    return Figures(
        queries=len(outcomes),
        recall={k: bootstrap_interval(recall_at(relevant, k), np.random.default_rng(k)) for k in DEPTHS},
        map=float(average_precision(relevant, wanted).mean()),
        mrr=float(reciprocal_rank(relevant).mean()),
    )


def _category(shop: Shop, outcomes: Sequence[Outcome]) -> tuple[float | None, float | None]:
    labelled = [(o, top) for o in outcomes if o.query.category and (top := shop.taxonomy.top_of(o.query.category))]
    voted = [(outcome, top) for outcome, top in labelled if outcome.category_id]
    if not voted:
        return None, None
    right = np.array([outcome.category_id == top for outcome, top in voted])
    confidence = np.array([min(1.0, outcome.confidence) for outcome, _ in voted])
    return float(right.mean()), expected_calibration_error(confidence, right)


def _recall_json(figures: Figures) -> dict[str, Any]:
    return {
        "recall": {str(k): interval.mean for k, interval in figures.recall.items()},
        "recall_low": {str(k): interval.low for k, interval in figures.recall.items()},
        "recall_high": {str(k): interval.high for k, interval in figures.recall.items()},
    }


def _query(path: Path, line: int, row: Mapping[str, str | None]) -> LabelledQuery:
    image, product_id = (row["image"] or "").strip(), (row["product_id"] or "").strip()
    if not image or not product_id:
        raise InputError(f"{path.name}, line {line}: need image and product_id, got {image!r} and {product_id!r}")
    text, box = (row.get("box") or "").strip(), None
    if text:
        try:
            box = Box(*(float(part) for part in text.split(",")))
        except (ValueError, TypeError) as error:
            raise InputError(f"{path.name}, line {line}: need a box left,top,right,bottom, got {text!r}") from error
    return LabelledQuery(
        image=path.parent / image,
        product_id=ProductId(product_id),
        category=(row.get("category") or "").strip(),
        box=box,
        slice=(row.get("slice") or "").strip(),
    )
