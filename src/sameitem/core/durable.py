"""Writing files that survive a crash: on the disk before anyone is told that they exist."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def synced(file: Path) -> Iterator[BinaryIO]:
    """Open a new file for writing; its bytes are on the disk when the block ends."""
    with file.open("xb") as stream:
        yield stream
        stream.flush()
        os.fsync(stream.fileno())


def publish(draft: Path, target: Path) -> None:
    """Rename a finished folder to its final name, which must be free; both names survive a crash as they then are.

    Raises:
        OSError: the target is a folder with something in it.
    """
    sync_folder(draft)
    draft.rename(target)
    sync_folder(target.parent)


def write_whole(path: Path, data: bytes) -> None:
    """Put a file in place at once: readers see the old content or the new one, also after a power cut."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")  # threads may write the same file
    try:
        with synced(part) as file:
            file.write(data)
        part.rename(path)
    finally:
        part.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Put a folder's list of names on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
