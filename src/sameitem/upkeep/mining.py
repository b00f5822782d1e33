"""A shop's click log to triplets: the distances of its models and of local features, given to `clicks.triplets`.

The log is read once and never held: pictures are embedded a block of sessions at a time, and what was computed is kept,
so that an interrupted run begins again without paying twice. A catalogue image is embedded as builds do it, and its
feature kept where theirs are; a photo as serving does it, and kept apart: the same picture may be both.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sameitem.clicks.fused_distance import MIN_PAIRS, FusedDistance, LocalCheck, Term, feature_distance
from sameitem.clicks.log import Session
from sameitem.clicks.triplet_file import write_triplets
from sameitem.clicks.triplets import (
    Distance,
    Distances,
    MiningReport,
    MiningRules,
    Picture,
    Tally,
    compared,
    mine,
    photo_of,
)
from sameitem.core.errors import ImageError, InputError, NotFoundError
from sameitem.core.records import Box, ContentHash, ImageId, Pixels
from sameitem.core.settings import MiningSettings
from sameitem.features.cache import FeatureCache
from sameitem.features.colour import describe_colour
from sameitem.features.detect import SAME_OBJECT, Detector
from sameitem.features.embed import Embedder
from sameitem.features.preprocess import crop
from sameitem.features.subject import Subject, catalogue_subjects, centred_views, detected_part, part_of, user_subjects
from sameitem.matching.rootsift import LocalFeatures, detect
from sameitem.matching.similarity import is_same, verify_features
from sameitem.metrics.boxes import iou
from sameitem.pipeline.generations import read_generations
from sameitem.pipeline.shop import Shop

TRIPLETS = "triplets.parquet"  # in the shop's folder, unless another place is named
LEAST_IMAGES = 11  # different ones, so that there are `MIN_PAIRS` pairs of two
RANDOM_PHOTOS, RANDOM_IMAGES = 1000, 2000  # whose distances tell how far random pairs are apart
_BLOCK_SESSIONS = 256  # whose pictures are looked up and embedded together ...
_BLOCK_PICTURES = 4096  # ... as long as they have no more pictures
_ANCHORS = 100  # whose distances to all random images are computed together
_KEPT_LOCAL = 256  # pictures whose local features are at hand, 0.5 MB each
_WHOLE = 0.5  # largest share that a rank may become in a tiny gallery

Hear = Callable[[float, Mapping[str, int]], None]  # percent, counts
Choose = Callable[[Pixels, Box | None], Subject]  # what of a picture is embedded


@dataclass(frozen=True, slots=True)
class Mined:
    """The file that was written, and what was believed of whom."""

    file: Path
    report: MiningReport
    models: tuple[str, ...]  # whose features were fused
    images: int  # of the catalogue: what the ranks of the settings are ranks among
    same_item: float  # the thresholds that were used, shares of random pairs
    other_item: float

    def as_json(self) -> dict[str, Any]:
        """Return the keys of the command line's contract."""
        report = self.report
        return {
            "sessions": report.sessions,
            "triplets": report.triplets,
            "dropped": dict(report.dropped_sessions),
            "used": report.used_sessions,
            "clicks": report.clicks,
            "used_clicks": report.used_clicks,
            "dropped_clicks": dict(report.dropped_clicks),
            "non_clicks": report.non_clicks,
            "used_non_clicks": report.used_non_clicks,
            "dropped_non_clicks": dict(report.dropped_non_clicks),
            "file": str(self.file),
            "models": list(self.models),
            "images": self.images,
            "same_item": self.same_item,
            "other_item": self.other_item,
        }


