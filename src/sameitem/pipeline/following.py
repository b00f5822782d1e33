"""Keeps an opened gallery up with the catalogue, by the catalogue's change log.

What is deleted or told anew about a product is taken in at once, by whoever searches next (`refresh`). A new picture
needs its feature first: it waits until one is known, and `take_in` adds it. Nothing of this is written down: the change
log and the features are, and whoever opens the gallery again follows them again.
"""

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from sameitem.catalog.selection import Decision, Status, select
from sameitem.catalog.store import Catalogue, Change
from sameitem.catalog.taxonomy import OTHERS
from sameitem.core.records import CatalogueImage, ImageId, Product
from sameitem.pipeline.extraction import extract
from sameitem.pipeline.gallery import Gallery, NewMember
from sameitem.pipeline.shop import Shop

CHANGES = 10_000  # of the change log that are read at once
COMPUTED = 16  # pictures whose features are computed at once: others wait no longer than that
LOOKED_UP = 256  # pictures whose features are looked up at once; of more, those that wait longest and shortest
_log = logging.getLogger(__name__)

Pair = tuple[CatalogueImage, Product]


def refresh(gallery: Gallery, catalogue: Catalogue) -> None:
    """Take in what was deleted and what is new about products, and note which pictures are to be added."""
    is_more = True
    while is_more and (changes := catalogue.changes_since(gallery.seq, limit=CHANGES)):
        is_more = len(changes) == CHANGES
        with gallery.lock:
            if new := [change for change in changes if change.seq > gallery.seq]:  # nobody else took them in meanwhile
                _take_changes(gallery, catalogue, new)
                gallery.seq = new[-1].seq


def _take_changes(gallery: Gallery, catalogue: Catalogue, changes: Sequence[Change]) -> None:
    gone: list[ImageId] = []
    for change in changes:
        if change.image_id is None:
            continue
        if change.kind == "delete":
            gone.append(change.image_id)
            gallery.pending.pop(change.image_id, None)
        elif change.kind in ("add", "photo"):
            gallery.pending[change.image_id] = change.seq
    if gone:
        gallery.remove(gone)
    touched = {change.product_id for change in changes if change.kind == "attributes" and change.image_id is None}
    known = sorted(product_id for product_id in touched if gallery.products.row_of(product_id) is not None)
    if known:
        gallery.change(list(catalogue.products(known)))


def take_in_all(shop: Shop, gallery: Gallery, pool: ThreadPoolExecutor, now: datetime) -> None:
    """Add all pictures that wait and whose features are known; see `take_in`."""
    waiting = list(gallery.pending)
    for start in range(0, len(waiting), LOOKED_UP):
        _take(shop, gallery, waiting[start : start + LOOKED_UP], pool, now, compute=0)


def take_in(shop: Shop, gallery: Gallery, pool: ThreadPoolExecutor, now: datetime, *, compute: bool) -> int:
    """Add some of the pictures that wait and whose features are known, and return how many no longer wait.

    Selection's rules for single pictures hold at once. What compares pictures (near-duplicates, further views of a
    product) is left to the next build, which also adds the further views.

    Args:
        shop: the gallery's.
        gallery: that was refreshed.
        pool: decodes photos.
        now: products that expired before are left out.
        compute: the features of the first few that are not known; False: these go on waiting.
    """
    waiting = list(gallery.pending)
    if len(waiting) > LOOKED_UP:  # the features of what was written last are often known, those of an import are not
        waiting = [*waiting[: LOOKED_UP // 2], *waiting[-LOOKED_UP // 2 :]]
    return _take(shop, gallery, waiting, pool, now, compute=COMPUTED if compute else 0) if waiting else 0


def _take(
    shop: Shop, gallery: Gallery, ids: Sequence[ImageId], pool: ThreadPoolExecutor, now: datetime, *, compute: int
) -> int:
    with gallery.lock:
        waiting = {image_id: gallery.pending[image_id] for image_id in ids if image_id in gallery.pending}
    listings = shop.catalogue.listings(list(waiting))
    decided = _decide(shop, list(listings.values()), now)
    wanted = [listings[decision.image_id] for decision in decided if decision.status is Status.GALLERY]
    added, unreadable = _add(shop, gallery, wanted, waiting, pool, compute=compute)
    left_out = waiting.keys() - {image.image_id for image, _ in wanted} | unreadable
    with gallery.lock:
        final = [one for one in left_out | added if gallery.pending.get(one) == waiting[one]]  # nothing new since
        if refused := [image_id for image_id in final if image_id in left_out]:
            gallery.remove(refused)
        gallery.left_out |= {one.image_id: one for one in decided if one.status is Status.SET_ASIDE}
        for image_id in final:
            del gallery.pending[image_id]
    return len(left_out) + len(added)


def _decide(shop: Shop, listings: Sequence[Pair], now: datetime) -> list[Decision]:
    rules = shop.settings.selection
    return list(select([pair for pair in listings if pair[0].kind in rules.gallery_kinds], rules, now))


def _add(
    shop: Shop,
    gallery: Gallery,
    wanted: Sequence[Pair],
    waiting: dict[ImageId, int],
    pool: ThreadPoolExecutor,
    *,
    compute: int,
) -> tuple[set[ImageId], set[ImageId]]:
    """Add what is known of the wanted ones, and return which were added and which cannot be read."""
    images, embedder = [image for image, _ in wanted], shop.embedder(gallery.model_version)
    found = extract(shop, embedder, images, pool, compute=compute)
    untold = np.array([not shop.taxonomy.top_of(product.category) for _, product in wanted], np.bool_)
    voters, votes, ready = np.arange(len(images)), found, found.known & found.readable
    if gallery.reference is not None and shop.base_embedder.version != embedder.version:
        voters = np.flatnonzero(untold)
        votes = extract(shop, shop.base_embedder, [images[row] for row in voters], pool, compute=compute)
        ready[voters] &= votes.known
    general = {
        int(row): feature
        for row, feature, is_known in zip(voters, votes.features, votes.known, strict=True)
        if is_known
    }
    tops = _tops(shop, gallery, [product for _, product in wanted], general)
    with gallery.lock:
        rows = [
            row
            for row in np.flatnonzero(ready).tolist()
            if gallery.pending.get(images[row].image_id) == waiting[images[row].image_id]  # not deleted meanwhile
        ]
        members = [NewMember(images[row].image_id, images[row].name, wanted[row][1], tops[row]) for row in rows]
        if members:
            gallery.add(members, found.features[rows], found.colours[rows])
    unreadable = {images[row].image_id for row in np.flatnonzero(~found.readable)}
    if unreadable:
        _log.warning("%d photos of the catalogue are missing or damaged; import them again", len(unreadable))
    return {images[row].image_id for row in rows}, unreadable


def _tops(
    shop: Shop, gallery: Gallery, products: Sequence[Product], general: Mapping[int, NDArray[np.float32]]
) -> list[str]:
    """Return top category ids: of the product's own category, else the reference set's vote, else "others"."""
    tops = []
    for row, product in enumerate(products):
        top = shop.taxonomy.top_of(product.category)
        if not top and gallery.reference is not None and row in general:
            top = gallery.vote(general[row], shop.settings.category)[0][0]
        tops.append(top or OTHERS)
    return tops
