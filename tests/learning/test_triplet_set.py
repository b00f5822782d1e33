from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.strategies import booleans, integers
from numpy.typing import NDArray

from drawn_triplets import DrawnClicks, draw_clicks, triplet
from sameitem.clicks.triplet_file import read_triplets, write_triplets
from sameitem.clicks.triplets import Tally
from sameitem.core.errors import ImageError, InputError
from sameitem.core.records import Box, ContentHash, Pixels
from sameitem.features.preprocess import Fit, square_pixels
from sameitem.learning.triplet_set import (
    HELD_OUT,
    SIDE_PX,
    Batch,
    TripletSet,
    batches,
    in_parts,
    is_validating,
    read_triplet_set,
)

SAME_ITEM = 0.3


def pairs_of(seed: int, *, photos: int = 60, images: int = 30) -> TripletSet:
    """Rows without pixels: one to three clicked images per photo, a few that were not."""
    generator = np.random.default_rng(seed)
    clicked = [(row, image) for row in range(photos) for image in generator.permutation(images)[: 1 + row % 3]]
    rest = [(row, image) for row in range(photos) for image in generator.permutation(images)[:4]]
    blank = np.zeros((1, 1, 1, 3), np.uint8)
    return TripletSet(
        photos=blank.repeat(photos, 0),
        images=blank.repeat(images, 0),
        is_plain=np.ones(images, np.bool_),
        pairs=np.array(clicked),
        others=np.array([pair for pair in rest if pair not in set(clicked)]),
        is_held_out=generator.random(photos) < 0.2,
    )


def features_of(seed: int, *, images: int = 30) -> NDArray[np.float32]:
    rows = np.random.default_rng([seed, 7]).standard_normal((images, 3)).astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def drawn_batch(seed: int, step: int, **options: bool) -> tuple[TripletSet, NDArray[np.float32], Batch]:
    found, features = pairs_of(seed), features_of(seed)
    return found, features, batches(found, features, rows=24, same_item=SAME_ITEM, seed=seed, step=step, **options)


@settings(max_examples=40, deadline=None)
@given(seed=integers(0, 99), step=integers(0, 99), shares=booleans(), at_random=booleans())
def test_a_batch_teaches_only_pairs_and_trusts_only_images_of_other_items(
    seed: int, step: int, shares: bool, at_random: bool
) -> None:
    found, features, batch = drawn_batch(seed, step, shares_negatives=shares, random_negatives=at_random)
    clicked = {(int(photo), int(image)) for photo, image in found.pairs}
    assert set(zip(batch.photos.tolist(), batch.positives.tolist(), strict=True)) <= clicked
    assert not found.is_held_out[batch.photos].any()
    assert len(np.unique(batch.images)) == len(batch.images)
    assert batch.images[: len(set(batch.positives))].tolist() == sorted(set(batch.positives.tolist()))
    for row, column in np.argwhere(batch.trusted):
        assert (int(batch.photos[row]), int(batch.images[column])) not in clicked
        apart = features[batch.positives[row]] - features[batch.images[column]]
        assert (apart**2).sum() >= SAME_ITEM - 1e-5
    assert np.array_equal(np.unique(batch.photos)[batch.query_of_row], batch.photos)


def test_the_same_seed_and_step_draw_the_same_batch_and_another_step_another() -> None:
    one, again, other = (drawn_batch(3, step)[2] for step in (5, 5, 6))
    assert all(np.array_equal(getattr(one, part.name), getattr(again, part.name)) for part in fields(Batch))
    assert not np.array_equal(one.photos, other.photos)


def test_without_sharing_a_photo_has_only_the_negatives_of_its_own_searches() -> None:
    found, _, batch = drawn_batch(1, 0, shares_negatives=False)
    shown = {(int(photo), int(image)) for photo, image in found.others}
    trusted = [(int(batch.photos[row]), int(batch.images[column])) for row, column in np.argwhere(batch.trusted)]
    assert trusted
    assert set(trusted) <= shown
    assert batch.trusted.sum() < drawn_batch(1, 0)[2].trusted.sum()


@given(seed=integers(0, 9999), step=integers(0, 50))
def test_with_clicked_negatives_nothing_is_pushed_away_that_nobody_was_drawn_to(seed: int, step: int) -> None:
    found, features, batch = drawn_batch(seed, step, clicked_negatives=True)
    taught = set(found.pairs[found.teaching(), 1].tolist())
    assert set(batch.images.tolist()) <= taught
    shown = {(int(photo), int(image)) for photo, image in found.others}
    clicked = {(int(photo), int(image)) for photo, image in found.pairs}
    for row, column in np.ndindex(batch.trusted.shape):
        pair = (int(batch.photos[row]), int(batch.images[column]))
        apart = ((features[batch.positives[row]] - features[batch.images[column]]) ** 2).sum()
        if abs(apart - SAME_ITEM) > 1e-5:
            assert batch.trusted[row, column] == (pair not in clicked and (apart >= SAME_ITEM or pair in shown))


def test_random_negatives_come_from_images_that_were_never_shown() -> None:
    found = pairs_of(2)
    never = np.setdiff1d(np.arange(30), [5, 6, 7])
    shown = replace(found, others=found.others * [1, 0] + [0, 5])
    options = {"rows": 24, "same_item": SAME_ITEM, "seed": 0, "step": 0}
    positives = set(batches(shown, features_of(2), **options).positives.tolist())
    as_shown, at_random = (
        set(batches(shown, features_of(2), random_negatives=flag, **options).images.tolist()) - positives
        for flag in (False, True)
    )
    assert as_shown <= {5}
    assert len(at_random & set(never.tolist())) > 3


