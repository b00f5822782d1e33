"""A new index version answers a sample of what was searched lately, before users see it and right after.

The gate says whether a model finds more; the canary whether the version that was built of it works at all, through the
pipeline that users' searches take: the file that does not open, the index whose rows are another model's features, the
preprocessing that differs between build and search, the graph that takes a second.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sameitem.clicks.traffic import recent_photos
from sameitem.core.boxes import scale_box
from sameitem.core.errors import ImageError, NotFoundError
from sameitem.core.photo_store import decode_stored
from sameitem.core.records import CatalogueImage, ContentHash, ImageId
from sameitem.features.colour import has_plain_backdrop
from sameitem.pipeline.online import SearchAnswer, Searcher, SearchRequest
from sameitem.pipeline.shop import Shop

PHOTOS, IMAGES = 60, 100  # asked before the switch: some seconds; a rate of 1 % of images shows
AFTERWARDS = 20  # of each asked after it, when users wait for the word
LEAST = 10  # photos below which shares and times say nothing
SELF_FOUND = 0.99  # of catalogue images find themselves first: features of build and search agree. Pictures that many
# products share cost what they cost the live version too, and one image is forgiven
SLOWER, SLACK_MS = 2.0, 20.0  # a median may be twice the live one's and 20 ms: less is noise of the machine
GOOD_KEPT = (
    0.5  # of the photos with a good match: scores are calibrated for each index, so that half cannot go by chance
)
STRAYED = (
    0.15  # of the photos may find less of what the model and the vote take them for: a broken feature finds anything
)
_SEED = 6
_log = logging.getLogger(__name__)

Hear = Callable[[float], None]  # percent


@dataclass(frozen=True, slots=True)
class Sample:
    """What is asked."""

    photos: tuple[ContentHash, ...]  # of the newest searches
    images: tuple[CatalogueImage, ...]  # of the catalogue, in both galleries

    def part(self, most: int) -> "Sample":
        """Return the first of each."""
        return Sample(self.photos[:most], self.images[:most])


@dataclass(frozen=True, slots=True)
class Figures:
    """What one version answered; shares are 0..1, None where too few were asked."""

    version: str
    photos: int  # that were answered
    images: int
    self_found: float | None  # share of images that find themselves first
    good: float | None  # share of photos whose best score is that of a good match
    in_category: float | None  # share of photos whose first hit is of the category that the photo is taken for
    ms: float | None  # median of a photo's search
    errors: tuple[str, ...]  # different ones


@dataclass(frozen=True, slots=True)
class CanaryReport:
    """What the canary said."""

    passed: bool
    reasons: tuple[str, ...]  # why not
    before: Figures | None  # None: nothing was live
    after: Figures

    def as_json(self) -> dict[str, Any]:
        """Return it for a report."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Answer:
    ms: float
    is_good: bool
    is_in_category: bool


def draw_sample(shop: Shop, version: str) -> Sample:
    """Draw photos of the newest searches that are still kept, and images of an index version."""
    photos = [name for name in recent_photos(shop.database, 10 * PHOTOS) if shop.query_photos.has(name)]
    gallery = Searcher(shop, version).gallery()
    rows = np.flatnonzero(gallery.alive)
    chosen = np.random.default_rng(_SEED).permutation(rows)[:IMAGES]
    ids = [ImageId(int(one)) for one in gallery.index.members.image_ids_of(chosen)]
    listings = shop.catalogue.listings(ids)
    return Sample(tuple(photos[:PHOTOS]), tuple(listings[one][0] for one in ids if one in listings))


def ask_canary(
    shop: Shop, before: str | None, after: str, sample: Sample, *, is_live: bool, hear: Hear
) -> CanaryReport:
    """Ask the sample of two index versions in turn and say whether the later one may answer users.

    Args:
        shop: of both.
        before: the version that is, or was, live; None: there is none, and `after` is measured by itself.
        after: the version in question.
        sample: what is asked.
        is_live: `after` was made live: it is asked as users ask, for whatever is live.
        hear: is told how far it is.
    """
    new = _Asked(shop, after, Searcher(shop) if is_live else Searcher(shop, after))
    old = None if before is None else _Asked(shop, before, Searcher(shop, before))
    versions = [new] if old is None else [old, new]
    total = max(1, len(sample.photos) + len(sample.images))
    hear(0.0)
    if sample.photos:
        for version in versions:
            version.ask_photo(sample.photos[0])  # loads the model: not to be timed
            version.forget()
    for done, photo in enumerate(sample.photos):
        hear(100 * done / total)
        for version in versions:
            version.ask_photo(photo)
    for done, image in enumerate(sample.images, len(sample.photos)):
        hear(100 * done / total)
        for version in versions:
            version.ask_image(image)
    figures = None if old is None else old.figures()
    reasons = tuple(reasons_against(figures, new.figures()))
    return CanaryReport(not reasons, reasons, figures, new.figures())


