"""What is learned, in this order: a rectangle through the soft mask, the rectangle by judging crops, the feature.

A phase is a step function with what it changes. Everything random in a step comes from the run's seed and the step's
number, so that a run that was killed goes on to the same weights.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from sameitem.learning.judge import Boxes, Judge, boxes_around, prior_boxes, square
from sameitem.learning.loss import query_triplet_loss
from sameitem.learning.network import DetectionBranch, FeatureBranch, cut, hard_boxes, soft_mask
from sameitem.learning.triplet_set import TripletSet, batches, in_parts
from sameitem.learning.trunk import MEAN, SPREAD

DETECT_PX = 160  # side of what the detection branch sees
MASK_PX = 128  # side of the masked photo that passes the trunk while the rectangle is learned
AT_ONCE = 32  # photos of a search step


@dataclass(frozen=True, slots=True)
class Recipe:
    """How much is learned, and how; the defaults are what was measured to work on two cores."""

    mask_steps: int = 100
    rounds: int = 5  # of searching and fitting
    searched: int = 2000  # photos of a round, at most
    fit_steps: int = 300  # of the head, a round
    judge_steps: int = 150  # of the judge's projection, a round
    feature_steps: int = 200
    feature_px: int = 160  # side of the crops that the feature is learned on
    rows: int = 48  # pairs of a step
    margin: float = 0.3  # of squared distances
    sharpness: tuple[float, float] = (20.0, 45.0)  # of the mask, from the first to the last step
    area: float = 0.1  # weight of the rectangle's area: the triplets alone allow the whole photo
    head_rate: float = 2e-3
    feature_rate: float = 1e-4
    kept_near: float = 1.0  # weight of staying near the start feature
    same_item: float = 0.3  # squared distance of two images below which they may show the same item
    by_query: bool = True
    shares_negatives: bool = True
    random_negatives: bool = False


class Phase(Protocol):
    """A part of a run."""

    name: str
    steps: int

    def step(self, number: int) -> Mapping[str, float]:
        """Take step `number` (from 0) and return what to plot."""

    def state(self) -> dict[str, Tensor]:
        """Return everything that a checkpoint must hold, by name."""

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a checkpoint."""


