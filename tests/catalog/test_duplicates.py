import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sameitem.catalog.duplicates import group_duplicates
from sameitem.core.errors import ShapeError
from sameitem.core.records import CatalogueImage, ContentHash, ImageId, ImageKind, Pixels, ProductId, Quality
from sameitem.core.settings import SelectionSettings

RULES = SelectionSettings()
BINS = 4


def picture(image_id: int, *, content: int, bits: int = 0, side: int = 300, sharpness: float = 100.0) -> CatalogueImage:
    return CatalogueImage(
        image_id=ImageId(image_id),
        product_id=ProductId(f"p{image_id}"),
        name="main",
        kind=ImageKind.MAIN,
        content_hash=ContentHash(f"{content:064x}"),
        width=side,
        height=side,
        quality=Quality(sharpness, 150, 50, 0, 0, 0.5),
        perceptual_hash=bits,
    )


def at_angles(*degrees: float) -> NDArray[np.float32]:
    turned = np.radians(degrees)
    return np.stack([np.cos(turned), np.sin(turned)], axis=1).astype(np.float32)


def even_colours(rows: int) -> NDArray[np.float32]:
    return np.full((rows, BINS), 1 / BINS, np.float32)


def painted(level: int) -> Pixels:
    return np.full((32, 32, 3), level, np.uint8)


def test_equal_content_is_grouped_whatever_else_is_known_of_it() -> None:
    images = [picture(3, content=1, bits=0), picture(1, content=1, bits=2**64 - 1)]
    assert group_duplicates(images, at_angles(0, 180), even_colours(2), RULES).tolist() == [1, 1]


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ({"side": 800, "sharpness": 10.0}, {"side": 400, "sharpness": 900.0}),
        ({"sharpness": 90.0}, {"sharpness": 80.0}),
        ({}, {}),
    ],
)
def test_the_larger_then_the_sharper_then_the_older_picture_represents(
    better: dict[str, float], worse: dict[str, float]
) -> None:
    images = [picture(2, content=2, **worse), picture(1, content=1, **better)]  # type: ignore[arg-type]
    assert group_duplicates(images, at_angles(1, 0), even_colours(2), RULES).tolist() == [1, 1]


def test_what_features_and_colours_make_certain_needs_no_look() -> None:
    images = [picture(1, content=1), picture(2, content=2), picture(3, content=3)]
    colours = even_colours(3)
    colours[2] = [1, 0, 0, 0]  # the same shape in another colour
    assert group_duplicates(images, at_angles(0, 2, 0), colours, RULES).tolist() == [0, 0, 2]


def test_a_look_decides_between_a_copy_and_a_variant() -> None:
    images = [picture(1, content=100), picture(2, content=103), picture(3, content=160)]
    looks = group_duplicates(
        images, at_angles(0, 15, 15), even_colours(3), RULES, pixels_of=lambda content: painted(int(content, 16))
    )
    assert looks.tolist() == [0, 0, 2]
    assert group_duplicates(images, at_angles(0, 15, 15), even_colours(3), RULES).tolist() == [0, 1, 1]


@pytest.mark.parametrize(("bits", "degrees", "leader"), [(10, 0, 0), (11, 0, 1), (0, 90, 1)])
def test_a_far_hash_or_a_far_feature_keeps_pictures_apart(bits: int, degrees: float, leader: int) -> None:
    images = [picture(1, content=1), picture(2, content=2, bits=2**bits - 1)]
    groups = group_duplicates(
        images, at_angles(0, degrees), even_colours(2), RULES, pixels_of=lambda content: painted(9)
    )
    assert groups.tolist() == [0, leader]


def test_near_duplicates_do_not_form_chains() -> None:
    images = [picture(n, content=n) for n in range(1, 9)]
    features = at_angles(*range(0, 40, 5))
    groups = group_duplicates(images, features, even_colours(8), RULES)
    assert groups.tolist() == [0, 0, 2, 2, 4, 4, 6, 6]  # 5 degrees are 0.0076, 10 are 0.03


@settings(max_examples=50)
@given(st.integers(0, 9999), st.integers(1, 90))
def test_groups_keep_their_promises_in_any_order(seed: int, rows: int) -> None:
    generator = np.random.default_rng(seed)
    images = [
        picture(
            int(image_id),
            content=int(generator.integers(rows)),
            bits=int(generator.integers(4)) * 31,
            side=int(generator.integers(300, 303)),
        )
        for image_id in generator.permutation(rows)
    ]
    angle_of = generator.uniform(0, 60, rows)
    features = at_angles(*(angle_of[int(image.content_hash, 16)] for image in images))
    groups = group_duplicates(images, features, even_colours(rows), RULES)
    assert (groups[groups] == groups).all()  # a representative represents itself
    first = {image.content_hash: groups[row] for row, image in enumerate(images)}
    assert [first[image.content_hash] for image in images] == groups.tolist()
    assert ((features - features[groups]) ** 2).sum(axis=1).max() <= 0.02
    assert all(min(images[leader].width, 400) >= images[row].width for row, leader in enumerate(groups.tolist()))
    order = generator.permutation(rows)
    again = group_duplicates([images[row] for row in order], features[order], even_colours(rows), RULES)
    by_id = {images[row].image_id: images[groups[row]].content_hash for row in range(rows)}
    assert {images[row].image_id: images[order[again[place]]].content_hash for place, row in enumerate(order)} == by_id


def test_many_different_pictures_with_one_hash_stay_apart() -> None:
    images = [picture(n, content=n) for n in range(1, 2001)]
    generator = np.random.default_rng(0)
    features = generator.standard_normal((2000, 64)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    assert group_duplicates(images, features, even_colours(2000), RULES).tolist() == list(range(2000))


def test_no_images_are_no_groups() -> None:
    assert group_duplicates([], np.empty((0, 8), np.float32), np.empty((0, BINS), np.float32), RULES).tolist() == []


def test_arrays_of_other_images_are_refused() -> None:
    with pytest.raises(ShapeError, match="need 1 rows of colours, one per image"):
        group_duplicates([picture(1, content=1)], at_angles(0), even_colours(2), RULES)
