"""The folder of index versions: publish, look up, go back, clear away.

index/20261123-143002-1a2b/    an immutable index version; names sort by time
index/CURRENT                  the name of the live one, replaced at once
index/.*/                      what is being built, or what a killed build left
index/.switch.lock             held by whoever changes what is live, or clears versions away
"""

import fcntl
import os
import re
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from sameitem.core.durable import sync_folder, write_whole
from sameitem.core.errors import ConflictError, InputError, NotFoundError, RefusedError
from sameitem.engine.index import open_index
from sameitem.engine.manifest import MANIFEST

CURRENT, LOCK = "CURRENT", ".switch.lock"
NAME = re.compile(r"\d{8}-\d{6}-[0-9a-f]{4}")


def new_version(now: datetime) -> str:
    """Name a version by its time, to 15 microseconds: `20261123-143002-1a2b`, UTC."""
    now = now.astimezone(UTC)
    return f"{now:%Y%m%d-%H%M%S}-{now.microsecond * 65536 // 1_000_000:04x}"


@contextmanager
def switching(index_root: Path) -> Iterator[None]:
    """Run the block while no other one does, of whichever thread or process; what it read of the folder stays true.

    Not to be nested: the inner block would wait for the outer one.
    """
    index_root.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(index_root / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def start_build(index_root: Path, version: str) -> Path:
    """Return the folder to build a version in, and clear away what killed builds left.

    One build runs at a time (the job runner sees to it), so whatever is hidden here is nobody's.
    """
    index_root.mkdir(parents=True, exist_ok=True)
    for leftover in index_root.glob(".*/"):
        shutil.rmtree(leftover)
    return index_root / f".{_checked(version)}"


def publish(index_root: Path, built: Path) -> str:
    """Make a built and sealed version the live one and return its name.

    A kill at any moment leaves the old version live, or the new one; both are whole.

    Args:
        index_root: folder of the versions.
        built: folder of the new version, on the same file system.

    Raises:
        RefusedError: the version has no recall certificate.
        ConflictError: it is damaged, or a version of that name exists.
    """
    version = stage(index_root, built)
    write_whole(index_root / CURRENT, f"{version}\n".encode())
    return version


def stage(index_root: Path, built: Path) -> str:
    """Put a built and sealed version beside the live one, which stays, and return its name.

    Args:
        index_root: folder of the versions.
        built: folder of the new version, on the same file system.

    Raises:
        RefusedError: the version has no recall certificate.
        ConflictError: it is damaged, or a version of that name exists.
    """
    manifest = open_index(built).manifest
    if manifest.certificate is None:
        raise RefusedError(f"index version {manifest.version} has no recall certificate; certify and seal it first")
    target = index_root / _checked(manifest.version)
    if target.exists():
        raise ConflictError(f"index version {manifest.version} exists already; versions are never replaced")
    built.rename(target)
    sync_folder(index_root)
    return manifest.version


def current(index_root: Path) -> str | None:
    """Return the name of the live version; None before the first was published.

    Raises:
        ConflictError: CURRENT holds something else than a name.
    """
    try:
        name = (index_root / CURRENT).read_text(encoding="ascii", errors="replace").strip()
    except FileNotFoundError:
        return None
    if not NAME.fullmatch(name):
        raise ConflictError(f"{CURRENT} holds {name[:40]!r}, no version; run `sameitem index rollback VERSION`")
    return name


def list_versions(index_root: Path) -> list[str]:
    """Return the names of the finished versions, live or not, oldest first."""
    return sorted(
        folder.parent.name for folder in index_root.glob(f"[0-9]*/{MANIFEST}") if _is_name(folder.parent.name)
    )


def make_live(index_root: Path, version: str) -> None:
    """Make a version that lies beside the live one the live one: an earlier one again, or one that was staged.

    Raises:
        NotFoundError: there is no such version; names those that there are.
        ConflictError: it is damaged, or of a format this release does not read.
    """
    if version not in list_versions(index_root):
        known = ", ".join(list_versions(index_root)) or "none"
        raise NotFoundError(f"no index version {version!r}; there are: {known}")
    open_index(index_root / version)
    write_whole(index_root / CURRENT, f"{version}\n".encode())


def prune(index_root: Path, *, keep: int, besides: Collection[str] = ()) -> list[str]:
    """Remove all but the newest `keep` versions, never the live one, and return the names of the removed.

    Who has an old version open keeps it: mapped files stay until they are closed.

    Args:
        index_root: folder of the versions.
        keep: how many stay.
        besides: names of older ones that stay too.
    """
    stays = {current(index_root), *besides}
    old = [name for name in list_versions(index_root)[: -keep or None] if name not in stays]
    for name in old:
        remove(index_root, name)
    return old


def remove(index_root: Path, version: str) -> None:
    """Remove a version that is not the live one."""
    hidden = index_root / f".{_checked(version)}.removed"
    (index_root / version).rename(hidden)
    shutil.rmtree(hidden)


def _is_name(name: str) -> bool:
    return NAME.fullmatch(name) is not None


def _checked(version: str) -> str:
    if not _is_name(version):
        raise InputError(f"need a version such as 20261123-143002-1a2b, got {version!r}")
    return version
