"""Measure category prediction on the real photographs: model, vote of the neighbours, fusion, calibration, routing.

python benchmarks/category.py --data FOLDER [--cache FOLDER] [--googlenet FOLDER] [--out FILE]
"""

import argparse
import datetime
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sameitem.catalog.taxonomy import OTHERS, load_taxonomy
from sameitem.category.calibration import fit_temperature, softmax, temper
from sameitem.category.fusion import Fusion, choose_fusion, fuse
from sameitem.category.reference import ReferenceSet
from sameitem.category.routing import routing_loss
from sameitem.category.vote import vote
from sameitem.core.records import Pixels
from sameitem.features.embed import Embedder
from sameitem.features.model_folder import shipped_model
from sameitem.features.preprocess import to_square
from sameitem.learning.category import CategoryModel, Examples, fit_category, held_out, widened
from sameitem.learning.googlenet import load_googlenet, predict
from sameitem.learning.graphs import DETECT_PREPROCESSING
from sameitem.learning.real_sets import RealSets, Row
from sameitem.learning.train import TEACHER_RANK, read_start
from sameitem.learning.trunk import folded_trunk, public_trunk
from sameitem.metrics.calibration import expected_calibration_error
from sameitem.metrics.intervals import Interval, bootstrap_interval

NEIGHBOURS = 30
SHARPNESSES = (1.0, 4.0, 8.0, 16.0, 32.0)
MASS = 0.95

Rows = NDArray[np.float32]
Probabilities = NDArray[np.float64]
Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """Of every row that is used; row i of `rows`, `pooled` and `base` is one image, `mirrored` holds trainable rows."""

    rows: Sequence[Row]
    pooled: Rows  # (rows, 1280), what the shipped short trunk makes of 160 px, widened
    mirrored: Rows  # (trainable rows, 1280)
    base: Rows  # (rows, dim) unit, 224 px


@dataclass(frozen=True, slots=True, eq=False)
class Opinion:
    """What the model, the vote and the two together say about the same photos."""

    model: Probabilities
    knn: Probabilities
    fused: Probabilities


def features(sets: RealSets, cache: Path | None) -> Features:
    """Compute the features, or read those of an earlier call."""
    rows = [
        row
        for row in sets.rows
        if row.trainable or (row.top14 and row.split in ("val", "gallery")) or "fashion_hi" in row.archive
    ]
    embedder, learned = Embedder(shipped_model()), read_start(shipped_model())[1]
    assert learned.category is not None
    trunk, widen = folded_trunk(), learned.category.widen

    def pool(pixels: Pixels) -> Rows:
        photo = torch.from_numpy(to_square(pixels, DETECT_PREPROCESSING)[None])
        with torch.inference_mode():
            coarse = trunk.begin(photo.contiguous(memory_format=torch.channels_last))[-1]
            return np.asarray(widened(widen, trunk.shorten(coarse)).numpy(), np.float32)

    def kept(name: str, chosen: Sequence[Row], of: Callable[[Pixels], Rows]) -> Rows:
        file = None if cache is None else cache / f"{name}.npy"
        if file is None or not file.exists():
            made = np.concatenate([of(sets.pixels(row)) for row in chosen]).astype(np.float16)
            if file is not None:
                file.parent.mkdir(parents=True, exist_ok=True)
                np.save(file, made)
        else:
            made = np.load(file, allow_pickle=False)
        return np.asarray(made, np.float32)

    trainable = [row for row in rows if row.trainable]
    base = kept("base", rows, lambda pixels: embedder.embed([pixels]))
    return Features(
        rows=rows,
        pooled=kept("pooled", rows, pool),
        mirrored=kept("mirrored", trainable, lambda pixels: pool(np.ascontiguousarray(pixels[:, ::-1]))),
        base=base / np.linalg.norm(base, axis=1, keepdims=True),
    )


def votes(base: Rows, labels: Places, queries: Rows, count: int) -> dict[float, Probabilities]:
    """Let the reference rows vote on each query, once for every sharpness."""
    names = tuple(str(number) for number in range(count))
    reference = ReferenceSet(
        "base", base, labels.astype(np.int32), np.arange(len(labels)), names, np.arange(count), names
    )
    near = reference.neighbours(queries, NEIGHBOURS)
    return {
        sharpness: np.stack(
            [
                vote(distances, labels[rows], np.arange(count), sharpness=sharpness).leaves
                for rows, distances in zip(near.rows, near.distances, strict=True)
            ]
        )
        for sharpness in SHARPNESSES
    }


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """Labels to tell: the rows that train and the rows that are measured."""

    names: tuple[str, ...]
    train: Places  # rows of the features
    train_labels: Places
    held: NDArray[np.bool_]  # (train,)
    measured: Places


