"""Evidence drawn at random, with holes."""

from typing import Any

import numpy as np

from sameitem.rerank.features import COLUMNS, NUMBERS, Evidence, rounded


def draw_evidence(seed: int, candidates: int, **given: Any) -> Evidence:
    generator = np.random.default_rng(seed)
    values: dict[str, Any] = {}
    for name in COLUMNS:
        drawn = generator.random(candidates) * (100 if name in ("sales", "price", "review_count", "age_days") else 1)
        drawn[generator.random(candidates) < 0.2] = np.nan
        values[name] = rounded(given.get(name, drawn))
    for name in ("visual", "same_item"):
        values[name] = rounded(given.get(name, generator.random(candidates)))
    values["visual_rank"] = rounded(given.get("visual_rank", np.arange(1, candidates + 1)))
    for name in NUMBERS:
        values[name] = float(given.get(name, round(generator.random() + 0.01, 6)))
    return Evidence(**values)
