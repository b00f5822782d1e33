"""Which catalogue images form the gallery (article §01.1): by attributes, by kind, by quality; every refusal says why.

What depends on features comes after them: extra images that add nothing new here (`select_extras`), near-duplicates in
`duplicates`.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sameitem.core.errors import ShapeError
from sameitem.core.filters import Filter, parse_filter, product_value
from sameitem.core.records import CatalogueImage, ImageId, Product, ProductId
from sameitem.core.settings import SelectionSettings


class Status(StrEnum):
    """What became of a catalogue image."""

    GALLERY = "gallery"  # can be found, and represents itself
    DUPLICATE = "duplicate"  # is found through the near-duplicate that represents it
    SET_ASIDE = "set_aside"  # cannot be found


class Reason(StrEnum):
    """Why an image does not stand in the gallery for itself; `explanation` says it to the shop."""

    FILTERED = "filtered"
    EXPIRED = "expired"
    KIND = "kind"
    TOO_SMALL = "too_small"
    TOO_DARK = "too_dark"
    TOO_BRIGHT = "too_bright"
    FLAT = "flat"
    BLURRED = "blurred"
    TEXT = "text"
    COLLAGE = "collage"
    UNREADABLE = "unreadable"
    ADDS_NOTHING_NEW = "adds_nothing_new"
    NEAR_DUPLICATE = "near_duplicate"

    @property
    def explanation(self) -> str:
        """One sentence for the selection report."""
        return _EXPLANATIONS[self]


_EXPLANATIONS: Final = {
    Reason.FILTERED: "The product does not satisfy selection.where.",
    Reason.EXPIRED: "The product's expires_at has passed.",
    Reason.KIND: "Images of this kind are not considered (selection.gallery_kinds, selection.extra_images).",
    Reason.TOO_SMALL: "The shorter side is below selection.min_side_px.",
    Reason.TOO_DARK: "The mean brightness is below selection.brightness.",
    Reason.TOO_BRIGHT: "The mean brightness is above selection.brightness: next to nothing but white.",
    Reason.FLAT: "The contrast is below selection.min_contrast: an even surface.",
    Reason.BLURRED: "The sharpness is below selection.min_sharpness.",
    Reason.TEXT: "Text or banners cover more than selection.max_text_share of the picture.",
    Reason.COLLAGE: "Several pictures are put side by side (selection.max_collage_share).",
    Reason.UNREADABLE: "The stored photo could not be read.",
    Reason.ADDS_NOTHING_NEW: "The product's other images show as much (selection.extra_distance, .extra_images).",
    Reason.NEAR_DUPLICATE: "Nearly the same picture as another one, which represents it.",
}


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of one image, and why."""

    image_id: ImageId
    product_id: ProductId
    name: str
    status: Status
    reason: Reason | None = None
    detail: str = ""  # the measured value against its bound, or which image represents it


def select(
    listings: Iterable[tuple[CatalogueImage, Product]], rules: SelectionSettings, now: datetime
) -> Iterator[Decision]:
    """Yield one decision per image, in the order given, from what is known without features.

    Args:
        listings: images with their products.
        rules: the shop's settings.
        now: moment, with its time zone, at which products that expired are left out.

    Raises:
        InputError: `rules.where` is not a filter expression.
    """
    where = parse_filter(rules.where) if rules.where.strip() else None
    for image, product in listings:
        reason, detail = _objection(image, product, rules, where, now)
        status = Status.GALLERY if reason is None else Status.SET_ASIDE
        yield Decision(image.image_id, image.product_id, image.name, status, reason, detail)