def mine_shop(shop: Shop, out: Path, *, versions: Sequence[str] | None = None, hear: Hear) -> Mined:
    """Write the triplets of a shop's click log.

    Args:
        shop: its catalogue, log, photos and models.
        out: Parquet file; one of that name is replaced when the new one is whole.
        versions: models whose features are fused; None = `fused_models`.
        hear: is told how far it is; may raise to stop, which leaves an earlier file as it is.

    Raises:
        InputError: the log or the catalogue is too small to tell near from far.
        NotFoundError: there is no such model version.
    """
    settings, images = shop.settings.mining, shop.catalogue.counts().images
    models = tuple(fused_models(shop) if versions is None else versions)
    rules = mining_rules(settings, images)
    pictures = _Pictures(shop)
    sources = [_source(shop, version, pictures) for version in models]
    hear(0.0, {})
    photos, listed = _random_pictures(shop, np.random.default_rng(0))
    _check_enough(photos, listed)
    local = _local_check(pictures, rules, settings, images)
    for source in sources:
        source.hold(photos, listed)
    of_photos = tuple(_term(source.version, source.photo_to_image, photos, listed) for source in sources)
    of_images = tuple(
        _term(source.version, source.image_to_image, listed[:RANDOM_PHOTOS], listed) for source in sources
    )
    distances = Distances(
        to_clicked=FusedDistance(of_photos, local),
        to_others=FusedDistance(of_photos),
        between_images=FusedDistance(of_images),
    )
    tally = Tally()
    triplets = mine(
        _prepared(shop.clicks.sessions(), rules, pictures, sources, _hearing(hear, shop.clicks.count(), tally)),
        distances,
        pictures_of=pictures.of,
        rules=rules,
        tally=tally,
    )
    report = write_triplets(out, triplets, tally)
    return Mined(out, report, models, images, rules.same_item, rules.other_item)


def fused_models(shop: Shop) -> tuple[str, ...]:
    """Return the active model, the one before it, and the base model whose feature is general; each once.

    The one before is left out where its folder was deleted, and first of all where `mining.models` says fewer.
    """
    generations = read_generations(shop.models_root, start=shop.settings.model.active)
    before = [version for version in generations.previous[:1] if _is_there(shop, version)]
    ours = (generations.version, *before)[: shop.settings.mining.models - 1]
    return tuple(dict.fromkeys((*ours, shop.base_embedder.version)))


def _is_there(shop: Shop, version: str) -> bool:
    try:
        shop.model_folder(version)
    except NotFoundError:
        return False
    return True


def mining_rules(settings: MiningSettings, images: int) -> MiningRules:
    """Return the rules for a catalogue of so many images: a rank among them becomes a share of random pairs."""
    return MiningRules(
        same_item=_share(settings.same_item_rank, images),
        other_item=_share(settings.other_item_rank, images),
        sessions_per_user=settings.sessions_per_user,
        triplets_per_pair=settings.triplets_per_pair,
    )


def _share(rank: float, images: int) -> float:
    return min(_WHOLE, rank / max(1, images))


def _hearing(hear: Hear, total: int, tally: Tally) -> Callable[[], None]:
    def one_more() -> None:
        done = tally.sessions.total()
        hear(min(100.0, 100 * done / max(1, total)), {"sessions": done, "triplets": tally.triplets})

    return one_more


def _check_enough(photos: Sequence[Picture], listed: Sequence[Picture]) -> None:
    different = len({image.content_hash for image in listed})
    if different < LEAST_IMAGES:
        raise InputError(
            f"need at least {LEAST_IMAGES} different catalogue images to tell near from far, got {different}; import "
            "more: `sameitem import SOURCE`"
        )
    if len(photos) * len(listed) < MIN_PAIRS:
        raise InputError(
            f"need at least {MIN_PAIRS} pairs of a searched photo and a catalogue image to tell near from far, got "
            f"{len(photos)} photo(s) that are kept and {len(listed)} image(s); collect more searches "
            "(search.photo_days > 0), or import a log: `sameitem import-clicks FILE`"
        )


# ---- what the log's pictures are ----


@dataclass(slots=True)
class _Pictures:
    """The catalogue images of the block that is mined, and the pixels of any picture that is kept."""

    shop: Shop
    block: dict[ImageId, Picture] = field(default_factory=dict)

    def hold(self, image_ids: Sequence[ImageId]) -> None:
        listings = self.shop.catalogue.listings(image_ids)
        self.block = {image.image_id: Picture(image.content_hash, image.box) for image, _ in listings.values()}

    def of(self, image_ids: Sequence[ImageId]) -> dict[ImageId, Picture]:
        return {image_id: self.block[image_id] for image_id in image_ids if image_id in self.block}

    def is_kept(self, content_hash: ContentHash) -> bool:
        stores = (self.shop.photos, self.shop.query_photos)
        return bool(content_hash) and any(store.has(content_hash) for store in stores)

    def pixels(self, picture: Picture) -> Pixels | None:
        """Return the whole of a picture's photo; None where it is gone or damaged, or its box lies outside."""
        for store in (self.shop.photos, self.shop.query_photos):  # a logged photo may be one of the catalogue
            try:
                pixels = store.pixels(picture.content_hash)
                if picture.box is not None:
                    crop(pixels, picture.box)  # a log made elsewhere may say anything
                return pixels
            except NotFoundError:
                continue
            except (ImageError, InputError):
                return None
        return None


