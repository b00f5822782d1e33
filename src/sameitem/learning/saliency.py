"""Teaches the subject head on real photos that no click tells about: where the ImageNet trunk itself sees something.

Composed photos teach rectangles, but only of things that were pasted. On real photos the trunk's last maps are strong,
and unlike the border, where the subject is: the rectangle around that is right more often than what composed photos
taught. docs/decisions/0009-subject-on-real-photos.md has the figures.
"""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from sameitem.learning.network import DetectionBranch
from sameitem.learning.phases import (
    PhotoMaps,
    box_loss,
    device_of,
    falling,
    flipped,
    load_state,
    normalised,
    set_rate,
    state_of,
    take_step,
)
from sameitem.learning.triplet_set import in_parts
from sameitem.learning.trunk import Trunk

SALIENT_PX = 320  # side of what the trunk sees, for maps of 10 x 10 cells
GRID = 20  # cells a side that the rectangle is placed on
THRESHOLD = 0.3  # a cell belongs to the subject from here between the lowest cell and the brightest ones
_BRIGHTEST = 8  # cells whose mean is the upper end
_LEAST_CELLS = 2  # sides of the rectangle
_PHOTOS = 96  # of a step, half of them real


def saliency(maps: Tensor) -> Tensor:
    """Return (n, GRID, GRID): how strong a cell is, times how unlike the border it is.

    Args:
        maps: (n, channels, s, s) of a trunk's last block.
    """
    side = int(maps.shape[2])
    ring = torch.ones(side, side, device=maps.device)
    ring[1:-1, 1:-1] = 0
    border = (maps * (ring / ring.sum())).sum((2, 3), keepdim=True)
    unlike = 1 - functional.cosine_similarity(maps, border, dim=1)
    strong = (unlike * maps.norm(dim=1))[:, None]
    return functional.interpolate(strong, size=(GRID, GRID), mode="bilinear", align_corners=False)[:, 0]


def brightest_box(cells: NDArray[np.float32]) -> tuple[float, float, float, float]:
    """Return the rectangle whose cells exceed the threshold by most in sum: left, top, right, bottom in shares.

    Args:
        cells: (GRID, GRID)

    Source: the score of efficient subwindow search (Lampert et al., CVPR 2008), here over every rectangle.
    """
    low, high = cells.min(), np.sort(cells, axis=None)[-_BRIGHTEST:].mean()
    sums = np.zeros((GRID + 1, GRID + 1))
    sums[1:, 1:] = (cells - (low + THRESHOLD * (high - low))).cumsum(0).cumsum(1)
    best, found = -np.inf, (0.0, 0.0, 1.0, 1.0)
    for top in range(GRID):
        for bottom in range(top + _LEAST_CELLS, GRID + 1):
            row = sums[bottom] - sums[top]
            inside = row[None, :] - row[:, None]  # (left, right)
            inside[np.tril_indices(GRID + 1, _LEAST_CELLS - 1)] = -np.inf
            place = int(inside.argmax())
            if inside.flat[place] > best:
                left, right = divmod(place, GRID + 1)
                best, found = inside.flat[place], (left / GRID, top / GRID, right / GRID, bottom / GRID)
    return found


def salient_boxes(photos: NDArray[np.uint8], trunk: Trunk) -> NDArray[np.float32]:
    """Return the (n, 4) rectangles of what the trunk sees in square photos."""
    found = []
    for part in in_parts(len(photos), 16):
        with torch.inference_mode():
            cells = saliency(trunk(normalised(photos[part], SALIENT_PX, device_of(trunk)))).cpu().numpy()
        found += [brightest_box(one) for one in cells]
    return np.array(found, np.float32).reshape(-1, 4)


class RealPhotosPhase:
    """The head learns the salient rectangles of real photos, and keeps what it finds in composed ones."""

    name = "real photos"

    def __init__(
        self,
        composed: NDArray[np.uint8],
        real: NDArray[np.uint8],
        branch: DetectionBranch,
        *,
        steps: int,
        rate: float,
        seed: int,
    ) -> None:
        """Find what is to be learned.

        Args:
            composed: (n, side, side, 3) photos that the head was taught on; it is to find there what it finds now.
            real: (m, side, side, 3)
            branch: its head learns.
            steps: of the phase.
            rate: of learning, at first.
            seed: of the run.
        """
        self.steps, self._branch, self._seed, self._rate = steps, branch, seed, rate
        self._kinds = tuple(PhotoMaps(photos, branch) for photos in (composed, real))
        rows = np.random.default_rng([seed, 300]).permutation(len(composed))[: len(real)]
        self._rows = (np.sort(rows), np.arange(len(real)))
        with torch.inference_mode():
            kept = [branch.head(*self._kinds[0].of(self._rows[0][part])).cpu() for part in in_parts(len(rows), 64)]
        self._wanted = (torch.cat(kept).clamp(0, 1).clone(), torch.from_numpy(salient_boxes(real, branch.trunk)))
        self._optimiser = torch.optim.AdamW(branch.head.parameters(), rate, weight_decay=1e-2)

    def step(self, number: int) -> Mapping[str, float]:
        """Take a step."""
        set_rate(self._optimiser, self._rate * falling(number / self.steps))
        return take_step(self._optimiser, 1, lambda part: self._loss(number, part))

    def _loss(self, number: int, part: int) -> tuple[Tensor, Mapping[str, float]]:
        generator = np.random.default_rng([self._seed, 301, number, part])
        maps, wanted = [], []
        for kind, rows, boxes in zip(self._kinds, self._rows, self._wanted, strict=True):
            drawn = generator.integers(len(rows), size=_PHOTOS // 2)
            maps.append(kind.of(rows[drawn]))
            wanted.append(boxes[torch.from_numpy(drawn)])
        seen, target = tuple(torch.cat(level) for level in zip(*maps, strict=True)), torch.cat(wanted)
        if number % 2:
            seen, target = flipped(seen, target)
        loss = box_loss(self._branch.head(*seen), target.to(seen[0].device)).mean()
        return loss, {"loss": loss.item()}

    def recall(self) -> None:
        """Return nothing: no box is known that the phase could be judged by."""

    def state(self) -> dict[str, Tensor]:
        """Return head and optimiser."""
        return state_of(self._branch.head, self._optimiser)

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a checkpoint."""
        load_state(self._branch.head, self._optimiser, state)
