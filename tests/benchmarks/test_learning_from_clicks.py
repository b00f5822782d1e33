from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import learning_from_clicks
from learning_from_clicks import (
    Measured,
    composed,
    control,
    edited,
    gather,
    in_half,
    ranks_of,
    steps_of,
    training_pixels,
)
from sameitem.clicks.triplets import Picture, Triplet
from sameitem.core.records import ContentHash, ImageId
from sameitem.learning.phases import Recipe

PHOTOS, IMAGES = "0123456789", "abcdef"


def mined() -> list[Triplet]:
    """Triplets of a log: photo n was clicked on image n mod 6, the next image was not."""
    return [
        Triplet(Picture(name(photo)), image(at), name(IMAGES[at]), image(at + 1), name(IMAGES[at - 5]), "s", "u", 1.0)
        for photo in PHOTOS
        if (at := int(photo) % 6) >= 0
    ]


def name(letter: str) -> ContentHash:
    return ContentHash(letter * 64)


def image(at: int) -> ImageId:
    return ImageId(at + 1)


def picture(seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 255, (48, 64, 3)).astype(np.uint8)


def test_the_control_pairs_a_picture_with_nothing_but_itself() -> None:
    triplets = list(control(mined(), seed=0))
    for triplet in triplets:
        photo, positive, negative = triplet.photo.content_hash, triplet.positive, triplet.negative
        assert photo.removesuffix("-a") == positive.removesuffix("-b") != negative.removesuffix("-b")
        assert (triplet.search_id, triplet.user) == ("", "")


def test_the_control_sees_every_photo_and_image_that_the_clicks_see() -> None:
    seen = {triplet.photo.content_hash.removesuffix("-a") for triplet in control(mined(), seed=0)}
    assert seen == {name(letter) for letter in PHOTOS + IMAGES}


def test_the_control_is_the_same_whatever_was_clicked() -> None:
    shuffled = [
        Triplet(one.photo, other.positive_id, other.positive, one.negative_id, one.negative, "", "", 1.0)
        for one, other in zip(mined(), reversed(mined()), strict=True)
    ]
    assert list(control(shuffled, seed=3)) == list(control(mined(), seed=3))


@pytest.mark.parametrize("products", [2, 7, 20])
def test_the_halves_of_a_shop_share_no_product_and_leave_none_out(products: int) -> None:
    photos = [f"p{number % products}" for number in range(5 * products)]
    first, second = in_half(photos, 0), in_half(photos, 1)
    assert (first ^ second).all()
    assert {p for p, is_in in zip(photos, first, strict=True) if is_in}.isdisjoint(
        p for p, is_in in zip(photos, second, strict=True) if is_in
    )
    assert abs(len(set(np.array(photos)[first])) - products / 2) < 1


def test_users_of_a_composed_shop_search_for_items_that_measure_nothing(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("cluster,half\na,clicked\nb,never\nc,clicked\n")
    np.save(tmp_path / "photo_item.npy", np.array([0, 0, 1, 2], np.int32))
    np.save(tmp_path / "photos.npy", np.zeros((4, 2, 2, 3), np.uint8))
    np.save(tmp_path / "catalogue.npy", np.zeros((3, 2, 2, 3), np.uint8))
    for items in (None, 2):
        found = composed(tmp_path, items)
        clicked, measured = (set(found.photo_items[rows]) for rows in (found.clicked(), found.measured()))
        assert clicked.isdisjoint(measured)
        assert clicked | measured == set(found.gallery_items)


def test_edits_are_those_of_the_seed_and_the_name() -> None:
    stored = {name(letter): picture(at) for at, letter in enumerate(PHOTOS + IMAGES)}
    first, again, other = (training_pixels(stored.__getitem__, frozenset({name("0")}), seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first(name("0")), again(name("0")))
    assert first(name("0")).shape != other(name("0")).shape or (first(name("0")) != other(name("0"))).any()
    a, b = (first(ContentHash(name("c") + side)) for side in ("-a", "-b"))
    assert a.shape != b.shape or (a != b).any()
    np.testing.assert_array_equal(first(name("c")), stored[name("c")])  # a catalogue image with clicks stays as it is


def test_an_edit_keeps_at_least_three_quarters_of_each_side() -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        height, width = edited(picture(0), generator).shape[:2]
        assert 0.73 * 48 <= height <= 48
        assert 0.73 * 64 <= width <= 64


def test_a_rank_counts_other_products_once() -> None:
    shown = np.array([[1.0, 0.0], [0.9, 0.1], [0.8, 0.2], [0.0, 1.0]], np.float32)
    asked = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], np.float32)
    assert ranks_of(asked, shown, np.array([5, 7, 7]), np.array([5, 5, 7, 8])).tolist() == [0, 1, 1]


def arm(first: list[list[float]], seeds: tuple[int, ...]) -> Measured:
    return Measured(seeds, np.array([0, 0, 1, 1]), {"first": np.array(first)})


def test_a_gain_is_paired_by_photo_and_by_seed() -> None:
    before = arm([[0, 1, 0, 1], [0, 0, 0, 0]], (0, 1))
    after = arm([[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]], (0, 1, 2))
    gain = after.gain(before)
    assert gain.mean == pytest.approx(0.5)
    assert (gain.low, gain.high) == pytest.approx((0.25, 0.75))  # two items, each drawn as a whole
    assert [after.gain_of_seed(before, seed) for seed in (0, 1)] == [0.5, 0.5]


def test_a_gain_on_the_start_counts_every_seed() -> None:
    assert arm([[1, 1, 1, 1], [0, 0, 0, 0]], (0, 1)).gain(arm([[0, 0, 0, 0]], ())).mean == pytest.approx(0.5)


def test_the_halves_of_a_shop_are_measured_together(tmp_path: Path) -> None:
    works = [tmp_path / "fold-0", tmp_path / "fold-1"]
    for at, work in enumerate(works):
        (work / "figures").mkdir(parents=True)
        for run in ("start", "no-detection-0", "no-detection-1", *(["fraud-0"] if at else [])):
            np.savez(work / "figures" / f"{run}.npz", items=np.array([at]), first=np.array([float(at)]))
    arms = gather(works)
    assert arms.keys() == {"start", "no-detection"}  # an arm that lacks a half is no arm of the shop
    assert arms["no-detection"].seeds == (0, 1)
    assert arms["no-detection"].items.tolist() == [0, 1]
    assert arms["no-detection"].figures["first"].tolist() == [[0, 1], [0, 1]]


def test_every_arm_takes_as_many_steps_as_the_clicks_unless_it_has_no_detection_branch() -> None:
    from dataclasses import replace

    arms = learning_from_clicks.ARMS
    steps = {name: steps_of(replace(Recipe(), **arm.recipe)) for name, arm in arms.items()}  # type: ignore[arg-type]
    assert {name for name, taken in steps.items() if taken != steps["clicks"]} == {"no-detection"}