def _random_pictures(shop: Shop, generator: np.random.Generator) -> tuple[list[Picture], list[Picture]]:
    """Return random photos of the log that are kept, and random images of the catalogue."""
    pictures = _Pictures(shop)
    logged = shop.clicks.some_searches(2 * RANDOM_PHOTOS, generator)  # some are searched with again, or gone
    photos = dict.fromkeys(photo_of(search) for search in logged if pictures.is_kept(ContentHash(search.photo_hash)))
    total = shop.catalogue.counts().images
    rows = set(generator.choice(total, min(total, RANDOM_IMAGES), replace=False).tolist()) if total else set()
    images = (image for batch in shop.catalogue.scan() for image, _ in batch)
    chosen = [Picture(image.content_hash, image.box) for row, image in enumerate(images) if row in rows]
    return list(photos)[:RANDOM_PHOTOS], chosen


def _prepared(
    sessions: Iterator[Session],
    rules: MiningRules,
    pictures: _Pictures,
    sources: Sequence["_Source"],
    one_more: Callable[[], None],
) -> Iterator[Session]:
    """Yield the sessions, having looked up and embedded what a block of them compares before its first."""
    block: list[Session] = []
    wanted: dict[ImageId, None] = {}

    def ready() -> Iterator[Session]:
        pictures.hold(list(wanted))
        photos = [photo_of(session.search) for session in block if compared(session, rules)]
        for source in sources:
            source.hold(photos, list(pictures.block.values()))
        for session in block:
            one_more()
            yield session

    for session in sessions:
        block.append(session)
        wanted |= dict.fromkeys(place.image_id for place in compared(session, rules))
        if len(block) >= _BLOCK_SESSIONS or len(wanted) >= _BLOCK_PICTURES:
            yield from ready()
            block, wanted = [], {}
    yield from ready()
    one_more()


# ---- how far they are apart ----


class _Features:
    """Unit features of pictures by one model: of the block, else from the cache, else computed and put there."""

    def __init__(self, embedder: Embedder, cache: FeatureCache, choose: Choose, pictures: _Pictures) -> None:
        self._embedder = embedder
        self._cache = cache
        self._choose = choose
        self._pictures = pictures
        self._block: dict[Picture, NDArray[np.float32]] = {}

    def hold(self, pictures: Sequence[Picture]) -> None:
        """Keep the features of these pictures at hand, and forget the others."""
        wanted = list(dict.fromkeys(pictures))
        self._block = dict(zip(wanted, self._find(wanted), strict=True))

    def of(self, pictures: Sequence[Picture]) -> NDArray[np.float32]:
        """Return (pictures, dim) rows, NaN where a photo is not kept any more."""
        missing = list(dict.fromkeys(picture for picture in pictures if picture not in self._block))
        self._block |= dict(zip(missing, self._find(missing), strict=True))
        return np.stack([self._block[picture] for picture in pictures])

    def _find(self, pictures: Sequence[Picture]) -> NDArray[np.float32]:
        rows = np.full((len(pictures), self._embedder.dim), np.nan, np.float32)
        kept = [row for row, picture in enumerate(pictures) if self._pictures.is_kept(picture.content_hash)]
        keys = [(pictures[row].content_hash, pictures[row].box) for row in kept]
        known = self._cache.get(keys)
        rows[[kept[position] for position in known.positions]] = known.features
        missing = np.delete(np.arange(len(kept)), known.positions)
        for start in range(0, len(missing), _BLOCK_SESSIONS):
            part = [kept[position] for position in missing[start : start + _BLOCK_SESSIONS]]
            read = {row: pixels for row in part if (pixels := self._pictures.pixels(pictures[row])) is not None}
            if not read:
                continue
            subjects = [self._choose(pixels, pictures[row].box) for row, pixels in read.items()]
            found = self._embedder.embed_views([subject.views for subject in subjects])
            rows[list(read)] = found
            colours = np.stack([describe_colour(subject.pixels) for subject in subjects])
            self._cache.put([(pictures[row].content_hash, pictures[row].box) for row in read], found, colours)
        return rows


