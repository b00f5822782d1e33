"""From a triplet file to a new model version: read the article's §02 from top to bottom here."""

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sameitem.core.errors import InputError
from sameitem.core.records import ContentHash, Pixels
from sameitem.features.model_folder import (
    DETECT,
    EMBED,
    PAGE,
    Detect,
    Graph,
    ModelFolder,
    Weights,
    read_model,
    read_weights,
    write_model,
)
from sameitem.features.preprocess import to_square
from sameitem.learning import workers
from sameitem.learning.category import (
    Examples,
    ShortCategory,
    fit_category,
    held_out,
    imagenet_table,
    widened,
)
from sameitem.learning.graphs import DETECT_PREPROCESSING, detect_graph, embed_graph
from sameitem.learning.judge import Judge
from sameitem.learning.last_block import train_last_block
from sameitem.learning.network import BoxHead, DetectionBranch, FeatureBranch, hard_boxes
from sameitem.learning.phases import (
    AT_ONCE,
    DETECT_PX,
    FeaturePhase,
    FitPhase,
    MaskPhase,
    Phase,
    Recipe,
    SearchPhase,
    coarse_crops,
    device_of,
    embedded,
    found_first,
    new_search,
    normalised,
)
from sameitem.learning.trainer import Tell, Trainer
from sameitem.learning.triplet_set import TripletSet, in_parts, read_triplet_set
from sameitem.learning.trunk import folded_trunk, public_trunk
from sameitem.learning.weights import Learned, pack, unpack

BOX_ALONE = (1.0,)  # views of a first head, which one shop's own photos taught: measured on cluttered photos
WIDER = 1.25  # second view of a photo that the feature learns on, so that it forgives a box that is too large
TEACHER_RANK = 64  # numbers between the two matrices of the category head's teacher
_CALIBRATION = 200


