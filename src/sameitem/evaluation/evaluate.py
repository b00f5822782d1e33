"""Measures a shop on labelled photos: recall by slice, category, boxes, latency."""

import csv
import logging
import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sameitem.core.boxes import scale_box
from sameitem.core.errors import ConflictError, InputError, NotFoundError
from sameitem.core.records import Box, ImageId, ProductId
from sameitem.metrics.boxes import iou
from sameitem.metrics.calibration import expected_calibration_error
from sameitem.metrics.intervals import Interval, bootstrap_interval
from sameitem.metrics.retrieval import average_precision, recall_at, reciprocal_rank
from sameitem.pipeline.category import FUSED
from sameitem.pipeline.gallery import Gallery
from sameitem.pipeline.online import DETECTED, MAX_PAGE, SearchAnswer, Searcher, SearchRequest
from sameitem.pipeline.shop import Shop

DEPTHS = (1, 5, 10, 60)
MAX_ID = 512  # characters of a product id, as in the catalogue
SOURCES = ("model", "knn", "fused")  # of a category
SHOWN = 5  # hits that an outcome keeps for the report
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LabelledQuery:
    """A photo and what it shows."""

    image: Path
    product_id: ProductId
    category: str = ""  # as in the catalogue; "" = not labelled
    box: Box | None = None  # true box of the subject, pixels of the upright photo
    slice: str = ""
    others: tuple[ProductId, ...] = ()  # products that are as right as product_id

    @property
    def products(self) -> frozenset[ProductId]:
        """Every product that is a right answer."""
        return frozenset((self.product_id, *self.others))


