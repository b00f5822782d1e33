"""One query (article figure 1, right half), read from top to bottom.

photo -> intake -> subject and the model's word on the category -> feature -> category -> coarse filter and fine ranking
-> scores -> rerank of the first 60 -> answer, and the list that was shown written down, so that clicks can refer to it.
"""

import logging
import math
import resource
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from sameitem.clicks.log import Search, Shown
from sameitem.core.boxes import scale_box
from sameitem.core.errors import ConflictError, InputError, NotFoundError, UnavailableError
from sameitem.core.filters import Filter, parse_filter
from sameitem.core.photo_store import decode_stored
from sameitem.core.records import Box, CatalogueImage, ImageId, Pixels, Product, ProductId
from sameitem.engine.members import EntryHit
from sameitem.engine.sieve import Sieve
from sameitem.engine.versions import current
from sameitem.features.colour import describe_colour, has_plain_backdrop
from sameitem.features.detect import Detection, Detector
from sameitem.features.embed import Embedder, unit_mean
from sameitem.features.subject import Subject, centred_views, detected_part, part_of
from sameitem.pipeline.category import Opinion, Prediction, predict_category
from sameitem.pipeline.experiment import Mark, assigned, interleaved, running
from sameitem.pipeline.following import refresh, take_in, take_in_all
from sameitem.pipeline.gallery import Gallery, Listing
from sameitem.pipeline.generations import newest_index
from sameitem.pipeline.ranking import Effect, Ranked, rank
from sameitem.pipeline.same_item import Judgement, judge, read_curves, rivals_of
from sameitem.pipeline.shop import Shop
from sameitem.rerank.features import write_evidence
from sameitem.rerank.order import TOP

MAX_DEPTH = 1000  # start + num
MAX_PAGE = 100
VOTERS = 10  # for the category that an explanation names
CALLER, DETECTED, WHOLE_PHOTO = "caller", "detected", "whole_photo"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """What a caller asks for: a photo, or the key of a catalogue image, and how to search with it."""

    photo: bytes | None = None
    image_of: tuple[ProductId, str] | None = None  # product id and image name: "more like this"
    box: Box | None = None  # the subject, pixels of the upright photo, or shares of its sides
    box_is_relative: bool = False
    object_id: str = ""  # search with this object of an earlier answer about the same picture
    crop: bool = True  # find the subject; False = the whole picture is the subject
    categories: tuple[str, ...] = ()  # top category ids or leaf paths; they win over prediction
    filter: str = ""
    num: int = 10
    start: int = 0
    score_threshold: float = 0.0
    distinct_product: bool = True
    rerank: bool = True  # False = by looks alone
    user_id: str = ""
    session_id: str = ""
    explain: bool = False  # say what led to the ranker's scores and to the category


@dataclass(frozen=True, slots=True)
class CategoryScore:
    """A top category and its probability."""

    id: str
    name: str
    score: float


@dataclass(frozen=True, slots=True)
class FoundObject:
    """An object that the model sees in the picture; one of them may be what was searched with."""

    object_id: str  # its place among them, best first, from 0; to be sent back in a request
    box: Box  # pixels of the upright photo
    score: float  # 0..1


