import ast
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import composed_photos
from composed_photos import (
    NEVER,
    SCALES,
    SIDE_PX,
    CutOutError,
    best_constant_box,
    compose_photo,
    cut_out,
    half_of,
    item_mask,
    reach,
)
from sameitem.learning.real_sets import Row
from sameitem.metrics.boxes import iou

RED = (200, 20, 30)


def listing(*, backdrop: int = 255, side: int = 120) -> NDArray[np.uint8]:
    """Draw a red frame with a grey bar, its middle open, on an even backdrop."""
    pixels = np.full((side, side, 3), backdrop, np.uint8)
    pixels[30:90, 20:100] = RED
    pixels[30:40, 20:100] = 90
    pixels[50:80, 40:80] = backdrop
    return pixels


def noise(seed: int, low: int = 0, high: int = 256) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(low, high, (SIDE_PX, SIDE_PX, 3)).astype(np.uint8)


CUT_OUT = cut_out(listing())
TEXTURE = noise(1)


def composed(seed: int, *, background: NDArray[np.uint8] | None = None, planted: bool = False) -> composed_photos.Photo:
    scene = np.full((SIDE_PX, SIDE_PX, 3), 120, np.uint8) if background is None else background
    return compose_photo(CUT_OUT, scene, TEXTURE, np.random.default_rng(seed), planted=planted)


@pytest.fixture(scope="module")
def photos() -> list[composed_photos.Photo]:
    return [composed(seed) for seed in range(60)]


@pytest.mark.parametrize("backdrop", [255, 244, 225])
def test_the_mask_is_the_item_without_the_backdrop_seen_through_it(backdrop: int) -> None:
    expected = (listing(backdrop=backdrop) != backdrop).any(axis=2)
    assert (item_mask(listing(backdrop=backdrop)) == expected).mean() > 0.995


def test_a_soft_shadow_belongs_to_the_backdrop() -> None:
    pixels = listing()
    pixels[90:110, 20:100] = (235 + np.arange(20))[:, None, None]
    assert item_mask(pixels)[95:].mean() < 0.01


def test_a_cut_out_keeps_no_backdrop_in_the_colours_of_its_edge() -> None:
    rgba = cut_out(listing())
    assert rgba[..., :3][rgba[..., 3] > 0].max() < 210


@pytest.mark.parametrize(
    ("pixels", "reason"),
    [
        (noise(0), "backdrop"),
        (np.full((120, 120, 3), 255, np.uint8), "mask share"),
        (np.pad(noise(2)[:50, :100], ((10, 60), (0, 0), (0, 0)), constant_values=255), None),
    ],
)
def test_a_picture_that_cannot_be_cut_out_is_refused_with_the_reason(
    pixels: NDArray[np.uint8], reason: str | None
) -> None:
    if reason is None:  # touches two sides, which is allowed
        assert cut_out(pixels).shape[2] == 4
        return
    with pytest.raises(CutOutError, match=reason):
        cut_out(pixels)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 9999), density=st.floats(0.3, 0.8))
def test_reached_pixels_are_those_of_a_slow_flood_fill(seed: int, density: float) -> None:
    generator = np.random.default_rng(seed)
    open_ = generator.random((12, 17)) < density
    seeds = generator.random((12, 17)) < 0.03
    slow, pending = np.zeros_like(open_), [tuple(place) for place in np.argwhere(open_ & seeds)]
    while pending:
        y, x = pending.pop()
        if 0 <= y < 12 and 0 <= x < 17 and open_[y, x] and not slow[y, x]:
            slow[y, x] = True
            pending += [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
    np.testing.assert_array_equal(reach(open_, seeds), slow)


def test_the_box_is_tight_around_what_was_pasted(photos: list[composed_photos.Photo]) -> None:
    for seed, photo in enumerate(photos[:20]):
        reddish = photo.pixels[..., 0].astype(int) - photo.pixels[..., 1] > 45
        rows, columns = np.flatnonzero(reddish.sum(axis=1) > 1), np.flatnonzero(reddish.sum(axis=0) > 1)
        seen = np.array([[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]], np.float64)
        assert iou(seen, np.array([photo.box], np.float64))[0] > 0.55, seed  # the grey bar of the item is not red


def test_boxes_lie_in_the_photo_and_have_the_promised_sizes(photos: list[composed_photos.Photo]) -> None:
    boxes = np.array([photo.box for photo in photos])
    sides = np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]) / SIDE_PX
    assert boxes.min() >= 0
    assert boxes.max() <= SIDE_PX
    assert sides.min() > SCALES[0] - 0.03
    assert sides.max() < SCALES[1] + 0.03
    assert np.ptp(sides) > 0.3


def test_items_lie_anywhere_so_that_no_constant_box_fits(photos: list[composed_photos.Photo]) -> None:
    assert best_constant_box(np.array([photo.box for photo in photos]) / SIDE_PX)[1] <= 0.4


def test_the_same_generator_takes_the_same_photo() -> None:
    one, other = composed(7, background=noise(3)), composed(7, background=noise(3))
    np.testing.assert_array_equal(one.pixels, other.pixels)
    assert one.box == other.box
    assert (composed(8, background=noise(3)).pixels != one.pixels).any()


def test_a_planted_patch_lies_beside_the_item_and_is_about_as_large() -> None:
    for seed in range(8):
        photo = composed(seed, planted=True)
        assert photo.patch is not None
        pair = np.array([photo.box, photo.patch], np.float64)
        assert iou(pair[:1], pair[1:])[0] == 0
        longest = (pair[:, 2:] - pair[:, :2]).max(axis=1)
        assert 0.4 < longest[1] / longest[0] < 1.4


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 9999))
def test_no_drawn_box_beats_the_best_constant_box(seed: int) -> None:
    generator = np.random.default_rng(seed)
    corners = np.sort(generator.random((30, 2, 2)), axis=1)
    boxes = np.concatenate([corners[:, 0], corners[:, 1]], axis=1)
    best, mean = best_constant_box(boxes)
    assert mean == pytest.approx(iou(boxes, best[None]).mean())
    assert all(iou(boxes, guess[None]).mean() <= mean + 0.02 for guess in boxes)


def test_what_is_for_measuring_only_is_never_clicked() -> None:
    def row(product: str, *, trainable: bool) -> Row:
        return Row("a", "m", product, "", "", "catalogue", "train" if trainable else "val", "", trainable, product)

    products = [f"abo cluster {place}" for place in range(400)]
    halves = [half_of(row(product, trainable=True)) for product in products]
    assert 0.37 < np.mean([half == NEVER for half in halves]) < 0.51
    assert all(half_of(row(product, trainable=False)) == NEVER for product in products)


def test_the_experiment_shares_no_code_with_what_trains() -> None:
    root = Path(composed_photos.__file__).parents[1]
    own = ast.parse(Path(composed_photos.__file__).read_text(encoding="utf-8"))
    imported = {node.module for node in ast.walk(own) if isinstance(node, ast.ImportFrom)}
    assert "sameitem.learning.edits" not in imported
    assert {name for name in imported if name and name.startswith("sameitem.learning")} == {
        "sameitem.learning.real_sets"
    }
    users = [path for path in (root / "src").rglob("*.py") if "composed_photos" in path.read_text(encoding="utf-8")]
    assert users == []
