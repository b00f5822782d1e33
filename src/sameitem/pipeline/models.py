"""Model versions of a shop: the one that ships, and those it brought."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from sameitem.core.errors import InputError
from sameitem.core.records import Pixels
from sameitem.features.bring_model import import_model
from sameitem.features.model_folder import ModelFolder, read_model, shipped_model
from sameitem.features.preprocess import Fit
from sameitem.pipeline.shop import Shop

SAMPLES = 16


def list_models(shop: Shop) -> list[dict[str, Any]]:
    """Return every model version with its manifest."""
    folders = [shipped_model(), *sorted(path for path in shop.models_root.glob("*/") if path.is_dir())]
    return [_shown(read_model(folder), shop.settings.model.active) for folder in folders]


def bring_model(
    shop: Shop,
    graph: Path,
    *,
    name: str,
    side_px: int,
    fit: str,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    output: str | None,
    licence: str,
) -> dict[str, Any]:
    """Make a model version of an ONNX file, checked on photos of the shop, or on drawn ones while it has none.

    Raises:
        InputError: not a graph that turns a photo into 128-1024 numbers; says what it is instead.
    """
    if fit not in list(Fit):
        raise InputError(f"need fit of {', '.join(Fit)}, got {fit!r}", field="fit")
    photos: Sequence[Pixels] = [shop.photos.pixels(name) for name in islice(shop.photos.hashes(), SAMPLES)]
    brought = import_model(
        graph,
        shop.models_root,
        name=name,
        sample_photos=photos if len(photos) >= 2 else _drawn(),
        side_px=side_px,
        fit=Fit(fit),
        mean=mean,
        std=std,
        output=output,
        licence=licence,
        source=graph.name,
    )
    return {**_shown(brought, shop.settings.model.active), "ms_per_photo": brought.metrics["ms_per_photo"]}


def _shown(model: ModelFolder, active: str) -> dict[str, Any]:
    return {
        "version": model.version,
        "active": model.version == active,
        "kind": model.kind,
        "dim": model.dim,
        "licence": model.licence,
        "source": model.source,
        "metrics": dict(model.metrics),
    }


def _drawn() -> list[Pixels]:
    """Return a few pictures that differ: colour ramps in different directions."""
    rows, columns = np.mgrid[0:256, 0:256].astype(np.uint8)
    return [
        np.stack(planes, axis=2)
        for planes in ((rows, columns, rows), (columns, 255 - rows, columns), (rows, rows, rows))
    ]
