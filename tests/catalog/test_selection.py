from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sameitem.catalog.selection import Reason, Status, select, select_extras
from sameitem.core.errors import InputError, ShapeError
from sameitem.core.records import CatalogueImage, ContentHash, ImageId, ImageKind, Product, ProductId, Quality
from sameitem.core.settings import SelectionSettings

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
GOOD = Quality(sharpness=500, brightness=180, contrast=50, text_share=0, collage_share=0, subject_share=0.5)
RULES = SelectionSettings()


def picture(
    image_id: int = 1, product_id: str = "p", kind: ImageKind = ImageKind.MAIN, **quality: float
) -> CatalogueImage:
    return CatalogueImage(
        image_id=ImageId(image_id),
        product_id=ProductId(product_id),
        name=f"{image_id}.jpg",
        kind=kind,
        content_hash=ContentHash(f"{image_id:064x}"),
        width=400,
        height=300,
        quality=replace(GOOD, **quality),
        perceptual_hash=0,
    )


def product(**fields: object) -> Product:
    return replace(Product(ProductId("p")), **fields)  # type: ignore[arg-type]


def test_a_good_picture_of_a_product_on_sale_stands_in_the_gallery() -> None:
    [decision] = select([(picture(7), product(in_stock=False))], RULES, NOW)
    assert (decision.image_id, decision.status, decision.reason, decision.detail) == (7, Status.GALLERY, None, "")


@pytest.mark.parametrize(
    ("quality", "reason", "detail"),
    [
        ({"brightness": 3.0}, Reason.TOO_DARK, "brightness 3.0, at least 12"),
        ({"brightness": 254.9}, Reason.TOO_BRIGHT, "brightness 254.9, at most 254.5"),
        ({"contrast": 0.4}, Reason.FLAT, "contrast 0.4, at least 2"),
        ({"sharpness": 1.25}, Reason.BLURRED, "sharpness 1.2, at least 8"),
        ({"text_share": 0.75}, Reason.TEXT, "text share 0.75, at most 0.5"),
        ({"collage_share": 0.9}, Reason.COLLAGE, "collage evidence 0.90, at most 0.7"),
    ],
)
def test_a_poor_picture_is_set_aside_with_the_measure_and_its_bound(
    quality: dict[str, float], reason: Reason, detail: str
) -> None:
    rules = SelectionSettings(brightness=(12.0, 254.5), min_contrast=2.0)
    [decision] = select([(picture(**quality), product())], rules, NOW)
    assert (decision.status, decision.reason, decision.detail) == (Status.SET_ASIDE, reason, detail)


def test_a_small_picture_is_set_aside() -> None:
    [decision] = select([(replace(picture(), height=50), product())], RULES, NOW)
    assert (decision.reason, decision.detail) == (Reason.TOO_SMALL, "shorter side 50 px, at least 64")


def test_a_product_outside_the_filter_is_set_aside_with_what_it_says() -> None:
    rules = SelectionSettings(where='price > 10 AND brand = "Lumo"')
    [kept, dropped] = select(
        [(picture(), product(price=11.0, brand="Lumo")), (picture(), product(price=9.0))], rules, NOW
    )
    assert kept.status is Status.GALLERY
    assert (dropped.reason, dropped.detail) == (Reason.FILTERED, "brand = '', price = 9.0")


def test_a_filter_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match="position 8"):
        list(select([], SelectionSettings(where="price >"), NOW))


@pytest.mark.parametrize(
    ("expires_at", "status"),
    [
        ("", Status.GALLERY),
        ("2026-11-23T12:00:01Z", Status.GALLERY),
        ("2026-11-23T12:00:00+00:00", Status.SET_ASIDE),
        ("2026-11-23T19:59:00+08:00", Status.SET_ASIDE),
        ("2026-11-22", Status.SET_ASIDE),
    ],
)
def test_a_product_counts_until_it_expires(expires_at: str, status: Status) -> None:
    [decision] = select([(picture(), product(expires_at=expires_at))], RULES, NOW)
    assert decision.status is status


def test_other_kinds_are_left_out_only_when_no_extra_images_are_wanted() -> None:
    listing = (picture(kind=ImageKind.BUYER), product())
    assert [d.status for d in select([listing], RULES, NOW)] == [Status.GALLERY]
    assert [d.reason for d in select([listing], SelectionSettings(extra_images=0), NOW)] == [Reason.KIND]


def test_every_reason_has_an_explanation() -> None:
    assert all(reason.explanation.endswith(".") for reason in Reason)


def at_angles(*degrees: float) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    turned = np.radians(degrees)
    return np.stack([np.cos(turned), np.sin(turned)], axis=1).astype(np.float32)


def test_a_product_keeps_the_extras_that_are_farthest_from_what_it_shows() -> None:
    images = [picture(1), *(picture(n, kind=ImageKind.BUYER) for n in (2, 3, 4, 5))]
    keep = select_extras(images, at_angles(0, 2, 90, 95, 180), SelectionSettings(extra_images=2))
    assert keep.tolist() == [True, False, True, False, True]


def test_an_extra_image_that_adds_nothing_new_goes_even_when_there_is_room() -> None:
    images = [picture(1), picture(2, kind=ImageKind.BUYER), picture(3, kind=ImageKind.BUYER)]
    keep = select_extras(images, at_angles(0, 3, 0), SelectionSettings(extra_images=2, extra_distance=0.0))
    assert keep.tolist() == [True, True, False]


def test_a_product_without_main_picture_shows_its_first_extra() -> None:
    images = [picture(9, kind=ImageKind.BUYER), picture(3, kind=ImageKind.DETAIL)]
    keep = select_extras(images, at_angles(0, 0), SelectionSettings(extra_images=2))
    assert keep.tolist() == [False, True]


@given(st.permutations(range(12)), st.integers(0, 3))
def test_extras_do_not_depend_on_the_order_of_the_images(order: list[int], extra_images: int) -> None:
    kinds = [ImageKind.MAIN, ImageKind.BUYER, ImageKind.DETAIL, ImageKind.OTHER]
    images = [picture(n, product_id=f"p{n % 2}", kind=kinds[n % 3]) for n in range(12)]
    features = at_angles(*(n * n * 7 % 360 for n in range(12)))
    rules = SelectionSettings(extra_images=extra_images)
    keep = select_extras(images, features, rules)
    shuffled = select_extras([images[n] for n in order], features[order], rules)
    assert shuffled.tolist() == keep[order].tolist()
    extras = [image.product_id for image, kept in zip(images, keep, strict=True) if kept and image.kind != "main"]
    assert all(extras.count(ProductId(name)) <= extra_images for name in ("p0", "p1"))


def test_features_of_other_images_are_refused() -> None:
    with pytest.raises(ShapeError, match="need 1 rows of features"):
        select_extras([picture()], at_angles(0, 1), RULES)