def select_extras(
    images: Sequence[CatalogueImage], features: NDArray[np.floating], rules: SelectionSettings
) -> NDArray[np.bool_]:
    """Tell which images stay when each product keeps few images beyond its main and SKU ones.

    Of the other kinds, a product keeps the one that is farthest from all it has, again and again, until the nearest is
    closer than `rules.extra_distance` or there are `rules.extra_images`.

    Args:
        images: of any products, in any order.
        features: (images, dim) unit rows.
        rules: the shop's settings.

    Returns:
        (images,) true where the image stays.

    Raises:
        ShapeError: `features` does not have one row per image.
    """
    if features.ndim != 2 or len(features) != len(images):
        raise ShapeError(f"need {len(images)} rows of features, one per image, got {features.shape}")
    keep = np.array([image.kind in rules.gallery_kinds for image in images], dtype=np.bool_)
    rows_of: defaultdict[ProductId, list[int]] = defaultdict(list)
    for row in sorted(range(len(images)), key=lambda row: images[row].image_id):
        rows_of[images[row].product_id].append(row)
    for rows in rows_of.values():
        extras = [row for row in rows if not keep[row]]
        if extras:
            shown = [row for row in rows if keep[row]]
            keep[_farthest(extras, shown, features, rules)] = True
    return keep


def _farthest(
    extras: list[int], shown: list[int], features: NDArray[np.floating], rules: SelectionSettings
) -> list[int]:
    candidates = features[extras].astype(np.float32)
    others = features[shown].astype(np.float32)
    nearest = np.full(len(extras), np.inf, np.float32)  # squared distance of each extra to what the product shows
    for other in others:
        nearest = np.minimum(nearest, ((candidates - other) ** 2).sum(axis=1))
    chosen: list[int] = []
    while len(chosen) < min(rules.extra_images, len(extras)):
        best = int(np.argmax(nearest))
        if nearest[best] < rules.extra_distance or nearest[best] == 0.0:
            break
        chosen.append(extras[best])
        nearest = np.minimum(nearest, ((candidates - candidates[best]) ** 2).sum(axis=1))
        nearest[best] = 0.0
    return chosen


def _objection(
    image: CatalogueImage, product: Product, rules: SelectionSettings, where: Filter | None, now: datetime
) -> tuple[Reason | None, str]:
    if _is_expired(product.expires_at, now):
        return Reason.EXPIRED, f"expired at {product.expires_at}"
    if where is not None and not where.matches(lambda name: product_value(product, name)):
        said = ", ".join(f"{name} = {product_value(product, name)!r}" for name in sorted(where.names()))
        return Reason.FILTERED, said[:300]
    if image.kind not in rules.gallery_kinds and not rules.extra_images:
        return Reason.KIND, f"{image.kind}, considered are {', '.join(rules.gallery_kinds)}"
    return _defect(image, rules)


def _is_expired(expires_at: str, now: datetime) -> bool:
    return bool(expires_at) and expiry_moment(expires_at) <= now


def expiry_moment(expires_at: str) -> datetime:
    """Return the moment an `expires_at` names, UTC where it has no time zone."""
    moment = datetime.fromisoformat(expires_at)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _defect(image: CatalogueImage, rules: SelectionSettings) -> tuple[Reason | None, str]:
    quality = image.quality
    darkest, brightest = rules.brightness
    side = min(image.width, image.height)
    if side < rules.min_side_px:
        return Reason.TOO_SMALL, f"shorter side {side} px, at least {rules.min_side_px}"
    if quality.brightness < darkest:
        return Reason.TOO_DARK, f"brightness {quality.brightness:.1f}, at least {darkest:g}"
    if quality.brightness > brightest:
        return Reason.TOO_BRIGHT, f"brightness {quality.brightness:.1f}, at most {brightest:g}"
    if quality.contrast < rules.min_contrast:
        return Reason.FLAT, f"contrast {quality.contrast:.1f}, at least {rules.min_contrast:g}"
    if quality.sharpness < rules.min_sharpness:
        return Reason.BLURRED, f"sharpness {quality.sharpness:.1f}, at least {rules.min_sharpness:g}"
    if quality.text_share > rules.max_text_share:
        return Reason.TEXT, f"text share {quality.text_share:.2f}, at most {rules.max_text_share:g}"
    if quality.collage_share > rules.max_collage_share:
        return Reason.COLLAGE, f"collage evidence {quality.collage_share:.2f}, at most {rules.max_collage_share:g}"
    return None, ""
