"""One image of a row: from where it is, through intake and measurement, into the photo store."""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from sameitem.catalog.columns import ImageRef
from sameitem.catalog.fetch import Fetcher
from sameitem.catalog.quality import measure, perceptual_hash
from sameitem.catalog.store import NewImage, SetAside
from sameitem.core.errors import (
    AccessError,
    ImageError,
    InputError,
    NotFoundError,
    TooLargeError,
    UnavailableError,
)
from sameitem.core.image_intake import ImageIntake
from sameitem.core.photo_store import PhotoStore
from sameitem.core.records import Box, ImageKind, Photo, ProductId

_BUCKET = re.compile(r"^(?:gs|s3|oss)://[^/]+/")


@dataclass(frozen=True, slots=True)
class ImageLoader:
    """Takes images whose location is a path or URL; safe to share between threads.

    Paths start at `images_root` and stay inside; absolute ones stay inside `local_root`, and None forbids all of them.
    """

    images_root: Path
    local_root: Path | None
    fetcher: Fetcher
    intake: ImageIntake
    store: PhotoStore
    max_file_bytes: int

    def signature(self, image: ImageRef) -> str:
        """Return what changes when the image or what is said about it changes; a URL's content is taken as fixed."""
        said: tuple[Any, ...] = (image.location, image.kind, image.box, image.custom_content)
        if self._is_local(image.location):
            try:
                status = self._path(image.location).stat()
            except (OSError, ValueError, NotFoundError, AccessError):
                return ""  # loading it will tell why
            said += (status.st_size, status.st_mtime_ns)
        return hashlib.sha256(repr(said).encode("utf-8", "surrogatepass")).hexdigest()

    def load(self, line: int, product_id: ProductId, image: ImageRef, signature: str) -> NewImage | SetAside:
        """Return the image as the catalogue wants it, or why it was not taken."""
        try:
            photo = self.intake.take(self._bytes(image.location))
        except (InputError, NotFoundError, AccessError, FetchFailedError) as error:
            return SetAside(line, f"{product_id}\n{image.location[:500]}", _reason(error), str(error))
        self.store.put(photo)
        return NewImage(
            name=image.name,
            kind=image.kind or ImageKind.OTHER,
            content_hash=photo.content_hash,
            width=photo.width,
            height=photo.height,
            quality=measure(photo.thumbnail),
            perceptual_hash=perceptual_hash(photo.thumbnail),
            box=_stored_box(image.box, photo),
            custom_content=image.custom_content,
            source=signature,
        )

    def _bytes(self, location: str) -> bytes:
        if location[:5].lower() == "data:":
            raise InputError("data: URIs are not read; save the picture as a file and name it")
        if not self._is_local(location):
            try:
                return self.fetcher.fetch(re.sub(r"^gs://", "https://storage.googleapis.com/", location))
            except UnavailableError as error:
                raise FetchFailedError(str(error)) from error
        path = self._path(location)
        try:
            with path.open("rb") as file:
                data = file.read(self.max_file_bytes + 1)
        except OSError as error:
            raise NotFoundError(f"the file cannot be read: {error.strerror}") from error
        if len(data) > self.max_file_bytes:
            size = path.stat().st_size
            raise TooLargeError(f"the file has {size:,} bytes, accepted are at most {self.max_file_bytes:,}")
        return data

    def _is_local(self, location: str) -> bool:
        """Say whether an image is a file here; one in a bucket is, where the bucket was copied beside the source."""
        if _BUCKET.match(location) and self.local_root is not None:
            return os.path.isfile(self.images_root / _BUCKET.sub("", location))
        return not re.match(r"(?!file:)[A-Za-z][A-Za-z0-9+.\-]+:", location)  # one letter is a drive

    def _path(self, location: str) -> Path:
        """Return the real path of a local image, inside the folder where it may be."""
        if self.local_root is None:
            raise AccessError("an uploaded file may name http(s) URLs only, not files of the server")
        name = _BUCKET.sub("", location).replace("\\", "/")
        try:
            path = Path(unquote(name.removeprefix("file://")) if name.startswith("file://") else name)
            root = self.local_root if path.is_absolute() else self.images_root
            real = (self.images_root / path).resolve()
            is_inside = real.is_relative_to(root.resolve())
            is_file = real.is_file()
        except (OSError, ValueError, RuntimeError) as error:
            raise NotFoundError("not a path of a file; give one relative to the imported file, or a URL") from error
        if not is_inside:
            raise AccessError(f"the path leads outside {root.name or root}; copy the image beside the imported file")
        if not is_file:
            raise NotFoundError("no such file; paths start at the folder of the imported file")
        return real


class FetchFailedError(Exception):
    """A download failed for good; unlike a failing database it costs only this image."""


def _reason(error: Exception) -> str:
    kinds: dict[type[Exception], str] = {
        TooLargeError: "image too large",
        ImageError: "image unreadable",
        InputError: "image location",
        NotFoundError: "image missing",
        AccessError: "image refused",
        FetchFailedError: "image unavailable",
    }
    return next(name for kind, name in kinds.items() if isinstance(error, kind))


def _stored_box(box: Box | None, photo: Photo) -> Box | None:
    """Return a box on the upright original as one on the stored copy, cut at its edges; None outside of it."""
    if box is None:
        return None
    across, down = photo.width / photo.original_width, photo.height / photo.original_height
    right, bottom = min(box.right * across, photo.width), min(box.bottom * down, photo.height)
    left, top = box.left * across, box.top * down
    return Box(left, top, right, bottom) if left < right and top < bottom else None
