import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.strategies import integers
from numpy.typing import NDArray

from sameitem.learning.compositions import CUT_PX, compose, cut_out

SIDE = 96
RED = (230, 10, 20)


def on_plain(width: int, height: int, *, backdrop: int = 245) -> NDArray[np.uint8]:
    """A red thing, a third of the picture wide and half of it high, on an even backdrop."""
    picture = np.full((height, width, 3), backdrop, np.uint8)
    picture[height // 4 : 3 * height // 4, width // 3 : 2 * width // 3] = RED
    return picture


def blue(seed: int) -> NDArray[np.uint8]:
    """A background without any red."""
    scene = np.random.default_rng(seed).integers(120, 256, (70, 110, 3), dtype=np.uint8)
    scene[..., 0] = 0
    return scene


@pytest.mark.parametrize(("width", "height"), [(300, 200), (90, 150)])
def test_a_cut_out_is_tight_around_the_subject(width: int, height: int) -> None:
    item = cut_out(on_plain(width, height))
    assert item is not None
    scale = min(1.0, CUT_PX / max(width, height))
    assert item.shape[:2] == pytest.approx((height / 2 * scale, width / 3 * scale), abs=4)
    opaque = item[item[..., 3] > 0]
    assert (opaque[:, 0] > opaque[:, 1] + 60).mean() > 0.95
    assert (item[..., 3] > 0).mean() > 0.8


def test_nothing_is_cut_out_where_there_is_no_even_backdrop_or_no_subject() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (80, 80, 3), dtype=np.uint8)
    assert cut_out(noise) is None
    assert cut_out(np.full((80, 80, 3), 255, np.uint8)) is None


@settings(max_examples=60, deadline=None)
@given(seed=integers(0, 9999))
def test_the_box_is_that_of_what_was_pasted(seed: int) -> None:
    item = cut_out(on_plain(120, 120))
    assert item is not None
    made = compose(item, blue(seed), blue(seed + 1), np.random.default_rng(seed), side_px=SIDE)
    assert made is not None
    assert made.photo.shape == (SIDE, SIDE, 3)
    left, top, right, bottom = (round(edge * SIDE) for edge in made.box)
    assert 0 <= left < right <= SIDE
    assert 0 <= top < bottom <= SIDE
    photo = made.photo.astype(int)
    ys, xs = np.nonzero(photo[..., 0] - photo[..., 1:].max(2) > 25)  # red shows: blue never has any
    assert len(xs) > 10
    assert xs.min() >= left - 2
    assert xs.max() <= right + 1
    assert ys.min() >= top - 2
    assert ys.max() <= bottom + 1


def test_the_box_is_tight_where_nothing_covers_the_item() -> None:
    item = cut_out(on_plain(120, 120))
    assert item is not None
    loose = []
    for seed in range(40):
        made = compose(item, blue(seed), blue(seed + 1), np.random.default_rng(seed), side_px=SIDE)
        assert made is not None
        photo = made.photo.astype(int)
        ys, xs = np.nonzero(photo[..., 0] - photo[..., 1:].max(2) > 25)
        shown = (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
        loose.append(max(abs(edge * SIDE - seen) for edge, seen in zip(made.box, shown, strict=True)))
    assert np.median(loose) <= 3


def test_a_photo_is_the_same_for_the_same_generator_and_another_for_another() -> None:
    item = cut_out(on_plain(120, 120))
    assert item is not None
    one, again, other = (
        compose(item, blue(1), blue(2), np.random.default_rng(seed), side_px=SIDE) for seed in (7, 7, 8)
    )
    assert one is not None
    assert again is not None
    assert other is not None
    assert np.array_equal(one.photo, again.photo)
    assert one.box == again.box
    assert one.box != other.box


def test_nothing_is_composed_of_an_item_of_which_nothing_is_left() -> None:
    invisible = np.zeros((40, 40, 4), np.uint8)
    assert compose(invisible, blue(1), blue(2), np.random.default_rng(0), side_px=SIDE) is None
