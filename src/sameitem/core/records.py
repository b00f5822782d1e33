"""The nouns every package shares. Plain frozen data: no methods that do work, no I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType

import numpy as np
from numpy.typing import NDArray

ImageId = NewType("ImageId", int)  # given by the catalogue, never used twice
ProductId = NewType("ProductId", str)  # the caller's own
ContentHash = NewType("ContentHash", str)  # SHA-256 of the stored photo's bytes, 64 hex digits

Attribute = str | float | bool
Pixels = NDArray[np.uint8]  # RGB, (height, width, 3)


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels: left and top are inside, right and bottom are outside."""

    left: float
    top: float
    right: float
    bottom: float


class ImageKind(StrEnum):
    """What a catalogue image shows; selection has a rule per kind."""

    MAIN = "main"  # the picture that stands for the product
    SKU = "sku"  # one variant (colour, size) on its own
    BUYER = "buyer"  # a buyer's or unboxing photo
    DETAIL = "detail"  # close-up, size chart, packaging
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Product:
    """What is sold. Empty text and None mean that the shop did not say."""

    product_id: ProductId
    category: str = ""  # the shop's own leaf path ("Home > Lamps") or a leaf id of the taxonomy
    title: str = ""
    brand: str = ""
    url: str = ""
    price: float | None = None
    currency: str = ""
    sales: int | None = None
    conversion_rate: float | None = None
    ctr: float | None = None
    rating: float | None = None
    review_count: int | None = None
    in_stock: bool | None = None
    seller_quality: float | None = None
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    expires_at: str = ""  # ISO 8601 UTC, "" = never


@dataclass(frozen=True, slots=True)
class Quality:
    """How fit a picture is to stand in a gallery; measured once, at intake, on its thumbnail."""

    sharpness: float  # variance of the Laplacian of luma 0..255
    brightness: float  # mean luma, 0..255
    contrast: float  # standard deviation of luma, 0..127.5
    text_share: float  # share of the area covered by text or banners, 0..1
    collage_share: float  # evidence that several pictures were put side by side, 0..1
    subject_share: float  # share of the area that differs from the border's colour, 0..1


@dataclass(frozen=True, slots=True)
class CatalogueImage:
    """A picture of a product as the catalogue holds it; (product_id, name) is the caller's key."""

    image_id: ImageId
    product_id: ProductId
    name: str
    kind: ImageKind
    content_hash: ContentHash
    width: int  # of the stored photo
    height: int
    quality: Quality
    perceptual_hash: int  # 64 bits
    box: Box | None = None  # given by the shop; None = to be detected
    custom_content: str = ""  # the caller's own text, returned with results


@dataclass(frozen=True, slots=True)
class Photo:
    """A picture that passed intake: turned upright, sRGB, without metadata, re-encoded."""

    content_hash: ContentHash  # of `encoded`
    encoded: bytes  # JPEG
    width: int  # of the stored copy
    height: int
    thumbnail: Pixels  # longest side at most 384 px
    original_width: int  # of the upright original, in whose pixels a caller gives boxes
    original_height: int


@dataclass(frozen=True, slots=True, order=True)
class Hit:
    """One gallery image found for a query; hits sort best first, ties by image id."""

    distance: float  # squared L2 of unit vectors, 0..4
    image_id: ImageId