def train_embedding(
    *,
    triplets: Path,
    start: Path,
    out: Path,
    photo: Callable[[ContentHash], Pixels],
    checkpoint: Path,
    minutes: float | None,
    seed: int,
    tell: Tell,
    detector: bool = True,
    kept: Path | None = None,
    recipe: Recipe | None = None,
) -> Mapping[str, float]:
    """Teach detection and feature from clicks alone, and write the model version.

    Args:
        triplets: written by `sameitem mine`; it names photos and images, never where in a photo the item is.
        start: model folder to go on from.
        out: new model folder.
        photo: pixels of a query photo or catalogue image.
        checkpoint: folder of this run; what lies there is gone on from.
        minutes: the phases end early when they are over; None = every step.
        seed: of everything random.
        tell: is told phase, percent and the numbers of each step.
        detector: False = only the feature's last block, head and projection, in a minute (`last_block.py`); the rest
            stays, and nothing is written where that finds nothing better than the start.
        kept: folder where what the trunk makes of pictures is kept for the next such run; None = nothing is kept.
        recipe: how much and how of a training with detector; None = as `recipe_for` says.

    Returns:
        What was measured on the photos that validate. Where several processes train together (`on_ray.py`), each does
        all of this, and the first one writes.

    Raises:
        InputError: too few photos, or a start that cannot be trained on.
        ConflictError: `out` exists, or `checkpoint` belongs to another run.
    """
    begun = time.monotonic()
    origin, learned = read_start(start)
    deadline = float("inf") if minutes is None else begun + 60 * minutes
    if not detector:
        return train_last_block(
            origin=origin,
            learned=learned,
            start=start,
            triplets=triplets,
            out=out,
            photo=photo,
            checkpoint=checkpoint,
            kept=kept or checkpoint / "pixels",
            deadline=deadline,
            seed=seed,
            tell=tell,
        )
    found = read_triplet_set(triplets, photo, checkpoint / "pixels")
    recipe = recipe or recipe_for(found, learned)
    trainer = Trainer(
        checkpoint,
        run={"triplets": _digest(triplets), "start": origin.version, "seed": seed, "recipe": asdict(recipe)},
        tell=tell,
        deadline=deadline,
    )
    before = _recall(learned.feature, learned.head, found, recipe)
    head, feature = learn(found, learned, trainer, recipe, seed=seed, folder=checkpoint)
    after = _recall(feature, head, found, recipe)
    metrics: dict[str, float] = {
        "photos": len(np.unique(found.pairs[:, 0])),
        "pairs": len(found.pairs),
        "validating": len(found.validating()),
        "hours": round((time.monotonic() - begun) / 3600, 3),
    }
    if before is not None and after is not None:
        metrics |= {"recall_before": round(before, 4), "recall_after": round(after, 4)}
    if workers.number():
        return metrics
    page = checkpoint / PAGE
    write_learned(
        out,
        replace(learned, feature=feature, head=head),
        origin=origin,
        kind="trained",
        source=f"trained from {origin.version} by the shop's own clicks ({len(found.pairs)} pairs)",
        samples=[
            np.asarray(found.photos[row])
            for row in range(0, len(found.photos), max(1, len(found.photos) // _CALIBRATION))
        ],
        metrics=metrics,
        card=_card(out.name, origin, metrics, recipe),
        page=page.read_bytes() if page.is_file() else None,
    )
    return metrics


def train_category(
    *, images: Iterable[tuple[Pixels, str, str]], start: Path, out: Path, seed: int, tell: Tell
) -> Mapping[str, float]:
    """Teach the category head the shop's own labels, and write the model version; detection and feature stay.

    Args:
        images: whole photos with the id of their top category and of their product.
        start: model folder to go on from.
        out: new model folder.
        seed: draws the photos by which the graphs are made int8; the head itself comes out the same every time.
        tell: is told how many photos were seen.

    Returns:
        How many photos taught, and the accuracy on those held out.

    Raises:
        InputError: too few labelled photos, or a start without a category head.
        ConflictError: `out` exists.
    """
    origin = read_model(start)
    learned = unpack(read_weights(start, origin)) if origin.weights is not None else None
    if learned is None or learned.category is None or origin.detect is None:
        raise InputError(
            f"model {origin.version} has no category head to go on from; activate base-2 or a model that was trained "
            "from it, then train"
        )
    trunk, widen, generator = folded_trunk(), learned.category.widen, np.random.default_rng(seed)
    pooled: list[NDArray[np.float32]] = []
    tops: list[str] = []
    held: list[bool] = []
    samples: list[Pixels] = []
    taught: set[str] = set()
    number = 0
    for number, (pixels, top, product) in enumerate(images, 1):
        is_held_out = top in taught and held_out(product)  # a category's first photo always teaches
        taught.add(top)
        photo = torch.from_numpy(to_square(pixels, origin.detect.preprocessing)[None])
        with torch.inference_mode():
            for view in (photo,) if is_held_out else (photo, photo.flip(3)):
                short = trunk.shorten(trunk.begin(view.contiguous(memory_format=torch.channels_last))[-1])
                pooled.append(widened(widen, short).numpy())
                tops.append(top)
                held.append(is_held_out)
        if len(samples) < _CALIBRATION:
            samples.append(pixels)
        elif (place := int(generator.integers(number))) < _CALIBRATION:  # each photo is as likely to be kept
            samples[place] = pixels
        if number % 50 == 0:
            tell("category", 0.0, {"photos": number})
    names = tuple(dict.fromkeys([*origin.detect.categories, *sorted(set(tops))]))
    if not tops:
        raise InputError("no catalogue image has a top category; import categories, or a category map, then train")
    known = [name for name in names if name in tops or name in imagenet_table()]
    rows = Examples(np.concatenate(pooled), np.array([known.index(top) for top in tops], np.int64), np.array(held))
    fitted = fit_category(rows, known, trunk=public_trunk())
    if fitted.head.teacher is not None:
        fitted.head.teacher.compact(torch.from_numpy(rows.pooled), rank=min(TEACHER_RANK, len(rows.pooled)))
    truth = rows.labels[fitted.held_out]
    metrics = {
        "photos": number,
        "held_out": len(truth),
        "accuracy": round(float((fitted.held_out_probabilities.argmax(1) == truth).mean()), 4),
    }
    write_learned(
        out,
        replace(learned, category=ShortCategory(widen, fitted.head)),
        origin=replace(origin, detect=replace(origin.detect, categories=tuple(known))),
        kind="trained",
        source=f"category of {origin.version} trained on {metrics['photos']} labelled images of the shop",
        samples=samples,
        metrics=metrics,
        card=(
            f"# {out.name}\n\n`{origin.version}` with a category head of the shop's own labels ({metrics['photos']} "
            f"photos, {len(known)} categories). Accuracy on {metrics['held_out']} held-out photos: "
            f"{metrics['accuracy']}.\n\n- **Licence of the start**: {origin.licence}\n"
        ),
    )
    return metrics


def read_start(start: Path) -> tuple[ModelFolder, Learned]:
    """Read a model folder to go on from.

    Raises:
        InputError: it cannot be trained on.
    """
    origin = read_model(start)
    if origin.weights is None:
        raise InputError(
            f"model {origin.version} has no weights to go on from (it was imported as a graph); activate base-2 or a "
            "model that was trained here, then train"
        )
    return origin, unpack(read_weights(start, origin))


def recipe_for(found: TripletSet, learned: Learned) -> Recipe:
    """Return how much to learn: less where the start already finds subjects, and not more than the clicks can teach."""
    recipe = Recipe(feature_steps=min(300, max(50, len(found.teaching()) // 8)))
    return recipe if learned.head is None else replace(recipe, mask_steps=0, rounds=2)


def learn(
    found: TripletSet, learned: Learned, trainer: Trainer, recipe: Recipe, *, seed: int, folder: Path
) -> tuple[BoxHead | None, FeatureBranch]:
    """Take the phases one after the other: mask, rounds of search, feature.

    A start that finds no subjects and a recipe that does not teach it to leave the model without a head: the feature
    is then learned on whole photos.

    Args:
        found: what the clicks say.
        learned: where to start.
        trainer: takes the steps.
        recipe: how many, and how.
        seed: of the run.
        folder: for what is made once and used again.
    """
    torch.manual_seed(seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    feature = learned.feature.to(device)
    if learned.head is None and not (recipe.mask_steps or recipe.rounds):
        whole = [lambda: feature_phase(found, feature, None, recipe, seed)] if recipe.feature_steps else []
        trainer.take(whole, total_steps=recipe.feature_steps)
        return None, feature.cpu().eval()
    head = learned.head or BoxHead()
    detection = DetectionBranch(folded_trunk().requires_grad_(False), head).to(device)
    judge = Judge(np.asarray(found.images), folder)
    search = new_search(found, detection, judge)
    made: list[Callable[[], Phase]] = []
    if recipe.mask_steps:
        made.append(lambda: MaskPhase(found, detection, judge, recipe, seed))
    for number in range(recipe.rounds):
        for half in (SearchPhase, FitPhase):
            made.append(partial(half, found, detection, search, recipe, round_number=number, seed=seed))
    if recipe.feature_steps:
        made.append(lambda: feature_phase(found, feature, detection, recipe, seed))
    looks = -(-min(recipe.searched, len(found.teaching())) // AT_ONCE)
    rounds = recipe.rounds * (looks + 1 + recipe.fit_steps)
    trainer.take(made, total_steps=recipe.mask_steps + rounds + recipe.feature_steps)
    return head.cpu().eval(), feature.cpu().eval()


def feature_phase(
    found: TripletSet, feature: FeatureBranch, detection: DetectionBranch | None, recipe: Recipe, seed: int
) -> FeaturePhase:
    """Cut every photo and catalogue image by its hard rectangle, once, and make the phase that learns on the crops."""
    boxes = predicted(detection, found.photos)
    middles, halves = (boxes[:, :2] + boxes[:, 2:]) / 2, WIDER * (boxes[:, 2:] - boxes[:, :2]) / 2
    wider = torch.cat([middles - halves, middles + halves], 1).clamp(0, 1)

    def crops(view: int) -> Tensor:
        cut_by = boxes if view == 0 else wider
        return coarse_crops(feature, found.photos, cut_by, recipe.feature_px, flip=view == 1)

    return FeaturePhase(found, feature, crops, image_crops(found, feature, detection, recipe), recipe, seed)


def image_crops(found: TripletSet, feature: FeatureBranch, detection: DetectionBranch | None, recipe: Recipe) -> Tensor:
    """Return the stride-16 maps of the catalogue images' subjects: the whole picture where the backdrop is plain."""
    boxes = predicted(detection, found.images)
    whole = torch.tensor([0.0, 0.0, 1.0, 1.0])
    boxes = torch.where(torch.from_numpy(found.is_plain)[:, None], whole, boxes)
    return coarse_crops(feature, found.images, boxes, recipe.feature_px)


def predicted(detection: DetectionBranch | None, pictures: NDArray[np.uint8]) -> Tensor:
    """Return the (n, 4) hard rectangles of pictures, in shares of the side; whole pictures where nothing detects."""
    if detection is None:
        return torch.tensor([0.0, 0.0, 1.0, 1.0]).repeat(len(pictures), 1)
    device = device_of(detection)
    with torch.inference_mode():
        parts = [
            hard_boxes(detection(normalised(pictures[part], DETECT_PX, device))).cpu()
            for part in in_parts(len(pictures), 64)
        ]
    return torch.cat(parts).clone()


def _recall(feature: FeatureBranch, head: BoxHead | None, found: TripletSet, recipe: Recipe) -> float | None:
    """Return Recall@1 of the photos that validate, among all images of the triplets; None: no photo validates."""
    rows = found.pairs[found.validating()]
    if not len(rows):
        return None
    photos = found.photos[rows[:, 0]]
    detection = None if head is None else DetectionBranch(folded_trunk().requires_grad_(False), head)
    boxes, shown = predicted(detection, photos), image_crops(found, feature, detection, recipe)
    crops = coarse_crops(feature, photos, boxes, recipe.feature_px)
    return found_first(embedded(feature, crops), embedded(feature, shown), rows[:, 1])


def write_learned(
    out: Path,
    learned: Learned,
    *,
    origin: ModelFolder,
    kind: str,
    source: str,
    samples: list[Pixels],
    metrics: Mapping[str, Any],
    card: str,
    page: bytes | None = None,
) -> ModelFolder:
    """Export both graphs as int8 and write the model folder.

    Args:
        out: new folder.
        learned: what was learned.
        origin: the model it started from: its preprocessing, licence and categories go on.
        kind: "trained", or "base" of the one that ships.
        source: for the manifest.
        samples: photos that show the range of every activation.
        metrics: for the manifest.
        card: Markdown.
        page: HTML of the training's curves.
    """
    graphs = {EMBED: embed_graph(learned, origin.preprocessing, samples)}
    ends = {EMBED: Graph("embed.onnx", _sha(graphs[EMBED]), "image", "feature")}
    detect = None
    if learned.head is not None:
        graphs[DETECT] = detect_graph(learned, samples)
        ends[DETECT] = Graph("detect.onnx", _sha(graphs[DETECT]), "image", "boxes")
        known = origin.detect
        detect = Detect(
            preprocessing=DETECT_PREPROCESSING,
            categories=known.categories if known else (),
            temperature=known.temperature if known else 1.0,
            views=known.views if known else BOX_ALONE,
        )
    weights = pack(learned)
    model = ModelFolder(
        version=out.name,
        kind=kind,
        dim=int(learned.feature.projection.shape[1]),
        graphs=ends,
        preprocessing=origin.preprocessing,
        licence=origin.licence,
        source=source,
        metrics=metrics,
        detect=detect,
        weights=Weights("weights.npz", _sha(weights)),
    )
    write_model(out, model, graphs=graphs, card=card, weights=weights, page=page)
    return model


def _card(version: str, origin: ModelFolder, metrics: Mapping[str, float], recipe: Recipe) -> str:
    rows = "\n".join(f"| {name} | {value} |" for name, value in metrics.items())
    about_recall = (
        f"Recall: share of the {metrics['validating']} validating pairs whose photo finds its image first among the "
        "images of the triplets. It says nothing about other shops.\n"
    )
    return (
        f"# {version}\n\nTrained from `{origin.version}` by the clicks of one shop; it is that shop's own.\n\n"
        f"- **Data**: {metrics['pairs']} pairs of a query photo and a clicked image; no box, no label.\n"
        f"- **Licence of the start**: {origin.licence}\n- **Recipe**: `{recipe}`\n\n"
        f"| measured | |\n|---|---|\n{rows}\n\n"
        + (about_recall if "recall_after" in metrics else "No photo validates, so that nothing was measured.\n")
    )


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
