"""Photos of a shop as files named by their content: `images/ab/cd/abcd….jpg`, written once, never changed."""

import os
import re
import secrets
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from sameitem.core.durable import sync_folder
from sameitem.core.errors import ImageError, InputError, NotFoundError, UnavailableError
from sameitem.core.records import ContentHash, Photo, Pixels

_HASH = re.compile(r"[0-9a-f]{64}")
_INCOMING = "incoming"
_LEFTOVER_AGE_S = 3600.0  # an unfinished file this old belongs to a process that was killed


class PhotoStore:
    """The folder that holds a shop's photos. Processes may share it: a photo is there whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, photo: Photo) -> None:
        """Keep a photo; when this returns it survives a crash of the machine. Putting it again changes nothing.

        Raises:
            UnavailableError: the disk did not take it.
        """
        try:
            self._put(photo)
        except OSError as error:
            raise UnavailableError(
                f"a photo could not be stored: {error.strerror}; free space and try again"
            ) from error

    def _put(self, photo: Photo) -> None:
        target = self.path(photo.content_hash)
        if not target.is_file() or target.stat().st_size != len(photo.encoded):
            target.parent.mkdir(parents=True, exist_ok=True)
            unfinished = self._incoming() / f"{photo.content_hash}.{secrets.token_hex(8)}"
            with unfinished.open("xb") as file:
                file.write(photo.encoded)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(target)
        for folder in (target.parent, target.parent.parent, self._folder):
            sync_folder(folder)  # also when it was there: whoever put it may not have come so far

    def read(self, content_hash: ContentHash) -> bytes:
        """Return the JPEG bytes of a photo.

        Raises:
            NotFoundError: no such photo.
        """
        try:
            return self.path(content_hash).read_bytes()
        except FileNotFoundError as error:
            raise NotFoundError(f"no photo {content_hash} in the store; import its product again") from error

    def path(self, content_hash: ContentHash) -> Path:
        """Return where a photo is or would be.

        Raises:
            InputError: not 64 lower-case hex digits.
        """
        if not _HASH.fullmatch(content_hash):
            raise InputError(f"need a content hash of 64 lower-case hex digits, got {content_hash[:80]!r}")
        return self._folder / content_hash[:2] / content_hash[2:4] / f"{content_hash}.jpg"

    def has(self, content_hash: ContentHash) -> bool:
        """Say whether the photo is in the store."""
        return self.path(content_hash).is_file()

    def pixels(self, content_hash: ContentHash) -> Pixels:
        """Return a photo decoded.

        Raises:
            NotFoundError: no such photo.
            ImageError: the file was damaged on disk.
        """
        try:
            return decode_stored(self.read(content_hash))
        except (OSError, SyntaxError) as error:
            raise ImageError(f"photo {content_hash} was damaged in the store; delete and import it again") from error

    def delete(self, content_hash: ContentHash) -> None:
        """Forget a photo, and what killed processes left of it; nothing happens when it is not there."""
        self.path(content_hash).unlink(missing_ok=True)
        for unfinished in (self._folder / _INCOMING).glob(f"{content_hash}.*"):
            unfinished.unlink(missing_ok=True)

    def hashes(self) -> Iterator[ContentHash]:
        """Yield the content hash of every photo, in ascending order."""
        for first in _folders(self._folder):
            for second in _folders(first):
                names = (entry.stem for entry in second.iterdir() if entry.suffix == ".jpg")
                yield from sorted(ContentHash(name) for name in names if _HASH.fullmatch(name))

    def _incoming(self) -> Path:
        """Return the folder of unfinished files, cleared of what killed processes left there."""
        folder = self._folder / _INCOMING
        folder.mkdir(exist_ok=True)
        for leftover in folder.iterdir():
            try:
                if time.time() - leftover.stat().st_mtime > _LEFTOVER_AGE_S:
                    leftover.unlink()
            except FileNotFoundError:
                pass  # another process finished or cleared it
        return folder


def decode_stored(encoded: bytes) -> Pixels:
    """Decode a JPEG that our own intake wrote (`Photo.encoded`); never a stranger's bytes."""
    with Image.open(BytesIO(encoded), formats=["JPEG"]) as image:
        return np.asarray(image.convert("RGB"))


def _folders(parent: Path) -> list[Path]:
    if not parent.is_dir():
        return []
    return sorted(entry for entry in parent.iterdir() if re.fullmatch(r"[0-9a-f]{2}", entry.name))
