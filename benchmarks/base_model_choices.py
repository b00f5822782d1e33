"""Compare the choices behind the base model: pooling, whitening and width, in float on every domain.

python benchmarks/base_model_choices.py --data FOLDER [--out FILE]
"""

import argparse
import datetime
import math
import os
import platform
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from sameitem.learning.base_model import (
    CENTRE,
    CONTRAST,
    RIDGE,
    SIDE_PX,
    Pair,
    fit_projection,
    fitting_pairs,
    graph_embed,
)
from sameitem.learning.domains import Domain, Rows, collect, evaluate, unit
from sameitem.learning.export import to_onnx
from sameitem.learning.network import SubjectPooling
from sameitem.learning.real_sets import RealSets
from sameitem.learning.trunk import CHANNELS, public_trunk

POOLINGS = {
    "average": SubjectPooling(centre=math.inf, contrast=0.0),
    "centre 2": SubjectPooling(centre=2 / 7, contrast=0.0),
    "contrast 2": SubjectPooling(centre=math.inf, contrast=2.0),
    "centre 2, contrast 2": SubjectPooling(centre=CENTRE, contrast=CONTRAST),
    "centre 1.5, contrast 4": SubjectPooling(centre=1.5 / 7, contrast=4.0),
}
CHOSEN = "centre 2, contrast 2"
WHITENINGS = (0.0, 0.1, 0.2, 0.3, 0.5)
WIDTHS = (512, 768, 1024, CHANNELS)


class AllPoolings(nn.Module):
    """The trunk with every pooling, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.poolings = public_trunk(), nn.ModuleList(POOLINGS.values())

    def forward(self, image: Tensor) -> Tensor:
        """Turn images into (n, poolings * channels)."""
        maps = self.trunk(image)
        return torch.cat([pooling(maps) for pooling in self.poolings], 1)


def row(name: str, domains: list[Domain], change: Callable[[Rows], Rows]) -> str:
    """Format the shares of one choice."""
    return f"| {name} | {' | '.join(f'{evaluate(domain, change).share.mean:.3f}' for domain in domains)} |"


def main() -> None:
    """Embed everything once with all poolings, then try the choices on the features."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the real photographs (manifest.csv)")
    parser.add_argument("--out", type=Path, help="also write the tables to this file")
    options = parser.parse_args()
    sets = RealSets(options.data)
    graph = to_onnx(AllPoolings(), input_name="image", output_names=["pooled"], side_px=SIDE_PX)
    embed = graph_embed(graph, output="pooled", threads=1)
    domains = collect(embed, sets, views=True)
    parts = {name: slice(place * CHANNELS, (place + 1) * CHANNELS) for place, name in enumerate(POOLINGS)}
    head = f"| choice | {' | '.join(domain.name for domain in domains)} |\n|---|{'---|' * len(domains)}"
    lines = ["Pooling, 1280 numbers:\n", head]
    lines += [row(name, domains, lambda rows, part=part: rows[:, part]) for name, part in parts.items()]
    lines += [f"\nWhitening and width, pooled with {CHOSEN}:\n", head]
    chosen = parts[CHOSEN]
    pairs = [Pair(unit(pair.one[:, chosen]), unit(pair.other[:, chosen])) for pair in fitting_pairs(sets, embed)]
    for whitening in WHITENINGS:
        projection = fit_projection(pairs, dim=CHANNELS, whitening=whitening, ridge=RIDGE).astype(np.float32)
        for width in WIDTHS:
            narrow = projection[:, :width]
            name = f"{whitening} to {width}"
            lines.append(row(name, domains, lambda rows, narrow=narrow: rows[:, chosen] @ narrow))
    about = (
        f"{datetime.date.today().isoformat()}, {platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"
    )
    command = "python benchmarks/base_model_choices.py --data FOLDER"
    text = "\n".join(["# Choices behind the base model\n", f"`{command}`, {about}.\n", *lines, ""])
    print(text)
    if options.out is not None:
        options.out.write_text(text)


if __name__ == "__main__":
    main()
