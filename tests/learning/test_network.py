import numpy as np
import pytest

torch = pytest.importorskip("torch")
from sameitem.core.records import Box  # noqa: E402
from sameitem.features.preprocess import Fit, crop, square_pixels  # noqa: E402
from sameitem.learning.network import (  # noqa: E402
    LEAST_SIDE,
    BoxHead,
    Candidates,
    SubjectPooling,
    cut,
    hard_boxes,
    soft_mask,
)

BOXES = torch.tensor([[0.25, 0.125, 0.75, 0.5], [0.0, 0.0, 1.0, 1.0]])


def test_the_soft_mask_becomes_the_hard_rectangle() -> None:
    hard = torch.zeros(2, 1, 64, 64)
    hard[0, 0, 8:32, 16:48] = 1
    hard[1] = 1
    off = [float((soft_mask(BOXES, 64, sharpness=k) - hard).abs().mean()) for k in (20.0, 100.0, 1000.0)]
    assert off[0] > off[1] > off[2]
    assert off[2] < 1e-3


def test_the_gradient_of_the_mask_reaches_all_four_sides() -> None:
    boxes = BOXES[:1].clone().requires_grad_()
    soft_mask(boxes, 64, sharpness=20.0).sum().backward()
    assert (boxes.grad[0, 2:] > 0).all()  # right and bottom outwards: more is inside
    assert (boxes.grad[0, :2] < 0).all()


def test_a_cut_is_what_serving_crops_and_pads() -> None:
    ramp = np.mgrid[0:64, 0:64].astype(np.float32)
    picture = np.stack([ramp[0] * 3, ramp[1] * 3, ramp[0] + ramp[1]], 2).astype(np.uint8)
    photo = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
    found = (cut(photo, BOXES[:1], 32)[0] * 255).permute(1, 2, 0).numpy()
    served = square_pixels(crop(picture, Box(16, 8, 48, 32)), side_px=32, fit=Fit.PAD, fill=255)
    assert np.abs(found - served).mean() < 1.5


def test_hard_boxes_lie_inside_and_have_an_area() -> None:
    wild = torch.tensor([[-0.3, 0.2, 1.4, 0.2], [0.9, 0.9, 0.1, 0.1], [0.99, 0.99, 1.2, 1.2]])
    found = hard_boxes(wild)
    assert ((found >= 0) & (found <= 1)).all()
    assert (found[:, 2:] - found[:, :2] >= LEAST_SIDE / 2 - 1e-6).all()


def test_attention_on_one_object_gives_its_rectangle_and_the_rest_the_next_candidate() -> None:
    head = BoxHead().eval()
    weight = torch.zeros(1, 20, 20)
    weight[0, 2:8, 4:10] = 0.8 / 36
    weight[0, 14:18, 12:18] = 0.2 / 24
    weight, correction = weight.flatten(1), torch.zeros(1, 4, 400)
    candidates = Candidates(head, count=2)
    head.look = lambda *_maps: (weight, correction)  # type: ignore[method-assign]
    boxes, scores = candidates(*(torch.zeros(1),) * 3)
    assert boxes.shape == (1, 2, 4)
    assert float(scores[0].sum()) <= 1 + 1e-6
    first, second = boxes[0]
    alone = head.rectangle((weight * (weight > 0.015)) / 0.8, correction)[0]
    assert alone.numpy() == pytest.approx([0.2, 0.1, 0.5, 0.4], abs=0.03)
    assert float(first[2] - first[0]) > 0
    assert float(second[2] - second[0]) > 0


@pytest.mark.parametrize("side", [3, 5, 7])
def test_neutral_pooling_is_the_mean(side: int) -> None:
    maps = torch.rand(2, 8, side, side, generator=torch.Generator().manual_seed(side))
    pooled = SubjectPooling(centre=float("inf"), contrast=0.0)(maps)
    assert torch.allclose(pooled, maps.mean((2, 3)), atol=1e-6)
