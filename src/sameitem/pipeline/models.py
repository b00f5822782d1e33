"""Model versions of a shop: the one that ships, and those it brought or trained."""

from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from sameitem.core.errors import ConflictError, ImageError, InputError, NotFoundError
from sameitem.core.records import Pixels
from sameitem.engine.manifest import read_manifest
from sameitem.engine.versions import current
from sameitem.features.bring_model import import_model
from sameitem.features.model_folder import CARD, VERSION_PATTERN, ModelFolder, read_model, shipped_model
from sameitem.features.preprocess import Fit
from sameitem.pipeline.generations import (
    ACTIVE,
    go_back,
    manifest_if_readable,
    newest_index,
    newest_indexes,
    read_generations,
)
from sameitem.pipeline.shop import Shop

SAMPLES = 16


def check_new_version(name: str) -> None:
    """Refuse a name that a new model version of a shop cannot have.

    Raises:
        InputError: no plain name.
        ConflictError: it is that of the model that ships, or of the file beside the shop's models.
    """
    if not VERSION_PATTERN.fullmatch(name):
        raise InputError(
            f"need a name of 1-64 letters, digits, dots, dashes or underscores, got {name!r}", field="name"
        )
    if name.casefold() in {taken.casefold() for taken in (ACTIVE, shipped_model().name)}:  # some disks ignore case
        raise ConflictError(f"the name {name!r} is taken; choose another --name")


def list_models(shop: Shop) -> list[dict[str, Any]]:
    """Return every model version with its manifest; a broken one with what is wrong with it."""
    active, indexes, live = shop.active_model, newest_indexes(shop.index_root), current(shop.index_root)
    answers = manifest_if_readable(shop.index_root / live) if live else None
    return [
        {
            **_listed(folder, active),
            "live": answers is not None and folder.name == answers.model_version,
            "index": indexes.get(folder.name),
        }
        for folder in (shipped_model(), *sorted(shop.models_root.glob("[!.]*/")))
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
        ConflictError: its index was removed, or its folder is damaged; says what to do.
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
    shop.check_model(version)
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
        ConflictError: the name is taken.
    """
    check_new_version(name)
    if fit not in list(Fit):
        raise InputError(f"need fit of {', '.join(Fit)}, got {fit!r}", field="fit")
    photos = list(islice(_photos(shop), SAMPLES))
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


def _listed(folder: Path, active: str) -> dict[str, Any]:
    try:
        stamp = tuple(sorted((file.name, *_size_and_time(file)) for file in folder.glob("*")))
        model = _read_once(folder, stamp)
        if model.version != folder.name:
            raise InputError(f"the folder holds model {model.version}; name it so")
    except (InputError, NotFoundError, OSError) as error:
        reason = str(error).replace(f"{folder.parent}/", "")
        unknown: dict[str, Any] = {"dim": None, "licence": "", "source": "", "metrics": {}}
        return {"version": folder.name, "active": folder.name == active, "kind": "broken", **unknown, "error": reason}
    return {**_shown(model, active), "error": ""}


@lru_cache(maxsize=256)
def _read_once(folder: Path, _stamp: tuple[tuple[str, int, int], ...]) -> ModelFolder:
    """Read and check a model folder, whose files never change: again only when the stamp says that they did."""
    return read_model(folder)


def _size_and_time(file: Path) -> tuple[int, int]:
    found = file.stat()
    return found.st_size, found.st_mtime_ns


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


def _photos(shop: Shop) -> Iterator[Pixels]:
    """Yield the shop's photos that can be read."""
    for content_hash in shop.photos.hashes():
        try:
            yield shop.photos.pixels(content_hash)
        except (NotFoundError, ImageError):
            continue


def _drawn() -> list[Pixels]:
    """Return a few pictures that differ: colour ramps in different directions."""
    rows, columns = np.mgrid[0:256, 0:256].astype(np.uint8)
    return [
        np.stack(planes, axis=2)
        for planes in ((rows, columns, rows), (columns, 255 - rows, columns), (rows, rows, rows))
    ]
