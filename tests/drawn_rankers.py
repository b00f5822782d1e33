"""Rankers drawn at random, to score and to store."""

from pathlib import Path

import numpy as np

from sameitem.pipeline.rankers import RankerManifest, add_ranker
from sameitem.rerank.features import FEATURES
from sameitem.rerank.ranker import Ranker, Trees


def draw_ranker(seed: int, *, trees: int = 7, depth: int = 4, features: int = 5) -> Ranker:
    generator = np.random.default_rng(seed)
    roots: list[int] = []
    nodes: list[list[float]] = []

    def add(left_to_grow: int) -> int:
        own = len(nodes)
        nodes.append([0, 0, own, own, 0, float(generator.normal())])
        if left_to_grow and generator.random() < 0.8:
            column, threshold = generator.integers(features), generator.normal()
            nodes[own] = [column, threshold, add(left_to_grow - 1), add(left_to_grow - 1), generator.random() < 0.5, 0]
        return own

    roots = [add(depth) for _ in range(trees)]
    table = np.array(nodes, np.float64).reshape(-1, 6)
    feature, left, right = (table[:, column].astype(np.intp) for column in (0, 2, 3))
    return Ranker(
        tuple(f"feature {number}" for number in range(features)),
        Trees(np.array(roots, np.intp), feature, table[:, 1], left, right, table[:, 4] > 0, table[:, 5]),
        generator.normal(size=features),
        generator.random(features) + 0.5,
        generator.normal(size=features),
        float(generator.normal()),
    )


def add_drawn(root: Path, version: str, *, seed: int = 0) -> Ranker:
    """Add a drawn ranker of the features that are served to a shop's."""
    drawn = draw_ranker(seed, features=len(FEATURES))
    ranker = Ranker(FEATURES, drawn.trees, drawn.middle, drawn.spread, drawn.dense, drawn.bias)
    add_ranker(root, ranker, RankerManifest(version, "2026-11-26T00:00:00+00:00", "base-2", 10, 5, "a", "b"))
    return ranker


def draw_features(seed: int, rows: int, features: int = 5) -> np.ndarray:
    generator = np.random.default_rng(seed)
    drawn = generator.normal(size=(rows, features)) * 3
    drawn[generator.random(drawn.shape) < 0.2] = np.nan
    return drawn
