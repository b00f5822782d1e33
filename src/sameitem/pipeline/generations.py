"""Model generations as a state of the shop: which model builds use, and which index versions another one left.

models/ACTIVE    {"format": 1, "version": "clicks-2", "previous": ["base-2"]}; absent before the first activation

Which generation *answers* is said by the live index version alone: its manifest names the model, and queries are turned
into features by that one, so that publishing an index is the switch. ACTIVE says what the next build uses. Two files
cannot change at once; going forward ACTIVE is written first (the gate said yes, a build in between makes the same
switch), going back it is written last (the same command again ends in the same state). A kill in between leaves a whole
index live, and either command run again finishes what it began.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter

from sameitem.core.durable import write_whole
from sameitem.core.errors import ConflictError, NotFoundError
from sameitem.engine.manifest import Manifest, read_manifest
from sameitem.engine.versions import current, list_versions, make_live, switching
from sameitem.features.model_folder import VERSION_PATTERN

ACTIVE = "ACTIVE"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Generations:
    """The model version that builds use, and those it followed, newest first."""

    version: str
    previous: tuple[str, ...] = ()


def read_generations(models_root: Path, *, start: str) -> Generations:
    """Return the generations of a shop.

    Args:
        models_root: folder of the shop's model versions.
        start: the model version of a shop that never activated one.

    Raises:
        ConflictError: ACTIVE is damaged or of another format.
    """
    name = f"{models_root.name}/{ACTIVE}"
    try:
        content = json.loads((models_root / ACTIVE).read_bytes())
        if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
            raise ConflictError(f'{name} has no "format": {FORMAT}, the one this release reads; upgrade sameitem')
        found = TypeAdapter(Generations).validate_python(content)
    except FileNotFoundError:
        return Generations(start)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConflictError(f"{name} is damaged ({reason}); remove it and run `sameitem models activate V`") from error
    if not all(VERSION_PATTERN.fullmatch(version) for version in (found.version, *found.previous)):
        raise ConflictError(f"{name} names no model version; remove it and run `sameitem models activate V`")
    return found


def go_forward(models_root: Path, index_root: Path, index_version: str, *, start: str) -> Generations:
    """Make an index version live whose model follows the active one, and that model the active one.

    Raises:
        NotFoundError: there is no such index version.
        ConflictError: it is damaged.
    """
    with switching(index_root):
        model = read_manifest(index_root / index_version).model_version
        before = read_generations(models_root, start=start)
        earlier = (before.version, *before.previous)
        after = Generations(model, tuple(version for version in earlier if version != model))
        if after != before:
            write_generations(models_root, after)
        make_live(index_root, index_version)
        return after


def go_back(models_root: Path, index_root: Path, index_version: str, *, start: str) -> Generations:
    """Make an earlier index version live again, and its model the active one.

    Raises:
        NotFoundError: there is no such index version.
        ConflictError: it is damaged.
    """
    with switching(index_root):
        make_live(index_root, index_version)
        model = read_manifest(index_root / index_version).model_version
        before = read_generations(models_root, start=start)
        if model == before.version:
            return before
        earlier = (before.version, *before.previous)
        after = Generations(model, earlier[earlier.index(model) + 1 :] if model in earlier else earlier)
        write_generations(models_root, after)
        return after


def newest_index(index_root: Path, model_version: str) -> str | None:
    """Return the newest index version that a model made, live or not; None where there is none."""
    return newest_indexes(index_root).get(model_version)


def newest_indexes(index_root: Path) -> dict[str, str]:
    """Return the newest index version of each model that made one, live or not; unreadable ones are passed over."""
    newest: dict[str, str] = {}
    for name in reversed(list_versions(index_root)):
        if manifest := manifest_if_readable(index_root / name):
            newest.setdefault(manifest.model_version, name)
    return newest


def manifest_if_readable(folder: Path) -> Manifest | None:
    """Return the manifest of an index version; None where it is damaged, or was just cleared away."""
    try:
        return read_manifest(folder)
    except (NotFoundError, ConflictError):
        return None


def comparable_index(index_root: Path, model_version: str) -> str | None:
    """Return the index version that answers for a model beside the live one; None where one must be built.

    The live version answers for its own model; for another, the newest version that saw at least as much of the
    catalogue as the live one did.
    """
    live, newest = current(index_root), newest_index(index_root, model_version)
    if live is None:
        return newest
    answers = manifest_if_readable(index_root / live)
    if answers is None:  # nobody can tell what it saw
        return None
    if answers.model_version == model_version:
        return live
    made = manifest_if_readable(index_root / newest) if newest else None
    return newest if made and int(made.extra["seq"]) >= int(answers.extra["seq"]) else None


def kept_for_rollback(models_root: Path, index_root: Path, *, start: str) -> set[str]:
    """Return the index versions that pruning must leave: the newest one of the previous generation."""
    previous = read_generations(models_root, start=start).previous[:1]
    return {name for model in previous if (name := newest_index(index_root, model)) is not None}


def write_generations(models_root: Path, generations: Generations) -> None:
    """Write what is active, in place of what was there."""
    models_root.mkdir(parents=True, exist_ok=True)
    write_whole(models_root / ACTIVE, json.dumps({"format": FORMAT} | asdict(generations)).encode() + b"\n")
