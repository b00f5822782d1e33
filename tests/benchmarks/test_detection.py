from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import composed_photos
import detection
from composed_photos import SIDE_PX
from sameitem.core.records import Box, Pixels
from sameitem.metrics.boxes import iou


def spot(*, left: int = 20, top: int = 40, right: int = 90, bottom: int = 100) -> NDArray[np.uint8]:
    pixels = np.random.default_rng(0).integers(100, 130, (120, 160, 3)).astype(np.uint8)
    pixels[top:bottom, left:right] = (220, 30, 40)
    return pixels


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 9999), cells=st.integers(2, 7))
def test_the_tightest_box_is_that_of_a_search_over_all(seed: int, cells: int) -> None:
    values = np.random.default_rng(seed).random((cells, cells)) ** 4
    kept = np.where(values > detection._otsu(values), values, 0.0)
    sides = [(one, two) for one in range(cells) for two in range(one + 1, cells + 1)]
    areas = [
        (right - left) * (bottom - top)
        for left, right in sides
        for top, bottom in sides
        if kept[top:bottom, left:right].sum() >= 0.9 * kept.sum() - 1e-12
    ]
    left, top, right, bottom = np.round(detection.tightest_box(values) * cells).astype(int)
    assert (right - left) * (bottom - top) == min(areas)
    assert kept[top:bottom, left:right].sum() >= 0.9 * kept.sum() - 1e-9


@pytest.mark.parametrize("maps", [detection.border_contrast, detection.spectral_residual])
def test_a_saliency_box_finds_a_red_spot_on_grey(maps: detection.Maps) -> None:
    truth = np.array([[20.0, 40.0, 90.0, 100.0]])
    assert iou(detection.salient([spot()], maps=maps), truth)[0] > (0.7 if maps is detection.border_contrast else 0.3)


def test_boxes_without_learning_are_in_the_pixels_of_each_photo() -> None:
    photos = [spot(), spot()[:60]]
    np.testing.assert_allclose(detection.whole_photos(photos), [[0, 0, 160, 120], [0, 0, 160, 60]])
    np.testing.assert_allclose(detection.middles(photos, share=0.5)[0], [40, 30, 120, 90])
    box = np.array([0.25, 0, 0.5, 1])
    np.testing.assert_allclose(detection.constants(photos, box=box), [[40, 0, 80, 120], [40, 0, 80, 60]])


def test_a_box_that_is_always_right_scores_one_and_is_no_patch() -> None:
    truth = np.array([[20.0, 40.0, 90.0, 100.0], [0.0, 0.0, 50.0, 60.0]])
    case = detection.Case("drawn", [spot(), spot()], truth)
    row = detection.detection_table([case], {"oracle": lambda photos: truth}).splitlines()[2]
    assert row.count("1.000 (1.000-1.000)") == 3
    table = detection.planted_table(case.photos, truth, truth + 60.0, {"oracle": lambda photos: truth})
    assert table.splitlines()[2].split("|")[2].strip() == "1.000 (1.000-1.000)"


class FakeDetection:
    """One box, the red spot's."""

    def __init__(self, pixels: Pixels) -> None:
        rows, columns = np.nonzero(pixels[..., 0].astype(int) - pixels[..., 1] > 90)
        box = Box(*map(float, (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)))
        self.boxes, self.scores = (box,), (1.0,)


class FakeDetector:
    """What `features.detect.Detector` promises, for photos with one red spot."""

    views = (1.0, 0.8)

    def detect(self, photos: list[Pixels]) -> list[FakeDetection]:
        return [FakeDetection(photo) for photo in photos]


def mean_colour(crops: list[Pixels]) -> NDArray[np.float32]:
    colours = np.array([crop.reshape(-1, 3).mean(axis=0) for crop in crops], np.float32) - 100
    return colours / np.linalg.norm(colours, axis=1, keepdims=True)


def test_the_learned_box_finds_an_item_that_the_whole_photo_does_not() -> None:
    photo = np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8) + np.array([90, 200, 90], np.uint8)
    photo[20:60, 20:60] = (250, 20, 20)
    catalogue = np.zeros((2, SIDE_PX, SIDE_PX, 3), np.uint8)
    catalogue[0] += np.array([250, 20, 20], np.uint8)
    catalogue[1] += np.array([90, 200, 90], np.uint8)
    composed = detection.Composed(
        photo[None], np.array([[20.0, 20.0, 60.0, 60.0]]), np.array([0]), np.array([True]), catalogue
    )
    table = detection.recall_table(composed, mean_colour, FakeDetector())  # type: ignore[arg-type]
    shares = {line.split("|")[1].strip(): line.split("|")[2].split()[0] for line in table.splitlines()[2:]}
    assert shares["whole photo"] == "0.000"
    assert shares["learned box"] == shares["true box"] == "1.000"


def test_only_never_clicked_items_of_a_set_are_read(tmp_path: Path) -> None:
    (tmp_path / "truth").mkdir()
    (tmp_path / "items.csv").write_text("cluster,member,split,half,top14\na,a,train,clicked,\nb,b,val,never,\n")
    np.save(tmp_path / "photo_item.npy", np.array([0, 0, 1], np.int32))
    np.save(tmp_path / "photos.npy", np.arange(3, dtype=np.uint8).reshape(3, 1, 1, 1))
    np.save(tmp_path / "catalogue.npy", np.zeros((2, 1, 1, 1), np.uint8))
    np.save(tmp_path / "truth" / "boxes.npy", np.full((3, 4), 0.5))
    composed = detection.read_composed(tmp_path)
    assert composed.photos.ravel().tolist() == [2]
    assert composed.items.tolist() == [1]
    assert composed.unseen.tolist() == [True]
    np.testing.assert_array_equal(composed.boxes, np.full((1, 4), 0.5 * composed_photos.SIDE_PX))
