"""Whole photos in, boxes of subjects and category probabilities out: the session of a model's `detect` graph."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sameitem.core.errors import InputError, NotFoundError
from sameitem.core.records import Box, Pixels
from sameitem.features.embed import PictureSession
from sameitem.features.model_folder import BOX_SCORES, BOXES, CATEGORY_LOGITS, DETECT, read_model
from sameitem.features.preprocess import padded_place
from sameitem.metrics.boxes import iou

SAME_OBJECT = 0.7  # candidates that overlap a better one by more are the same object
LEAST_SCORE = 0.1  # candidates below are no object; the best one stays
_ROUNDING = 1e-3  # of a score, a sum of shares in float32


@dataclass(frozen=True, slots=True, eq=False)
class Detection:
    """What a photo shows; box i has score i, best first, at least one."""

    boxes: tuple[Box, ...]  # pixels of the photo, each at least one pixel wide and high
    scores: tuple[float, ...]  # 0..1
    category_probabilities: NDArray[
        np.float64
    ]  # (categories,) of the whole photo, sums to 1; empty = the model has none


class Detector:
    """Finds the subject of whole photos with one model version; one instance may serve many threads."""

    def __init__(self, folder: Path, *, threads: int = 1, batch: int = 32) -> None:
        """Load the model folder.

        Args:
            folder: of the model version.
            threads: processor threads of one run.
            batch: most photos of one run.

        Raises:
            NotFoundError: no model folder there, or a model without a graph `detect`.
            InputError: the folder or its graph does not fit its manifest.
        """
        model = read_model(folder)
        if model.detect is None:
            raise NotFoundError(f"model {model.version} has no graph {DETECT!r}; it cannot find subjects")
        self._detect, self._version = model.detect, model.version
        self._session = PictureSession(
            folder,
            model,
            DETECT,
            preprocessing=model.detect.preprocessing,
            outputs=[BOXES, BOX_SCORES, *([CATEGORY_LOGITS] if model.detect.categories else [])],
            threads=threads,
            batch=batch,
        )

    @property
    def version(self) -> str:
        """The model version."""
        return self._version

    @property
    def categories(self) -> tuple[str, ...]:
        """Ids of the top categories that probabilities are given for; empty where the model knows none."""
        return self._detect.categories

    @property
    def views(self) -> tuple[float, ...]:
        """Scales of the subject's box whose features are averaged; 0 stands for the whole photo."""
        return self._detect.views

    def detect(self, photos: Sequence[Pixels]) -> list[Detection]:
        """Find the subjects of photos of any size, in the order of the photos.

        Raises:
            ShapeError: not an RGB picture.
            InputError: the graph failed, or gave what is no box, score or logit.
        """
        found: list[Detection] = []
        for rows, outputs in self._session.run(photos):
            self._check(outputs)
            probabilities = [np.empty(0)] * len(outputs[0])
            if self.categories:
                probabilities = list(_softmax(outputs[2].astype(np.float64) / self._detect.temperature))
            for photo, boxes, scores, shares in zip(photos[rows], *outputs[:2], probabilities, strict=True):
                placed = self._placed(boxes.astype(np.float64), photo)
                kept = _distinct(placed, scores)
                found.append(
                    Detection(
                        boxes=tuple(Box(*map(float, placed[row])) for row in kept),
                        scores=tuple(min(1.0, max(0.0, float(scores[row]))) for row in kept),
                        category_probabilities=shares,
                    )
                )
        return found

    def _check(self, outputs: Sequence[NDArray[np.float32]]) -> None:
        boxes, scores, *logits = outputs
        shapes = [(*scores.shape, 4), scores.shape, *((len(boxes), len(self.categories)) for _ in logits)]
        fitting = scores.ndim == 2 and 0 not in scores.shape and [output.shape for output in outputs] == shapes
        if not (fitting and all(np.isfinite(output).all() for output in outputs)):
            raise InputError(
                f"model {self.version} needs finite outputs (n, k, 4), (n, k) and (n, {len(self.categories)}) of its "
                f"graph {DETECT!r}, got {[output.shape for output in outputs]}; export it again"
            )
        if scores.min() < -_ROUNDING or scores.max() > 1 + _ROUNDING:
            raise InputError(f"model {self.version} gave box scores outside 0..1; export it again")

    def _placed(self, boxes: NDArray[np.float64], photo: Pixels) -> NDArray[np.float64]:
        """Turn shares of the padded square into pixels of the photo: inside it, at least one pixel wide and high."""
        height, width = photo.shape[:2]
        side = self._detect.preprocessing.side_px
        left, top, wide, high = padded_place(width, height, side_px=side)
        pixels = (boxes * side - (left, top, left, top)) * (width / wide, height / high, width / wide, height / high)
        low = np.clip(pixels[:, :2], 0, (width - 1, height - 1))
        return np.concatenate([low, np.clip(pixels[:, 2:], low + 1, (width, height))], axis=1)


def _distinct(boxes: NDArray[np.float64], scores: NDArray[np.float32]) -> list[int]:
    """Return the rows of different objects, in their order."""
    kept = [0]
    for row in range(1, len(boxes)):
        if scores[row] >= LEAST_SCORE and iou(boxes[kept], boxes[row : row + 1]).max() <= SAME_OBJECT:
            kept.append(row)
    return kept


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))
