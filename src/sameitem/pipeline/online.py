"""One query (article figure 1, right half), read from top to bottom.

photo -> intake -> subject and feature -> category -> coarse filter and fine ranking -> answer, and the list that was
shown written down, so that clicks can refer to it.
"""

import math
import secrets
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from sameitem.clicks.log import Search, Shown
from sameitem.core.boxes import scale_box
from sameitem.core.errors import ConflictError, InputError, NotFoundError, UnavailableError
from sameitem.core.filters import Filter, parse_filter
from sameitem.core.photo_store import decode_stored
from sameitem.core.records import Box, CatalogueImage, Pixels, Product, ProductId
from sameitem.engine.members import EntryHit
from sameitem.engine.versions import current
from sameitem.features.colour import describe_colour
from sameitem.features.embed import Embedder
from sameitem.features.preprocess import crop
from sameitem.pipeline.gallery import Gallery, Listing
from sameitem.pipeline.shop import Shop

MAX_DEPTH = 1000  # start + num
MAX_PAGE = 100
VIEWS = (1.0, 0.8, 0.65)  # sides of the centred views of a whole photo, as shares of its sides
WHOLE_PHOTO = "whole_photo"


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """What a caller asks for: a photo, or the key of a catalogue image, and how to search with it."""

    photo: bytes | None = None
    image_of: tuple[ProductId, str] | None = None  # product id and image name: "more like this"
    box: Box | None = None  # the subject, pixels of the upright photo, or shares of its sides
    box_is_relative: bool = False
    categories: tuple[str, ...] = ()  # top category ids or leaf paths; they win over prediction
    filter: str = ""
    num: int = 10
    start: int = 0
    score_threshold: float = 0.0
    distinct_product: bool = True
    user_id: str = ""
    session_id: str = ""


