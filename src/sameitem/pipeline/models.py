"""Model versions of a shop: the one that ships, and those it brought or trained."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from sameitem.core.errors import ConflictError, InputError, NotFoundError
from sameitem.core.records import Pixels
from sameitem.engine.manifest import read_manifest
from sameitem.engine.versions import current
from sameitem.features.bring_model import import_model
from sameitem.features.model_folder import CARD, ModelFolder, read_model, shipped_model
from sameitem.features.preprocess import Fit
from sameitem.pipeline.generations import go_back, newest_index, read_generations
from sameitem.pipeline.shop import Shop

SAMPLES = 16


def list_models(shop: Shop) -> list[dict[str, Any]]:
    """Return every model version with its manifest."""
    folders = [shipped_model(), *sorted(path for path in shop.models_root.glob("[!.]*/") if path.is_dir())]
    live = current(shop.index_root)
    answers = read_manifest(shop.index_root / live).model_version if live else None
    return [
        {
            **_shown(read_model(folder), shop.active_model),
            "live": folder.name == answers,
            "index": newest_index(shop.index_root, folder.name),
        }
        for folder in folders
    ]


def show_model(shop: Shop, version: str) -> dict[str, Any]:
    """Return one model version with its card.

    Raises:
        NotFoundError: there is no such version.
    """
    folder = shop.model_folder(version)
    card = folder / CARD
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    return {**_shown(read_model(folder), shop.active_model), "card": text}


def roll_back_model(shop: Shop) -> dict[str, Any]:
    """Make the previous generation the active one and its newest index version live, at once.

    Returns:
        version, index, created (of that index) and previous.

    Raises:
        NotFoundError: no model was active before, or its folder is gone.
        ConflictError: its index was removed; says what to do.
    """
    start = shop.settings.model.active
    generations = read_generations(shop.models_root, start=start)
    if not generations.previous:
        raise NotFoundError(
            f"no model was active before {generations.version}; `sameitem models list` shows what there is, "
            "`sameitem models activate V` changes it"
        )
    version = generations.previous[0]
    shop.model_folder(version)
    index = newest_index(shop.index_root, version)
    if index is None:
        raise ConflictError(
            f"model {version} has no index version any more; run `sameitem models activate {version} --force`, which "
            "builds one from the features that are kept"
        )
    after = go_back(shop.models_root, shop.index_root, index, start=start)
    created = read_manifest(shop.index_root / index).created
    return {"version": version, "index": index, "created": created, "previous": list(after.previous)}


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
    return {**_shown(brought, shop.active_model), "ms_per_photo": brought.metrics["ms_per_photo"]}


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
