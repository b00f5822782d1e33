"""Boxes and category probabilities of whole photos."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import helper

from drawn_graphs import (
    CORNER,
    DETECT_SIDE,
    detection_graph,
    embedding_graph,
    photo_of_a_thing,
    write_detecting,
    write_drawn,
)
from sameitem.core.errors import InputError, NotFoundError, ShapeError
from sameitem.core.records import Box
from sameitem.features.detect import LEAST_SCORE, SAME_OBJECT, Detector
from sameitem.features.model_folder import BOX_SCORES, BOXES
from sameitem.metrics.boxes import iou

CATEGORIES = ("tops", "shoes", "watches")


def boxes_graph(boxes: list[tuple[float, float, float, float]], scores: list[float]) -> bytes:
    """Return a graph that gives the same boxes for every photo."""
    count = len(boxes)
    rows = {BOXES: ([[*boxes]], [1, count, 4]), BOX_SCORES: ([scores], [1, count])}
    nodes = [helper.make_node("ReduceMean", ["image"], ["mean"], axes=[1, 2, 3], keepdims=0)]
    nodes += [
        helper.make_node("Constant", [], ["axes"], value=helper.make_tensor("a", 7, [2], [1, 2])),
        helper.make_node("Constant", [], ["axis"], value=helper.make_tensor("b", 7, [1], [1])),
        helper.make_node("Constant", [], ["none"], value=helper.make_tensor("c", 1, [1], [0.0])),
        helper.make_node("Mul", ["mean", "none"], ["zero"]),
        helper.make_node("Unsqueeze", ["zero", "axes"], [f"zero_{BOXES}"]),
        helper.make_node("Unsqueeze", ["zero", "axis"], [f"zero_{BOX_SCORES}"]),
    ]
    outputs = []
    for name, (values, shape) in rows.items():
        flat = np.array(values, np.float32).ravel().tolist()
        nodes.append(helper.make_node("Constant", [], [f"all_{name}"], value=helper.make_tensor(name, 1, shape, flat)))
        nodes.append(helper.make_node("Add", [f"all_{name}", f"zero_{name}"], [name]))
        outputs.append(helper.make_tensor_value_info(name, 1, ["n", *shape[1:]]))
    image = helper.make_tensor_value_info("image", 1, ["n", 3, DETECT_SIDE, DETECT_SIDE])
    graph = helper.make_graph(nodes, "boxes", [image], outputs)
    return bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    )


def overlap(a: Box, b: Box) -> float:
    rows = [np.array([(box.left, box.top, box.right, box.bottom)], np.float64) for box in (a, b)]
    return float(iou(*rows)[0])


def found(folder: Path, boxes: list[tuple[float, float, float, float]], scores: list[float]) -> Detector:
    write_detecting(folder, graph=boxes_graph(boxes, scores))
    return Detector(folder)


@pytest.mark.parametrize("size", [(400, 300), (300, 400), (64, 64), (900, 120)])
def test_the_box_is_in_pixels_of_the_photo_whatever_its_shape(tmp_path: Path, size: tuple[int, int]) -> None:
    width, height = size
    true = (width // 4, height // 5, width // 2, 4 * height // 5)
    write_detecting(tmp_path / "drawn")
    (detection,) = Detector(tmp_path / "drawn").detect([photo_of_a_thing(true, size=size)])
    step = max(size) / DETECT_SIDE  # what one pixel of the detector's square is in the photo
    for got, wanted in zip((detection.boxes[0].left, detection.boxes[0].top), true[:2], strict=True):
        assert got == pytest.approx(wanted, abs=2 * step)
    assert overlap(detection.boxes[0], Box(*true)) > 0.6


def test_a_photo_means_the_same_alone_and_in_a_batch(tmp_path: Path) -> None:
    write_detecting(tmp_path / "drawn", categories=CATEGORIES)
    things = [photo_of_a_thing((20 * n, 10 * n, 20 * n + 80, 10 * n + 60)) for n in range(7)]
    alone = [Detector(tmp_path / "drawn", batch=1).detect([thing])[0] for thing in things]
    together = Detector(tmp_path / "drawn", batch=3).detect(things)
    assert [detection.boxes for detection in together] == [detection.boxes for detection in alone]
    assert Detector(tmp_path / "drawn").detect([]) == []


def test_candidates_are_best_first_and_an_overlapping_or_unlikely_one_is_dropped(tmp_path: Path) -> None:
    best, same, other = (0.1, 0.1, 0.5, 0.5), (0.12, 0.1, 0.5, 0.5), (0.6, 0.6, 0.9, 0.9)
    detector = found(tmp_path / "drawn", [best, same, other, (0.0, 0.6, 0.3, 0.9)], [0.9, 0.8, 0.7, LEAST_SCORE / 2])
    (detection,) = detector.detect([np.zeros((100, 100, 3), np.uint8)])
    assert [tuple(map(round, (b.left, b.top, b.right, b.bottom))) for b in detection.boxes] == [
        (10, 10, 50, 50),
        (60, 60, 90, 90),
    ]
    assert detection.scores == pytest.approx((0.9, 0.7))
    assert overlap(Box(*best), Box(*same)) > SAME_OBJECT


def test_the_best_box_stays_however_unlikely_it_is(tmp_path: Path) -> None:
    (detection,) = found(tmp_path / "drawn", [(0.2, 0.2, 0.4, 0.4)], [0.0]).detect([np.zeros((50, 50, 3), np.uint8)])
    assert len(detection.boxes) == 1


@pytest.mark.parametrize(
    "box", [(-3.0, -3.0, 4.0, 4.0), (0.5, 0.5, 0.5, 0.5), (0.9, 0.9, 0.1, 0.1), (2.0, 2.0, 3.0, 3.0)]
)
@pytest.mark.parametrize("size", [(1, 1), (90, 3), (200, 100)])
def test_every_box_covers_at_least_a_pixel_inside_the_photo(
    tmp_path: Path, box: tuple[float, float, float, float], size: tuple[int, int]
) -> None:
    (detection,) = found(tmp_path / "drawn", [box], [0.5]).detect([np.zeros((size[1], size[0], 3), np.uint8)])
    placed = detection.boxes[0]
    assert 0 <= placed.left <= placed.right - 1 <= size[0] - 1
    assert 0 <= placed.top <= placed.bottom - 1 <= size[1] - 1


def test_bars_beside_the_photo_belong_to_no_box(tmp_path: Path) -> None:
    wide = np.full((100, 400, 3), 200, np.uint8)
    (detection,) = found(tmp_path / "drawn", [(0.0, 0.0, 1.0, 1.0)], [0.5]).detect([wide])
    assert detection.boxes == (Box(0, 0, 400, 100),)


def solid(colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    return np.full((80, 80, 3), colour, np.uint8)


def test_the_temperature_flattens_the_probabilities_and_leaves_their_order(tmp_path: Path) -> None:
    shares = []
    for temperature in (1.0, 8.0):
        folder = tmp_path / f"t{temperature:g}"
        write_detecting(folder, categories=CATEGORIES, temperature=temperature)
        detector = Detector(folder)
        assert detector.categories == CATEGORIES
        red, blue = (
            detection.category_probabilities for detection in detector.detect([solid((255, 0, 0)), solid((0, 0, 255))])
        )
        assert red.sum() == pytest.approx(1)
        assert (red.argmax(), blue.argmax()) == (1, 0)
        shares.append(red.max())
    assert shares[1] < shares[0]


def test_a_model_without_categories_gives_no_probabilities(tmp_path: Path) -> None:
    write_detecting(tmp_path / "drawn")
    assert Detector(tmp_path / "drawn").detect([solid((0, 0, 0))])[0].category_probabilities.shape == (0,)


def test_a_second_object_is_told_too(tmp_path: Path) -> None:
    write_detecting(tmp_path / "drawn")
    (detection,) = Detector(tmp_path / "drawn").detect([photo_of_a_thing((250, 150, 380, 280), size=(400, 400))])
    assert detection.boxes[1] == Box(*(400 * side for side in CORNER))


def test_a_model_that_finds_no_subjects_says_so(tmp_path: Path) -> None:
    write_drawn(tmp_path / "drawn", embedding_graph())
    with pytest.raises(NotFoundError, match="no graph 'detect'"):
        Detector(tmp_path / "drawn")


def test_outputs_that_the_graph_does_not_have_are_refused(tmp_path: Path) -> None:
    write_detecting(tmp_path / "drawn", categories=CATEGORIES, graph=detection_graph())
    with pytest.raises(InputError, match="category_logits"):
        Detector(tmp_path / "drawn")


def test_as_many_logits_as_categories_are_needed(tmp_path: Path) -> None:
    write_detecting(tmp_path / "drawn", categories=CATEGORIES, graph=detection_graph(categories=5))
    with pytest.raises(InputError, match=r"\(n, 3\).*\(1, 5\)"):
        Detector(tmp_path / "drawn").detect([solid((0, 0, 0))])


def test_a_score_that_rounding_lifts_above_one_is_one(tmp_path: Path) -> None:
    (detection,) = found(tmp_path / "m", [(0.1, 0.1, 0.5, 0.5)], [1.0000004]).detect([solid((0, 0, 0))])
    assert detection.scores == (1.0,)


@pytest.mark.parametrize(
    ("box", "score", "word"), [((0.0, 0.0, np.nan, 1.0), 0.5, "finite"), ((0.0, 0.0, 1.0, 1.0), 1.5, "0..1")]
)
def test_numbers_that_are_no_boxes_or_scores_are_refused(
    tmp_path: Path, box: tuple[float, float, float, float], score: float, word: str
) -> None:
    with pytest.raises(InputError, match=word):
        found(tmp_path / "drawn", [box], [score]).detect([solid((0, 0, 0))])


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    write_detecting(tmp_path / "drawn")
    with pytest.raises(ShapeError, match="height, width, 3"):
        Detector(tmp_path / "drawn").detect([np.zeros((0, 3, 3), np.uint8)])
