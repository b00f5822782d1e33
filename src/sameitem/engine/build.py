"""Writes an index version, block by block: a gallery larger than the memory is no special case."""

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sameitem.core.durable import sync_folder
from sameitem.core.errors import ConflictError, InputError, ShapeError
from sameitem.engine.files import ArrayWriter, FileEntry, describe_file, write_array
from sameitem.engine.kernels import BLOCK, ROW_BYTES
from sameitem.engine.lists import Draft, draft_lists, lay_out_in_parts, lists_for
from sameitem.engine.manifest import Certificate, Counts, Manifest, read_manifest, write_manifest
from sameitem.engine.members import Members

COLOUR_BINS = 24
BLOCKS_AT_ONCE = 4096  # of codes that are laid out before they are written
UNIT_TOLERANCE = 1e-3  # how far the length of a feature may be from 1

Block = tuple[NDArray[np.float32], NDArray[np.float32]]  # features (rows, dim), colours (rows, COLOUR_BINS)


def write_index(
    folder: Path,
    blocks: Iterable[Block],
    *,
    members: Members,
    version: str,
    model_version: str,
    created: datetime,
    dim: int,
    code: Literal["residual", "hamming"] = "residual",
    seed: int = 0,
    extra: Mapping[str, Any] | None = None,
) -> Manifest:
    """Write an index version into a new folder and return its manifest, which is not certified yet.

    Args: see `write_version`; the entries are sorted into lists of their own.

    Raises: see `write_version`.
    """

    def sort_into_lists(rows: NDArray[np.float16]) -> Draft:
        """Of what was stored: rounded to float16, which changes no code that matters."""
        return draft_lists(
            lambda wanted: rows[wanted].astype(np.float32),
            len(rows),
            lists=lists_for(len(rows)),
            seed=seed,
            is_hamming=code == "hamming",
        )

    return write_version(
        folder,
        blocks,
        sort_into_lists,
        members=members,
        version=version,
        model_version=model_version,
        created=created,
        dim=dim,
        code=code,
        seed=seed,
        extra=extra or {},
    )


def write_version(
    folder: Path,
    blocks: Iterable[Block],
    draft_of: Callable[[NDArray[np.float16]], Draft],
    *,
    members: Members,
    version: str,
    model_version: str,
    created: datetime,
    dim: int,
    code: Literal["residual", "hamming"],
    seed: int,
    extra: Mapping[str, Any],
) -> Manifest:
    """Write an index version into a new folder and return its manifest, which is not certified yet.

    Everything is written and synced beside `folder` and renamed at the end: a folder that is there is whole.

    Args:
        folder: where it shall lie; must not exist.
        blocks: features of unit length and colour histograms of the entries, in the order of their rows.
        draft_of: sorts the stored rows into lists.
        members: the entries' image ids and who stands behind them.
        version: the name it will be published under (`versions.new_version`).
        model_version: of the model that computed the features.
        created: with a time zone.
        dim: width of a feature.
        code: see `Manifest`.
        seed: of rotation and lists.
        extra: JSON values to keep in the manifest.

    Raises:
        ConflictError: the folder exists.
        InputError: no entries, or a feature or colour that is not finite or not normalised; names the row.
        ShapeError: blocks of another shape, or with more or fewer rows than there are entries.
    """
    entries = len(members.entry_image_id)
    if entries == 0:
        raise InputError("need at least one image for a gallery, got none; import products or loosen the selection")
    if folder.exists():
        raise ConflictError(f"{folder.name} exists already; an index version is never written twice")
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    small: dict[str, NDArray[Any]] = {
        "entry_image_id.npy": members.entry_image_id.astype(np.int64),
        "member_image_id.npy": members.image_id.astype(np.int64),
        "member_entry.npy": members.entry.astype(np.int64),
        "member_product.npy": members.product.astype(np.int32),
        "entry_start.npy": members.start,
        "entry_member.npy": members.representative,
    }
    files = {name: write_array(part / name, array) for name, array in small.items()}
    files |= _write_blocks(part, blocks, (entries, dim))
    draft = draft_of(np.load(part / "rows.npy", mmap_mode="r"))
    files |= _write_lists(part, draft)
    manifest = Manifest(
        version=version,
        model_version=model_version,
        created=created.astimezone(UTC).isoformat(timespec="seconds"),
        dim=dim,
        lists=len(draft.centres),
        code=code,
        seed=seed,
        counts=Counts(entries, len(members.image_id), members.products),
        files=files,
        extra=dict(extra),
    )
    write_manifest(part, manifest)
    part.rename(folder)
    sync_folder(folder.parent)
    return manifest


