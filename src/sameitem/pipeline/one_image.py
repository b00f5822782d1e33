"""One catalogue image at a time: what the REST route stores and says of it, and how it is handed out again."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from PIL import Image

from sameitem.catalog.quality import measure, perceptual_hash
from sameitem.catalog.store import Listing as NewListing
from sameitem.catalog.store import NewImage
from sameitem.core.boxes import scale_box
from sameitem.core.database import write
from sameitem.core.errors import NotFoundError, UnavailableError
from sameitem.core.photo_store import PhotoStore, decode_stored
from sameitem.core.records import (
    Box,
    CatalogueImage,
    ContentHash,
    ImageId,
    ImageKind,
    Pixels,
    Product,
    ProductId,
)
from sameitem.features.colour import describe_colour
from sameitem.features.subject import catalogue_subjects, part_of
from sameitem.pipeline.category import Opinion, predict_category
from sameitem.pipeline.gallery import Listing
from sameitem.pipeline.online import CALLER, FoundObject, Searcher, found_objects, opinions, placed_box
from sameitem.pipeline.shop import Shop


@dataclass(frozen=True, slots=True)
class Understood:
    """A stored image, and what the model makes of it."""

    image: CatalogueImage
    box: Box  # pixels of the upright original
    objects: tuple[FoundObject, ...]  # what the model sees in it, best first; empty where it finds no objects
    category_id: str  # of the product's own category, else predicted; "" where nothing tells
    category_source: str  # "caller", "fused", "model", "knn" or "none"
    duplicate_of: Listing | None  # a listing of the live gallery with nearly the same picture


def place_image(
    shop: Shop,
    searcher: Searcher,
    product_id: ProductId,
    name: str,
    data: bytes,
    *,
    kind: ImageKind,
    box: Box | None,
    box_is_relative: bool,
    custom_content: str,
) -> Understood:
    """Take a picture in, store it under a product that exists, compute its feature, and say what it shows.

    Raises:
        NotFoundError: there is no such product.
        InputError: not an image that is taken, or a box outside of it.
    """
    product = shop.catalogue.product(product_id)
    photo = shop.intake.take(data)
    size = (photo.original_width, photo.original_height)
    across, down = photo.width / size[0], photo.height / size[1]
    given = placed_box(box, size, relative=box_is_relative)
    shop.photos.put(photo)
    image = NewImage(
        name=name,
        kind=kind,
        content_hash=photo.content_hash,
        width=photo.width,
        height=photo.height,
        quality=measure(photo.thumbnail),
        perceptual_hash=perceptual_hash(photo.thumbnail),
        box=scale_box(given, across, down) if box is not None else None,
        custom_content=custom_content,
        source="",
    )
    with write(shop.database) as connection:
        shop.catalogue.upsert(connection, [NewListing(product, (image,))])
    stored = shop.catalogue.image(product_id, name)
    understood = _understand(shop, searcher, stored, product, decode_stored(photo.encoded))
    return replace(
        understood,
        box=given if box is not None else scale_box(understood.box, 1 / across, 1 / down),
        objects=tuple(replace(one, box=scale_box(one.box, 1 / across, 1 / down)) for one in understood.objects),
    )


def look_again(shop: Shop, searcher: Searcher, image_id: ImageId) -> Understood:
    """Say anew what a stored picture shows, and keep its feature in place of the one computed before.

    Raises:
        NotFoundError: there is no such image, or its photo is gone.
        ImageError: the photo is damaged.
    """
    found = shop.catalogue.listings([image_id])
    if not found:
        raise NotFoundError(f"no image {image_id} in the catalogue")
    image, product = found[image_id]
    return _understand(shop, searcher, image, product, shop.photos.pixels(image.content_hash))


def _understand(shop: Shop, searcher: Searcher, stored: CatalogueImage, product: Product, pixels: Pixels) -> Understood:
    """Compute and keep the feature of a stored picture, and say what it shows; boxes are in its pixels."""
    embedder = shop.embedder(shop.active_model)
    detector = shop.detector(embedder.version)
    subject = part_of(pixels, stored.box) if stored.box else catalogue_subjects([pixels], detector)[0]
    feature = embedder.embed_views([subject.views])
    shop.cache(embedder).put([(stored.content_hash, stored.box)], feature, describe_colour(subject.pixels)[None])
    detection = detector.detect([pixels])[0] if detector else None
    try:
        gallery = searcher.gallery()
    except UnavailableError:
        gallery = None
    top, source = shop.taxonomy.top_of(product.category) if product.category else "", CALLER
    if not top:
        vote: Sequence[Opinion] = ()
        if gallery is not None and gallery.reference is not None:
            base = shop.base_embedder
            general = feature if base.version == embedder.version else base.embed_views([subject.views])
            vote = gallery.vote(general[0], shop.settings.category)
        told = opinions(detector, detection) if detector and detection else ()
        settings = shop.settings.category
        predicted = predict_category(
            told,
            vote,
            votable=gallery.votable if gallery else (),
            unlabelled=gallery.unlabelled if gallery else 1.0,
            alpha=settings.alpha,
            temperature=settings.temperature,
        )
        top, source = predicted.ranked()[0][0] if predicted.tops else "", predicted.source
    duplicate = None
    if gallery is not None and gallery.model_version == embedder.version:
        listed = gallery.allowed(None, categories=(), now=datetime.now(UTC))
        for hit in gallery.index.search(feature[0], k=2, allowed=listed):
            near = hit.distance <= shop.settings.selection.duplicate_distance
            if near and hit.image_id != stored.image_id and duplicate is None:
                duplicate = gallery.listing(hit.member_row)
    return Understood(
        image=stored,
        box=subject.box,
        objects=found_objects(detection, 1.0, 1.0) if detection else (),
        category_id=top,
        category_source=source,
        duplicate_of=duplicate,
    )


def thumbnail(photos: PhotoStore, content_hash: ContentHash, *, side_px: int) -> bytes:
    """Return a stored photo as JPEG, its longest side at most `side_px`.

    Raises:
        NotFoundError: the photo is not there.
    """
    encoded = photos.read(content_hash)
    with Image.open(io.BytesIO(encoded), formats=["JPEG"]) as picture:
        if max(picture.size) <= side_px:
            return encoded
        picture.draft("RGB", (side_px, side_px))
        picture.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
        out = io.BytesIO()
        picture.save(out, "JPEG", quality=85)
    return out.getvalue()
