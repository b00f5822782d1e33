"""The feature's last block, head and projection, learned in a minute: what a shop can do every day.

The rest of the trunk stays, and with it what the serving graph makes of every picture before the last block. That is
computed once per picture and kept, so that a day costs the pictures of the day; the new graph is the old one with other
numbers after that point.
"""

import copy
import hashlib
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from sameitem.core.errors import ImageError, NotFoundError
from sameitem.core.records import ContentHash, Pixels
from sameitem.features.cache import FeatureCache
from sameitem.features.colour import COLOURS
from sameitem.features.detect import Detector
from sameitem.features.embed import open_session
from sameitem.features.model_folder import (
    DETECT,
    EMBED,
    PAGE,
    ModelFolder,
    Weights,
    read_graph,
    write_model,
)
from sameitem.features.preprocess import to_square
from sameitem.features.subject import CENTRED, Subject, catalogue_subjects, user_subjects
from sameitem.learning.export import ByteScale, cut_before_last_block, with_last_block
from sameitem.learning.loss import query_softmax_loss
from sameitem.learning.network import FeatureBranch
from sameitem.learning.phases import falling, load_state, set_rate, state_of, take_step
from sameitem.learning.trainer import Tell, Trainer
from sameitem.learning.triplet_set import (
    Named,
    Pairs,
    batches,
    check_enough,
    in_parts,
    is_validating,
    read_named,
    warn_of_missing,
)
from sameitem.learning.trunk import SHORT_CHANNELS
from sameitem.learning.weights import Learned, pack

MAPS = "maps"  # output of the graph that stops before the last block
STRIDE = 32  # pixels of the input per cell of the maps
MOST_PHOTOS = 5_000  # that are learned from, the newest; each takes some 20 KB of memory, as does each of their images
MOST_JUDGED = 3_000  # images among which validating photos look
CALIBRATION = 200  # pictures of a kind that show the range of what the last block gives
_EVERY = 20  # steps between two measurements
_AT_ONCE = 32  # pictures that are read or embedded together
_BATCH = 16  # views of a run of the graph
_KEPT = "maps-"  # begins the names of the caches

Choose = Callable[[Sequence[Pixels], Detector | None], list[Subject]]


@dataclass(frozen=True, slots=True)
class LastBlockRecipe:
    """How much is learned, and how; docs/decisions/0016-daily-training.md says what was measured."""

    steps: int = 60
    rows: int = 64  # pairs of a batch, which share their negatives
    rate: float = 1e-3
    kept_near: float = 3.0  # weight of staying near the start feature
    temperature: float = 0.07  # of cosines
    same_item: float = 0.3  # squared distance of two images below which they may show the same item


def train_last_block(
    *,
    origin: ModelFolder,
    learned: Learned,
    start: Path,
    triplets: Path,
    out: Path,
    photo: Callable[[ContentHash], Pixels],
    checkpoint: Path,
    kept: Path,
    deadline: float,
    seed: int,
    tell: Tell,
    recipe: LastBlockRecipe | None = None,
) -> Mapping[str, float]:
    """Teach last block, head and projection from clicks, and write the model version where that finds more.

    Photos validate by their own hash here, not by the image that was clicked: what is wanted is a better answer to the
    photos that come, most of which show what others have photographed before.

    Args:
        origin: manifest of the start.
        learned: its weights.
        start: its folder.
        triplets: written by `sameitem mine`.
        out: new model folder.
        photo: pixels of a query photo or catalogue image.
        checkpoint: folder of this run.
        kept: folder for what the trunk makes of pictures; it stays for the next run.
        deadline: by `time.monotonic`; what is best then is kept.
        seed: of everything random.
        tell: is told phase, percent and the numbers of each step.
        recipe: how much and how; None = as measured to work.

    Returns:
        What was measured; where the mean reciprocal rank of the clicked images did not rise, nothing was written.

    Raises:
        InputError: too few photos, or a start whose graph is not one of ours.
        ConflictError: `out` exists, or `checkpoint` belongs to another run.
    """
    begun = time.monotonic()
    recipe = recipe or LastBlockRecipe()
    tell("pictures", 0.0, {})
    embed = read_graph(start, origin, EMBED)
    found, photos, images = _read(triplets, photo, TrunkMaps(start, origin, embed, kept))
    phase = LastBlockPhase(found, photos, images, learned.feature, recipe, seed)
    before, at_first = phase.recall_at_1(), phase.recall()
    trainer = Trainer(
        checkpoint,
        run={
            "triplets": hashlib.sha256(triplets.read_bytes()).hexdigest(),
            "start": origin.version,
            "seed": seed,
            "recipe": asdict(recipe),
        },
        every=_EVERY,
        tell=tell,
        deadline=deadline,
    )
    trainer.take([lambda: phase], total_steps=recipe.steps)
    after, at_last = phase.recall_at_1(), phase.recall()
    is_better = at_first is None or (at_last or 0) > at_first
    metrics: dict[str, float] = {
        "photos": len(np.unique(found.pairs[:, 0])),
        "pairs": len(found.pairs),
        "validating": len(np.unique(found.pairs[found.validating(), 0])),
        "hours": round((time.monotonic() - begun) / 3600, 4),
    }
    if before is not None and after is not None:
        metrics |= {"recall_before": round(before, 4), "recall_after": round(after, 4)}
    if is_better:
        page = checkpoint / PAGE
        curves = page.read_bytes() if page.is_file() else None
        _write(out, origin, learned, start, embed, phase.narrow_range(), metrics, curves)
    return metrics


