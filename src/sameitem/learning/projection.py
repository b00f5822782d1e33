"""The feature's last layer alone, learned in seconds: what a shop can do every day.

The trunk stays, and with it what the serving graph makes of every picture before the last layer. That is computed once
per picture and kept, so that a day costs the pictures of the day; the new graph is the old one with another matrix.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
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
from sameitem.learning.export import cut_before_last_layer, with_last_layer
from sameitem.learning.loss import query_softmax_loss
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
from sameitem.learning.trunk import CHANNELS
from sameitem.learning.weights import Learned, pack

POOLED = "pooled"  # output of the graph that stops before the last layer
MOST_PHOTOS = 20_000  # that are learned from, the newest; each takes 8 KB of memory
_EVERY = 50  # steps between two measurements
_AT_ONCE = 32  # pictures that are read together
_BATCH = 16  # views of a run of the graph

Choose = Callable[[Sequence[Pixels], Detector | None], list[Subject]]


@dataclass(frozen=True, slots=True)
class ProjectionRecipe:
    """How much is learned, and how; docs/decisions/0016-daily-training.md says what was measured."""

    steps: int = 300
    rows: int = 64  # pairs of a batch, which share their negatives
    rate: float = 1e-3
    kept_near: float = 3.0  # weight of staying near the start feature
    temperature: float = 0.07  # of cosines
    same_item: float = 0.3  # squared distance of two images below which they may show the same item


def train_projection(
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
    recipe: ProjectionRecipe | None = None,
) -> Mapping[str, float]:
    """Teach the last layer from clicks, and write the model version where it finds validating photos' items better.

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
        What was measured; recall_after equals recall_before where nothing was better, and then nothing was written.

    Raises:
        InputError: too few photos, or a start whose graph is not one of ours.
        ConflictError: `out` exists, or `checkpoint` belongs to another run.
    """
    begun = time.monotonic()
    recipe = recipe or ProjectionRecipe()
    tell("pictures", 0.0, {})
    embed = read_graph(start, origin, EMBED)
    found, photos, images = _read(triplets, photo, TrunkViews(start, origin, embed, kept))
    phase = ProjectionPhase(found, photos, images, learned.feature.projection, recipe, seed)
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
    is_better = at_first is None or ((at_last or 0) > at_first and (after or 0) >= (before or 0))
    metrics: dict[str, float] = {
        "photos": len(np.unique(found.pairs[:, 0])),
        "pairs": len(found.pairs),
        "validating": len(np.unique(found.pairs[found.validating(), 0])),
        "hours": round((time.monotonic() - begun) / 3600, 4),
    }
    if before is not None and after is not None:
        metrics |= {"recall_before": round(before, 4), "recall_after": round(after if is_better else before, 4)}
    if is_better:
        page = checkpoint / PAGE
        _write(out, origin, learned, start, embed, metrics, page.read_bytes() if page.is_file() else None)
    return metrics


class ProjectionPhase:
    """The matrix is learned on what the trunk made of the very views that serving takes of every picture."""

    name = "projection"

    def __init__(
        self,
        found: Pairs,
        photos: NDArray[np.float16],
        images: NDArray[np.float16],
        projection: nn.Parameter,
        recipe: ProjectionRecipe,
        seed: int,
    ) -> None:
        """Prepare the phase.

        Args:
            found: what to learn from.
            photos: (photos, views, 1280) of each view of a photo.
            images: (images, views, 1280) likewise of catalogue images.
            projection: (1280, dim) what learns, in place.
            recipe: rates and weights.
            seed: of the run.
        """
        self.steps = recipe.steps
        self._found, self._recipe, self._seed = found, recipe, seed
        self._layer = _LastLayer(projection)
        self._photos, self._images = _Views.of(photos), _Views.of(images)
        with torch.no_grad():
            self._start_photos, self._start_images = self._embedded()
        self._known = self._start_images.numpy()
        self._optimiser = torch.optim.AdamW(self._layer.parameters(), recipe.rate, weight_decay=0.0)
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
        photos, shared = torch.from_numpy(batch.photos), torch.from_numpy(batch.images)
        queries, images = self._layer(self._photos, photos), self._layer(self._images, shared)
        own = np.searchsorted(np.unique(batch.positives), batch.positives)  # they stand first among the images
        loss, active = query_softmax_loss(
            queries,
            images[torch.from_numpy(own)],
            images,
            torch.from_numpy(batch.trusted),
            torch.from_numpy(batch.query_of_row),
            temperature=recipe.temperature,
        )
        start = torch.cat([self._start_photos[photos], self._start_images[shared]])
        moved = (1 - (torch.cat([queries, images]) * start).sum(1)).mean()
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
        with torch.no_grad():
            images = self._layer(self._images).numpy()
            photos = self._layer(self._photos, torch.from_numpy(self._rows)).numpy() if len(self._rows) else images[:0]
        likeness = photos @ images.T
        best = np.where(self._right, likeness, -np.inf).max(axis=1, initial=-np.inf, keepdims=True)
        return np.asarray(((likeness > best) & ~self._left_out).sum(axis=1) + 1, np.int64)

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
        return rows, right, (near & ~other) | right

    def _embedded(self) -> tuple[Tensor, Tensor]:
        return self._layer(self._photos), self._layer(self._images)

    def state(self) -> dict[str, Tensor]:
        """Return the matrix and the optimiser."""
        return state_of(self._layer, self._optimiser)

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a checkpoint."""
        load_state(self._layer, self._optimiser, state)