@dataclass(frozen=True, slots=True)
class Voter:
    """A labelled image that voted for the category of a photo."""

    image_id: ImageId
    category: str  # its leaf
    share: float  # of all votes, 0..1


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the answer."""

    rank: int  # from 1
    image: CatalogueImage
    product: Product
    category_id: str
    judgement: Judgement
    duplicates: tuple[Listing, ...]
    visual_rank: int  # from 1: where looks alone would have put it
    quality: float | None  # the ranker's score, 0..1; None where no ranker was asked
    effects: tuple[Effect, ...] = ()  # what its features did to that score; only where it was to be explained

    @property
    def score(self) -> float:
        """Return the probability that it shows the same item, 0..1."""
        return self.judgement.score

    @property
    def visual_score(self) -> float:
        """Return the cosine of the features of query and image, clipped to 0..1 (larger is more alike)."""
        return min(1.0, max(0.0, self.judgement.cosine))


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """What was understood of the photo, and what was found."""

    search_id: str
    index_version: str
    index_time: str
    model_version: str
    took_ms: Mapping[str, float]
    cpu_ms: Mapping[str, float]
    disk_reads: int  # pages of the index that the search had to wait for the disk for
    category_id: str  # "" where nothing could vote
    category_source: str  # "caller", "fused", "model", "knn" (vote over the reference set) or "none"
    categories: tuple[CategoryScore, ...]
    model_category_id: str  # what the model alone says, "" = nothing
    knn_category_id: str  # what the vote alone says, "" = nothing
    model_categories: tuple[CategoryScore, ...]  # the same in full, best first
    knn_categories: tuple[CategoryScore, ...]
    searched_categories: tuple[str, ...]  # top categories that the search was routed to; empty = it was not
    box: Box  # pixels of the upright photo
    box_source: str  # "caller", "detected" or "whole_photo"
    objects: tuple[FoundObject, ...]  # everything the model sees, best first; empty where it finds no objects
    width: int  # of the upright photo, pixels
    height: int
    found: int  # results that can be paged through, at most MAX_DEPTH
    good_match: float  # score from which the shop speaks of a good match
    ranker_version: str  # that ordered the first results; "looks" where looks alone did
    results: tuple[Result, ...]
    voters: tuple[Voter, ...] = ()  # for the category, most weight first; only where it was to be explained


@dataclass(frozen=True, slots=True)
class _Picture:
    """A picture on its way; the size is that of the upright original, which a caller's box is in pixels of."""

    photo_hash: str
    width: int
    height: int
    pixels: Pixels  # of the stored copy
    given: Box | None  # by the caller, or by the shop for a catalogue image
    is_new: bool  # a user's photo, not one of the catalogue


@dataclass(frozen=True, slots=True, eq=False)
class _Query:
    """What of a picture is searched with, and what else the model sees there."""

    box: Box  # pixels of the upright original
    box_source: str
    stored_box: Box  # the same in pixels of the stored copy
    subject: Subject
    objects: tuple[FoundObject, ...]
    told: Sequence[Opinion]  # by the model about the category; empty where it has none


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


@dataclass(frozen=True, slots=True)
class _Found:
    """An answer, and what the click log is to keep beside it."""

    answer: SearchAnswer
    stage: _Stopwatch
    photo_hash: str
    stored_box: Box
    evidence: str
    experiment: str