@dataclass(frozen=True, slots=True)
class _Source:
    """How one model sees photos and catalogue images."""

    version: str
    photos: _Features
    images: _Features

    @property
    def photo_to_image(self) -> Distance:
        return feature_distance(self.photos.of, self.images.of)

    @property
    def image_to_image(self) -> Distance:
        return feature_distance(self.images.of, self.images.of)

    def hold(self, photos: Sequence[Picture], images: Sequence[Picture]) -> None:
        """Keep the features of these at hand, and forget the others."""
        self.photos.hold(photos)
        self.images.hold(images)


def _source(shop: Shop, version: str, pictures: _Pictures) -> _Source:
    embedder, detector = shop.embedder(version), shop.detector(version)
    of_photos = FeatureCache(shop.photo_features_root, embedder.version, embedder.dim)
    return _Source(
        embedder.version,
        photos=_Features(embedder, of_photos, partial(searched_subject, detector=detector), pictures),
        images=_Features(embedder, shop.cache(embedder), partial(listed_subject, detector=detector), pictures),
    )


def listed_subject(pixels: Pixels, box: Box | None, *, detector: Detector | None) -> Subject:
    """Return what of a catalogue image builds embed: the shop's part of it, else what the model chooses."""
    return catalogue_subjects([pixels], detector)[0] if box is None else part_of(pixels, box)


def searched_subject(pixels: Pixels, box: Box | None, *, detector: Detector | None) -> Subject:
    """Return what of a photo serving embeds.

    The log does not say who chose the box: an object that the model sees, too, was found by a model of the shop, this
    one or another; any other box was given.
    """
    if box is None:
        return user_subjects([pixels], detector)[0]
    around = np.array([(box.left, box.top, box.right, box.bottom)])
    if detector is not None:
        seen = detector.detect([pixels])[0].boxes
        boxes = np.array([(one.left, one.top, one.right, one.bottom) for one in seen])
        is_seen = iou(boxes, around).max() > SAME_OBJECT
        return detected_part(pixels, box, detector.views) if is_seen else part_of(pixels, box)
    is_whole = np.abs(around - [(0, 0, pixels.shape[1], pixels.shape[0])]).max() < 1
    return centred_views(pixels) if is_whole else part_of(pixels, box)


def _term(version: str, distance: Distance, anchors: Sequence[Picture], images: Sequence[Picture]) -> Term:
    """Return the distance by one model, and how far random pairs are apart by it; a picture is no pair with itself."""
    ours, theirs = (np.array([picture.content_hash for picture in pictures]) for pictures in (anchors, images))
    found = []
    for start in range(0, len(anchors), _ANCHORS):
        rows = slice(start, start + _ANCHORS)
        apart = distance(anchors[rows], images)
        found.append(apart[~np.isnan(apart) & (ours[rows, None] != theirs)])
    pairs = np.sort(np.concatenate(found))
    if len(pairs) < MIN_PAIRS:
        raise InputError(
            f"need at least {MIN_PAIRS} pairs of different pictures to tell near from far, got {len(pairs)} that model "
            f"{version} could compare, of {len(anchors)} and {len(images)} pictures; import again what is missing or "
            "damaged in images/ and query-photos/, or collect more"
        )
    return Term(version, distance, pairs)


def _local_check(pictures: _Pictures, rules: MiningRules, settings: MiningSettings, images: int) -> LocalCheck | None:
    """Return the look at local features of clicked images too far from the photo to be believed; None: it is off."""
    below = _share(settings.local_check_rank, images)
    if below <= rules.same_item:
        return None

    @lru_cache(_KEPT_LOCAL)
    def local(picture: Picture) -> tuple[LocalFeatures, int] | None:
        pixels = pictures.pixels(picture)
        if pixels is None:
            return None
        part = pixels if picture.box is None else crop(pixels, picture.box)
        return detect(part), max(part.shape[:2])

    def inliers(one: Picture, other: Picture) -> int:
        a, b = local(one), local(other)
        if a is None or b is None:
            return 0
        found = verify_features(a[0], b[0], side_a_px=a[1], side_b_px=b[1])
        return int(is_same(found.inliers, found.matches))

    return LocalCheck(inliers, same_from=1, above=rules.same_item, below=below)
