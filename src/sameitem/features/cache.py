"""Features that were computed once, kept by content hash, box and model version.

A cache is a folder per model version of immutable segments, each a folder of three files:

    00000007/segment.json   format, model version, dim, rows, CRC-32 of the keys; numbers, where they are not float32
    00000007/keys           64 bytes a row, sorted: the content hash, then the box as 4 float64 (zeros: none)
    00000007/rows           per row the feature, the colour (float32) and a CRC-32 of key, feature and colour

All numbers are little-endian.

A segment is written beside the others under a dotted name, synced, then renamed: whoever looks sees all of it or
nothing. Writers take turns by a lock on `lock`, which the system drops when its holder dies; readers need none.
"""

import fcntl
import json
import math
import os
import shutil
import struct
import threading
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sameitem.core.durable import publish, synced
from sameitem.core.errors import InputError, ShapeError
from sameitem.core.records import Box, ContentHash
from sameitem.features.colour import COLOURS
from sameitem.features.model_folder import VERSION_PATTERN

FORMAT = 1
FLOAT32 = "<f4"
MERGE_AT = 8  # a run of this many newest segments becomes one
MERGED_BYTES = 128 << 20  # no merged segment has more in its rows: it is made in memory
_KEY = np.dtype("S64")

FeatureKey = tuple[ContentHash, Box | None]  # None: the model's own choice, always the same for a photo


@dataclass(frozen=True, slots=True)
class CachedRows:
    """What the cache holds of the keys it was asked for; row i belongs to `keys[positions[i]]`, positions ascend."""

    positions: NDArray[np.intp]
    features: NDArray[Any]  # (found, dim) of the cache's numbers
    colours: NDArray[np.float32]  # (found, 24)


@dataclass(frozen=True, slots=True)
class _Segment:
    folder: Path
    keys: NDArray[np.bytes_]
    rows: NDArray[Any]

    def find(self, keys: NDArray[np.bytes_]) -> tuple[NDArray[np.intp], NDArray[Any]]:
        """Return (which of the keys are here, their rows); refuse rows that changed since they were written."""
        at = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        here = np.flatnonzero(self.keys[at] == keys)
        rows = self.rows[at[here]]
        if not np.array_equal(_checksums(keys[here], rows), rows["crc"]):
            raise _damaged(self.folder, "a row differs from its checksum")
        return here, rows