@dataclass(frozen=True, slots=True)
class CategoryScore:
    """A top category and the share of the vote it got."""

    id: str
    name: str
    score: float


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the answer."""

    rank: int  # from 1
    image: CatalogueImage
    product: Product
    category_id: str
    visual_score: float  # cosine of the features, clipped to 0..1
    duplicates: tuple[Listing, ...]


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """What was understood of the photo, and what was found."""

    search_id: str
    index_version: str
    index_time: str
    model_version: str
    took_ms: Mapping[str, float]
    cpu_ms: Mapping[str, float]
    category_id: str  # "" where nothing could vote
    category_source: str  # "caller", "knn" (vote over the reference set) or "none" (no reference set)
    categories: tuple[CategoryScore, ...]
    box: Box  # pixels of the upright photo
    box_source: str  # "caller" or "whole_photo"
    width: int  # of the upright photo, pixels
    height: int
    found: int  # results that can be paged through, at most MAX_DEPTH
    good_match: float  # score from which the shop speaks of a good match
    results: tuple[Result, ...]


@dataclass(frozen=True, slots=True)
class _Query:
    """A photo on its way: size and box in pixels of the upright original, and the subject cut out."""

    photo_hash: str
    width: int
    height: int
    box: Box
    box_source: str
    stored_box: Box  # the same in pixels of the stored copy
    subject: Pixels
    is_new: bool  # a user's photo, not one of the catalogue


@dataclass(slots=True)
class _Stopwatch:
    """Wall and CPU milliseconds per stage of this thread."""

    wall: dict[str, float] = field(default_factory=dict)
    cpu: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        wall, cpu = time.perf_counter(), time.thread_time()
        yield
        self.wall[stage] = round(1e3 * (time.perf_counter() - wall), 3)
        self.cpu[stage] = round(1e3 * (time.thread_time() - cpu), 3)


class Searcher:
    """Answers queries from the live index version; follows publishes, rollbacks and catalogue changes by itself."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._lock = threading.Lock()
        self._gallery: Gallery | None = None

    def gallery(self) -> Gallery:
        """Return the live gallery, as fresh as the catalogue: deleted rows are gone, changed attributes hold.

        Raises:
            UnavailableError: nothing was published yet.
        """
        with self._lock:
            while (version := current(self._shop.index_root)) is not None:
                try:
                    if self._gallery is None or self._gallery.version != version:
                        self._gallery = Gallery.open(self._shop.index_root / version, self._shop.taxonomy)
                except (NotFoundError, ConflictError):
                    if current(self._shop.index_root) == version:
                        raise
                    continue  # another version was published, and this one cleared away, while we opened it
                self._gallery.refresh(self._shop.catalogue)
                return self._gallery
        raise UnavailableError("no index version is published yet; run `sameitem build` (or POST /v1/index:build)")

    def search(self, request: SearchRequest, *, record: bool = True) -> SearchAnswer:
        """Answer one query and write down what was shown.

        Args:
            request: a photo and how to search with it.
            record: keep the list and the photo for learning; False where nobody sees the answer.

        Raises:
            InputError: a photo, box, filter, category or page that cannot be used; says which and why.
            NotFoundError: `image_of` names an image that is not in the catalogue.
            UnavailableError: nothing was published yet.
        """
        stage = _Stopwatch()
        wanted = _checked(request)
        with stage("catalogue"):
            gallery = self.gallery()
            allowed = gallery.allowed(wanted, categories=request.categories, now=datetime.now(UTC))
        with stage("intake"):
            query = self._take(request, record=record)
        with stage("feature"):
            embedder = self._shop.embedder(gallery.model_version)
            whole, feature = _features(embedder, query)
            weight = self._shop.settings.engine.colour_weight
            colour = describe_colour(query.subject) if weight else None
        with stage("category"):
            categories, source = self._categories(gallery, query, whole, request.categories)
        with stage("engine"):
            own = request.image_of[0] if request.image_of else None
            depth = MAX_DEPTH if request.score_threshold > 0 else request.start + request.num
            hits = gallery.index.search(
                feature,
                k=depth,
                allowed=allowed if own is None else gallery.without(allowed, own),
                one_per_product=request.distinct_product,
                colour=colour,
                colour_weight=weight,
            )
        with stage("answer"):
            good = [hit for hit in hits if visual_score(hit) >= request.score_threshold]
            page = good[request.start : request.start + request.num]
            results = self._results(gallery, page, first_rank=request.start + 1)
            found = len(good) if request.score_threshold > 0 else gallery.findable(allowed, request.distinct_product)
        answer = SearchAnswer(
            search_id=secrets.token_urlsafe(16),
            index_version=gallery.version,
            index_time=gallery.created,
            model_version=embedder.version,
            took_ms=stage.wall,
            cpu_ms=stage.cpu,
            category_id=categories[0].id if categories else "",
            category_source=source,
            categories=categories,
            box=query.box,
            box_source=query.box_source,
            width=query.width,
            height=query.height,
            found=min(found, MAX_DEPTH),
            good_match=self._shop.settings.search.good_match,
            results=results,
        )
        with stage("log"):
            if record:
                self._record(request, answer, query)
        return answer

    def _take(self, request: SearchRequest, *, record: bool) -> _Query:
        if request.image_of is not None:
            image = self._shop.catalogue.image(*request.image_of)
            pixels = self._shop.photos.pixels(image.content_hash)
            size = (image.width, image.height)
            given = request.box or image.box
            photo_hash = image.content_hash
        else:
            assert request.photo is not None
            photo = self._shop.intake.take(request.photo)
            pixels = decode_stored(photo.encoded)
            size = (photo.original_width, photo.original_height)
            given = request.box
            photo_hash = photo.content_hash
            if record and self._shop.settings.search.photo_days:
                self._shop.query_photos.put(photo)
        box = placed_box(given, size, relative=request.box_is_relative and request.box is not None)
        stored_box = scale_box(box, pixels.shape[1] / size[0], pixels.shape[0] / size[1])
        subject = crop(pixels, stored_box)
        source = WHOLE_PHOTO if given is None else "caller"
        return _Query(
            photo_hash=photo_hash,
            width=size[0],
            height=size[1],
            box=box,
            box_source=source,
            stored_box=stored_box,
            subject=subject,
            is_new=request.image_of is None,
        )

    def _categories(
        self, gallery: Gallery, query: _Query, whole: NDArray[np.float32], given: Sequence[str]
    ) -> tuple[tuple[CategoryScore, ...], str]:
        def name(top: str) -> str:
            category = self._shop.taxonomy.category(top)
            return category.name if category else top

        predicted: tuple[CategoryScore, ...] = ()
        if gallery.reference is not None:
            base = self._shop.base_embedder
            general = whole if base.version == gallery.model_version else base.embed([query.subject])[0]
            predicted = tuple(
                CategoryScore(top, name(top), score)
                for top, score in gallery.vote(general, self._shop.settings.category)
            )
        if given:
            chosen = tuple(CategoryScore(top, name(top), 1.0) for top in gallery.tops(given))
            rest = tuple(category for category in predicted if category.id not in {one.id for one in chosen})
            return chosen + rest, "caller"
        return predicted, "knn" if predicted else "none"

    def _results(self, gallery: Gallery, hits: Sequence[EntryHit], *, first_rank: int) -> tuple[Result, ...]:
        listings = self._shop.catalogue.listings([hit.image_id for hit in hits])
        results: list[Result] = []
        for hit in hits:
            if hit.image_id not in listings:  # deleted since this query began
                continue
            image, product = listings[hit.image_id]
            result = Result(
                rank=first_rank + len(results),
                image=image,
                product=product,
                category_id=gallery.top_of(hit),
                visual_score=visual_score(hit),
                duplicates=gallery.folded(hit),
            )
            results.append(result)
        return tuple(results)

    def _record(self, request: SearchRequest, answer: SearchAnswer, query: _Query) -> None:
        shown = tuple(
            Shown(
                rank=result.rank,
                product_id=result.product.product_id,
                image_name=result.image.name,
                image_id=result.image.image_id,
                score=result.visual_score,
            )
            for result in answer.results
        )
        self._shop.clicks.record_search(
            Search(
                search_id=answer.search_id,
                at=time.time(),
                photo_hash=query.photo_hash,
                box=query.stored_box,  # the original's size is not kept
                category_id=answer.category_id,
                index_version=answer.index_version,
                model_version=answer.model_version,
                user_id=request.user_id,
                session_id=request.session_id,
                shown=shown,
            )
        )


