"""Features and colours of catalogue images: from the cache, else computed and put there."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sameitem.core.errors import ImageError, NotFoundError
from sameitem.core.photo_store import PhotoStore
from sameitem.core.records import Box, CatalogueImage, ContentHash, Pixels
from sameitem.engine.build import COLOUR_BINS
from sameitem.features.cache import FeatureKey
from sameitem.features.colour import describe_colour
from sameitem.features.detect import Detector
from sameitem.features.embed import Embedder
from sameitem.features.subject import Subject, catalogue_subjects, part_of
from sameitem.pipeline.shop import Shop

NO_PICTURE: Pixels = np.zeros((1, 1, 3), np.uint8)


@dataclass(frozen=True, slots=True, eq=False)
class Extracted:
    """What is known of some images; row i belongs to image i."""

    features: NDArray[np.float32]  # (images, dim)
    colours: NDArray[np.float32]  # (images, 24)
    known: NDArray[np.bool_]  # (images,) whether the two rows above hold anything
    readable: NDArray[np.bool_]  # (images,) false where the photo is missing or damaged


def extract(
    shop: Shop,
    embedder: Embedder,
    images: Sequence[CatalogueImage],
    pool: ThreadPoolExecutor,
    *,
    compute: int | None = None,
) -> Extracted:
    """Return the features of images, of which photos and pixels fit into memory.

    An image is kept under its photo and the shop's box. Without a box the model chooses the subject, the same for a
    photo each time: that choice needs no key of its own.

    Args:
        shop: whose photos and cache.
        embedder: of the model.
        images: a few hundred at most.
        pool: decodes them.
        compute: how many that the cache does not hold; None: all. The others stay unknown.
    """
    features = np.zeros((len(images), embedder.dim), np.float32)
    colours = np.zeros((len(images), COLOUR_BINS), np.float32)
    readable = np.array([shop.photos.has(image.content_hash) for image in images], np.bool_)  # else not to be shown
    cache = shop.cache(embedder)
    keys: list[FeatureKey] = [(image.content_hash, image.box) for image in images]
    cached = cache.get(keys)
    features[cached.positions], colours[cached.positions] = cached.features, cached.colours
    known = np.zeros(len(images), np.bool_)
    known[cached.positions] = True
    missing = np.flatnonzero(~known & readable)[:compute]
    if len(missing) == 0:
        return Extracted(features, colours, known, readable)
    pictures = list(pool.map(lambda row: picture(shop.photos, images[row].content_hash), missing))
    lost = np.array([one is NO_PICTURE for one in pictures])
    readable[missing[lost]] = False
    rows = missing[~lost]
    if len(rows):
        read = [one for one in pictures if one is not NO_PICTURE]
        subjects = _subjects(read, [images[row].box for row in rows], shop.detector(embedder.version))
        features[rows] = embedder.embed_views([subject.views for subject in subjects])
        colours[rows] = np.stack(list(pool.map(lambda subject: describe_colour(subject.pixels), subjects)))
        cache.put([keys[row] for row in rows], features[rows], colours[rows])
        known[rows] = True
    return Extracted(features, colours, known, readable)


def picture(photos: PhotoStore, content_hash: ContentHash) -> Pixels:
    """Return a stored photo; one black pixel, which looks like nothing else, where it is missing or damaged."""
    try:
        return photos.pixels(content_hash)
    except (NotFoundError, ImageError):
        return NO_PICTURE


def _subjects(pictures: Sequence[Pixels], boxes: Sequence[Box | None], detector: Detector | None) -> Sequence[Subject]:
    """Return the shop's part of each picture that has one, else what the model takes for its subject."""
    chosen = iter(catalogue_subjects([p for p, box in zip(pictures, boxes, strict=True) if box is None], detector))
    return [next(chosen) if box is None else part_of(one, box) for one, box in zip(pictures, boxes, strict=True)]