class FeatureCache:
    """The features of one model version, safe against kill -9 and for many readers and writers at once."""

    def __init__(self, folder: Path, model_version: str, dim: int, numbers: str = FLOAT32) -> None:
        """Open the cache, which is made when it is missing.

        Args:
            folder: of the caches of all model versions.
            model_version: whose features these are.
            dim: numbers in a feature.
            numbers: their kind, as NumPy writes it.

        Raises:
            InputError: the model version cannot name a folder, or dim is not positive.
        """
        if not VERSION_PATTERN.fullmatch(model_version) or dim < 1:
            raise InputError(f"need a model version's name and its dim, got {model_version!r} and {dim}")
        self._folder = folder / model_version
        self._version, self._dim, self._numbers = model_version, dim, numbers
        self._row = np.dtype([("feature", numbers, (dim,)), ("colour", "<f4", (COLOURS,)), ("crc", "<u4")])
        self._folder.mkdir(parents=True, exist_ok=True)
        self._segments: dict[str, _Segment] = {}
        self._guard = threading.Lock()

    def get(self, keys: Sequence[FeatureKey]) -> CachedRows:
        """Find what was put under the keys, by this process or another.

        Raises:
            InputError: a key is not one, or a segment on disk is damaged; the message names it.
        """
        wanted = _encode(keys)
        rows = np.empty(len(wanted), self._row)
        missing = np.arange(len(wanted))
        for segment in self._current():
            here, found = segment.find(wanted[missing])
            rows[missing[here]] = found
            missing = np.delete(missing, here)
        positions = np.setdiff1d(np.arange(len(wanted)), missing)
        return CachedRows(
            positions=positions,
            features=np.ascontiguousarray(rows["feature"][positions]),
            colours=np.ascontiguousarray(rows["colour"][positions]),
        )

    def put(self, keys: Sequence[FeatureKey], features: NDArray[Any], colours: NDArray[np.float32]) -> None:
        """Keep features; when this returns they survive a crash. Of a key given twice, the last row counts.

        Args:
            keys: one per row.
            features: (keys, dim) finite numbers.
            colours: (keys, 24) finite numbers.

        Raises:
            ShapeError: rows, dims or numbers do not fit.
            InputError: a key is not one.
        """
        for name, array, width in (("features", features, self._dim), ("colours", colours, COLOURS)):
            if array.shape != (len(keys), width) or not np.isfinite(array).all():
                raise ShapeError(f"need ({len(keys)}, {width}) finite {name}, got {array.shape}")
        if len(keys) == 0:
            return
        encoded, last = np.unique(_encode(keys)[::-1], return_index=True)
        last = len(keys) - 1 - last
        rows = np.empty(len(encoded), self._row)
        rows["feature"], rows["colour"] = features[last], colours[last]
        rows["crc"] = _checksums(encoded, rows)
        with self._writing():
            self._publish(encoded, rows)
            self._merge()

    def forget(self, hashes: Collection[str]) -> int:
        """Remove everything that was put for photos; return how many rows that were.

        Raises:
            InputError: a segment on disk is damaged; the message names it.
        """
        gone = np.array(sorted(hashes), "S64")
        removed = 0
        with self._writing():
            for segment in reversed(self._current()):
                content = np.ascontiguousarray(segment.keys).view(np.uint8).reshape(-1, _KEY.itemsize)[:, :32]
                names = np.array([row.tobytes().hex() for row in content], "S64")
                is_gone = np.isin(names, gone)
                if not is_gone.any():
                    continue
                if not is_gone.all():  # as the newest: rows of one key are the same in all segments
                    self._publish(segment.keys[~is_gone], np.asarray(segment.rows)[~is_gone])
                _remove(segment.folder)
                removed += int(is_gone.sum())
        return removed

    def _current(self) -> list[_Segment]:
        """Open what was published since the last call and forget what was merged away; newest first."""
        with self._guard:
            while True:
                names = _names(self._folder)
                if list(self._segments) == names:
                    return list(reversed(self._segments.values()))
                try:
                    self._segments = {name: self._segments.get(name) or self._open(name) for name in names}
                except FileNotFoundError:
                    continue  # merged away between the listing and the opening
                return [self._segments[name] for name in reversed(names)]

    def _open(self, name: str) -> _Segment:
        folder = self._folder / name
        try:
            about = json.loads((folder / "segment.json").read_bytes())
            keys = np.fromfile(folder / "keys", _KEY)
            key_bytes, row_bytes = (folder / "keys").stat().st_size, (folder / "rows").stat().st_size
            if about != self._about(keys) or key_bytes != keys.nbytes or row_bytes != len(keys) * self._row.itemsize:
                raise _damaged(folder, f"{about} does not fit {key_bytes} bytes of keys and {row_bytes} of rows")
            return _Segment(folder, keys, np.memmap(folder / "rows", self._row, mode="r"))
        except FileNotFoundError as error:
            if folder.is_dir():  # numbers are never given twice, so it was there all the time
                raise _damaged(folder, f"{error.filename} is missing") from error
            raise
        except (ValueError, OSError) as error:
            raise _damaged(folder, str(error)) from error

    def _about(self, keys: NDArray[np.bytes_]) -> dict[str, Any]:
        checksum = zlib.crc32(keys.tobytes())
        about = {"format": FORMAT, "version": self._version, "dim": self._dim, "rows": keys.size, "crc": checksum}
        return about if self._numbers == FLOAT32 else {**about, "numbers": self._numbers}

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Hold the writers' lock; what a killed writer left behind is removed."""
        with (self._folder / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for leftover in self._folder.glob(".*"):
                shutil.rmtree(leftover)
            yield

    def _publish(self, keys: NDArray[np.bytes_], rows: NDArray[Any]) -> None:
        """Write a segment of sorted, different keys; the caller holds the lock."""
        number = max((int(name) for name in _names(self._folder)), default=0) + 1
        target = self._folder / f"{number:08d}"
        draft = self._folder / f".{target.name}"
        draft.mkdir()
        for file, array in (("keys", keys), ("rows", rows)):
            with synced(draft / file) as stream:
                stream.write(array.tobytes())
        with synced(draft / "segment.json") as stream:
            stream.write(json.dumps(self._about(keys)).encode())
        publish(draft, target)

    def _merge(self) -> None:
        """Make one segment of the newest ones where they are many and small; the caller holds the lock.

        Only a run that ends at the newest is merged, so that a newer row stays the newer one; only segments no larger
        than the run so far join it, so that a row is rewritten about log(rows) times.
        """
        run: list[_Segment] = []
        total, most = 0, MERGED_BYTES // self._row.itemsize
        for segment in self._current():
            if run and len(segment.keys) > min(total, most - total):
                break
            run.append(segment)
            total += len(segment.keys)
        if len(run) < MERGE_AT:
            return
        keys, first = np.unique(np.concatenate([segment.keys for segment in run]), return_index=True)
        self._publish(keys, np.concatenate([segment.rows for segment in run])[first])
        for segment in run:
            _remove(segment.folder)


def forget_photos(root: Path, hashes: Collection[str]) -> int:
    """Remove photos from the caches of all model versions in a folder; return how many rows that were.

    Raises:
        InputError: a segment on disk is damaged; the message names it.
    """
    removed = 0
    for folder in sorted(root.glob("[!.]*/")) if hashes else ():
        if names := _names(folder):
            try:
                about = json.loads((folder / names[-1] / "segment.json").read_bytes())
                dim, numbers = int(about["dim"]), str(about.get("numbers", FLOAT32))
            except (OSError, ValueError, KeyError) as error:
                raise _damaged(folder / names[-1], str(error)) from error
            removed += FeatureCache(root, folder.name, dim, numbers).forget(hashes)
    return removed


def _remove(segment: Path) -> None:
    leftover = segment.with_name(f".{segment.name}")
    segment.rename(leftover)  # gone at once for readers, file by file on the disk
    shutil.rmtree(leftover)


def _names(folder: Path) -> list[str]:
    """Name the published segments, oldest first."""
    return sorted((name for name in os.listdir(folder) if name.isdecimal()), key=int)


def _encode(keys: Sequence[FeatureKey]) -> NDArray[np.bytes_]:
    content = bytearray()
    for content_hash, box in keys:
        try:
            digest = bytes.fromhex(content_hash)
        except ValueError:
            digest = b""
        if len(digest) != 32:
            raise InputError(f"need a content hash of 64 hex digits, got {content_hash!r}")
        sides = (0.0,) * 4 if box is None else (box.left, box.top, box.right, box.bottom)
        if box is not None and not (all(map(math.isfinite, sides)) and box.left < box.right and box.top < box.bottom):
            raise InputError(f"need a box (left, top, right, bottom) with some area, got {sides}", field="box")
        content += digest + struct.pack("<4d", *(side + 0.0 for side in sides))  # + 0.0: -0 and 0 are one key
    return np.frombuffer(bytes(content), _KEY)


def _checksums(keys: NDArray[np.bytes_], rows: NDArray[Any]) -> NDArray[np.uint32]:
    """Return the CRC-32 of each key with its feature and its colour."""
    key_bytes = np.ascontiguousarray(keys).view(np.uint8).reshape(len(keys), _KEY.itemsize)
    row_bytes = np.ascontiguousarray(rows).view(np.uint8).reshape(len(rows), rows.dtype.itemsize)[:, :-4]
    pairs = zip(key_bytes, np.ascontiguousarray(row_bytes), strict=True)
    return np.fromiter((zlib.crc32(row.data, zlib.crc32(key.data)) for key, row in pairs), np.uint32, len(keys))


def _damaged(folder: Path, reason: str) -> InputError:
    return InputError(f"the feature segment {folder} is damaged: {reason}; remove it, its features are computed again")