def visual_score(hit: EntryHit) -> float:
    """Return the cosine of query and image, clipped to 0..1 (larger is more alike)."""
    return min(1.0, max(0.0, 1.0 - hit.distance / 2))


def _features(embedder: Embedder, query: _Query) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the feature of the subject, and the one to search with: averaged over centred views of a whole photo.

    Where nobody said where the subject is, it is likely in the middle (docs/decisions/0003-whole-photo-queries.md).
    """
    height, width = query.subject.shape[:2]
    sides = VIEWS if query.box_source == WHOLE_PHOTO and query.is_new else (1.0,)
    margins = [((1 - side) / 2 * width, (1 - side) / 2 * height) for side in sides]
    views = [crop(query.subject, Box(left, top, width - left, height - top)) for left, top in margins]
    features = embedder.embed(views)
    mean = features.mean(axis=0)
    return features[0], np.asarray(mean / np.linalg.norm(mean), np.float32)


def _checked(request: SearchRequest) -> Filter | None:
    if (request.photo is None) == (request.image_of is None):
        raise InputError("need either a photo or the product_id and image_name of a catalogue image", field="image")
    if not 1 <= request.num <= MAX_PAGE:
        raise InputError(f"need num of 1 to {MAX_PAGE}, got {request.num}", field="num")
    if request.start < 0 or request.start + request.num > MAX_DEPTH:
        raise InputError(
            f"need start >= 0 and start + num <= {MAX_DEPTH}, got {request.start} + {request.num}", field="start"
        )
    if not 0 <= request.score_threshold <= 1:
        raise InputError(f"need score_threshold of 0 to 1, got {request.score_threshold}", field="score_threshold")
    return parse_filter(request.filter) if request.filter.strip() else None


def placed_box(box: Box | None, size: tuple[int, int], *, relative: bool) -> Box:
    """Return a caller's box in pixels, clipped to the photo; the whole photo where there is none.

    Args:
        box: pixels, or shares of the sides.
        size: width and height of the upright photo.
        relative: whether the box is in shares.

    Raises:
        InputError: the box covers less than one pixel of the photo.
    """
    if box is not None and not all(map(math.isfinite, (box.left, box.top, box.right, box.bottom))):
        raise InputError(f"need a box of finite numbers, got {box}", field="box")
    if box is None:
        return Box(0.0, 0.0, float(size[0]), float(size[1]))
    if relative:
        box = scale_box(box, *size)
    clipped = Box(
        max(0.0, box.left), max(0.0, box.top), min(float(size[0]), box.right), min(float(size[1]), box.bottom)
    )
    if clipped.right - clipped.left < 1 or clipped.bottom - clipped.top < 1:
        raise InputError(
            f"need a box that covers at least one pixel of the {size[0]} x {size[1]} photo, got left {box.left:g}, "
            f"top {box.top:g}, right {box.right:g}, bottom {box.bottom:g}",
            field="box",
        )
    return clipped