class Searcher:
    """Answers queries from the live index version; follows publishes, rollbacks and catalogue changes by itself."""

    def __init__(self, shop: Shop, version: str | None = None) -> None:
        """Answer from the live version, or always from one index version, whichever model made it."""
        self._shop = shop
        self._version = version
        self._lock = threading.Lock()
        self._gallery: Gallery | None = None
        self._pool = ThreadPoolExecutor(2, "photos")
        self._beside: Searcher | None = None  # of another model, while an experiment compares two
        self._is_followed = False  # somebody calls `follow` again and again

    def gallery(self) -> Gallery:
        """Return the live gallery, as fresh as the catalogue: deleted rows are gone, changed attributes hold.

        Raises:
            UnavailableError: nothing was published yet.
        """
        with self._lock:
            if self._gallery is None or not (self._is_followed or self._gallery.version == self._wanted_version()):
                self._gallery = self._open()
            gallery = self._gallery
        refresh(gallery, self._shop.catalogue)
        return gallery

    def follow(self, *, compute: bool) -> int:
        """Bring the gallery up with what was published and with new pictures; queries go on meanwhile.

        To be called again and again, by one thread.

        Args:
            compute: features that are not known, a few at once; False leaves that to another process.

        Returns:
            How many pictures no longer wait: 0 = there is nothing to do at the moment.

        Raises:
            UnavailableError: nothing was published yet.
        """
        gallery = self._gallery
        if gallery is None or gallery.version != self._wanted_version():
            opened = self._open()
            opened.index.warm()
            with self._lock:
                self._gallery, self._is_followed = opened, True
            return 1
        self._is_followed = True
        refresh(gallery, self._shop.catalogue)
        return take_in(self._shop, gallery, self._pool, datetime.now(UTC), compute=compute)

    def _open(self) -> Gallery:
        """Open the live version, with everything added since whose features are known."""
        while (version := self._wanted_version()) is not None:
            try:
                gallery = Gallery.open(self._shop.index_root / version, self._shop.taxonomy)
            except (NotFoundError, ConflictError):
                if self._version or current(self._shop.index_root) == version:
                    raise
                continue  # another version was published, and this one cleared away, while we opened it
            refresh(gallery, self._shop.catalogue)
            if gallery.pending:
                take_in_all(self._shop, gallery, self._pool, datetime.now(UTC))
            return gallery
        raise UnavailableError("no index version is published yet; run `sameitem build` (or POST /v1/index:build)")

    def _wanted_version(self) -> str | None:
        return self._version or current(self._shop.index_root)

    def models(self, gallery: Gallery) -> tuple[Embedder, Detector | None]:
        """Return what made a gallery's features and finds its subjects, opened at the first call.

        Raises:
            UnavailableError: the live index needs a model that is missing or damaged.
        """
        version = gallery.model_version
        try:
            return self._shop.embedder(version), self._shop.detector(version)
        except (NotFoundError, InputError) as error:
            if self._version:  # somebody asked for just this one, and is told what is wrong with it
                raise
            _log.error("model %s of the live index cannot be used: %s", version, error)
            raise UnavailableError(
                "the model of the live index cannot be used; the operator can run `sameitem models rollback`"
            ) from error

    def search(self, request: SearchRequest, *, record: bool = True) -> SearchAnswer:
        """Answer one query and write down what was shown.

        Args:
            request: a photo and how to search with it.
            record: keep the list and the photo for learning; False where nobody sees the answer.

        Raises:
            InputError: a photo, box, filter, category or page that cannot be used; says which and why.
            NotFoundError: `image_of` names an image that is not in the catalogue.
            UnavailableError: nothing was published yet, or the model of what is live is missing or damaged.
        """
        found = (self._mixed(request) if record else None) or self._ask(request, record=record)
        with found.stage("log"):
            if record:
                self._record(request, found)
        return found.answer

    def _mixed(self, request: SearchRequest) -> "_Found | None":
        """Return one list made of what two models find, where an experiment says so; None where none does."""
        experiment = running(self._shop.experiments_root, "model")
        who, last = request.user_id or request.session_id, request.start + request.num
        if experiment is None or not who or last > MAX_PAGE or not assigned(experiment, who):
            return None
        index = newest_index(self._shop.index_root, experiment.b)
        if index is None or self.gallery().model_version != experiment.a:
            return None  # another model went live since, or B's index is gone
        if self._beside is None or self._beside._version != index:
            self._beside = Searcher(self._shop, index)
        top = replace(request, start=0, num=last)
        try:
            theirs = self._beside._ask(top, record=False).answer
        except UnavailableError as error:
            _log.error("model %s of the experiment cannot be asked, nobody takes part: %s", experiment.b, error)
            return None
        found = self._ask(top, record=True)

        def key(result: Result) -> str:
            return result.product.product_id if request.distinct_product else str(result.image.image_id)

        of_a, of_b = ({key(result): result for result in answer.results} for answer in (found.answer, theirs))
        mixed = interleaved(list(of_a), list(of_b), seed=f"{who} {found.photo_hash}")
        page = slice(request.start, last)
        results = [of_a.get(item) or of_b[item] for item in mixed.items[page]]
        answer = replace(
            found.answer,
            model_version=f"{experiment.a} + {experiment.b}",
            results=tuple(replace(result, rank=rank) for rank, result in enumerate(results, request.start + 1)),
        )
        mark = Mark(experiment.id, mixed.teams[page]).as_text()
        return replace(found, answer=answer, evidence="", experiment=mark)

    def _ask(self, request: SearchRequest, *, record: bool) -> "_Found":
        """Answer one query by one model, and say what the log is to keep of it."""
        stage = _Stopwatch()
        wanted = _checked(request)
        with stage("catalogue"):
            gallery = self.gallery()
            now = datetime.now(UTC)
            allowed = gallery.allowed(wanted, categories=request.categories, now=now)
        with stage("intake"):
            picture = self._take(request, record=record)
        with stage("detect"):
            embedder, detector = self.models(gallery)
            query = _find_subject(detector, picture, request)
        with stage("feature"):
            general, feature = self._features(embedder, query, needs_general=gallery.reference is not None)
            weight = self._shop.settings.engine.colour_weight
            colour = describe_colour(query.subject.pixels) if weight else None
        with stage("category"):
            settings = self._shop.settings.category
            vote = () if general is None else gallery.vote(general, settings)
            predicted = predict_category(
                query.told,
                vote,
                votable=gallery.votable,
                unlabelled=gallery.unlabelled,
                alpha=settings.alpha,
                temperature=settings.temperature,
            )
            categories, source = self._categories(gallery, predicted, request.categories)
            routed, allowed = self._route(gallery, allowed, wanted, predicted, request.categories)
        faults = _disk_reads()
        with stage("engine"):
            own = gallery.products.row_of(request.image_of[0]) if request.image_of else None
            depth = MAX_DEPTH if request.score_threshold > 0 else max(TOP, request.start + request.num)
            hits = gallery.index.search(
                feature,
                k=depth,
                allowed=allowed,
                without_product=own,
                one_per_product=request.distinct_product,
                colour=colour,
                colour_weight=weight,
            )
            everything = gallery.allowed(None, categories=(), now=now)
            if allowed is everything and request.distinct_product and not weight:
                nearest = hits[:2]
            else:
                nearest = gallery.index.search(
                    feature, k=2, allowed=everything, without_product=own, one_per_product=True
                )
        with stage("scores"):
            curves = read_curves(gallery.index.manifest.extra)
            judged = judge(
                gallery.index,
                hits,
                [gallery.top_of(hit) for hit in hits],
                query=feature,
                rivals=rivals_of(gallery.index.members, nearest, curves.unrelated),
                curves=curves,
                colour=colour,
                colour_weight=weight,
            )
        with stage("rerank"):
            ranked = rank(
                self._shop,
                gallery,
                hits,
                judged,
                wanted=request.rerank,
                record=record,
                user_id=request.user_id,
                searcher=f"{who} {picture.photo_hash}" if (who := request.user_id or request.session_id) else "",
            )
        with stage("answer"):
            good = [row for row in ranked.order.tolist() if judged[row].score >= request.score_threshold]
            page = good[request.start : request.start + request.num]
            results = self._results(gallery, hits, judged, ranked, page, request)
            found = len(good) if request.score_threshold > 0 else _findable(allowed, request.distinct_product)
        answer = SearchAnswer(
            search_id=self._shop.clicks.new_search_id(),
            index_version=gallery.version,
            index_time=gallery.created,
            model_version=embedder.version,
            took_ms=stage.wall,
            cpu_ms=stage.cpu,
            disk_reads=_disk_reads() - faults,
            category_id=categories[0].id if categories else "",
            category_source=source,
            categories=categories,
            model_category_id=predicted.model,
            knn_category_id=predicted.knn,
            model_categories=tuple(self._scored(*one) for one in sorted(query.told, key=lambda told: -told[1])),
            knn_categories=tuple(self._scored(*one) for one in vote if one[1] > 0),
            searched_categories=routed,
            box=query.box,
            box_source=query.box_source,
            objects=query.objects,
            width=picture.width,
            height=picture.height,
            found=min(found, MAX_DEPTH),
            good_match=self._shop.settings.search.good_match,
            ranker_version=ranked.version,
            results=results,
            voters=self._voters(gallery, general) if request.explain else (),
        )
        return _Found(
            answer=answer,
            stage=stage,
            photo_hash=picture.photo_hash,
            stored_box=query.stored_box,
            evidence=_evidence(answer, ranked) if record else "",
            experiment=ranked.mark_of([result.visual_rank - 1 for result in answer.results]),
        )

    def _take(self, request: SearchRequest, *, record: bool) -> _Picture:
        if request.image_of is not None:
            image = self._shop.catalogue.image(*request.image_of)
            pixels = self._shop.photos.pixels(image.content_hash)
            own = image.box if request.crop and not request.object_id else None
            return _Picture(image.content_hash, image.width, image.height, pixels, request.box or own, is_new=False)
        assert request.photo is not None
        photo = self._shop.intake.take(request.photo)
        if record and self._shop.settings.search.photo_days:
            self._shop.query_photos.put(photo)
        width, height = photo.original_width, photo.original_height
        return _Picture(photo.content_hash, width, height, decode_stored(photo.encoded), request.box, is_new=True)

    def _features(
        self, embedder: Embedder, query: _Query, *, needs_general: bool
    ) -> tuple[NDArray[np.float32] | None, NDArray[np.float32]]:
        """Return the feature of the general model, which the vote listens to, and the one to search with.

        The vote sees the first view: the whole photo, unless somebody said where the subject is
        (docs/decisions/0003-whole-photo-queries.md: there it is right more often).
        """
        views = embedder.embed_each(query.subject.views)
        searched = unit_mean(views)
        if not needs_general:
            return None, searched
        base = self._shop.base_embedder
        if base.version == embedder.version:
            return views[0], searched
        return base.embed(query.subject.views[:1])[0], searched

    def _categories(
        self, gallery: Gallery, predicted: Prediction, given: Sequence[str]
    ) -> tuple[tuple[CategoryScore, ...], str]:
        ranked = [self._scored(top, score) for top, score in predicted.ranked()]
        if not given:
            return tuple(ranked), predicted.source
        chosen = [self._scored(top, 1.0) for top in gallery.tops(given)]
        rest = [category for category in ranked if category.id not in {one.id for one in chosen}]
        return (*chosen, *rest), CALLER

    def _scored(self, top: str, score: float) -> CategoryScore:
        category = self._shop.taxonomy.category(top)
        return CategoryScore(top, category.name if category else top, score)

    def _route(
        self, gallery: Gallery, allowed: Sieve, wanted: Filter | None, predicted: Prediction, given: Sequence[str]
    ) -> tuple[tuple[str, ...], Sieve]:
        """Return the top categories to search in, none = all, and the members that may then be shown.

        A small gallery is searched whole, and so is one where nothing that may be shown is in the likely categories.
        """
        settings = self._shop.settings.category
        routed = predicted.routed(settings.routing_mass)
        large = len(gallery.member_names) >= settings.routing_from_images
        if given or not routed or not large or not gallery.knows_every_leaf():
            return (), allowed
        inside = gallery.allowed(wanted, categories=(), now=datetime.now(UTC), tops=routed)
        return (routed, inside) if inside.entries else ((), allowed)

    def _results(
        self,
        gallery: Gallery,
        hits: Sequence[EntryHit],
        judged: Sequence[Judgement],
        ranked: Ranked,
        page: Sequence[int],
        request: SearchRequest,
    ) -> tuple[Result, ...]:
        """Return the results of a page: rows of the hits, in the order in which they are shown."""
        listings = self._shop.catalogue.listings([hits[row].image_id for row in page])
        results: list[Result] = []
        for row in page:
            hit = hits[row]
            if hit.image_id not in listings:  # deleted since this query began
                continue
            image, product = listings[hit.image_id]
            result = Result(
                rank=request.start + 1 + len(results),
                image=image,
                product=product,
                category_id=gallery.top_of(hit),
                judgement=judged[row],
                duplicates=gallery.folded(hit),
                visual_rank=row + 1,
                quality=ranked.quality_of(row),
                effects=ranked.effects_of(row) if request.explain else (),
            )
            results.append(result)
        return tuple(results)

    def _voters(self, gallery: Gallery, general: NDArray[np.float32] | None) -> tuple[Voter, ...]:
        """Return the labelled images that voted for the category, those with most weight first."""
        if general is None:
            return ()
        return tuple(Voter(*one) for one in gallery.voters(general, self._shop.settings.category)[:VOTERS])

    def _record(self, request: SearchRequest, found: "_Found") -> None:
        answer = found.answer
        shown = tuple(
            Shown(
                rank=result.rank,
                product_id=result.product.product_id,
                image_name=result.image.name,
                image_id=result.image.image_id,
                score=result.score,
            )
            for result in answer.results
        )
        self._shop.clicks.record_search(
            Search(
                search_id=answer.search_id,
                at=time.time(),
                photo_hash=found.photo_hash,
                box=found.stored_box,  # the original's size is not kept
                category_id=answer.category_id,
                index_version=answer.index_version,
                model_version=answer.model_version,
                user_id=request.user_id,
                session_id=request.session_id,
                shown=shown,
                ranker_version=answer.ranker_version,
                evidence=found.evidence,
                experiment=found.experiment,
            )
        )