class MaskPhase:
    """The rectangle is learned through the soft mask: the masked photo must be nearer to its item than to others."""

    name = "mask"

    def __init__(self, found: TripletSet, branch: DetectionBranch, judge: Judge, recipe: Recipe, seed: int) -> None:
        self.steps = recipe.mask_steps
        self._found, self._branch, self._recipe, self._seed = found, branch, recipe, seed
        self._middle, self._whiten = torch.from_numpy(judge.middle), torch.from_numpy(judge.whiten)
        self._features = judge.features
        self._optimiser = torch.optim.AdamW(branch.head.parameters(), recipe.head_rate, weight_decay=1e-4)

    def step(self, number: int) -> Mapping[str, float]:
        """Take a step."""
        recipe, done = self._recipe, number / self.steps
        batch = batches(
            self._found,
            self._features,
            rows=recipe.rows,
            same_item=recipe.same_item,
            seed=self._seed,
            step=number,
            shares_negatives=recipe.shares_negatives,
            random_negatives=recipe.random_negatives,
        )
        photos = normalised(self._found.photos[batch.photos], DETECT_PX)
        if number % 2:
            photos = photos.flip(3).contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            maps = self._branch.maps(photos)
        boxes: Tensor = self._branch.head(*maps)
        low, high = recipe.sharpness
        small = functional.interpolate(photos, size=(MASK_PX, MASK_PX), mode="bilinear", antialias=True)
        masked = small * soft_mask(boxes, MASK_PX, sharpness=low * (high / low) ** done)  # mid-grey outside
        pooled = self._branch.trunk(masked.contiguous(memory_format=torch.channels_last)).mean((2, 3))
        images = torch.from_numpy(self._features)
        loss, active = query_triplet_loss(
            functional.normalize((pooled - self._middle) @ self._whiten, dim=1),
            images[torch.from_numpy(batch.positives)],
            images[torch.from_numpy(batch.images)],
            torch.from_numpy(batch.trusted),
            torch.from_numpy(batch.query_of_row),
            margin=recipe.margin,
            by_query=recipe.by_query,
        )
        area = (boxes[:, 2:] - boxes[:, :2]).prod(1).mean()
        _set_rate(self._optimiser, recipe.head_rate * _falling(done))
        _take_step(self._optimiser, loss + recipe.area * area, self._branch.head)
        return {"loss": loss.item(), "active": active.item(), "area": area.item()}

    def state(self) -> dict[str, Tensor]:
        """Return head and optimiser."""
        return _state(self._branch.head, self._optimiser)

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a checkpoint."""
        _load(self._branch.head, self._optimiser, state)


@dataclass(slots=True, eq=False)
class Search:
    """What the rounds of search share: the best rectangle found so far for each pair, and how sure the judge was."""

    judge: Judge
    maps: "PhotoMaps"
    boxes: Boxes  # (pairs, 4)
    certainty: NDArray[np.float32]  # (pairs,) -inf = not searched yet


class SearchPhase:
    """A round: crops of photos are judged, the judge learns from the best, and the head learns to predict them.

    A crop is good where the judge finds the clicked image first. One photo's best crop is often wrong, and wrong in
    every direction; what the head learns from thousands of them is right more often than any of them.
    """

    name = "search"

    def __init__(
        self,
        found: TripletSet,
        branch: DetectionBranch,
        search: Search,
        recipe: Recipe,
        *,
        round_number: int,
        seed: int,
    ) -> None:
        self.round_number = round_number
        self._found, self._branch, self._search, self._recipe = found, branch, search, recipe
        self._seed = [seed, 100 + round_number]
        order = np.random.default_rng([seed, 99]).permutation(found.teaching())
        count = min(recipe.searched, len(order))
        self._pairs = np.take(order, np.arange(round_number * count, (round_number + 1) * count), mode="wrap")
        self._looks = -(-count // AT_ONCE)
        self.steps = self._looks + 1 + recipe.fit_steps
        self._optimiser = torch.optim.AdamW(branch.head.parameters(), recipe.head_rate, weight_decay=1e-2)

    def step(self, number: int) -> Mapping[str, float]:
        """Judge crops of 32 photos, teach the judge, or take a step of the head: whichever is next."""
        generator = np.random.default_rng([*self._seed, number])
        if number < self._looks:
            return self._look(self._pairs[number * AT_ONCE : (number + 1) * AT_ONCE], generator)
        if number == self._looks:
            return self._teach_judge(generator)
        return self._fit(number - self._looks - 1, generator)

    def _look(self, pairs: NDArray[np.int64], generator: np.random.Generator) -> Mapping[str, float]:
        photos, images = self._found.pairs[pairs].T
        with torch.inference_mode():
            guesses = hard_boxes(self._branch.head(*self._search.maps.of(photos))).numpy()
        features, judge = self._search.judge.features, self._search.judge
        at_first = []
        for pair, row, image, guess in zip(pairs, photos, images, guesses, strict=True):
            photo = np.asarray(self._found.photos[row])
            boxes = np.concatenate([guess[None], boxes_around(guess, 9, 1.0, generator)])
            if self.round_number == 0:
                boxes = np.concatenate([boxes, prior_boxes()])
            sure = judge.certainty(photo, boxes, int(image), features)
            at_first.append(sure[0])
            for spread in (0.8, 0.5):
                best = np.argsort(-sure, kind="stable")[:2]
                near = [
                    boxes_around(boxes[row], count, spread, generator) for row, count in zip(best, (5, 3), strict=True)
                ]
                more = np.concatenate(near)
                boxes = np.concatenate([boxes, more])
                sure = np.concatenate([sure, judge.certainty(photo, more, int(image), features)])
            weight = np.exp(2 * (sure - sure.max()))
            self._search.boxes[pair] = weight @ boxes / weight.sum()
            self._search.certainty[pair] = sure.max()
        return {"certainty": float(np.mean(at_first)), "best": float(self._search.certainty[pairs].mean())}

    def _teach_judge(self, generator: np.random.Generator) -> Mapping[str, float]:
        crops, images, weights = [], [], []
        sure = self._search.certainty[self._pairs]
        for pair, weight in zip(self._pairs, _believed(sure, sure, 0.5), strict=True):
            row, image = self._found.pairs[pair]
            box = self._search.boxes[pair]
            for seen in (box, boxes_around(box, 1, 0.5, generator)[0]):
                crops.append(square(np.asarray(self._found.photos[row]), seen))
                images.append(image)
                weights.append(weight)
        loss = self._search.judge.learn(
            self._search.judge.pooled(crops),
            np.array(images, np.int64),
            np.array(weights, np.float32),
            steps=self._recipe.judge_steps,
            generator=generator,
        )
        return {"judge_loss": loss}

    def _fit(self, number: int, generator: np.random.Generator) -> Mapping[str, float]:
        known = np.flatnonzero(np.isfinite(self._search.certainty))
        rows = known[generator.integers(len(known), size=2 * self._recipe.rows)]
        maps = self._search.maps.of(self._found.pairs[rows, 0])
        wanted = torch.from_numpy(self._search.boxes[rows])
        if number % 2:
            maps = tuple(part.flip(3) for part in maps)
            wanted = torch.stack([1 - wanted[:, 2], wanted[:, 1], 1 - wanted[:, 0], wanted[:, 3]], 1)
        weight = torch.from_numpy(_believed(self._search.certainty[rows], self._search.certainty[known], 0.65))
        boxes: Tensor = self._branch.head(*maps)
        off = functional.smooth_l1_loss(boxes, wanted, beta=0.05, reduction="none").sum(1)
        loss = ((3 * off + 1 - overlap(boxes, wanted)) * weight).sum() / weight.sum()
        _set_rate(self._optimiser, 0.75 * self._recipe.head_rate * _falling(number / self._recipe.fit_steps))
        _take_step(self._optimiser, loss, self._branch.head)
        return {"loss": loss.item()}

    def state(self) -> dict[str, Tensor]:
        """Return head, optimiser, rectangles and the judge's projection."""
        search = self._search
        arrays = {"boxes": search.boxes, "certainty": search.certainty}
        arrays |= {"whiten": search.judge.whiten, "middle": search.judge.middle}
        kept = {f"search.{name}": torch.from_numpy(array.copy()) for name, array in arrays.items()}
        return _state(self._branch.head, self._optimiser) | kept

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a checkpoint."""
        _load(self._branch.head, self._optimiser, state)
        self._search.boxes[:] = state["search.boxes"].numpy()
        self._search.certainty[:] = state["search.certainty"].numpy()
        self._search.judge.whiten = state["search.whiten"].numpy()
        self._search.judge.middle = state["search.middle"].numpy()


class FeaturePhase:
    """The feature is learned on crops by the hard rectangle, as serving makes them; the rectangle stays.

    The trunk's early blocks stay, so what they make of every crop is computed once.
    """

    name = "feature"

    def __init__(
        self,
        found: TripletSet,
        branch: FeatureBranch,
        crops: Callable[[int], Tensor],
        images: Tensor,
        recipe: Recipe,
        seed: int,
    ) -> None:
        """Prepare the phase.

        Args:
            found: what to learn from.
            branch: what learns.
            crops: view number -> (photos, 112, s, s) stride-16 maps of each photo's crop, float16.
            images: (images, 112, s, s) of the catalogue's subjects, float16.
            recipe: rates and weights.
            seed: of the run.
        """
        self.steps = recipe.feature_steps
        self._found, self._branch, self._recipe, self._seed = found, branch, recipe, seed
        self._views, self._images = (crops(0), crops(1)), images
        with torch.inference_mode():
            self._start_images = self._embed(images)
            self._start_views = tuple(self._embed(view) for view in self._views)
        self._start_images, self._start_views = self._start_images.clone(), tuple(v.clone() for v in self._start_views)
        self._optimiser = torch.optim.AdamW(branch.changeable().values(), recipe.feature_rate, weight_decay=0.0)

    def step(self, number: int) -> Mapping[str, float]:
        """Take a step."""
        recipe = self._recipe
        batch = batches(
            self._found,
            self._start_images.numpy(),
            rows=recipe.rows,
            same_item=recipe.same_item,
            seed=self._seed,
            step=10_000 + number,
            shares_negatives=recipe.shares_negatives,
            random_negatives=recipe.random_negatives,
        )
        photos, positives, shared = (torch.from_numpy(rows) for rows in (batch.photos, batch.positives, batch.images))
        view = number % 2
        found = self._branch.from_coarse(torch.cat([self._views[view][photos], self._images[shared]]).float())
        queries, images = found[: len(photos)], found[len(photos) :]
        loss, active = query_triplet_loss(
            queries,
            images[torch.searchsorted(shared[: len(np.unique(batch.positives))], positives.contiguous())],
            images,
            torch.from_numpy(batch.trusted),
            torch.from_numpy(batch.query_of_row),
            margin=recipe.margin,
            by_query=recipe.by_query,
        )
        start = torch.cat([self._start_views[view][photos], self._start_images[shared]])
        moved = (1 - (found * start).sum(1)).mean()
        _set_rate(self._optimiser, recipe.feature_rate * _falling(number / self.steps))
        _take_step(self._optimiser, loss + recipe.kept_near * moved, self._branch)
        return {"loss": loss.item(), "active": active.item(), "moved": moved.item()}

    def recall(self) -> float:
        """Return the share of validating pairs whose photo finds its image first among all images."""
        rows = self._found.pairs[self._found.validating()]
        if not len(rows):
            return 0.0
        with torch.inference_mode():
            images = self._embed(self._images)
            queries = self._embed(self._views[0][torch.from_numpy(rows[:, 0])])
        first = (queries @ images.T).argmax(1).numpy()
        return float((first == rows[:, 1]).mean())

    def _embed(self, coarse: Tensor) -> Tensor:
        return torch.cat([self._branch.from_coarse(coarse[part].float()) for part in in_parts(len(coarse), 64)])

    def state(self) -> dict[str, Tensor]:
        """Return what may change, and the optimiser."""
        return _state(self._branch, self._optimiser)

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a checkpoint."""
        _load(self._branch, self._optimiser, state)


