import numpy as np
import pytest
from hypothesis import given
from hypothesis.strategies import integers
from numpy.typing import NDArray

from sameitem.core.errors import InputError, ShapeError
from sameitem.metrics.boxes import iou


def counted(a: NDArray[np.int64], b: NDArray[np.int64]) -> float:
    """Count the pixels of two whole-numbered boxes one by one."""
    masks = []
    for left, top, right, bottom in (a, b):
        mask = np.zeros((20, 20), bool)
        mask[top:bottom, left:right] = True
        masks.append(mask)
    union = (masks[0] | masks[1]).sum()
    return float((masks[0] & masks[1]).sum() / union) if union else 0.0


@given(seed=integers(0, 9999))
def test_is_what_counting_pixels_gives(seed: int) -> None:
    corners = np.sort(np.random.default_rng(seed).integers(0, 20, (2, 30, 2, 2)), axis=2)  # low, high
    a, b = corners.reshape(2, 30, 4)
    expected = [counted(one, other) for one, other in zip(a, b, strict=True)]
    assert iou(a.astype(np.float64), b.astype(np.float64)) == pytest.approx(expected)


def test_of_a_box_without_area_is_zero_and_of_itself_one() -> None:
    boxes = np.array([[1.0, 1.0, 3.0, 4.0], [2.0, 2.0, 2.0, 9.0], [5.0, 5.0, 1.0, 1.0]])
    assert iou(boxes, boxes).tolist() == [1.0, 0.0, 0.0]


def test_compares_one_box_with_many() -> None:
    many = np.array([[0.0, 0.0, 2.0, 2.0], [1.0, 0.0, 3.0, 2.0]])
    assert iou(many, many[:1]) == pytest.approx([1.0, 1 / 3])


@pytest.mark.parametrize(("a", "b"), [((2, 4), (3, 4)), ((2, 3), (2, 3)), ((4,), (4,))])
def test_refuses_what_are_no_pairs_of_boxes(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"\(boxes, 4\)"):
        iou(np.zeros(a), np.zeros(b))


def test_refuses_sides_that_are_not_finite() -> None:
    with pytest.raises(InputError, match="finite"):
        iou(np.array([[0.0, 0.0, np.nan, 1.0]]), np.zeros((1, 4)))