def _evidence(answer: SearchAnswer, ranked: Ranked) -> str:
    """Return what was known of the results that were shown, in their order; "" where not of all of them."""
    rows = [result.visual_rank - 1 for result in answer.results]
    if ranked.evidence is None or not rows or max(rows) >= len(ranked.evidence):
        return ""
    return write_evidence(ranked.evidence.take(rows))


def _disk_reads() -> int:
    """Return how often this thread (where the system does not tell, this process) waited for a page from the disk."""
    return resource.getrusage(getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)).ru_majflt


def _findable(allowed: Sieve, distinct_product: bool) -> int:
    """Return how many results there are to page through: products, or distinct pictures."""
    return allowed.products if distinct_product else allowed.entries


def _find_subject(detector: Detector | None, picture: _Picture, request: SearchRequest) -> _Query:
    """Return what of a picture to search with: the caller's box, the object asked for, the best one, or the whole."""
    pixels, size = picture.pixels, (picture.width, picture.height)
    across, down = pixels.shape[1] / size[0], pixels.shape[0] / size[1]
    detection = detector.detect([pixels])[0] if detector else None
    if request.object_id and detection is None:
        raise InputError("the model in use finds no objects; send a box instead", field="object_id")
    relative = request.box_is_relative and request.box is not None
    box = placed_box(picture.given, size, relative=relative)
    stored, source = scale_box(box, across, down), WHOLE_PHOTO
    if picture.given is not None:
        subject, source = part_of(pixels, stored), CALLER
    elif detector and detection and (found := _detected_box(detection, picture, request)):
        box, stored, source = scale_box(found, 1 / across, 1 / down), found, DETECTED
        subject = detected_part(pixels, found, detector.views)
    else:
        subject = centred_views(pixels) if picture.is_new and request.crop else part_of(pixels, stored)
    return _Query(
        box=box,
        box_source=source,
        stored_box=stored,
        subject=subject,
        objects=found_objects(detection, 1 / across, 1 / down) if detection else (),
        told=opinions(detector, detection) if detector and detection else (),
    )