@dataclass(frozen=True, slots=True, eq=False)
class Maps:
    """What the trunk made of the views of pictures, as bytes."""

    codes: NDArray[np.uint8]  # (pictures, views, 192, s, s) of each different view
    weights: NDArray[np.float64]  # (views,) of each view's feature among those that serving averages, sum 1
    scale: ByteScale  # what they stand for

    def drawn(self, rows: NDArray[np.int64], generator: np.random.Generator) -> Tensor:
        """Return the (rows, 192, s, s) maps of one view of each of some pictures."""
        views = generator.choice(len(self.weights), len(rows), p=self.weights)
        return self.values(self.codes[rows, views])

    def values(self, found: NDArray[np.uint8]) -> Tensor:
        """Return what bytes stand for."""
        values = (torch.from_numpy(found).float() - self.scale.zero) * self.scale.step
        return values.contiguous(memory_format=torch.channels_last)


def embedded(branch: FeatureBranch, maps: Maps, rows: NDArray[np.int64] | None = None) -> Tensor:
    """Return the (rows, dim) unit features of pictures, averaged over their views as serving does."""
    rows = np.arange(len(maps.codes)) if rows is None else rows
    features = torch.zeros(len(rows), branch.projection.shape[1])
    with torch.inference_mode():
        for part in in_parts(len(rows), _AT_ONCE):
            found = maps.codes[rows[part]]
            first = branch.from_short(maps.values(found[:, 0]))
            total = first * maps.weights[0]
            for view, weight in enumerate(maps.weights[1:], 1):
                differs = np.flatnonzero((found[:, view] != found[:, 0]).any(axis=(1, 2, 3)))
                feature = first.clone()
                if len(differs):
                    feature[torch.from_numpy(differs)] = branch.from_short(maps.values(found[differs, view]))
                total += feature * weight
            features[part] = functional.normalize(total, dim=1)
    return features


