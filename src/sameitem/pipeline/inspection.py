"""What an operator wants to see of a shop: pictures that were dropped, duplicate groups, where an image is, misses.

Everything is read a page at a time, however large the shop is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sameitem.catalog.selection import Reason, Status
from sameitem.clicks.figures import FIRST_PAGE, LoggedSearch
from sameitem.core.errors import ImageError, InputError, NotFoundError, UnavailableError
from sameitem.core.records import CatalogueImage, ContentHash, ImageId, Product
from sameitem.engine.versions import list_versions
from sameitem.pipeline.gallery import Gallery, Listing
from sameitem.pipeline.listings import DECISIONS, find_rows
from sameitem.pipeline.online import Result, Searcher, SearchRequest
from sameitem.pipeline.shop import Shop

MOST_SHOWN = 24  # members of a group that are named

Place = Literal["gallery", "duplicate", "set_aside", "waiting", "unknown"]


@dataclass(frozen=True, slots=True)
class Member:
    """A listed image of a group, with its product as the gallery knows it."""

    image_id: ImageId
    image_name: str
    product: Product


@dataclass(frozen=True, slots=True)
class Group:
    """Listed images that show nearly the same picture; the first represents them in the index."""

    size: int
    products: int
    members: tuple[Member, ...]  # at most `MOST_SHOWN`, the representative first


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """What became of a catalogue image in the live gallery."""

    place: Place
    reason: str = ""  # a `Reason`; "" = there is none
    detail: str = ""  # the measured value against its bound
    represented_by: Listing | None = None  # whose picture stands for it, where that is another one


@dataclass(frozen=True, slots=True)
class AskedAgain:
    """A search of the log, answered by the live index now."""

    search: LoggedSearch
    rank: int | None  # of the first clicked product; None = not among the first
    results: tuple[Result, ...]


def dropped_images(
    shop: Shop, version: str, reason: str, *, start: int, limit: int
) -> tuple[int, list[dict[str, Any]]]:
    """Return how many images a version's selection dropped or folded for a reason, and a page of them.

    Raises:
        NotFoundError: there is no such version.
        InputError: there is no such reason.
    """
    if version not in list_versions(shop.index_root):
        raise NotFoundError(f"no index version {version!r}; see `sameitem index list`")
    if reason not in list(Reason):
        raise InputError(f"need a reason of {', '.join(Reason)}, got {reason[:80]!r}", field="reason")
    return find_rows(shop.index_root / version / DECISIONS, "reason", [reason], start=start, limit=limit)


def duplicate_groups(gallery: Gallery, *, start: int, limit: int) -> tuple[int, list[Group]]:
    """Return how many groups of near-duplicates a gallery has, and a page of them, the largest first."""
    with gallery.lock:
        members = gallery.index.members
        alive = gallery.alive[: len(members.entry)].copy()
    sizes = np.bincount(members.entry[alive], minlength=len(members.entry_image_id))
    groups = np.flatnonzero(sizes > 1)
    page = groups[np.argsort(-sizes[groups], kind="stable")][start : start + limit]
    return len(groups), [_group(gallery, int(entry), alive) for entry in page]


def _group(gallery: Gallery, entry: int, alive: NDArray[np.bool_]) -> Group:
    members = gallery.index.members
    span = members.rows_of(entry)
    rows = np.arange(span.start, span.stop)[alive[span]]
    first = members.image_id[rows] == members.entry_image_id[entry]
    rows = rows[np.argsort(~first, kind="stable")]
    products = members.products_of(rows)
    shown = [
        Member(
            image_id=ImageId(int(members.image_id[row])),
            image_name=gallery.member_names[row],
            product=gallery.products.rows[product],
        )
        for row, product in zip(rows[:MOST_SHOWN].tolist(), products[:MOST_SHOWN].tolist(), strict=True)
    ]
    return Group(len(rows), len(np.unique(products)), tuple(shown))


def find_images(shop: Shop, gallery: Gallery | None, images: Sequence[CatalogueImage]) -> list[Whereabouts]:
    """Return for each image whether it can be found in the live gallery, and why not."""
    if gallery is None:
        return [Whereabouts("unknown")] * len(images)
    ids = [image.image_id for image in images]
    path = shop.index_root / gallery.version / DECISIONS
    _, rows = find_rows(path, "image_id", ids, limit=len(ids))
    decided = {row["image_id"]: row for row in rows}
    return [_whereabouts(gallery, image_id, decided.get(image_id)) for image_id in ids]


def _whereabouts(gallery: Gallery, image_id: ImageId, decided: dict[str, Any] | None) -> Whereabouts:
    if image_id in gallery.pending:
        return Whereabouts("waiting")
    row = gallery.member_of(image_id)
    if row is not None:
        members = gallery.index.members
        entry = int(members.entries_of(np.array([row]))[0])
        leader = int(members.representatives(np.array([entry]))[0])
        if leader == row or not gallery.alive[leader]:
            return Whereabouts("gallery")
        return Whereabouts("duplicate", Reason.NEAR_DUPLICATE.value, represented_by=gallery.listing(leader))
    left_out = gallery.left_out.get(image_id)
    if left_out is not None:
        return Whereabouts("set_aside", left_out.reason or "", left_out.detail)
    if decided is not None and decided["status"] == Status.SET_ASIDE:
        return Whereabouts("set_aside", decided["reason"], decided["detail"])
    return Whereabouts("unknown")


def ask_again(shop: Shop, searcher: Searcher, searches: Sequence[LoggedSearch]) -> list[AskedAgain]:
    """Ask the live index for the photos of some searches; those whose photo is gone are left out.

    The photo is searched whole, as the gate does it: a box that a shopper drew belongs to another search.

    Raises:
        UnavailableError: nothing was published yet.
    """
    answers: list[AskedAgain] = []
    for search in searches:
        try:
            photo = shop.query_photos.read(ContentHash(search.photo_hash))
            found = searcher.search(SearchRequest(photo=photo, num=FIRST_PAGE), record=False)
        except (NotFoundError, ImageError):
            continue
        wanted = set(search.clicked)
        ranks = [
            result.rank
            for result in found.results
            if wanted & {result.product.product_id, *(listing.product_id for listing in result.duplicates)}
        ]
        answers.append(AskedAgain(search, min(ranks, default=None), found.results))
    return answers


def live_gallery(searcher: Searcher) -> Gallery | None:
    """Return the live gallery; None where nothing is published."""
    try:
        return searcher.gallery()
    except UnavailableError:
        return None