def reasons_against(before: Figures | None, after: Figures) -> list[str]:
    """Return why a version may not answer users, by what it and the live one answered; [] = it may."""
    reasons = [f"it fails: {error}" for error in after.errors[:3]]
    if after.self_found is not None:
        least = SELF_FOUND if before is None or before.self_found is None else min(SELF_FOUND, before.self_found)
        if after.self_found < least - 1 / after.images - 1e-9:
            reasons.append(
                f"{after.self_found:.1%} of {after.images} catalogue images find themselves first, it takes "
                f"{least:.1%}: the index does not hold what the model makes of a picture"
            )
    if before is None:
        return reasons
    if before.ms is not None and after.ms is not None and after.ms > SLOWER * before.ms + SLACK_MS:
        reasons.append(f"a search takes {after.ms:.0f} ms where the live version takes {before.ms:.0f} ms")
    if before.good is not None and after.good is not None and after.good < GOOD_KEPT * before.good - 1 / after.photos:
        reasons.append(f"{after.good:.0%} of the photos have a good match, {before.good:.0%} in the live version")
    if (
        before.in_category is not None
        and after.in_category is not None
        and after.in_category < before.in_category - STRAYED
    ):
        reasons.append(
            f"for {after.in_category:.0%} of the photos the first hit is of the category that the photo is taken for, "
            f"for {before.in_category:.0%} in the live version"
        )
    return reasons


class _Asked:
    """One version, and what it has answered so far."""

    def __init__(self, shop: Shop, version: str, searcher: Searcher) -> None:
        self._shop, self._version, self._searcher = shop, version, searcher
        self._answers: list[_Answer] = []
        self._found: list[bool] = []
        self._errors: dict[str, None] = {}

    def forget(self) -> None:
        self._answers.clear()

    def ask_photo(self, photo: ContentHash) -> None:
        try:
            encoded = self._shop.query_photos.read(photo)
        except NotFoundError:  # its days are over since
            return
        begun = time.perf_counter()
        answer = self._search(SearchRequest(photo=encoded))
        ms = 1e3 * (time.perf_counter() - begun)
        if answer is not None:
            best = answer.results[0] if answer.results else None
            self._answers.append(
                _Answer(
                    ms,
                    is_good=best is not None and best.score >= answer.good_match,
                    is_in_category=best is not None and best.category_id == answer.category_id,
                )
            )

    def ask_image(self, image: CatalogueImage) -> None:
        """Search by looks with the picture of a catalogue image, its subject taken as builds take it."""
        try:
            encoded = self._shop.photos.read(image.content_hash)
            is_plain = has_plain_backdrop(decode_stored(encoded))
        except (NotFoundError, ImageError):
            return
        box = None if image.box is None else scale_box(image.box, 1 / image.width, 1 / image.height)
        request = SearchRequest(
            photo=encoded,
            box=box,
            box_is_relative=box is not None,
            crop=box is not None or not is_plain,
            distinct_product=False,
            num=1,
            rerank=False,
        )
        answer = self._search(request)
        if answer is not None:
            found = {
                product
                for result in answer.results
                for product in (result.product.product_id, *(listing.product_id for listing in result.duplicates))
            }
            self._found.append(image.product_id in found)

    def figures(self) -> Figures:
        answers = self._answers
        enough = len(answers) >= LEAST
        return Figures(
            version=self._version,
            photos=len(answers),
            images=len(self._found),
            self_found=float(np.mean(self._found)) if self._found else None,
            good=float(np.mean([one.is_good for one in answers])) if enough else None,
            in_category=float(np.mean([one.is_in_category for one in answers])) if enough else None,
            ms=float(np.median([one.ms for one in answers])) if enough else None,
            errors=tuple(self._errors),
        )

    def _search(self, request: SearchRequest) -> SearchAnswer | None:
        try:
            answer = self._searcher.search(request, record=False)
        except Exception as error:  # whatever would be an error for a user is what is looked for
            _log.warning("index %s failed under the canary", self._version, exc_info=True)
            self._errors[f"{type(error).__name__}: {error}"] = None
            return None
        if answer.index_version != self._version:
            self._errors[f"index {answer.index_version} answers instead"] = None
        return answer