class PhotoMaps:
    """What the detection branch's trunk makes of photos: computed when first asked for, kept as float16."""

    def __init__(self, photos: NDArray[np.uint8], branch: DetectionBranch) -> None:
        self._photos, self._branch = photos, branch
        self._kept: dict[int, tuple[Tensor, ...]] = {}

    def of(self, rows: NDArray[np.int64]) -> tuple[Tensor, ...]:
        """Return the maps of photos, by row."""
        missing = np.array(sorted({int(row) for row in rows} - self._kept.keys()), np.int64)
        for part in in_parts(len(missing), 64):
            with torch.inference_mode():
                maps = self._branch.maps(normalised(self._photos[missing[part]], DETECT_PX))
            for place, row in enumerate(missing[part]):
                self._kept[int(row)] = tuple(level[place].half().clone() for level in maps)
        return tuple(torch.stack([self._kept[int(row)][level] for row in rows]).float() for level in range(3))


def normalised(pictures: NDArray[np.uint8], side_px: int) -> Tensor:
    """Turn (n, side, side, 3) pictures into the (n, 3, side_px, side_px) that the trunk takes."""
    values = torch.from_numpy(np.array(pictures)).permute(0, 3, 1, 2).float()
    if values.shape[2] != side_px:
        values = functional.interpolate(values, size=(side_px, side_px), mode="bilinear", antialias=True)
    return ((values - MEAN) / SPREAD).contiguous(memory_format=torch.channels_last)


