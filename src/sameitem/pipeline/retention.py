"""What is kept for how long: searches and events, query photos, and catalogue photos that nothing shows any more."""

from dataclasses import dataclass

from sameitem.clicks.log import DAY_S
from sameitem.clicks.removal import remove_before
from sameitem.core.photo_store import PhotoStore
from sameitem.core.records import ContentHash
from sameitem.features.cache import forget_photos
from sameitem.pipeline.shop import Shop


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was too old to be kept."""

    searches: int
    events: int
    photos: int  # that users searched with
    catalogue_photos: int  # that no image shows any more


def prune_shop(shop: Shop, now: float) -> Pruned:
    """Delete what is past its days at a time, seconds since 1970.

    Whole days in UTC are deleted, since counts are made of whole days.

    Raises:
        UnavailableError: the database does not answer.
    """
    begin = (now // DAY_S - shop.settings.clicks.keep_days) * DAY_S
    removed = remove_before(shop.database, begin)
    photos = _older(shop.query_photos, now - shop.settings.search.photo_days * DAY_S)
    for name in photos:
        shop.query_photos.delete(name)
    forget_photos(shop.photo_features_root, photos)
    return Pruned(removed.searches, removed.events, len(photos), _prune_catalogue(shop, now))


def _prune_catalogue(shop: Shop, now: float) -> int:
    """Delete photos that no image shows.

    A photo is stored before the image that shows it is written, so a young one may have its image yet to come.
    """
    old = _older(shop.photos, now - DAY_S)
    used = shop.catalogue.hashes_in_use(old)
    unused = [name for name in old if name not in used]
    for name in unused:
        shop.photos.delete(name)
    return len(unused)


def _older(store: PhotoStore, than: float) -> list[ContentHash]:
    """Return the photos that were stored before a time; one that goes away meanwhile is none of them."""
    found = []
    for name in store.hashes():
        try:
            if store.path(name).stat().st_mtime < than:
                found.append(name)
        except FileNotFoundError:
            continue
    return found