@dataclass(frozen=True, slots=True, eq=False)
class _Views:
    """Different views of pictures, and how often each stands among the views that serving averages."""

    pooled: Tensor  # (pictures, different views, 1280) float16
    counts: Tensor  # (different views,)

    @classmethod
    def of(cls, views: NDArray[np.float16]) -> "_Views":
        """Keep each view of (pictures, views, 1280) once where it is the same in every picture."""
        first: list[int] = []
        counts: list[float] = []
        for view in range(views.shape[1]):
            for place, known in enumerate(first):
                if np.array_equal(views[:, view], views[:, known]):
                    counts[place] += 1
                    break
            else:
                first.append(view)
                counts.append(1)
        return cls(torch.from_numpy(np.ascontiguousarray(views[:, first])), torch.tensor(counts))


class _LastLayer(nn.Module):
    def __init__(self, projection: nn.Parameter) -> None:
        super().__init__()
        self.projection = projection

    def forward(self, views: _Views, rows: Tensor | None = None) -> Tensor:
        """Return the (rows, dim) unit features that serving gives the pictures."""
        pooled = views.pooled if rows is None else views.pooled[rows]
        each = functional.normalize(pooled.float() @ self.projection, dim=2)  # (rows, views, dim)
        return functional.normalize((each * views.counts[:, None]).sum(1), dim=1)