def test_a_tenth_of_the_images_validates_by_name_alone() -> None:
    told = [is_validating(f"image {number}") for number in range(5000)]
    assert np.mean(told) == pytest.approx(HELD_OUT, abs=0.015)
    assert told == [is_validating(f"image {number}") for number in range(5000)]


class TestReading:
    @pytest.fixture
    def clicks(self, tmp_path: Path) -> DrawnClicks:
        return draw_clicks(tmp_path)

    def test_lays_pictures_and_pairs_out_in_rows(self, clicks: DrawnClicks, tmp_path: Path) -> None:
        found = read_triplet_set(clicks.file, clicks.photo, tmp_path / "pixels")
        assert found.photos.shape == (48, SIDE_PX, SIDE_PX, 3)
        assert found.is_plain.all()
        images = [clicks.pixels[clicks.images[item]] for item in clicks.item_of]
        for (row, column), image in zip(found.pairs, images, strict=True):
            middle = slice(SIDE_PX // 2 - 8, SIDE_PX // 2 + 8)
            expected = image[56:64, 56:64].mean((0, 1))
            assert found.images[column][middle, middle].mean((0, 1)) == pytest.approx(expected, abs=12), row
        assert sorted([*found.teaching(), *found.validating()]) == list(range(48))
        assert len(found.others) == 48 * 3

    def test_an_image_whose_photos_validate_teaches_no_other_photo(self, clicks: DrawnClicks, tmp_path: Path) -> None:
        found = read_triplet_set(clicks.file, clicks.photo, tmp_path / "pixels")
        assert len(found.validating())
        assert not set(found.pairs[found.teaching(), 1]) & set(found.pairs[found.validating(), 1])

    def test_uses_what_is_laid_out_and_does_anew_what_a_kill_left_half_done(
        self, clicks: DrawnClicks, tmp_path: Path
    ) -> None:
        asked: list[str] = []

        def counted(name: ContentHash) -> Pixels:
            asked.append(name)
            if len(asked) == 20:
                raise KeyboardInterrupt
            return clicks.photo(name)

        with pytest.raises(KeyboardInterrupt):
            read_triplet_set(clicks.file, counted, tmp_path / "pixels")
        whole = read_triplet_set(clicks.file, counted, tmp_path / "pixels")
        assert len(asked) == 20 + 60
        again = read_triplet_set(clicks.file, counted, tmp_path / "pixels")
        assert len(asked) == 20 + 60
        assert np.array_equal(whole.photos, again.photos)

    @pytest.mark.parametrize("damage", [ImageError("damaged"), None])
    def test_leaves_out_pictures_that_are_gone_or_damaged(
        self, clicks: DrawnClicks, tmp_path: Path, damage: ImageError | None
    ) -> None:
        whole = read_triplet_set(clicks.file, clicks.photo, tmp_path / "whole")
        lost = {clicks.photos[3], clicks.images[5]}
        found = read_triplet_set(clicks.file, missing(clicks, lost, damage), tmp_path / "pixels")
        assert (len(found.photos), len(found.images)) == (len(whole.photos) - 1, len(whole.images) - 1)
        assert found.photos.any(axis=(1, 2, 3)).all()  # no black square stands for a lost one
        assert found.images.any(axis=(1, 2, 3)).all()

        def shown(of: TripletSet, rows: NDArray[np.int64]) -> list[tuple[bytes, bytes]]:
            return [(of.photos[photo].tobytes(), of.images[image].tobytes()) for photo, image in rows]

        gone = {pixels_of(clicks, clicks.photos[3]), pixels_of(clicks, clicks.images[5])}
        for part in ("pairs", "others"):
            everything = shown(whole, getattr(whole, part))
            assert shown(found, getattr(found, part)) == [pair for pair in everything if not gone & set(pair)]

    def test_refuses_too_few_photos(self, clicks: DrawnClicks, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"names 48 photos, of which 28 can be read and 24 teach.*need 32"):
            read_triplet_set(clicks.file, missing(clicks, set(clicks.photos[:20]), None), tmp_path / "pixels")

    def test_takes_no_box_although_a_file_may_hold_those_that_users_drew(
        self, clicks: DrawnClicks, tmp_path: Path
    ) -> None:
        plain = list(read_triplets(clicks.file))
        boxed = [triplet(t.photo.content_hash, t.positive, t.negative, box=Box(1, 2, 30, 40)) for t in plain]
        write_triplets(tmp_path / "boxed.parquet", boxed, Tally())
        one, other = (
            read_triplet_set(file, clicks.photo, tmp_path / file.stem)
            for file in (clicks.file, tmp_path / "boxed.parquet")
        )
        names = {part.name for part in fields(TripletSet)}
        assert names == {"photos", "images", "is_plain", "pairs", "others", "is_held_out"}
        assert all(np.array_equal(getattr(one, part.name), getattr(other, part.name)) for part in fields(TripletSet))
        assert all(one.pairs.max(0) < [len(one.photos), len(one.images)])  # rows, not places in a picture


def missing(clicks: DrawnClicks, lost: set[ContentHash], damage: ImageError | None) -> Callable[[ContentHash], Pixels]:
    def photo(name: ContentHash) -> Pixels:
        if name not in lost:
            return clicks.photo(name)
        if damage is not None:
            raise damage
        return clicks.photo(ContentHash("gone"))

    return photo


def pixels_of(clicks: DrawnClicks, name: ContentHash) -> bytes:
    return square_pixels(clicks.photo(name), side_px=SIDE_PX, fit=Fit.PAD, fill=255).tobytes()


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9])
def test_parts_cover_every_row_once(count: int) -> None:
    rows = np.arange(count)
    assert np.concatenate([rows[:0], *(rows[part] for part in in_parts(count, 4))]).tolist() == rows.tolist()