@dataclass(frozen=True, slots=True)
class ShownHit:
    """One of the first hits."""

    image_id: ImageId
    product_id: ProductId
    score: float  # visual, 0..1


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one query found."""

    query: LabelledQuery
    relevant: NDArray[np.bool_]  # (MAX_PAGE,) whether hit i shows the product
    wanted: int  # pictures in the gallery that show the product
    shown: tuple[ShownHit, ...]  # the first hits
    category_id: str  # predicted, "" = none
    confidence: float
    ms: float
    opinions: Mapping[str, str] = field(default_factory=dict)  # category of each source that had one: model, knn, fused
    box: Box | None = None  # detected, shares of the photo's sides; None = the model finds no objects
    true_box: Box | None = None  # labelled, likewise

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
class CategoryFigures:
    """How well the top category is told, over the queries whose own is known."""

    queries: int
    accuracy: Mapping[str, float]  # share that was told rightly, by each source there is: model, knn, fused
    ece: float  # expected calibration error of the answers


@dataclass(frozen=True, slots=True)
class BoxFigures:
    """How well the subject is found, over the queries whose box is known; they were searched without it."""

    queries: int
    mean_iou: float
    iou50: float  # share of boxes with at least 0.5
    iou70: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Everything that was measured."""

    index_version: str
    model_version: str
    gallery: int  # listed images that can be found
    whole: Figures
    slices: Mapping[str, Figures]
    category: CategoryFigures | None  # None = no query is labelled, or nothing tells
    boxes: BoxFigures | None  # None = no query is labelled, or the model finds no objects
    failed: Mapping[str, int]  # queries whose photo could not be used, by reason: not in the figures
    unknown: int  # queries whose product is not in the catalogue: not in the figures
    dropped: int  # queries whose product selection dropped: in the figures, as missed
    ms: Mapping[str, float]  # p50 and p99 of a query of the full depth
    outcomes: tuple[Outcome, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the keys of the command line's contract; what could not be measured is null."""
        category, boxes = self.category, self.boxes
        return {
            "queries": self.whole.queries,
            "gallery": self.gallery,
            "index_version": self.index_version,
            "model_version": self.model_version,
            **_recall_json(self.whole),
            "map": self.whole.map,
            "mrr": self.whole.mrr,
            "category": {
                "queries": category.queries if category else 0,
                "accuracy": {name: category.accuracy.get(name) if category else None for name in SOURCES},
                "ece": category.ece if category else None,
            },
            "boxes": {
                "queries": boxes.queries if boxes else 0,
                "mean_iou": boxes.mean_iou if boxes else None,
                "iou50": boxes.iou50 if boxes else None,
                "iou70": boxes.iou70 if boxes else None,
            },
            "slices": {
                name: {"queries": part.queries, **_recall_json(part), "map": part.map, "mrr": part.mrr}
                for name, part in self.slices.items()
            },
            "failed": dict(self.failed),
            "unknown": self.unknown,
            "dropped": self.dropped,
            "query_ms": dict(self.ms),
        }


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
                got = ", ".join(reader.fieldnames or ["an empty file"])
                raise InputError(f"{path.name}: need a header with the columns image and product_id, got {got}")
            queries = [_query(path, reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path.name} is not a CSV file in UTF-8: {error}; save it as CSV UTF-8") from error
    except OSError as error:
        raise InputError(f"cannot read {path.name}: {error.strerror}") from error
    if not queries:
        raise InputError(f"{path.name} has no line below its header; need at least one query")
    return queries


def evaluate(
    shop: Shop,
    queries: Sequence[LabelledQuery],
    *,
    version: str | None = None,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Search with every photo and compare what is found with what it shows.

    A hit is right when it shows the product, or when a listing of the product is folded behind it: the page shows both
    there. Hits are distinct pictures, several of a product where it has them. A product that the catalogue has and
    selection dropped counts as missed. Average precision looks at the first MAX_PAGE hits. Nothing is written to the
    click log. A labelled box is kept from the search: the model's own is compared with it.

    Args:
        shop: with a published index.
        queries: labelled photos.
        version: index version to search in, with the model that made it; None: the live one.
        tell: is told how many are done.

    Raises:
        NotFoundError: there is no such index version.
        UnavailableError: nothing was published yet.
        InputError: no query could be measured; says why.
        ConflictError: another index version went live meanwhile.
    """
    searcher = Searcher(shop, version)
    gallery = searcher.gallery()
    wanted = _pictures_of(gallery)
    asked_for = {product_id for query in queries for product_id in query.products}
    in_catalogue = {product.product_id for product in shop.catalogue.products(asked_for)}
    outcomes: list[Outcome] = []
    failed: Counter[str] = Counter()
    unknown = 0
    for done, query in enumerate(queries):
        tell(done, len(queries))
        if query.products.isdisjoint(in_catalogue):
            unknown += 1
            continue
        try:
            photo = query.image.read_bytes()
            pictures = sum(wanted.get(product_id, 0) for product_id in query.products)
            outcomes.append(_ask(searcher, gallery.version, query, photo, pictures))
        except (InputError, OSError) as error:
            reason = f"the photo cannot be read: {error.strerror}" if isinstance(error, OSError) else str(error)
            _log.warning("query %s failed: %s", query.image.name, reason)
            failed[reason] += 1
    tell(len(queries), len(queries))
    if not outcomes:
        reasons = [f"{count} times: {reason}" for reason, count in failed.most_common(3)]
        reasons += [f"{unknown} of their products are not in the catalogue"] * (unknown > 0)
        raise InputError(f"none of {len(queries)} queries could be measured; {'; '.join(reasons)}")
    by_slice: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        if outcome.query.slice:
            by_slice[outcome.query.slice].append(outcome)
    times = [outcome.ms for outcome in outcomes[1:] or outcomes]  # the first one also loads the model
    return Evaluation(
        index_version=gallery.version,
        model_version=gallery.model_version,
        gallery=int(gallery.alive.sum()),
        whole=_figures(outcomes),
        slices={name: _figures(part) for name, part in sorted(by_slice.items())},
        category=_category(shop, outcomes),
        boxes=_boxes(outcomes),
        failed=dict(failed),
        unknown=unknown,
        dropped=sum(outcome.wanted == 0 for outcome in outcomes),
        ms={"p50": float(np.percentile(times, 50)), "p99": float(np.percentile(times, 99))},
        outcomes=tuple(outcomes),
    )


def _pictures_of(gallery: Gallery) -> dict[ProductId, int]:
    """Return how many pictures show each product; near-duplicates that are folded into one count once."""
    members = gallery.index.members
    pairs = np.unique(
        np.stack([members.every_product(), members.entries_of(np.arange(len(members)))])[:, gallery.alive], axis=1
    )
    rows, counts = np.unique(pairs[0], return_counts=True)
    return {gallery.products.rows[row].product_id: int(n) for row, n in zip(rows, counts, strict=True)}


def _ask(searcher: Searcher, version: str, query: LabelledQuery, photo: bytes, wanted: int) -> Outcome:
    begun = time.perf_counter()
    answer = searcher.search(
        SearchRequest(photo=photo, num=MAX_PAGE, distinct_product=False, rerank=False), record=False
    )
    ms = 1e3 * (time.perf_counter() - begun)
    if answer.index_version != version:
        raise ConflictError(f"index {answer.index_version} went live while {version} was measured; evaluate again")
    relevant = np.zeros(MAX_PAGE, np.bool_)
    for place, result in enumerate(answer.results):
        listed = {result.product.product_id, *(listing.product_id for listing in result.duplicates)}
        relevant[place] = not query.products.isdisjoint(listed)
    best = answer.categories[0] if answer.categories else None
    return Outcome(
        query=query,
        relevant=relevant,
        wanted=wanted,
        shown=tuple(ShownHit(r.image.image_id, r.product.product_id, r.visual_score) for r in answer.results[:SHOWN]),
        category_id=best.id if best else "",
        confidence=best.score if best else 0.0,
        ms=ms,
        opinions=_opinions(answer),
        box=_shares(answer.box, answer) if answer.box_source == DETECTED else None,
        true_box=_shares(query.box, answer) if query.box else None,
    )


def _opinions(answer: SearchAnswer) -> dict[str, str]:
    fused = answer.category_id if answer.category_source == FUSED else ""
    told = zip(SOURCES, (answer.model_category_id, answer.knn_category_id, fused), strict=True)
    return {source: top for source, top in told if top}


def _shares(box: Box, answer: SearchAnswer) -> Box:
    return scale_box(box, 1 / answer.width, 1 / answer.height)


def _figures(outcomes: Sequence[Outcome]) -> Figures:
    relevant = np.stack([outcome.relevant for outcome in outcomes])
    wanted = np.array([outcome.wanted for outcome in outcomes], np.int64)
    return Figures(
        queries=len(outcomes),
        recall={k: bootstrap_interval(recall_at(relevant, k), np.random.default_rng(k)) for k in DEPTHS},
        map=float(average_precision(relevant, wanted).mean()),
        mrr=float(reciprocal_rank(relevant).mean()),
    )


def _category(shop: Shop, outcomes: Sequence[Outcome]) -> CategoryFigures | None:
    labelled = [(o, top) for o in outcomes if o.category_id and (top := shop.taxonomy.top_of(o.query.category))]
    if not labelled:
        return None
    accuracy = {
        source: float(np.mean([outcome.opinions.get(source) == top for outcome, top in labelled]))
        for source in SOURCES
        if all(source in outcome.opinions for outcome, _ in labelled)
    }
    right = np.array([outcome.category_id == top for outcome, top in labelled])
    confidence = np.array([min(1.0, outcome.confidence) for outcome, _ in labelled])
    return CategoryFigures(len(labelled), accuracy, expected_calibration_error(confidence, right))


def _boxes(outcomes: Sequence[Outcome]) -> BoxFigures | None:
    pairs = [(outcome.box, outcome.true_box) for outcome in outcomes if outcome.box and outcome.true_box]
    if not pairs:
        return None
    found, true = (np.array([(b.left, b.top, b.right, b.bottom) for b in boxes]) for boxes in zip(*pairs, strict=True))
    overlap = iou(found, true)
    return BoxFigures(len(pairs), float(overlap.mean()), float((overlap >= 0.5).mean()), float((overlap >= 0.7).mean()))


def _recall_json(figures: Figures) -> dict[str, Any]:
    return {
        "recall": {str(k): interval.mean for k, interval in figures.recall.items()},
        "recall_low": {str(k): interval.low for k, interval in figures.recall.items()},
        "recall_high": {str(k): interval.high for k, interval in figures.recall.items()},
    }


def _query(path: Path, line: int, row: Mapping[str | None, Any]) -> LabelledQuery:
    where = f"{path.name}, line {line}"
    if None in row:
        raise InputError(f'{where}: more cells than the header has; put a box into quotes: "10,20,110,220"')
    image, product_id, category, box, slice_ = (
        (row.get(name) or "").strip() for name in ("image", "product_id", "category", "box", "slice")
    )
    if not image or not product_id or "\0" in image:
        raise InputError(f"{where}: need image and product_id, got {image!r} and {product_id!r}")
    if len(product_id) > MAX_ID:
        raise InputError(f"{where}: need a product_id of at most {MAX_ID} characters, got {len(product_id):,}")
    return LabelledQuery(
        image=path.parent / image,
        product_id=ProductId(product_id),
        category=category,
        box=_box(where, box) if box else None,
        slice=slice_,
    )


def _box(where: str, text: str) -> Box:
    try:
        left, top, right, bottom = (float(part) for part in text.split(","))
    except ValueError:
        left = top = right = bottom = math.nan
    if not (-math.inf < left < right < math.inf and -math.inf < top < bottom < math.inf):
        raise InputError(
            f"{where}: need a box left,top,right,bottom in pixels with left < right and top < bottom, got {text!r}"
        )
    return Box(left, top, right, bottom)
