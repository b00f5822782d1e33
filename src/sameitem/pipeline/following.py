"""Keeps an opened gallery up with the catalogue, by the catalogue's change log.

What is deleted or told anew about a product is taken in at once, by whoever searches next (`refresh`). A new picture
needs its feature first: it waits until one is known, and `take_in` adds it. Nothing of this is written down: the change
log and the features are, and whoever opens the gallery again follows them again.
"""

import logging
from collections.abc import Sequence
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

COMPUTED = 16  # pictures whose features are computed at once: others wait no longer than that
LOOKED_UP = 256  # pictures whose features are looked up at once
_log = logging.getLogger(__name__)

Pair = tuple[CatalogueImage, Product]


def refresh(gallery: Gallery, catalogue: Catalogue) -> None:
    """Take in what was deleted and what is new about products, and note which pictures are to be added."""
    with gallery.lock:
        while changes := catalogue.changes_since(gallery.seq):
            _take_changes(gallery, catalogue, changes)
            gallery.seq = changes[-1].seq


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
    gallery.remove(gone)
    touched = {change.product_id for change in changes if change.kind == "attributes" and change.image_id is None}
    known = sorted(product_id for product_id in touched if gallery.products.row_of(product_id) is not None)
    gallery.change(list(catalogue.products(known)))


def take_in(shop: Shop, gallery: Gallery, pool: ThreadPoolExecutor, now: datetime, *, compute: bool) -> int:
    """Add pictures that wait and whose features are known, and return how many no longer wait.

    Selection's rules for single pictures hold at once. What compares pictures (near-duplicates, further views of a
    product) is left to the next build, which also adds the further views.

    Args:
        shop: the gallery's.
        gallery: that was refreshed.
        pool: decodes photos.
        now: products that expired before are left out.
        compute: the features of the first few that are not known; False: these go on waiting.
    """
    waiting = dict(list(gallery.pending.items())[: COMPUTED if compute else None])
    done = 0
    for start in range(0, len(waiting), LOOKED_UP):
        ids = list(waiting)[start : start + LOOKED_UP]
        listings = shop.catalogue.listings(ids)
        decided = _decide(shop, list(listings.values()), now)
        wanted = [listings[decision.image_id] for decision in decided if decision.status is Status.GALLERY]
        added, unreadable = _add(shop, gallery, wanted, waiting, pool, compute=compute)
        left_out = set(ids) - {image.image_id for image, _ in wanted} | unreadable
        with gallery.lock:
            final = [one for one in left_out | added if gallery.pending.get(one) == waiting[one]]  # nothing new since
            gallery.remove([image_id for image_id in final if image_id in left_out])
            gallery.left_out |= {one.image_id: one for one in decided if one.status is Status.SET_ASIDE}
            for image_id in final:
                del gallery.pending[image_id]
        done += len(left_out) + len(added)
    return done


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
    compute: bool,
) -> tuple[set[ImageId], set[ImageId]]:
    """Add what is known of the wanted ones, and return which were added and which cannot be read."""
    images, embedder = [image for image, _ in wanted], shop.embedder(gallery.model_version)
    found = extract(shop, embedder, images, pool, compute=compute)
    general, has_general = found.features, found.known
    untold = np.array([not shop.taxonomy.top_of(product.category) for _, product in wanted], np.bool_)
    base = shop.base_embedder
    if gallery.reference is not None and base.version != embedder.version and untold.any():
        told = extract(shop, base, images, pool, compute=compute)
        general, has_general = told.features, told.known
    ready = found.known & found.readable & (has_general | ~untold | (gallery.reference is None))
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


def _tops(shop: Shop, gallery: Gallery, products: Sequence[Product], general: NDArray[np.float32]) -> list[str]:
    """Return top category ids: of the product's own category, else the reference set's vote, else "others"."""
    tops = []
    for row, product in enumerate(products):
        top = shop.taxonomy.top_of(product.category)
        if not top and gallery.reference is not None and general[row].any():
            top = gallery.vote(general[row], shop.settings.category)[0][0]
        tops.append(top or OTHERS)
    return tops
