"""Says how surely a crop of a photo shows a catalogue image: the rectangle is learned from it after the soft mask."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from sameitem.core.durable import write_whole
from sameitem.features.embed import open_session
from sameitem.learning import workers
from sameitem.learning.export import to_int8, to_onnx
from sameitem.learning.trunk import MEAN, SPREAD, Trunk, public_trunk

JUDGE_PX = 160  # side of the crops that are judged
DIM = 256
TEMPERATURE = 0.1
_CALIBRATION = 128
_BATCH = 16

Boxes = NDArray[np.float32]  # (n, 4) left, top, right, bottom in shares of the side


class _Pooled(nn.Module):
    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, image: Tensor) -> Tensor:
        pooled: Tensor = self.trunk(image).mean((2, 3))
        return pooled


class Judge:
    """The general feature of crops, projected so that it tells this catalogue's images apart.

    The trunk is the public one and runs as int8, about 400 crops a second on one core. The projection starts as the
    whitened principal directions of the catalogue's images and is improved by `learn`.
    """

    def __init__(self, images: NDArray[np.uint8], folder: Path) -> None:
        """Embed the catalogue's images.

        Args:
            images: (images, side, side, 3)
            folder: keeps the trunk's graph, which takes half a minute to make.
        """
        file = folder / f"judge-{JUDGE_PX}.onnx"
        if not file.is_file() and not workers.number():
            graph = to_onnx(_Pooled(public_trunk()), input_name="image", output_names=["pooled"], side_px=JUDGE_PX)
            shown = (square(images[row]) for row in range(0, len(images), max(1, len(images) // _CALIBRATION)))
            write_whole(file, to_int8(graph, (_input([one]) for one in shown), input_name="image"))
        workers.agreed(0.0)  # the first process has made it
        self._session = open_session(file.read_bytes(), threads=1)
        self.pooled_images = self.pooled([square(image) for image in images])  # (images, 1280)
        self.middle = self.pooled_images.mean(axis=0)
        dim = min(DIM, len(images) - 1, self.pooled_images.shape[1])
        _, spread, axes = np.linalg.svd(self.pooled_images - self.middle, full_matrices=False)
        self.whiten = (axes[:dim].T / (spread[:dim] / len(images) ** 0.5 + 1e-3) ** 0.5).astype(np.float32)

    @property
    def features(self) -> NDArray[np.float32]:
        """The catalogue images' (images, dim) unit features."""
        return self.feature(self.pooled_images)

    def feature(self, pooled: NDArray[np.float32]) -> NDArray[np.float32]:
        """Turn (n, 1280) mean maps into (n, dim) unit features."""
        projected = (pooled - self.middle) @ self.whiten
        return np.asarray(projected / np.linalg.norm(projected, axis=1, keepdims=True), np.float32)

    def pooled(self, squares: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Return the (n, 1280) mean maps of (160, 160, 3) crops."""
        rows = [
            self._session.run(["pooled"], {"image": _input(squares[start : start + _BATCH])})[0]
            for start in range(0, len(squares), _BATCH)
        ]
        return np.concatenate(rows)

    def certainty(self, photo: NDArray[np.uint8], boxes: Boxes, image: int, features: NDArray[np.float32]) -> Boxes:
        """Return for each box of a photo the logarithm of the probability of its image among all of the catalogue's.

        Args:
            photo: (side, side, 3)
            boxes: (n, 4)
            image: row of the catalogue.
            features: what the property of that name returned.
        """
        scores = self.feature(self.pooled([square(photo, box) for box in boxes])) @ features.T / TEMPERATURE
        highest = scores.max(axis=1)
        spread = np.log(np.exp(scores - highest[:, None]).sum(axis=1))
        return np.asarray(scores[:, image] - highest - spread, np.float32)

    def learn(
        self,
        pooled: NDArray[np.float32],
        images: NDArray[np.int64],
        weights: NDArray[np.float32],
        *,
        steps: int,
        generator: np.random.Generator,
    ) -> float:
        """Improve the projection on crops whose image is known; return the loss of the last step.

        Args:
            pooled: (crops, 1280) mean maps.
            images: (crops,) row of the catalogue that each shows.
            weights: (crops,) how much it counts.
            steps: of gradient descent.
            generator: draws the batches.
        """
        everything, crops = torch.from_numpy(self.pooled_images), torch.from_numpy(pooled)
        whiten, middle = (nn.Parameter(torch.from_numpy(array.copy())) for array in (self.whiten, self.middle))
        optimiser = torch.optim.Adam([whiten, middle], 3e-4)
        own, counts = torch.from_numpy(images), torch.from_numpy(weights)
        loss = torch.zeros(())
        for _ in range(steps):
            rows = torch.from_numpy(generator.integers(len(crops), size=min(192, len(crops))))
            shown = functional.normalize((crops[rows] - middle) @ whiten, dim=1)
            known = functional.normalize((everything - middle) @ whiten, dim=1)
            each = functional.cross_entropy(shown @ known.T / TEMPERATURE, own[rows], reduction="none")
            loss = (each * counts[rows]).sum() / counts[rows].sum().clamp(min=1e-9)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        self.whiten, self.middle = whiten.detach().numpy().copy(), middle.detach().numpy().copy()
        return loss.item()


def square(photo: NDArray[np.uint8], box: NDArray[np.floating] | None = None) -> NDArray[np.uint8]:
    """Cut a box out of a square photo and scale it, padded white, to (160, 160, 3)."""
    side = len(photo)
    left, top, right, bottom = (0.0, 0.0, side, side) if box is None else (float(edge) * side for edge in box)
    width, height = max(right - left, 2.0), max(bottom - top, 2.0)
    scale = JUDGE_PX / max(width, height)
    wide, high = max(1, round(width * scale)), max(1, round(height * scale))
    window = (left, top, min(side, left + width), min(side, top + height))
    part = Image.fromarray(photo).resize((wide, high), Image.Resampling.BILINEAR, box=window, reducing_gap=2.0)
    made = np.full((JUDGE_PX, JUDGE_PX, 3), 255, np.uint8)
    y, x = (JUDGE_PX - high) // 2, (JUDGE_PX - wide) // 2
    made[y : y + high, x : x + wide] = np.asarray(part)
    return made


def _input(squares: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    values = (np.stack(squares).astype(np.float32) - MEAN) / SPREAD
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2))


def prior_boxes() -> Boxes:
    """Return boxes of three sizes that cover the photo: where to look when nothing is known."""
    found = []
    for size, across in ((0.38, 3), (0.62, 2), (0.9, 1)):
        places = np.linspace(size / 2, 1 - size / 2, across)
        found += [(x - size / 2, y - size / 2, x + size / 2, y + size / 2) for y in places for x in places]
    return np.array(found, np.float32)


def boxes_around(box: NDArray[np.floating], count: int, spread: float, generator: np.random.Generator) -> Boxes:
    """Draw boxes near one; a spread of 1 moves the centre by about a fifth of the sides and the sides by a third."""
    drawn = generator.standard_normal((count, 4))
    middle, sides = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
    middles = middle + 0.22 * spread * sides * drawn[:, :2]
    halves = np.clip(sides * np.exp(0.35 * spread * drawn[:, 2:]), 0.08, 1.05) / 2
    return inside(np.concatenate([middles - halves, middles + halves], axis=1))


def inside(boxes: NDArray[np.floating]) -> Boxes:
    """Clip boxes to the photo, each side at least 0.08, half as long at the photo's edge."""
    clipped = np.clip(boxes, 0, 1)
    middles, halves = (clipped[:, :2] + clipped[:, 2:]) / 2, np.maximum((clipped[:, 2:] - clipped[:, :2]) / 2, 0.04)
    found = np.concatenate([middles - halves, middles + halves], axis=1)
    return np.asarray(np.clip(found, 0, 1), np.float32)