def _detected_box(detection: Detection, picture: _Picture, request: SearchRequest) -> Box | None:
    """Return the object that was asked for, else the best one; None where the whole picture is to be searched with.

    A catalogue image is searched with what the build took for its subject.
    """
    if request.object_id:
        ids = [str(place) for place in range(len(detection.boxes))]
        if request.object_id not in ids:
            raise InputError(
                f"this picture has the objects {', '.join(ids)}, got {request.object_id!r}", field="object_id"
            )
        return detection.boxes[ids.index(request.object_id)]
    is_whole = not request.crop or (not picture.is_new and has_plain_backdrop(picture.pixels))
    return None if is_whole else detection.boxes[0]


def opinions(detector: Detector, detection: Detection) -> list[Opinion]:
    """Return what the model says of the category; nothing where it knows none."""
    return list(zip(detector.categories, map(float, detection.category_probabilities), strict=True))


def found_objects(detection: Detection, across: float, down: float) -> tuple[FoundObject, ...]:
    """Return what was detected, in a picture that is `across` times as wide and `down` times as high."""
    pairs = zip(detection.boxes, detection.scores, strict=True)
    return tuple(
        FoundObject(str(place), scale_box(box, across, down), score) for place, (box, score) in enumerate(pairs)
    )


def _checked(request: SearchRequest) -> Filter | None:
    if (request.photo is None) == (request.image_of is None):
        raise InputError("need either a photo or the product_id and image_name of a catalogue image", field="image")
    if request.object_id and (request.box is not None or not request.crop):
        raise InputError("need one of object_id, box and crop=false, got several", field="object_id")
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
