"""What an index version says about itself: manifest.json, the file that is written last."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from sameitem.core.durable import write_whole
from sameitem.core.errors import ConflictError, NotFoundError
from sameitem.engine.files import FileEntry

FORMAT: Literal[3] = 3
MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Certificate:
    """How much of a linear scan with float features the index finds: measured, share of the true first k."""

    recall: float  # mean over the queries
    low: float  # ends of its bootstrap 95 % interval
    high: float
    k: int
    queries: int
    probes: int  # lists that are looked through to reach it
    candidates: int  # codes of them that may be ranked
    slack: float | None  # how far a candidate's estimate may lie above the k-th distance; None: any
    asked: float
    float16_recall: float  # with every stored row ranked: what rounding features to float16 costs alone


@dataclass(frozen=True, slots=True)
class Counts:
    """How much an index version holds."""

    entries: int  # distinct pictures with a feature
    members: int  # listed images that stand behind them
    products: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """The manifest of an index version; docs/file-formats.md explains each field."""

    version: str
    model_version: str
    created: str  # ISO 8601, UTC
    dim: int
    lists: int
    code: Literal["residual", "hamming"]  # of what the centre leaves of a feature, or of the feature itself
    seed: int  # of rotation and lists
    counts: Counts
    files: Mapping[str, FileEntry]
    certificate: Certificate | None = None  # None while being built: such a version is not published
    extra: Mapping[str, Any] = field(default_factory=dict)  # the builder's own: selection report, sequence number ...
    format: Literal[3] = FORMAT


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Put manifest.json into a folder, replacing the one that is there at once."""
    write_whole(folder / MANIFEST, TypeAdapter(Manifest).dump_json(manifest, indent=1) + b"\n")


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of an index version.

    Raises:
        NotFoundError: no such index version, or one without a manifest.
        ConflictError: a manifest of another format, or one that was damaged.
    """
    try:
        data = (folder / MANIFEST).read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(
            f"no index version {folder.name}: it has no {MANIFEST}; see `sameitem index list`"
        ) from error
    try:
        found = json.loads(data)
        number = found.get("format") if isinstance(found, dict) else None
        if number != FORMAT:
            raise ConflictError(
                f"index version {folder.name} has format {number!r}, this release reads {FORMAT}; run `sameitem build`"
            )
        return TypeAdapter(Manifest).validate_python(found)
    except (json.JSONDecodeError, UnicodeDecodeError, ValidationError) as error:
        raise ConflictError(
            f"index version {folder.name}: {MANIFEST} is damaged ({error}); run `sameitem build` or go back to another "
            "version with `sameitem index rollback`"
        ) from error
