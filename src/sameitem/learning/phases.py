"""What is learned, in this order: a rectangle through the soft mask, then by judging crops, and the feature.

A phase is a step function with what it changes. Everything random in a step comes from the run's seed and the step's
number, so that a run that was killed goes on to the same weights.
"""

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from sameitem.learning import workers
from sameitem.learning.judge import Boxes, Judge, boxes_around, prior_boxes, square
from sameitem.learning.loss import query_triplet_loss
from sameitem.learning.network import DetectionBranch, FeatureBranch, cut, hard_boxes, soft_mask
from sameitem.learning.triplet_set import Batch, TripletSet, batches, in_parts
from sameitem.learning.trunk import MEAN, SPREAD

DETECT_PX = 160  # side of what the detection branch sees
MASK_PX = 128  # side of the masked photo that passes the trunk while the rectangle is learned
AT_ONCE = 32  # photos of a search step
EXAMINED = 400  # validating pairs that judge the head, at most
AREAS = (0.05, 0.15)  # of a rectangle, as shares of the photo, between which its area costs nothing


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
    rows: int = 48  # pairs of a batch, which share their negatives
    batches: int = 1  # of a step, whose gradients are averaged: one after the other, or spread over the processes
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

    def recall(self) -> float | None:
        """Return what the phase is judged by, 0..1: its best state counts; None: its last one does."""

    def state(self) -> dict[str, Tensor]:
        """Return everything that a checkpoint must hold, by name, on the CPU."""

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a checkpoint."""


class MaskPhase:
    """The rectangle is learned through the soft mask: the masked photo must be nearer to its item than to others."""

    name = "mask"

    def __init__(self, found: TripletSet, branch: DetectionBranch, judge: Judge, recipe: Recipe, seed: int) -> None:
        self.steps = recipe.mask_steps
        self._found, self._branch, self._recipe, self._seed = found, branch, recipe, seed
        self._features, self._device = judge.features, device_of(branch)
        self._middle, self._whiten, self._known = (
            torch.from_numpy(array).to(self._device) for array in (judge.middle, judge.whiten, self._features)
        )
        self._optimiser = torch.optim.AdamW(branch.head.parameters(), recipe.head_rate, weight_decay=1e-4)

    def step(self, number: int) -> Mapping[str, float]:
        """Take a step."""
        set_rate(self._optimiser, self._recipe.head_rate * falling(number / self.steps))
        return take_step(self._optimiser, self._recipe.batches, lambda part: self._loss(number, part))

    def _loss(self, number: int, part: int) -> tuple[Tensor, Mapping[str, float]]:
        recipe = self._recipe
        batch = _drawn(self._found, self._features, recipe, seed=self._seed, step=number * recipe.batches + part)
        photos = normalised(self._found.photos[batch.photos], DETECT_PX, self._device)
        if number % 2:
            photos = photos.flip(3).contiguous(memory_format=torch.channels_last)
        low, high = recipe.sharpness
        with _faster(self._device), torch.no_grad():
            maps = self._branch.maps(photos)
        boxes = self._branch.head(*(level.float() for level in maps))  # its variances need all digits
        with _faster(self._device):
            small = functional.interpolate(photos, size=(MASK_PX, MASK_PX), mode="bilinear", antialias=True)
            mask = soft_mask(boxes, MASK_PX, sharpness=low * (high / low) ** (number / self.steps))
            masked = (small * mask).contiguous(memory_format=torch.channels_last)  # mid-grey outside
            pooled = self._branch.trunk(masked).float().mean((2, 3))
        positives, images, trusted, query_of_row = (
            torch.from_numpy(rows).to(self._device)
            for rows in (batch.positives, batch.images, batch.trusted, batch.query_of_row)
        )
        loss, active = query_triplet_loss(
            functional.normalize((pooled - self._middle) @ self._whiten, dim=1),
            self._known[positives],
            self._known[images],
            trusted,
            query_of_row,
            margin=recipe.margin,
            by_query=recipe.by_query,
        )
        area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        figures = {"loss": loss.item(), "active": active.item(), "area": area.mean().item(), "photos": len(photos)}
        return loss + recipe.area * area_cost(area).mean(), figures

    def recall(self) -> None:
        """Return nothing: the rectangle is not judged by what is found with it so far."""

    def state(self) -> dict[str, Tensor]:
        """Return head and optimiser."""
        return state_of(self._branch.head, self._optimiser)

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a checkpoint."""
        load_state(self._branch.head, self._optimiser, state)