def task(everything: Features, names: tuple[str, ...], label: Callable[[Row], str], only: str = "") -> Task:
    """Collect a task's rows."""
    of = np.array([names.index(label(row)) if label(row) in names else -1 for row in everything.rows])
    in_archive = np.array([only in row.archive for row in everything.rows])
    trainable = np.array([row.trainable for row in everything.rows])
    val = np.array([row.split == "val" for row in everything.rows])
    train = np.flatnonzero(trainable & in_archive & (of >= 0))
    held = np.array([held_out(everything.rows[row].group) for row in train.tolist()])
    return Task(names, train, of[train], held, np.flatnonzero(val & in_archive & (of >= 0)))


def fit(everything: Features, what: Task) -> CategoryModel:
    """Train the light model of a task."""
    place = np.cumsum([row.trainable for row in everything.rows]) - 1  # among the trainable rows
    fitted = ~what.held
    examples = Examples(
        np.concatenate([everything.pooled[what.train], everything.mirrored[place[what.train[fitted]]]]),
        np.concatenate([what.train_labels, what.train_labels[fitted]]),
        np.concatenate([what.held, np.zeros(int(fitted.sum()), np.bool_)]),
    )
    fitted_model = fit_category(examples, what.names, trunk=public_trunk())
    if fitted_model.head.teacher is not None:
        fitted_model.head.teacher.compact(torch.from_numpy(everything.pooled[what.train]), rank=TEACHER_RANK)
    return fitted_model


def decide(
    everything: Features, what: Task, held_model: Probabilities, held_rows: Places, val_model: Probabilities
) -> tuple[Fusion, Opinion]:
    """Choose alpha and lambda on the held-out rows and apply them to the measured ones."""
    count = len(what.names)
    fitted = ~what.held
    voted = np.isin(np.arange(count), what.train_labels)
    held_votes = votes(
        everything.base[what.train[fitted]],
        what.train_labels[fitted],
        everything.base[what.train[held_rows]],
        count,
    )
    chosen = choose_fusion(held_model, held_votes, what.train_labels[held_rows], voted=voted)
    knn = votes(everything.base[what.train], what.train_labels, everything.base[what.measured], count)[chosen.sharpness]
    return chosen, Opinion(val_model, knn, temper(fuse(val_model, knn, chosen.alpha, voted=voted), chosen.temperature))


def lines(opinion: Opinion, truth: Places, slices: dict[str, NDArray[np.bool_]]) -> list[str]:
    """Format accuracy with intervals, the gain of the fusion, ECE and routing loss, a slice a row."""
    made = []
    for name, chosen in slices.items():
        if not chosen.any():
            continue
        right = {
            who: (p[chosen].argmax(1) == truth[chosen]).astype(np.float64)
            for who, p in (("model", opinion.model), ("knn", opinion.knn), ("fused", opinion.fused))
        }
        better = max(("model", "knn"), key=lambda who: float(right[who].mean()))
        cells = [span(interval(right[who])) for who in ("model", "knn", "fused")]
        cells.append(span(interval(right["fused"] - right[better])))
        eces = [
            expected_calibration_error(p[chosen].max(1), p[chosen].argmax(1) == truth[chosen])
            for p in (opinion.model, opinion.fused)
        ]
        lost = routing_loss(opinion.fused[chosen], truth[chosen], MASS)
        made.append(
            f"| {name} | {int(chosen.sum())} | {' | '.join(cells)} | {eces[0]:.3f} | {eces[1]:.3f} | {lost:.3f} |"
        )
    return made


def interval(values: NDArray[np.float64]) -> Interval:
    """Return the mean and its interval, always by the same draws."""
    return bootstrap_interval(values, np.random.default_rng(0))


def span(share: Interval) -> str:
    """Format a share with its interval."""
    return f"{share.mean:.3f} ({share.low:.3f}-{share.high:.3f})"


HEAD = (
    "| photos | n | model | kNN | fusion | fusion - better of the two | ECE model | ECE fusion | routing loss |",
    "|---|---|---|---|---|---|---|---|---|",
)


def top_slices(everything: Features, what: Task, taught: set[str]) -> dict[str, dict[str, NDArray[np.bool_]]]:
    """Return the slices of the 14 top categories: sets, categories with photos, categories of the teacher."""
    rows = [everything.rows[row] for row in what.measured]
    archive = np.array([row.archive.removeprefix("images/").removesuffix(".zip") for row in rows])
    top = np.array([row.top14 for row in rows])
    with_photos = ~np.isin(top, list(taught))
    known = np.isin(archive, ["abo", "clothing", "grocery"])
    sets = {
        f"{name}, categories with photos": with_photos & (archive == name) for name in dict.fromkeys(archive.tolist())
    }
    return {
        "Sets": {
            "abo, clothing and grocery, categories with photos": with_photos & known,
            **sets,
            "taught by the teacher": ~with_photos,
            "everything": np.ones(len(rows), np.bool_),
        },
        "Top categories that have photos to train on (abo, clothing, grocery val)": {
            name: known & (top == name) for name in what.names if name not in taught
        },
        "Taught by the teacher's ImageNet labels alone (fashion_hi val, grocery Packages)": {
            name: top == name for name in what.names if name in taught
        },
    }