class TrunkViews:
    """What the serving graph makes of the views of pictures before its last layer; kept from run to run."""

    def __init__(self, start: Path, origin: ModelFolder, embed: bytes, kept: Path) -> None:
        """Open the graphs.

        Args:
            start: model folder.
            origin: its manifest.
            embed: its graph of that name.
            kept: folder of feature caches; what lies there belongs to a trunk and what chooses the views.

        Raises:
            InputError: the graph cannot be cut before its last layer.
        """
        trunk = cut_before_last_layer(embed, POOLED)
        self._session, self._ends = open_session(trunk, threads=1), origin.graphs[EMBED]
        self._preprocessing = origin.preprocessing
        self._detector = Detector(start) if origin.detect is not None else None
        views = CENTRED if self._detector is None else self._detector.views
        chosen_by = "" if origin.detect is None else origin.graphs[DETECT].sha256
        about = f"{hashlib.sha256(trunk).hexdigest()} {origin.preprocessing} {chosen_by} {views}"
        self._views, dim = len(views), len(views) * CHANNELS
        name = f"trunk-{hashlib.sha256(about.encode()).hexdigest()[:16]}"
        self._photos, self._images = (FeatureCache(kept, f"{name}-{part}", dim) for part in ("photos", "images"))

    def of_photos(
        self, names: Sequence[ContentHash], photo: Callable[[ContentHash], Pixels]
    ) -> tuple[NDArray[np.float16], NDArray[np.bool_]]:
        """Return (photos, views, 1280) of users' photos, and which could be read."""
        return self._of(names, photo, self._photos, user_subjects)

    def of_images(
        self, names: Sequence[ContentHash], photo: Callable[[ContentHash], Pixels]
    ) -> tuple[NDArray[np.float16], NDArray[np.bool_]]:
        """Return (images, views, 1280) of catalogue images, and which could be read."""
        return self._of(names, photo, self._images, catalogue_subjects)

    def _of(
        self, names: Sequence[ContentHash], photo: Callable[[ContentHash], Pixels], cache: FeatureCache, choose: Choose
    ) -> tuple[NDArray[np.float16], NDArray[np.bool_]]:
        rows = np.zeros((len(names), self._views, CHANNELS), np.float16)
        there = np.zeros(len(names), np.bool_)
        for part in in_parts(len(names), 16 * _AT_ONCE):
            keys = [(name, None) for name in names[part]]
            known = cache.get(keys)
            at = part.start + known.positions
            rows[at], there[at] = known.features.reshape(-1, self._views, CHANNELS), True
        missing = np.flatnonzero(~there)
        for part in in_parts(len(missing), _AT_ONCE):
            read = dict(_readable(missing[part].tolist(), names, photo))
            if not read:
                continue
            at = np.array(list(read))
            pooled = self._pooled(choose(list(read.values()), self._detector))
            rows[at], there[at] = pooled, True
            flat = pooled.reshape(len(at), -1)
            cache.put([(names[row], None) for row in at], flat, np.zeros((len(at), COLOURS), np.float32))
        return rows, there

    def _pooled(self, subjects: Sequence[Subject]) -> NDArray[np.float32]:
        """Return (subjects, views, 1280); a subject of one view has it in every place."""
        views = [subject.views * (self._views // len(subject.views)) for subject in subjects]
        different = {id(view): view for of_one in views for view in of_one}
        squares = [to_square(view, self._preprocessing) for view in different.values()]
        found = np.concatenate(
            [
                self._session.run([POOLED], {self._ends.input: np.stack(squares[part]).astype(np.float32, copy=False)})[
                    0
                ]
                for part in in_parts(len(squares), _BATCH)
            ]
        )
        row_of = {key: row for row, key in enumerate(different)}
        return np.asarray(found[[[row_of[id(view)] for view in of_one] for of_one in views]], np.float32)


def _readable(
    rows: Sequence[int], names: Sequence[ContentHash], photo: Callable[[ContentHash], Pixels]
) -> Iterator[tuple[int, Pixels]]:
    for row in rows:
        try:
            yield row, photo(names[row])
        except (NotFoundError, ImageError):
            continue


def _read(
    triplets: Path, photo: Callable[[ContentHash], Pixels], views: TrunkViews
) -> tuple[Pairs, NDArray[np.float16], NDArray[np.float16]]:
    """Return what a triplet file teaches, and the views of its photos and images that can be read."""
    named = _newest(read_named(triplets))
    photos, photo_there = views.of_photos(named.photos, photo)
    images, image_there = views.of_images(named.images, photo)
    warn_of_missing(photo_there, image_there)
    pairs, others = named.among(photo_there, image_there)
    held_out = np.array([is_validating(name) for name in named.photos], np.bool_)
    found = Pairs(pairs=pairs, others=others, is_held_out=held_out[photo_there])
    check_enough(found, f"{triplets.name} names {len(named.photos)} photos", "a tenth of them validates")
    return found, photos[photo_there], images[image_there]


def _newest(named: Named) -> Named:
    """Leave all but the newest photos out; a file names the oldest first."""
    older = max(0, len(named.photos) - MOST_PHOTOS)
    first = np.array([older, 0])
    pairs, others = (rows[rows[:, 0] >= older] - first for rows in (named.pairs, named.others))
    return Named(named.photos[older:], named.images, pairs, others)


def _write(
    out: Path,
    origin: ModelFolder,
    learned: Learned,
    start: Path,
    embed: bytes,
    metrics: Mapping[str, float],
    page: bytes | None,
) -> None:
    """Write the model folder: the start's, with another last matrix."""
    matrix = learned.feature.projection.detach().numpy()
    graphs = {role: read_graph(start, origin, role) for role in origin.graphs} | {EMBED: with_last_layer(embed, matrix)}
    weights = pack(learned)
    model = replace(
        origin,
        version=out.name,
        kind="trained",
        graphs={role: replace(end, sha256=_sha(graphs[role])) for role, end in origin.graphs.items()},
        source=f"last layer of {origin.version} trained by the shop's own clicks ({metrics['pairs']} pairs)",
        metrics=metrics,
        weights=Weights("weights.npz", _sha(weights)),
    )
    rows = "\n".join(f"| {name} | {value} |" for name, value in metrics.items())
    card = (
        f"# {out.name}\n\n`{origin.version}` with a last layer trained by the clicks of one shop; it is that shop's "
        "own. Detector, category and trunk are those of the start.\n\n"
        f"- **Licence of the start**: {origin.licence}\n\n| measured | |\n|---|---|\n{rows}\n\n"
        "Recall: share of the validating photos that find an image first which their user clicked, among the images of "
        "the triplets. It says nothing about other shops.\n"
    )
    write_model(out, model, graphs=graphs, card=card, weights=weights, page=page)


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