def coarse_crops(
    branch: FeatureBranch, pictures: NDArray[np.uint8], boxes: Tensor, side_px: int, *, flip: bool = False
) -> Tensor:
    """Return the stride-16 maps, float16, of each picture's box."""
    made = []
    with torch.inference_mode():
        for part in in_parts(len(pictures), 32):
            crops = cut(normalised(pictures[part], pictures.shape[1]), boxes[part], side_px)
            crops = crops.flip(3).contiguous(memory_format=torch.channels_last) if flip else crops
            made.append(branch.trunk.begin(crops)[-1].half())
    return torch.cat(made).clone()


def overlap(boxes: Tensor, others: Tensor) -> Tensor:
    """Return (n,) intersection over union of rectangles (n, 4)."""
    boxes = boxes.clamp(0, 1)
    shared = (
        (torch.minimum(boxes[:, 2:], others[:, 2:]) - torch.maximum(boxes[:, :2], others[:, :2])).clamp(min=0).prod(1)
    )
    areas = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1) + (others[:, 2:] - others[:, :2]).prod(1)
    return shared / (areas - shared).clamp(min=1e-9)


def _believed(sure: NDArray[np.float32], among: NDArray[np.float32], share: float) -> NDArray[np.float32]:
    """Return how much each found rectangle counts, 0..1: little below the quantile `share` of what was found."""
    above = np.clip(2 * (sure - np.quantile(among, share)), -6, 2)
    return np.asarray(1 / (1 + np.exp(-above)), np.float32)


def _falling(done: float) -> float:
    return 0.01 + 0.495 * (1 + math.cos(math.pi * min(done, 1)))


def _set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = rate


def _take_step(optimiser: torch.optim.Optimizer, loss: Tensor, module: nn.Module) -> None:
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_([p for p in module.parameters() if p.grad is not None], 1.0)
    optimiser.step()


def _state(module: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    kept = {f"weights.{name}": value.detach().clone() for name, value in module.state_dict().items()}
    for number, values in optimiser.state_dict()["state"].items():
        kept |= {f"optimiser.{number}.{name}": value.clone() for name, value in values.items()}
    return kept


def _load(module: nn.Module, optimiser: torch.optim.Optimizer, state: Mapping[str, Tensor]) -> None:
    weights = {name.removeprefix("weights."): value for name, value in state.items() if name.startswith("weights.")}
    module.load_state_dict(weights)
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in state.items():
        if name.startswith("optimiser."):
            _, number, key = name.split(".", 2)
            moments.setdefault(int(number), {})[key] = value.clone()
    optimiser.load_state_dict({"state": moments, "param_groups": optimiser.state_dict()["param_groups"]})
