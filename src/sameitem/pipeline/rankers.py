"""Rankers of a shop: immutable versions, and which one orders the first hits.

rankers/ranker-20261123-143002/    ranker.json (rerank/ranker.py) and manifest.json
rankers/ACTIVE                     as models/ACTIVE; absent before the first activation: looks alone
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from sameitem.core.durable import publish, sync_folder, write_whole
from sameitem.core.errors import ConflictError, InputError, NotFoundError
from sameitem.engine.versions import switching
from sameitem.features.model_folder import VERSION_PATTERN
from sameitem.pipeline.generations import Generations, read_generations, write_generations
from sameitem.rerank.features import FEATURES
from sameitem.rerank.ranker import Ranker, read_ranker, write_ranker

LOOKS = "looks"  # in place of a ranker version: by looks alone
RANKER, MANIFEST = "ranker.json", "manifest.json"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class RankerManifest:
    """What a ranker was trained from, and how good it was on later searches."""

    version: str
    created: str  # ISO 8601, UTC
    model_version: str  # of the feature whose cosines it learned from
    searches: int
    clicks: int
    since: str  # of the first and the last search it learned from
    until: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    report: Mapping[str, Any] = field(default_factory=dict)  # the same in full, by category, with intervals
    format: int = FORMAT


def active_ranker(root: Path) -> Generations:
    """Return the active ranker version, LOOKS where there is none, and those before it.

    Raises:
        ConflictError: ACTIVE is damaged.
    """
    return read_generations(root, start=LOOKS)


def add_ranker(root: Path, ranker: Ranker, manifest: RankerManifest) -> Path:
    """Keep a new version.

    Raises:
        InputError: no name for a version.
        ConflictError: the version exists.
    """
    check_ranker_name(manifest.version)
    folder, draft = root / manifest.version, root / f".{manifest.version}"
    if folder.exists():
        raise ConflictError(f"ranker {manifest.version} exists and rankers never change; choose another --name")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    write_ranker(draft / RANKER, ranker)
    write_whole(draft / MANIFEST, json.dumps(asdict(manifest), indent=1).encode() + b"\n")
    publish(draft, folder)
    return folder


def check_ranker_name(version: str) -> None:
    """Refuse what cannot be a ranker's name.

    Raises:
        InputError: no plain name, or one that means something else.
    """
    if not VERSION_PATTERN.fullmatch(version) or version in (LOOKS, "ACTIVE"):
        raise InputError(
            f"need a name of 1-64 letters, digits, dots, dashes or underscores, got {version!r}", field="name"
        )


def open_ranker(root: Path, version: str) -> Ranker | None:
    """Return a ranker version; None for LOOKS.

    Raises:
        NotFoundError: there is no such version; names those that there are.
        InputError: it is damaged.
        ConflictError: it looks at other features than this release computes.
    """
    if version == LOOKS:
        return None
    ranker = read_ranker(_folder(root, version) / RANKER)
    if ranker.names != FEATURES:
        raise ConflictError(
            f"ranker {version} looks at other features than this release computes; run `sameitem train ranker`"
        )
    return ranker


def read_ranker_manifest(root: Path, version: str) -> RankerManifest:
    """Return what is known of a version.

    Raises:
        NotFoundError: there is no such version.
        InputError: its manifest is damaged.
    """
    try:
        found = TypeAdapter(RankerManifest).validate_json((_folder(root, version) / MANIFEST).read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"ranker {version} is damaged ({error}); train another") from error
    if found.format != FORMAT or found.version != version:
        raise InputError(f"the folder rankers/{version} holds {found.version!r} of format {found.format}; name it so")
    return found


def list_rankers(root: Path) -> list[dict[str, Any]]:
    """Return every version, newest first, and the order by looks last; a broken one with what is wrong with it."""
    active = active_ranker(root).version
    listed: list[dict[str, Any]] = []
    for version in sorted((folder.name for folder in root.glob("[!.]*/")), reverse=True):
        try:
            shown = asdict(read_ranker_manifest(root, version)) | {"error": ""}
        except InputError as error:
            shown = {"version": version, "error": str(error)}
        listed.append(shown | {"active": version == active})
    return [*listed, {"version": LOOKS, "error": "", "active": active == LOOKS}]


def activate_ranker(root: Path, version: str) -> Generations:
    """Order by another version from the next search on.

    Raises:
        NotFoundError: there is no such version.
        InputError, ConflictError: it cannot be used.
    """
    open_ranker(root, version)
    with switching(root):
        before = active_ranker(root)
        if version == before.version:
            return before
        earlier = (before.version, *before.previous)
        after = Generations(version, tuple(one for one in earlier if one != version))
        write_generations(root, after)
        return after


def roll_back_ranker(root: Path) -> Generations:
    """Order by the version before the active one again.

    Raises:
        NotFoundError: none was active before, or it is gone.
        InputError, ConflictError: it cannot be used.
    """
    with switching(root):
        before = active_ranker(root)
        if not before.previous:
            raise NotFoundError(f"no ranker was active before {before.version}; `sameitem rankers list` shows them")
        open_ranker(root, before.previous[0])
        after = Generations(before.previous[0], before.previous[1:])
        write_generations(root, after)
        return after


def keep_newest(root: Path, count: int) -> list[str]:
    """Remove all but the newest versions, never the active one nor the one before it; return the removed."""
    generations = active_ranker(root)
    stays = {generations.version, *generations.previous[:1]}
    found = sorted((folder.name, folder) for folder in root.glob("[!.]*/"))
    old = [folder for name, folder in found[: -count or None] if name not in stays]
    for folder in old:
        hidden = folder.with_name(f".{folder.name}.removed")
        folder.rename(hidden)
        shutil.rmtree(hidden)
    if old:
        sync_folder(root)
    return [folder.name for folder in old]


def new_ranker_version(now: datetime) -> str:
    """Name a version by its time."""
    return f"ranker-{now.astimezone(UTC):%Y%m%d-%H%M%S}"


def _folder(root: Path, version: str) -> Path:
    folder = root / version
    if not VERSION_PATTERN.fullmatch(version) or not folder.is_dir():
        known = ", ".join([*sorted(one.name for one in root.glob("[!.]*/")), LOOKS])
        raise NotFoundError(f"no ranker {version!r}; there are {known} (`sameitem rankers list`)")
    return folder