@dataclass(slots=True, eq=False)
class Search:
    """What the rounds of search share: the best rectangle found so far for each pair, and how sure the judge was."""

    judge: Judge  # learns along
    examiner: Judge  # stays as it was
    maps: "PhotoMaps"
    boxes: Boxes  # (pairs, 4)
    certainty: NDArray[np.float32]  # (pairs,) -inf = not searched yet


def new_search(found: TripletSet, branch: DetectionBranch, judge: Judge) -> Search:
    """Return a search that has looked at nothing yet."""
    count = len(found.pairs)
    return Search(
        judge=judge,
        examiner=copy.copy(judge),
        maps=PhotoMaps(found.photos, branch),
        boxes=np.zeros((count, 4), np.float32),
        certainty=np.full(count, -np.inf, np.float32),
    )


class SearchPhase:
    """First half of a round: crops of photos are judged, and the judge learns from the best; the head stays.

    A crop is good where the judge finds the clicked image first.
    """

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
        self.name, self.round_number = f"search {round_number + 1}", round_number
        self._found, self._branch, self._search, self._recipe = found, branch, search, recipe
        self._seed = [seed, 100 + round_number]
        order = np.random.default_rng([seed, 99]).permutation(found.teaching())
        count = min(recipe.searched, len(order))
        self._pairs = np.take(order, np.arange(round_number * count, (round_number + 1) * count), mode="wrap")
        self._looks = -(-len(self._pairs) // AT_ONCE)
        self.steps = self._looks + 1

    def step(self, number: int) -> Mapping[str, float]:
        """Judge crops of 32 photos, or last of all teach the judge."""
        if number < self._looks:
            return self._look(self._pairs[number * AT_ONCE : (number + 1) * AT_ONCE])
        return self._teach_judge(np.random.default_rng([*self._seed, number]))

    def recall(self) -> None:
        """Return nothing: a search changes no network."""

    def _look(self, pairs: NDArray[np.int64]) -> Mapping[str, float]:
        with torch.inference_mode():
            guesses = hard_boxes(self._branch.head(*self._search.maps.of(self._found.pairs[pairs, 0]))).cpu().numpy()
        features = self._search.judge.features
        found = np.zeros((len(pairs), 6), np.float32)  # rectangle, certainty of it, and of what the head guessed
        for place in workers.own(len(pairs)):
            found[place] = self._look_at(int(pairs[place]), guesses[place], features)
        workers.add_up([torch.from_numpy(found)])
        self._search.boxes[pairs], self._search.certainty[pairs] = found[:, :4], found[:, 4]
        return {"certainty": float(found[:, 5].mean()), "best": float(found[:, 4].mean()), "photos": len(pairs)}

    def _look_at(
        self, pair: int, guess: NDArray[np.float32], features: NDArray[np.float32]
    ) -> tuple[float, float, float, float, float, float]:
        """Return the best rectangle around a guess, how sure the judge is of it, and how sure of the guess."""
        generator, judge = np.random.default_rng([*self._seed, pair]), self._search.judge
        row, image = (int(value) for value in self._found.pairs[pair])
        photo = np.asarray(self._found.photos[row])
        boxes = np.concatenate([guess[None], boxes_around(guess, 9, 1.0, generator)])
        if self.round_number == 0:
            boxes = np.concatenate([boxes, prior_boxes()])
        sure = judge.certainty(photo, boxes, image, features)
        at_first = float(sure[0])
        for spread in (0.8, 0.5):
            best = np.argsort(-sure, kind="stable")[:2]
            near = [boxes_around(boxes[row], count, spread, generator) for row, count in zip(best, (5, 3), strict=True)]
            more = np.concatenate(near)
            boxes = np.concatenate([boxes, more])
            sure = np.concatenate([sure, judge.certainty(photo, more, image, features)])
        weight = np.exp(2 * (sure - sure.max()))
        left, top, right, bottom = (float(edge) for edge in weight @ boxes / weight.sum())
        return left, top, right, bottom, float(sure.max()), at_first

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

    def state(self) -> dict[str, Tensor]:
        """Return rectangles and the judge's projection."""
        search = self._search
        arrays = {"boxes": search.boxes, "certainty": search.certainty}
        arrays |= {"whiten": search.judge.whiten, "middle": search.judge.middle}
        return {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a checkpoint."""
        self._search.boxes[:] = state["boxes"].numpy()
        self._search.certainty[:] = state["certainty"].numpy()
        self._search.judge.whiten = state["whiten"].numpy()
        self._search.judge.middle = state["middle"].numpy()


class FitPhase:
    """Second half of a round: the head learns to predict the best rectangles that were found.

    One photo's best rectangle is often wrong, and wrong in every direction; what the head learns from thousands of them
    is right more often than any of them. A shop with few items has not thousands: the head changes only where photos of
    items that teach nothing are found better for it.
    """

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
        self.name, self.steps = f"fit {round_number + 1}", recipe.fit_steps
        self._found, self._branch, self._search, self._recipe = found, branch, search, recipe
        self._seed = [seed, 200 + round_number]
        self._optimiser = torch.optim.AdamW(branch.head.parameters(), recipe.head_rate, weight_decay=1e-2)

    def step(self, number: int) -> Mapping[str, float]:
        """Take a step."""
        set_rate(self._optimiser, 0.75 * self._recipe.head_rate * falling(number / self.steps))
        return take_step(self._optimiser, self._recipe.batches, lambda part: self._loss(number, part))

    def _loss(self, number: int, part: int) -> tuple[Tensor, Mapping[str, float]]:
        generator = np.random.default_rng([*self._seed, number, part])
        sure = self._search.certainty
        known = np.flatnonzero(np.isfinite(sure))
        drawn = known[generator.integers(len(known), size=2 * self._recipe.rows)]
        maps = self._search.maps.of(self._found.pairs[drawn, 0])
        wanted = torch.from_numpy(self._search.boxes[drawn]).to(maps[0].device)
        if number % 2 == 0:
            maps, wanted = flipped(maps, wanted)
        weight = torch.from_numpy(_believed(sure[drawn], sure[known], 0.65)).to(maps[0].device)
        loss = (box_loss(self._branch.head(*maps), wanted) * weight).sum() / weight.sum()
        return loss, {"loss": loss.item()}

    def recall(self) -> float | None:
        """Return the mean probability of the clicked image, given the crop, over the validating pairs."""
        rows = self._found.pairs[self._found.validating()[:EXAMINED]]
        if not len(rows):
            return None
        examiner = self._search.examiner
        features = examiner.features
        with torch.inference_mode():
            boxes = hard_boxes(self._branch.head(*self._search.maps.of(rows[:, 0]))).cpu().numpy()
        sure = [
            examiner.certainty(np.asarray(self._found.photos[photo]), box[None], int(image), features)[0]
            for (photo, image), box in zip(rows, boxes, strict=True)
        ]
        return float(np.exp(sure).mean())

    def state(self) -> dict[str, Tensor]:
        """Return head and optimiser."""
        return state_of(self._branch.head, self._optimiser)

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a checkpoint."""
        load_state(self._branch.head, self._optimiser, state)


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
        self._device = device_of(branch)
        self._start_images, *self._start_views = (self.embed(maps) for maps in (images, *self._views))
        self._optimiser = torch.optim.AdamW(branch.changeable().values(), recipe.feature_rate, weight_decay=0.0)

    def step(self, number: int) -> Mapping[str, float]:
        """Take a step."""
        set_rate(self._optimiser, self._recipe.feature_rate * falling(number / self.steps))
        return take_step(self._optimiser, self._recipe.batches, lambda part: self._loss(number, part))

    def _loss(self, number: int, part: int) -> tuple[Tensor, Mapping[str, float]]:
        recipe, step = self._recipe, number * self._recipe.batches + part
        batch = _drawn(self._found, self._start_images.numpy(), recipe, seed=self._seed, step=10_000 + step)
        photos, shared, view = torch.from_numpy(batch.photos), torch.from_numpy(batch.images), number % 2
        coarse = torch.cat([self._views[view][photos], self._images[shared]]).to(self._device)
        with _faster(self._device):
            found = self._branch.from_coarse(coarse.float()).float()
        queries, images = found[: len(photos)], found[len(photos) :]
        positives = np.searchsorted(np.unique(batch.positives), batch.positives)  # they stand first among the images
        own, trusted, query_of_row = (
            torch.from_numpy(rows).to(self._device) for rows in (positives, batch.trusted, batch.query_of_row)
        )
        loss, active = query_triplet_loss(
            queries, images[own], images, trusted, query_of_row, margin=recipe.margin, by_query=recipe.by_query
        )
        start = torch.cat([self._start_views[view][photos], self._start_images[shared]]).to(self._device)
        moved = (1 - (found * start).sum(1)).mean()
        figures = {"loss": loss.item(), "active": active.item(), "moved": moved.item(), "photos": len(photos)}
        return loss + recipe.kept_near * moved, figures

    def recall(self) -> float | None:
        """Return the share of validating pairs whose photo finds its image first among all images."""
        rows = self._found.pairs[self._found.validating()]
        if not len(rows):
            return None
        photos = torch.from_numpy(rows[:, 0])
        return found_first(self.embed(self._views[0][photos]), self.embed(self._images), rows[:, 1])

    def embed(self, coarse: Tensor) -> Tensor:
        """Turn (n, 112, s, s) stride-16 maps into (n, dim) unit features."""
        return embedded(self._branch, coarse)

    def state(self) -> dict[str, Tensor]:
        """Return what may change, and the optimiser."""
        return state_of(self._branch, self._optimiser)

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a checkpoint."""
        load_state(self._branch, self._optimiser, state)


class PhotoMaps:
    """What the detection branch's trunk makes of photos: computed when first asked for, kept as float16.

    The maps of a photo are the same bits whatever it was asked for with: always as many pass the trunk at once, since
    how many they are changes the last bits of a convolution.
    """

    def __init__(self, photos: NDArray[np.uint8], branch: DetectionBranch) -> None:
        self._photos, self._branch = photos, branch
        self._kept: dict[int, tuple[Tensor, ...]] = {}

    def of(self, rows: NDArray[np.int64]) -> tuple[Tensor, ...]:
        """Return the maps of photos, by row."""
        device = device_of(self._branch)
        missing = np.array(sorted({int(row) for row in rows} - self._kept.keys()), np.int64)
        for part in in_parts(len(missing), AT_ONCE):
            shown = np.resize(missing[part], AT_ONCE)
            with torch.inference_mode():
                maps = self._branch.maps(normalised(self._photos[shown], DETECT_PX, device))
            for place, row in enumerate(missing[part]):
                self._kept[int(row)] = tuple(level[place].half().cpu().clone() for level in maps)
        return tuple(
            torch.stack([self._kept[int(row)][level] for row in rows]).float().to(device) for level in range(3)
        )


def device_of(module: nn.Module) -> torch.device:
    """Return where a module's weights are."""
    return next(module.parameters()).device


def normalised(pictures: NDArray[np.uint8], side_px: int, device: torch.device | None = None) -> Tensor:
    """Turn (n, side, side, 3) pictures into the (n, 3, side_px, side_px) that the trunk takes."""
    values = torch.from_numpy(np.array(pictures)).to(device).permute(0, 3, 1, 2).float()
    if values.shape[2] != side_px:
        values = functional.interpolate(values, size=(side_px, side_px), mode="bilinear", antialias=True)
    return ((values - MEAN) / SPREAD).contiguous(memory_format=torch.channels_last)


def embedded(branch: FeatureBranch, coarse: Tensor) -> Tensor:
    """Turn (n, 112, s, s) stride-16 maps into (n, dim) unit features, on the CPU."""
    device = device_of(branch)
    with torch.inference_mode():
        parts = [branch.from_coarse(coarse[part].to(device).float()).cpu() for part in in_parts(len(coarse), 64)]
    return torch.cat(parts).clone()


def found_first(queries: Tensor, images: Tensor, wanted: NDArray[np.int64]) -> float:
    """Return the share of queries (n, dim) whose nearest of the images (m, dim) is the wanted one (n,)."""
    return float(((queries @ images.T).argmax(1).numpy() == wanted).mean())


def coarse_crops(
    branch: FeatureBranch, pictures: NDArray[np.uint8], boxes: Tensor, side_px: int, *, flip: bool = False
) -> Tensor:
    """Return the stride-16 maps, float16, of each picture's box."""
    made, device = [], device_of(branch)
    with torch.inference_mode():
        for part in in_parts(len(pictures), 32):
            crops = cut(normalised(pictures[part], pictures.shape[1], device), boxes[part].to(device), side_px)
            crops = crops.flip(3).contiguous(memory_format=torch.channels_last) if flip else crops
            made.append(branch.trunk.begin(crops)[-1].half().cpu())
    return torch.cat(made).clone()


def overlap(boxes: Tensor, others: Tensor) -> Tensor:
    """Return (n,) intersection over union of rectangles (n, 4)."""
    boxes = boxes.clamp(0, 1)
    shared = (
        (torch.minimum(boxes[:, 2:], others[:, 2:]) - torch.maximum(boxes[:, :2], others[:, :2])).clamp(min=0).prod(1)
    )
    areas = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1) + (others[:, 2:] - others[:, :2]).prod(1)
    return shared / (areas - shared).clamp(min=1e-9)


def box_loss(boxes: Tensor, wanted: Tensor) -> Tensor:
    """Return (n,) how far rectangles (n, 4) are from the wanted ones: their sides, and what they do not share."""
    off = functional.smooth_l1_loss(boxes, wanted, beta=0.05, reduction="none").sum(1)
    return 3 * off + 1 - overlap(boxes, wanted)


def flipped(maps: tuple[Tensor, ...], boxes: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
    """Mirror maps (n, channels, s, s) of every stride and the rectangles (n, 4) in them."""
    left, top, right, bottom = boxes.unbind(1)
    return tuple(level.flip(3) for level in maps), torch.stack([1 - right, top, 1 - left, bottom], 1)


def _believed(sure: NDArray[np.float32], among: NDArray[np.float32], share: float) -> NDArray[np.float32]:
    """Return how much each found rectangle counts, 0..1: little below the quantile `share` of what was found."""
    above = np.clip(2 * (sure - np.quantile(among, share)), -6, 2)
    return np.asarray(1 / (1 + np.exp(-above)), np.float32)


def area_cost(area: Tensor) -> Tensor:
    """Return what a rectangle's area costs: 0 between `AREAS`, its excess above them, a logarithm below them.

    Without the first a rectangle grows to the whole photo. Without the second it shrinks to a point where the triplets
    say little, and does not come back: a masked photo without its item has no gradient that leads there.
    """
    small, large = AREAS
    return (area - large).clamp(min=0) + (small / area.clamp(min=1e-6)).log().clamp(min=0)


def falling(done: float) -> float:
    """Return how much of a rate is left at a share of the steps, 1 to 0.01: half a cosine."""
    return 0.01 + 0.495 * (1 + math.cos(math.pi * min(done, 1)))


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of everything that an optimiser changes."""
    for group in optimiser.param_groups:
        group["lr"] = rate


def _faster(device: torch.device) -> torch.autocast:
    """Compute in bfloat16 on a GPU; on a CPU float32 with folded norms is faster (77 images a second to 49)."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


def _drawn(found: TripletSet, features: NDArray[np.float32], recipe: Recipe, *, seed: int, step: int) -> Batch:
    return batches(
        found,
        features,
        rows=recipe.rows,
        same_item=recipe.same_item,
        seed=seed,
        step=step,
        shares_negatives=recipe.shares_negatives,
        random_negatives=recipe.random_negatives,
    )


def take_step(
    optimiser: torch.optim.Optimizer, count: int, loss_of: Callable[[int], tuple[Tensor, Mapping[str, float]]]
) -> Mapping[str, float]:
    """Take a step along the mean gradient of a step's batches, of which each process works out its own.

    Args:
        optimiser: of what changes.
        count: batches of the step, at least one per process.
        loss_of: number of a batch -> its loss and its figures.

    Returns:
        The means of the figures; of `photos`, how many passed a trunk, the sum.
    """
    parameters = [value for group in optimiser.param_groups for value in group["params"]]
    optimiser.zero_grad()
    sums: dict[str, float] = {}
    for part in workers.own(count):
        loss, figures = loss_of(part)
        (loss / count).backward()  # type: ignore[no-untyped-call]
        sums = {name: sums.get(name, 0.0) + value for name, value in figures.items()}
    totals = torch.tensor(list(sums.values()), dtype=torch.float64)
    workers.add_up([totals])
    workers.add_up([value.grad for value in parameters if value.grad is not None])
    nn.utils.clip_grad_norm_(parameters, 1.0)
    optimiser.step()
    whole = dict(zip(sums, totals.tolist(), strict=True))
    return {name: total if name == "photos" else total / count for name, total in whole.items()}


def state_of(module: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return weights and optimiser as a checkpoint holds them."""
    kept = {f"weights.{name}": value.detach().cpu().clone() for name, value in module.state_dict().items()}
    for number, values in optimiser.state_dict()["state"].items():
        kept |= {f"optimiser.{number}.{name}": value.cpu().clone() for name, value in values.items()}
    return kept


def load_state(module: nn.Module, optimiser: torch.optim.Optimizer, state: Mapping[str, Tensor]) -> None:
    """Go on from what `state_of` returned."""
    weights = {name.removeprefix("weights."): value for name, value in state.items() if name.startswith("weights.")}
    module.load_state_dict(weights)
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in state.items():
        if name.startswith("optimiser."):
            _, number, key = name.split(".", 2)
            moments.setdefault(int(number), {})[key] = value.clone()
    optimiser.load_state_dict({"state": moments, "param_groups": optimiser.state_dict()["param_groups"]})