def main() -> None:
    """Measure, print, and where asked keep in a file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the real photographs (manifest.csv)")
    parser.add_argument("--cache", type=Path, help="keeps the features between calls")
    parser.add_argument("--googlenet", type=Path, help="folder of a finished GoogLeNet")
    parser.add_argument("--out", type=Path, help="also write the tables to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    started = time.monotonic()
    sets = RealSets(options.data)
    everything = features(sets, options.cache)
    tops = tuple(top.id for top in load_taxonomy().top if top.id != OTHERS)
    what = task(everything, tops, lambda row: row.top14)
    model = fit(everything, what)
    taught = {name for name, trained in zip(tops, model.trained, strict=True) if not trained}
    val = model.probabilities(everything.pooled[what.measured])
    chosen, opinion = decide(everything, what, model.held_out_probabilities, model.held_out, val)
    label = {top: number for number, top in enumerate(tops)}
    truth = np.array([label[everything.rows[row].top14] for row in what.measured])
    made = [f"Light model, {len(tops)} top categories: {settings(chosen, model.head.temperature)}"]
    slices = top_slices(everything, what, taught)
    for title, parts in slices.items():
        made += ["", f"**{title}**", "", *HEAD, *lines(opinion, truth, parts)]
    labels = tuple(sorted({row.category for row in sets.select("clothing", lambda row: bool(row.top14))}))
    clothes = task(everything, labels, lambda row: row.category if row.top14 else "", "clothing")
    small = fit(everything, clothes)
    chosen, told = decide(
        everything,
        clothes,
        small.held_out_probabilities,
        small.held_out,
        small.probabilities(everything.pooled[clothes.measured]),
    )
    worn = np.array([labels.index(everything.rows[row].category) for row in clothes.measured])
    every = np.ones(len(worn), np.bool_)
    made += ["", f"**Clothing, {len(labels)} labels**: {settings(chosen, small.head.temperature)}", "", *HEAD]
    made += lines(told, worn, {"clothing val": every})
    if options.googlenet is not None:
        network, names = load_googlenet(options.googlenet)
        assert names == tops
        held = np.flatnonzero(what.held)
        logits = predict(network, (sets.pixels(everything.rows[row]) for row in what.train[held]))
        temperature = fit_temperature(logits, what.train_labels[held])
        of_val = predict(network, (sets.pixels(everything.rows[row]) for row in what.measured))
        chosen, grown = decide(everything, what, softmax(logits, temperature), held, softmax(of_val, temperature))
        made += ["", f"**GoogLeNet V1 from random weights**: {settings(chosen, temperature)}", "", *HEAD]
        made += lines(grown, truth, slices["Sets"])
        made += [
            "",
            "Its training (`python -m sameitem.learning.googlenet`, one thread; seconds of processor time):",
            "",
        ]
        made += curve(options.googlenet)
    made += ["", f"Routing loss: share of photos whose category is not searched at a mass of {MASS}, by the fusion."]
    text = "\n".join(made)
    print(text)
    if options.out is not None:
        about = (
            f"`python benchmarks/category.py --data FOLDER{' --googlenet FOLDER' if options.googlenet else ''}`, "
            f"{datetime.date.today().isoformat()}, {platform.machine()}, {os.cpu_count()} cores, "
            f"{time.monotonic() - started:.0f} s{' with cached features' if options.cache else ''}. "
            "Accuracy on val rows with bootstrap 95 % intervals; nothing of them was trained on."
        )
        options.out.write_text(f"# Category prediction on real photographs\n\n{about}\n\n{text}\n", encoding="utf-8")


def curve(folder: Path) -> list[str]:
    """Return the training's curve as a table."""
    rows = [line.split(",") for line in (folder / "curve.csv").read_text().splitlines()]
    return ["| " + " | ".join(row) + " |" for row in (rows[0], ["---"] * len(rows[0]), *rows[1:])]


def settings(chosen: Fusion, temperature: float) -> str:
    """Say what was chosen on the held-out part of train."""
    return (
        f"alpha {chosen.alpha}, lambda {chosen.sharpness:g}, temperature {temperature:.2f} of the model and "
        f"{chosen.temperature:.2f} of the fusion"
    )


if __name__ == "__main__":
    main()
