"""Measure features on the real photographs: floors, the raw network and the model that ships.

python benchmarks/features.py --data FOLDER [--out FILE]
"""

import argparse
import datetime
import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sameitem.core.records import Pixels
from sameitem.features.colour import describe_colour
from sameitem.features.embed import Embedder
from sameitem.features.model_folder import shipped_model
from sameitem.learning.base_model import SIDE_PX, graph_embed
from sameitem.learning.domains import Embed, Figure, measure
from sameitem.learning.export import to_onnx
from sameitem.learning.real_sets import RealSets
from sameitem.learning.trunk import Trunk, public_trunk


class Averaged(nn.Module):
    """A trunk whose last maps are averaged: the raw feature of the literature."""

    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, image: Tensor) -> Tensor:
        """Turn images into (n, 1280) features."""
        return self.trunk(image).mean((2, 3))


def averaged(trunk: Trunk) -> Embed:
    """Return the raw feature of a trunk."""
    graph = to_onnx(Averaged(trunk), input_name="image", output_names=["pooled"], side_px=SIDE_PX)
    return graph_embed(graph, output="pooled", threads=1)


def colours(crops: Sequence[Pixels]) -> NDArray[np.float32]:
    """Describe crops by colour alone; the square roots' cosine is the Bhattacharyya coefficient."""
    return np.sqrt(np.stack([describe_colour(crop) for crop in crops]))


def untrained() -> Embed:
    """Return the raw feature of a network with random weights."""
    torch.manual_seed(0)
    return averaged(Trunk())


def table(columns: dict[str, list[Figure]]) -> str:
    """Format one row per domain, one column per feature."""
    lines = [
        f"| domain | measure | queries | gallery | {' | '.join(columns)} |",
        f"|---|---|---|---|{'---|' * len(columns)}",
    ]
    for row in zip(*columns.values(), strict=True):
        cells = [f"{figure.share.mean:.3f} ({figure.share.low:.3f}-{figure.share.high:.3f})" for figure in row]
        first = row[0]
        lines.append(f"| {first.name} | {first.measure} | {first.queries} | {first.gallery} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print the table and, where asked, keep it in a file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the real photographs (manifest.csv)")
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    sets = RealSets(options.data)
    shipped = Embedder(shipped_model())
    features: dict[str, Embed] = {
        "colour histogram": colours,
        "untrained Lite0": untrained(),
        "raw Lite0": averaged(public_trunk()),
        f"{shipped.version} int8": shipped.embed,
    }
    started = time.perf_counter()
    columns = {name: measure(embed, sets, views=True) for name, embed in features.items()}
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    text = (
        f"# Features on real photographs\n\n`python benchmarks/features.py --data FOLDER`, "
        f"{datetime.date.today().isoformat()}, {machine}, onnxruntime {onnxruntime.__version__}, "
        f"{time.perf_counter() - started:.0f} s. Bootstrap 95 % intervals in brackets.\n\n{table(columns)}\n"
    )
    print(text)
    if options.out is not None:
        options.out.write_text(text)


if __name__ == "__main__":
    main()