def seal(folder: Path, *, certificate: Certificate, files: Sequence[str] = ()) -> Manifest:
    """Write the certificate, and checksums of files that the builder put beside, into the manifest.

    Args:
        folder: of a built index version.
        certificate: what `certify` measured on it.
        files: names relative to the folder; they are synced to the disk here.

    Raises:
        NotFoundError: no built index version there.
    """
    manifest = read_manifest(folder)
    beside = {name: describe_file(folder / name) for name in files}
    for parent in {(folder / name).parent for name in files}:
        sync_folder(parent)
    manifest = replace(manifest, certificate=certificate, files={**manifest.files, **beside})
    write_manifest(folder, manifest)
    return manifest


def add_extra(folder: Path, extra: Mapping[str, Any]) -> Manifest:
    """Put more JSON values into the extras of the manifest of a version that is being built.

    Raises:
        NotFoundError: no built index version there.
    """
    manifest = read_manifest(folder)
    manifest = replace(manifest, extra={**manifest.extra, **extra})
    write_manifest(folder, manifest)
    return manifest


def _write_blocks(folder: Path, blocks: Iterable[Block], shape: tuple[int, int]) -> dict[str, FileEntry]:
    entries, dim = shape
    with ExitStack() as stack:
        rows = stack.enter_context(ArrayWriter(folder / "rows.npy", np.float16, (entries, dim)))
        colours = stack.enter_context(ArrayWriter(folder / "colour.npy", np.float16, (entries, COLOUR_BINS)))
        done = 0
        for features, colour in blocks:
            check_block(features, colour, dim=dim, first_row=done)
            rows.append(features)
            colours.append(colour)
            done += len(features)
        return {"rows.npy": rows.finish(), "colour.npy": colours.finish()}


def _write_lists(folder: Path, draft: Draft) -> dict[str, FileEntry]:
    starts, parts = lay_out_in_parts(
        draft.packed, draft.slopes, draft.offsets, draft.list_of_row, len(draft.centres), blocks=BLOCKS_AT_ONCE
    )
    small: dict[str, NDArray[Any]] = {
        "rotation.npy": draft.signs,
        "centres.npy": draft.centres,
        "list_start.npy": starts,
        "entry_list.npy": draft.list_of_row,
    }
    files = {name: write_array(folder / name, array) for name, array in small.items()}
    blocks, code_bytes = int(starts[-1]), draft.packed.shape[1]
    with ExitStack() as stack:
        codes, slopes, offsets, ids = writers = [
            stack.enter_context(ArrayWriter(folder / name, dtype, (blocks, *shape)))
            for name, dtype, shape in (
                ("codes.npy", np.uint8, (code_bytes // 2, ROW_BYTES)),
                ("code_slope.npy", np.float32, (BLOCK,)),
                ("code_offset.npy", np.float32, (BLOCK,)),
                ("code_row.npy", np.uint32, (BLOCK,)),
            )
        ]
        for part in parts:
            codes.append(part.blocks)
            slopes.append(part.slopes)
            offsets.append(part.offsets)
            ids.append(part.ids)
        return files | {writer.path.name: writer.finish() for writer in writers}


def check_block(features: NDArray[np.float32], colour: NDArray[np.float32], *, dim: int, first_row: int) -> None:
    """Refuse features that are not (rows, dim) of length 1, or colours that are not (rows, 24) shares.

    Raises:
        ShapeError, InputError: says what was received, and in which entry; the first is number `first_row`.
    """
    if features.ndim != 2 or features.shape[1] != dim or colour.shape != (len(features), COLOUR_BINS):
        raise ShapeError(
            f"need features (rows, {dim}) and colours (rows, {COLOUR_BINS}), got {features.shape} and {colour.shape}"
        )
    lengths = np.linalg.norm(features, axis=1)
    sums = colour.sum(axis=1)
    fits = (np.abs(lengths - 1) <= UNIT_TOLERANCE) & (np.abs(sums - 1) <= UNIT_TOLERANCE) & (colour >= 0).all(axis=1)
    if not fits.all():  # not a number is not within the tolerance either
        row = int(np.flatnonzero(~fits)[0])
        raise InputError(
            f"need features of length 1 and colours that sum to 1, entry {first_row + row} has {lengths[row]:g} and "
            f"{sums[row]:g}"
        )
