"""Files that are whole or absent: written, synced to the disk, checked by size and SHA-256."""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from sameitem.core.errors import ShapeError


@dataclass(frozen=True, slots=True)
class FileEntry:
    """What a manifest says about a file."""

    bytes: int
    sha256: str


class ArrayWriter:
    """Writes a .npy file block by block, hashing on the way, so that it never stands in memory as a whole."""

    def __init__(self, path: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> None:
        self.path = path
        self._dtype = np.dtype(dtype)
        self._shape = shape
        self._rows = 0
        self._bytes = 0
        self._hash = hashlib.sha256()
        self._file: BinaryIO = path.open("xb")
        header = {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)
        self._file.flush()
        self._add(path.read_bytes())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def append(self, block: NDArray[Any]) -> None:
        """Write the next rows, converted to the file's dtype.

        Raises:
            ShapeError: the block's rows have another shape than the file's, or there are more than announced.
        """
        if block.shape[1:] != self._shape[1:] or self._rows + len(block) > self._shape[0]:
            raise ShapeError(
                f"{self.path.name}: need {self._shape[0] - self._rows} more rows of shape {self._shape[1:]}, "
                f"got {len(block)} of {block.shape[1:]}"
            )
        data = np.ascontiguousarray(block, dtype=self._dtype).tobytes()
        self._file.write(data)
        self._add(data)
        self._rows += len(block)

    def finish(self) -> FileEntry:
        """Sync the file to the disk and return its entry.

        Raises:
            ShapeError: fewer rows came than announced.
        """
        if self._rows != self._shape[0]:
            raise ShapeError(f"{self.path.name}: need {self._shape[0]} rows, got {self._rows}")
        self._file.flush()
        os.fsync(self._file.fileno())
        return FileEntry(self._bytes, self._hash.hexdigest())

    def _add(self, data: bytes) -> None:
        self._hash.update(data)
        self._bytes += len(data)


def write_array(path: Path, array: NDArray[Any]) -> FileEntry:
    """Write a whole array, synced to the disk."""
    with ArrayWriter(path, array.dtype, array.shape) as writer:
        writer.append(array)
        return writer.finish()


def describe_file(path: Path) -> FileEntry:
    """Sync a file that someone else wrote to the disk and return its entry."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return FileEntry(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


def differences(folder: Path, files: Iterable[tuple[str, FileEntry]], *, hash_up_to_bytes: int | None) -> list[str]:
    """Say what is wrong with the files of a folder: absent, of another size, or (up to a size) of other content.

    Args:
        folder: where they lie.
        files: their names with what the manifest says of them.
        hash_up_to_bytes: larger files are compared by size only; None hashes all.
    """
    wrong = []
    for name, expected in files:
        path = folder / name
        if not path.is_file():
            wrong.append(f"{name} is missing")
        elif (size := path.stat().st_size) != expected.bytes:
            wrong.append(f"{name} has {size} bytes, the manifest says {expected.bytes}")
        elif hash_up_to_bytes is None or size <= hash_up_to_bytes:
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != expected.sha256:
                    wrong.append(f"{name} has another content than its checksum says")
    return wrong