class LastBlockPhase:
    """Last block, head and projection learn on what the trunk made of the very views that serving takes of pictures."""

    name = "last block"

    def __init__(
        self, found: Pairs, photos: Maps, images: Maps, branch: FeatureBranch, recipe: LastBlockRecipe, seed: int
    ) -> None:
        """Prepare the phase.

        Args:
            found: what to learn from.
            photos: what the trunk made of the photos that the pairs name.
            images: likewise of the catalogue images.
            branch: what learns, in place.
            recipe: rates and weights.
            seed: of the run.
        """
        self.steps = recipe.steps
        self._found, self._recipe, self._seed = found, recipe, seed
        self._branch, self._photos, self._images = branch, photos, images
        self._start = copy.deepcopy(branch).requires_grad_(False)
        self._known = embedded(branch, images).numpy()
        self._optimiser = torch.optim.AdamW(branch.last().values(), recipe.rate, weight_decay=0.0)
        self._judged = self._chosen()
        self._rows, self._right, self._left_out = self._validation()

    def step(self, number: int) -> Mapping[str, float]:
        """Take a step."""
        set_rate(self._optimiser, self._recipe.rate * falling(number / self.steps))
        return take_step(self._optimiser, 1, lambda _part: self._loss(number))

    def _loss(self, number: int) -> tuple[Tensor, Mapping[str, float]]:
        recipe = self._recipe
        batch = batches(
            self._found,
            self._known,
            rows=recipe.rows,
            same_item=recipe.same_item,
            seed=self._seed,
            step=number,
            clicked_negatives=True,
        )
        generator = np.random.default_rng([self._seed, number, 2])
        photos, query_of_pair = np.unique(batch.photos, return_inverse=True)
        maps = torch.cat([self._photos.drawn(photos, generator), self._images.drawn(batch.images, generator)])
        features = self._branch.from_short(maps)
        queries, images = features[torch.from_numpy(query_of_pair)], features[len(photos) :]
        own = np.searchsorted(np.unique(batch.positives), batch.positives)  # they stand first among the images
        loss, active = query_softmax_loss(
            queries,
            images[torch.from_numpy(own)],
            images,
            torch.from_numpy(batch.trusted),
            torch.from_numpy(batch.query_of_row),
            temperature=recipe.temperature,
        )
        moved = (1 - (features * self._start.from_short(maps)).sum(1)).mean()
        figures = {"loss": loss.item(), "active": active.item(), "moved": moved.item(), "photos": len(photos)}
        return loss + recipe.kept_near * moved, figures

    def recall(self) -> float | None:
        """Return the mean reciprocal rank of what validating photos' users clicked: finer than Recall@1."""
        ranks = self._ranks()
        return float((1 / ranks).mean()) if len(ranks) else None

    def recall_at_1(self) -> float | None:
        """Return the share of validating photos whose first image is one that their user clicked."""
        ranks = self._ranks()
        return float((ranks == 1).mean()) if len(ranks) else None

    def _ranks(self) -> NDArray[np.int64]:
        """Return for each validating photo how many images, and one, are nearer than the nearest clicked one."""
        if not len(self._rows):
            return np.zeros(0, np.int64)
        images, photos = (
            embedded(self._branch, self._images, self._judged),
            embedded(self._branch, self._photos, self._rows),
        )
        likeness = (photos @ images.T).numpy()
        best = np.where(self._right, likeness, -np.inf).max(axis=1, initial=-np.inf, keepdims=True)
        return np.asarray(((likeness > best) & ~self._left_out).sum(axis=1) + 1, np.int64)

    def _chosen(self) -> NDArray[np.int64]:
        """Return the images among which validating photos look: those clicked for them, and of the others some."""
        clicked = np.unique(self._found.pairs[self._found.validating(), 1])
        others = np.setdiff1d(np.arange(len(self._known)), clicked)
        drawn = np.random.default_rng([self._seed, 3]).permutation(others)
        return np.sort(np.concatenate([clicked, drawn[: max(0, MOST_JUDGED - len(clicked))]]))

    def _validation(self) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
        """Return the validating photos, which images are right for each, and which may be and count for nothing.

        Those are images so near to a clicked one that they may show the same item, unless the user saw and left them.
        """
        pairs = self._found.pairs[self._found.validating()]
        rows = np.unique(pairs[:, 0])
        right = np.zeros((len(rows), len(self._known)), np.bool_)
        right[np.searchsorted(rows, pairs[:, 0]), pairs[:, 1]] = True
        other = np.zeros_like(right)
        seen = self._found.others[np.isin(self._found.others[:, 0], rows)]
        other[np.searchsorted(rows, seen[:, 0]), seen[:, 1]] = True
        near = np.zeros_like(right)
        for photo, image in pairs:
            near[np.searchsorted(rows, photo)] |= 2 - 2 * self._known @ self._known[image] < self._recipe.same_item
        return rows, right[:, self._judged], ((near & ~other) | right)[:, self._judged]

    def narrow_range(self) -> tuple[float, float]:
        """Return the least and the most that the last block gives: by this range its int8 numbers are scaled."""
        ends = []
        with torch.inference_mode():
            for maps in (self._photos, self._images):
                shown = maps.codes[:: -(-len(maps.codes) // CALIBRATION)]
                for part in in_parts(len(shown), _AT_ONCE):
                    ends.append(self._branch.trunk.narrow(maps.values(shown[part].reshape(-1, *shown.shape[2:]))))
        return min(float(end.min()) for end in ends), max(float(end.max()) for end in ends)

    def state(self) -> dict[str, Tensor]:
        """Return weights and optimiser."""
        return state_of(self._branch, self._optimiser)

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a checkpoint."""
        load_state(self._branch, self._optimiser, state)


class TrunkMaps:
    """What the serving graph makes of the views of pictures before its last block; kept from run to run."""

    def __init__(self, start: Path, origin: ModelFolder, embed: bytes, kept: Path) -> None:
        """Open the graphs; what is kept of another trunk is removed.

        Args:
            start: model folder.
            origin: its manifest.
            embed: its graph of that name.
            kept: folder of feature caches; what lies there belongs to a trunk and what chooses the views.

        Raises:
            InputError: the graph cannot be cut before its last block.
        """
        trunk, self._scale = cut_before_last_block(embed, MAPS)
        self._session, self._ends = open_session(trunk, threads=1), origin.graphs[EMBED]
        self._preprocessing = origin.preprocessing
        self._detector = Detector(start) if origin.detect is not None else None
        scales = CENTRED if self._detector is None else self._detector.views
        self._different = [scales.index(scale) for scale in dict.fromkeys(scales)]
        self._weights = np.array([scales.count(scales[view]) for view in self._different]) / len(scales)
        self._views, side = len(scales), -(-origin.preprocessing.side_px // STRIDE)
        self._shape = (len(self._different), SHORT_CHANNELS, side, side)
        chosen_by = "" if origin.detect is None else origin.graphs[DETECT].sha256
        about = f"{hashlib.sha256(trunk).hexdigest()} {origin.preprocessing} {chosen_by} {scales}"
        name = f"{_KEPT}{hashlib.sha256(about.encode()).hexdigest()[:16]}"
        for old in kept.glob(f"{_KEPT}*"):
            if not old.name.startswith(name):
                shutil.rmtree(old)
        dim = math.prod(self._shape)
        self._photos, self._images = (
            FeatureCache(kept, f"{name}-{part}", dim, numbers="|u1") for part in ("photos", "images")
        )

    def of_photos(
        self, names: Sequence[ContentHash], photo: Callable[[ContentHash], Pixels]
    ) -> tuple[Maps, NDArray[np.bool_]]:
        """Return the maps of those of users' photos that can be read, and which can."""
        return self._of(names, photo, self._photos, user_subjects)

    def of_images(
        self, names: Sequence[ContentHash], photo: Callable[[ContentHash], Pixels]
    ) -> tuple[Maps, NDArray[np.bool_]]:
        """Return the maps of those of catalogue images that can be read, and which can."""
        return self._of(names, photo, self._images, catalogue_subjects)

    def _of(
        self, names: Sequence[ContentHash], photo: Callable[[ContentHash], Pixels], cache: FeatureCache, choose: Choose
    ) -> tuple[Maps, NDArray[np.bool_]]:
        rows = np.zeros((len(names), *self._shape), np.uint8)
        there = np.zeros(len(names), np.bool_)
        for part in in_parts(len(names), 16 * _AT_ONCE):
            known = cache.get([(name, None) for name in names[part]])
            at = part.start + known.positions
            rows[at], there[at] = known.features.reshape(-1, *self._shape), True
        missing = np.flatnonzero(~there)
        for part in in_parts(len(missing), _AT_ONCE):
            read = dict(_readable(missing[part].tolist(), names, photo))
            if not read:
                continue
            at = np.array(list(read))
            maps = self._maps(choose(list(read.values()), self._detector))
            rows[at], there[at] = maps, True
            no_colours = np.zeros((len(at), COLOURS), np.float32)
            cache.put([(names[row], None) for row in at], maps.reshape(len(at), -1), no_colours)
        return Maps(rows if there.all() else rows[there], self._weights, self._scale), there

    def _maps(self, subjects: Sequence[Subject]) -> NDArray[np.uint8]:
        """Return (subjects, different views, 192, s, s); a subject of one view has it in every place."""
        views = [subject.views * (self._views // len(subject.views)) for subject in subjects]
        chosen = [[of_one[view] for view in self._different] for of_one in views]
        each = {id(view): view for of_one in chosen for view in of_one}
        squares = [to_square(view, self._preprocessing) for view in each.values()]
        found = np.concatenate(
            [
                self._session.run([MAPS], {self._ends.input: np.stack(squares[part]).astype(np.float32, copy=False)})[0]
                for part in in_parts(len(squares), _BATCH)
            ]
        )
        row_of = {key: row for row, key in enumerate(each)}
        return np.asarray(found[[[row_of[id(view)] for view in of_one] for of_one in chosen]], np.uint8)


def _readable(
    rows: Sequence[int], names: Sequence[ContentHash], photo: Callable[[ContentHash], Pixels]
) -> Iterator[tuple[int, Pixels]]:
    for row in rows:
        try:
            yield row, photo(names[row])
        except (NotFoundError, ImageError):
            continue


def _read(triplets: Path, photo: Callable[[ContentHash], Pixels], maps: TrunkMaps) -> tuple[Pairs, Maps, Maps]:
    """Return what a triplet file teaches, and the maps of its photos and images that can be read."""
    named = _newest(read_named(triplets))
    photos, photo_there = maps.of_photos(named.photos, photo)
    images, image_there = maps.of_images(named.images, photo)
    warn_of_missing(photo_there, image_there)
    pairs, others = named.among(photo_there, image_there)
    held_out = np.array([is_validating(name) for name in named.photos], np.bool_)
    found = Pairs(pairs=pairs, others=others, is_held_out=held_out[photo_there])
    check_enough(found, f"{triplets.name} names {len(named.photos)} photos", "a tenth of them validates")
    return found, photos, images


def _newest(named: Named) -> Named:
    """Leave all but the newest photos out, and the images that only older ones name; a file names the oldest first."""
    is_new = np.arange(len(named.photos)) >= len(named.photos) - MOST_PHOTOS
    is_named = np.zeros(len(named.images), np.bool_)
    for rows in (named.pairs, named.others):
        is_named[rows[is_new[rows[:, 0]], 1]] = True
    photos, images = (
        tuple(name for name, stays in zip(names, kept, strict=True) if stays)
        for names, kept in ((named.photos, is_new), (named.images, is_named))
    )
    return Named(photos, images, *named.among(is_new, is_named))


def _write(
    out: Path,
    origin: ModelFolder,
    learned: Learned,
    start: Path,
    embed: bytes,
    narrow: tuple[float, float],
    metrics: Mapping[str, float],
    page: bytes | None,
) -> None:
    """Write the model folder: the start's, with other numbers in the last block and after."""
    feature = learned.feature.eval()
    graph = with_last_block(
        embed, feature.trunk.last_convolutions(), feature.projection.detach().numpy(), narrow=narrow
    )
    graphs = {role: read_graph(start, origin, role) for role in origin.graphs} | {EMBED: graph}
    weights = pack(learned)
    model = replace(
        origin,
        version=out.name,
        kind="trained",
        graphs={role: replace(end, sha256=_sha(graphs[role])) for role, end in origin.graphs.items()},
        source=f"last block of {origin.version} trained by the shop's own clicks ({metrics['pairs']} pairs)",
        metrics=metrics,
        weights=Weights("weights.npz", _sha(weights)),
    )
    rows = "\n".join(f"| {name} | {value} |" for name, value in metrics.items())
    card = (
        f"# {out.name}\n\n`{origin.version}` with last block, head and projection trained by the clicks of one shop; "
        "it is that shop's own. Detector, category and the rest of the trunk are those of the start.\n\n"
        f"- **Licence of the start**: {origin.licence}\n\n| measured | |\n|---|---|\n{rows}\n\n"
        "Recall: share of the validating photos that find an image first which their user clicked, among the images of "
        "the triplets. It says nothing about other shops.\n"
    )
    write_model(out, model, graphs=graphs, card=card, weights=weights, page=page)


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
