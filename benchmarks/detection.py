"""Measure where a model sees the subject of a photo, beside boxes that need no learning, and what the box is worth.

python benchmarks/detection.py --data FOLDER [--model MODELFOLDER] [--composed FOLDER] [--out FILE]

FOLDER of --composed is what `benchmarks/composed_photos.py` wrote, with its folder `planted`; without it both are
composed first. Boxes that were drawn or taken from exact masks are read here and by no training code.
"""

import argparse
import csv
import datetime
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image

from composed_photos import NEVER, PLANTED, SIDE_PX, Boxes, best_constant_box, make_set
from sameitem.core.records import Box, Pixels
from sameitem.features.colour import to_lab
from sameitem.features.detect import Detector
from sameitem.features.embed import Embedder
from sameitem.features.model_folder import shipped_model
from sameitem.features.preprocess import crop
from sameitem.features.subject import CENTRED, detected_part, scaled, whole
from sameitem.learning.real_sets import RealSets, Row
from sameitem.metrics.boxes import iou
from sameitem.metrics.intervals import bootstrap_interval

PLANTED_PHOTOS = 500
BATCH = 64

Find = Callable[[Sequence[Pixels]], Boxes]  # photos to (photos, 4) boxes in their pixels
Maps = Callable[[Pixels], NDArray[np.float64]]  # a photo to its (cells, cells) saliency
Embed = Callable[[Sequence[Pixels]], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Case:
    """Photos whose subject is known; row i of the boxes is photo i's, in its pixels."""

    name: str
    photos: Sequence[Pixels]
    boxes: Boxes


@dataclass(frozen=True, slots=True)
class Composed:
    """The photos of never-clicked items out of a folder of `composed_photos`, and the catalogue they are found in."""

    photos: NDArray[np.uint8]  # (n, side, side, 3)
    boxes: Boxes  # in pixels
    items: NDArray[np.int64]  # (n,) row of the catalogue
    unseen: NDArray[
        np.bool_
    ]  # (n,) the item is of the val split: no model, the shipped one included, was trained on it
    catalogue: NDArray[np.uint8]  # (items, side, side, 3)


# ------------------------------------------------------------------------------------------------ without learning

_CELLS = 32  # a side of a saliency map whose box is searched
_FINE_PX = 64  # a side of the picture that a saliency map is made of
_MASS = 0.9  # of the saliency above Otsu's threshold that the box holds
_CENTRE = 0.35  # standard deviation of the centre prior, in shares of the side


def whole_photos(photos: Sequence[Pixels]) -> Boxes:
    """Return the boxes that leave nothing out."""
    return np.array([(0.0, 0.0, photo.shape[1], photo.shape[0]) for photo in photos])


def middles(photos: Sequence[Pixels], *, share: float) -> Boxes:
    """Return the boxes around the middle that keep `share` of each side."""
    return np.array([_sides(scaled(whole(photo), share)) for photo in photos])


def constants(photos: Sequence[Pixels], *, box: NDArray[np.float64]) -> Boxes:
    """Return one box, given in shares of the sides, for every photo."""
    return whole_photos(photos)[:, [2, 3, 2, 3]] * box


def salient(photos: Sequence[Pixels], *, maps: Maps) -> Boxes:
    """Return the smallest boxes that hold most of a saliency map."""
    shares = np.array([tightest_box(maps(photo)) for photo in photos])
    return whole_photos(photos)[:, [2, 3, 2, 3]] * shares


def border_contrast(pixels: Pixels) -> NDArray[np.float64]:
    """Map how unlike the picture's border each cell is coloured, times a centre prior.

    Each of the four sides is a normal distribution of Lab colours; a pixel's distances to them, the largest left out
    (a subject may touch one side), add up.

    Source: Zhang et al., Minimum Barrier Salient Object Detection at 80 FPS, ICCV 2015, equations 8 and 9.
    """
    lab = to_lab(_small(pixels))
    edge = _FINE_PX // 10
    sides = (lab[:edge], lab[-edge:], lab[:, :edge], lab[:, -edge:])
    maps = []
    for side in sides:
        colours = side.reshape(-1, 3)
        inverse = np.linalg.inv(np.cov(colours.T) + 4.0 * np.eye(3))
        offset = lab - colours.mean(axis=0)
        distance = np.sqrt(np.einsum("ijk,kl,ijl->ij", offset, inverse, offset))
        maps.append(distance / distance.max())
    return _to_cells((np.sum(maps, axis=0) - np.max(maps, axis=0)) * _centre_prior())


def spectral_residual(pixels: Pixels) -> NDArray[np.float64]:
    """Map what a smooth spectrum does not explain, in each Lab channel, times a centre prior.

    Source: Hou and Zhang, Saliency Detection: A Spectral Residual Approach, CVPR 2007, equations 8 to 11.
    """
    total = np.zeros((_FINE_PX, _FINE_PX))
    for channel in np.moveaxis(to_lab(_small(pixels)), 2, 0):
        spectrum = np.fft.fft2(channel)
        log = np.log(np.abs(spectrum) + 1e-9)
        padded = np.pad(log, 1, mode="wrap")
        smooth = sum(padded[y : y + _FINE_PX, x : x + _FINE_PX] for y in range(3) for x in range(3)) / 9
        total += np.abs(np.fft.ifft2(np.exp(log - smooth + 1j * np.angle(spectrum)))) ** 2
    return _to_cells(_blurred(total, 2.5) * _centre_prior())


def tightest_box(saliency: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the smallest rectangle, in shares of the sides, that holds 90 % of what Otsu's threshold leaves.

    Source: Otsu, A Threshold Selection Method from Gray-Level Histograms, IEEE SMC 1979.
    """
    cells = len(saliency)
    kept = np.where(saliency > _otsu(saliency), saliency, 0.0)
    if kept.sum() <= 0:
        return np.array([0.0, 0.0, 1.0, 1.0])
    first, last = np.triu_indices(cells)
    rows = np.concatenate([np.zeros((1, cells)), kept.cumsum(axis=0)])
    strips = rows[last + 1] - rows[first]  # (pairs, cells) mass of each column between two rows
    columns = np.concatenate([np.zeros((len(strips), 1)), strips.cumsum(axis=1)], axis=1)
    mass = columns[:, last + 1] - columns[:, first]  # (row pairs, column pairs)
    spans = last + 1 - first
    area = np.where(mass >= _MASS * kept.sum(), spans[:, None] * spans[None, :], cells * cells + 1)
    vertical, horizontal = np.unravel_index(int(area.argmin()), area.shape)
    return np.array([first[horizontal], first[vertical], last[horizontal] + 1, last[vertical] + 1]) / cells


def _otsu(values: NDArray[np.float64]) -> float:
    ordered = np.sort(values.ravel())
    below = np.arange(1, len(ordered))
    sums = ordered.cumsum()
    apart = sums[:-1] / below - (sums[-1] - sums[:-1]) / (len(ordered) - below)
    return float(ordered[int((below * (len(ordered) - below) * apart**2).argmax())])


def _small(pixels: Pixels) -> Pixels:
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(picture.resize((_FINE_PX, _FINE_PX), Image.Resampling.BOX))


def _to_cells(values: NDArray[np.float64]) -> NDArray[np.float64]:
    step = _FINE_PX // _CELLS
    pooled: NDArray[np.float64] = values.reshape(_CELLS, step, _CELLS, step).mean(axis=(1, 3))
    return pooled


def _centre_prior() -> NDArray[np.float64]:
    bell = np.exp(-(((np.arange(_FINE_PX) + 0.5) / _FINE_PX - 0.5) ** 2) / (2 * _CENTRE**2))
    return np.outer(bell, bell)


def _blurred(values: NDArray[np.float64], spread: float) -> NDArray[np.float64]:
    place = np.arange(-8, 9)
    bell = np.exp(-(place**2) / (2 * spread**2))
    bell /= bell.sum()
    for _ in range(2):  # along the rows, then the columns
        padded = np.pad(values, ((0, 0), (8, 8)), mode="reflect")
        values = np.apply_along_axis(np.convolve, 1, padded, bell, mode="valid").T
    return values


# ------------------------------------------------------------------------------------------------------- measuring


def detected(photos: Sequence[Pixels], *, detector: Detector) -> Boxes:
    """Return the best box of a model for each photo."""
    found = (detector.detect(photos[start : start + BATCH]) for start in range(0, len(photos), BATCH))
    return np.array([_sides(detection.boxes[0]) for batch in found for detection in batch])


def detection_table(cases: Sequence[Case], finders: dict[str, Find]) -> str:
    """Format mean IoU and the shares of photos above 0.5 and 0.7, a row per set and way to find the box."""
    lines = ["| photos | number | box | mean IoU | IoU >= 0.5 | IoU >= 0.7 |", "|---" * 6 + "|"]
    for case in cases:
        sides = whole_photos(case.photos)[:, [2, 3, 2, 3]]
        constant, _ = best_constant_box(case.boxes / sides)
        ways = {**finders, "best constant box, fitted on these photos": partial(constants, box=constant)}
        for name, find in ways.items():
            overlap = iou(find(case.photos), case.boxes)
            cells = [_cell(overlap), *(_cell((overlap >= least).astype(np.float64)) for least in (0.5, 0.7))]
            lines.append(f"| {case.name} | {len(overlap)} | {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def planted_table(photos: Sequence[Pixels], boxes: Boxes, patches: Boxes, finders: dict[str, Find]) -> str:
    """Format how often a box lies on the item rather than on a patch that was pasted beside it."""
    lines = [
        "| box | nearer the item | on the patch (IoU >= 0.5) | IoU with the item | with the patch |",
        "|---" * 5 + "|",
    ]
    for name, find in finders.items():
        found = find(photos)
        item, patch = iou(found, boxes), iou(found, patches)
        cells = [_cell((item > patch).astype(np.float64)), _cell((patch >= 0.5).astype(np.float64))]
        lines.append(f"| {name} | {' | '.join(cells)} | {_cell(item)} | {_cell(patch)} |")
    return "\n".join(lines)


def recall_table(composed: Composed, embed: Embed, detector: Detector | None) -> str:
    """Format Recall@1 of cluttered photos among the whole catalogue, a row per part of the photo that is embedded."""
    gallery = _embed_all(embed, composed.catalogue)
    photos = list(composed.photos)
    parts: dict[str, Iterable[Sequence[Pixels]]] = {
        "whole photo": ([photo] for photo in photos),
        "centred views (1, 0.8, 0.65) averaged": ([_cut(p, whole(p), scale) for scale in CENTRED] for p in photos),
        "true box": ([crop(photo, Box(*box))] for photo, box in zip(photos, composed.boxes, strict=True)),
    }
    if detector is not None:
        boxes = [Box(*map(float, box)) for box in detected(photos, detector=detector)]
        views = detector.views
        parts |= {
            "learned box": ([crop(photo, box)] for photo, box in zip(photos, boxes, strict=True)),
            f"learned box, the model's views {views} averaged": (
                detected_part(photo, box, views).views for photo, box in zip(photos, boxes, strict=True)
            ),
        }
    lines = ["| query | Recall@1, never-clicked items | Recall@1, val items |", "|---" * 3 + "|"]
    for name, views_of in parts.items():
        queries = np.stack([_unit(embed(list(views)).sum(axis=0)) for views in views_of])
        hits = ((queries @ gallery.T).argmax(axis=1) == composed.items).astype(np.float64)
        lines.append(f"| {name} | {_cell(hits)} | {_cell(hits[composed.unseen])} |")
    return "\n".join(lines)


def _embed_all(embed: Embed, pictures: Sequence[Pixels] | NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.concatenate([embed(list(pictures[at : at + BATCH])) for at in range(0, len(pictures), BATCH)])


def _unit(feature: NDArray[np.float32]) -> NDArray[np.float32]:
    return feature / np.float32(np.linalg.norm(feature))


def _cut(photo: Pixels, box: Box, scale: float) -> Pixels:
    return crop(photo, scaled(box, scale))


def _sides(box: Box) -> tuple[float, float, float, float]:
    return box.left, box.top, box.right, box.bottom


def _cell(values: NDArray[np.float64]) -> str:
    interval = bootstrap_interval(values, np.random.default_rng(0))
    return f"{interval.mean:.3f} ({interval.low:.3f}-{interval.high:.3f})"


# --------------------------------------------------------------------------------------------------------- reading


def read_composed(folder: Path) -> Composed:
    """Read the never-clicked half of a composed set, with its true boxes."""
    with (folder / "items.csv").open(newline="") as stream:
        items = list(csv.DictReader(stream))
    places = np.load(folder / "photo_item.npy").astype(np.int64)
    wanted = np.flatnonzero([items[place]["half"] == NEVER for place in places])
    return Composed(
        photos=np.load(folder / "photos.npy", mmap_mode="r")[wanted],
        boxes=np.load(folder / "truth" / "boxes.npy")[wanted] * SIDE_PX,
        items=places[wanted],
        unseen=np.array([items[place]["split"] == "val" for place in places[wanted]]),
        catalogue=np.load(folder / "catalogue.npy", mmap_mode="r"),
    )


def read_salient(data: Path, sets: RealSets) -> Case:
    """Read the photos of ecssd_dev with the boxes of their exact masks."""
    with (data / "manifest.csv").open(newline="") as stream:
        boxes = {cells["member"]: cells["box"] for cells in csv.DictReader(stream)}
    rows: list[Row] = sets.select("ecssd_dev")
    sides = np.array([[float(side) for side in boxes[row.member].split()] for row in rows])
    return Case("ecssd_dev", [sets.pixels(row) for row in rows], sides)


def report(data: Path, composed_folder: Path, model: Path | None) -> str:
    """Measure everything and format it."""
    sets = RealSets(data)
    composed = read_composed(composed_folder)
    detector = None if model is None else Detector(model)
    embedder = Embedder(model or shipped_model())
    learned: dict[str, Find] = {} if detector is None else {"learned box": partial(detected, detector=detector)}
    finders: dict[str, Find] = learned | {
        "full image": whole_photos,
        "middle 0.8": partial(middles, share=0.8),
        "middle 0.65": partial(middles, share=0.65),
        "saliency, contrast with the border": partial(salient, maps=border_contrast),
        "saliency, spectral residual": partial(salient, maps=spectral_residual),
    }
    unseen = composed.unseen
    cases = [
        Case("composed, val items", list(composed.photos[unseen]), composed.boxes[unseen]),
        Case("composed, never-clicked items", list(composed.photos), composed.boxes),
        read_salient(data, sets),
    ]
    planted = composed_folder / PLANTED
    patched = list(np.load(planted / "photos.npy"))
    truths = [np.load(planted / "truth" / f"{name}.npy") * SIDE_PX for name in ("boxes", "patches")]
    recall = recall_table(composed, embedder.embed, detector)
    return (
        f"{detection_table(cases, finders)}\n\n"
        f"A patch of another background ({len(patched)} photos of never-clicked items) is pasted beside the item, "
        f"about as large, with the same edge, shadow and light:\n\n"
        f"{planted_table(patched, *truths, finders)}\n\n"
        f"What the box is worth: composed photos found among {len(composed.catalogue)} catalogue images by the feature "
        f"of {embedder.version} ({len(composed.items)} photos of never-clicked items, {int(unseen.sum())} of them of "
        f"the val split):\n\n{recall}\n"
    )


def main() -> None:
    """Measure, print the tables and, where asked, keep them in a file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the real photographs (manifest.csv)")
    parser.add_argument("--model", type=Path, help="model folder with a graph `detect`; without it the baselines alone")
    parser.add_argument("--composed", type=Path, help="folder that composed_photos.py wrote")
    parser.add_argument("--out", type=Path, help="also write the tables to this file")
    options = parser.parse_args()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.composed or Path(scratch)
        if options.composed is None:
            sets = RealSets(options.data)
            make_set(sets, folder, photos_per_item=1, seed=0)
            make_set(sets, folder / PLANTED, photos_per_item=1, seed=0, planted=PLANTED_PHOTOS)
        tables = report(options.data, folder, options.model)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    name = "no model" if options.model is None else Detector(options.model).version
    text = (
        f"# Where the subject is, without a box ever given\n\n"
        f"`python benchmarks/detection.py --data FOLDER --model MODELFOLDER`, {name}, "
        f"{datetime.date.today().isoformat()}, {machine}, onnxruntime {onnxruntime.__version__}, "
        f"{time.perf_counter() - started:.0f} s. Bootstrap 95 % intervals in brackets. Composed photos are drawn by "
        f"`benchmarks/composed_photos.py`; their items of the val split were never trained on by any model, the other "
        f"never-clicked ones by none that learns from shop (c).\n\n{tables}"
    )
    print(text)
    if options.out is not None:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
