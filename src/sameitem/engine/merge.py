"""Compaction: what was added to an index version, and what was taken away, written as a version of its own.

Lists, centres and codes stay what they were, so that a search finds the same before and after.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sameitem.engine.build import Block, write_version
from sameitem.engine.index import Index
from sameitem.engine.lists import Draft, packed_codes
from sameitem.engine.manifest import Manifest
from sameitem.engine.members import Members

COPIED_ROWS = 4096  # at once


@dataclass(frozen=True, slots=True, eq=False)
class Merged:
    """What a compaction wrote, in terms of the index it was made of."""

    manifest: Manifest
    members: NDArray[np.int64]  # row i: which member became member i
    products: NDArray[np.int64]  # row j: which product became product j


def write_merged(
    folder: Path,
    index: Index,
    keep: NDArray[np.bool_],
    *,
    version: str,
    created: datetime,
    extra: Mapping[str, Any],
) -> Merged:
    """Write the members that are kept into a new folder, like `write_index`; nothing may be added meanwhile.

    Args:
        folder: where it shall lie; must not exist.
        index: with what was added to it.
        keep: (members,)
        version: the name it will be published under.
        created: with a time zone.
        extra: JSON values to keep in the manifest.

    Raises:
        ConflictError: the folder exists.
        InputError: nothing is kept.
    """
    all_members = index.members
    rows = np.flatnonzero(keep)
    entries, entry = np.unique(all_members.entries_of(rows), return_inverse=True)
    products, product = np.unique(all_members.products_of(rows), return_inverse=True)
    image_ids = all_members.image_ids_of(rows)
    first = np.searchsorted(entry, np.arange(len(entries)))
    own = all_members.representatives(entries)
    members = Members(
        entry_image_id=np.where(keep[own], all_members.image_ids_of(own), image_ids[first]) if len(own) else own,
        image_id=image_ids,
        entry=entry.astype(np.int64),
        product=product.astype(np.int32),
    )
    manifest = write_version(
        folder,
        _blocks(index, entries),
        lambda _rows: _draft(index, entries),
        members=members,
        version=version,
        model_version=index.manifest.model_version,
        created=created,
        dim=index.manifest.dim,
        code=index.manifest.code,
        seed=index.manifest.seed,
        extra=extra,
    )
    return Merged(manifest, rows, products.astype(np.int64))


def _blocks(index: Index, entries: NDArray[np.int64]) -> Iterator[Block]:
    for start in range(0, len(entries), COPIED_ROWS):
        part = entries[start : start + COPIED_ROWS]
        yield index.features(part), index.colours_of(part).astype(np.float32)


def _draft(index: Index, entries: NDArray[np.int64]) -> Draft:
    """Return the lists with the codes of some entries, who are numbered anew."""
    lists, delta, built = index.lists, index.delta, len(index.rows)
    slots = np.empty(built, np.int64)
    there = np.isfinite(lists.codes.offsets.reshape(-1))
    slots[lists.codes.ids.reshape(-1)[there]] = np.flatnonzero(there)
    late = entries >= built
    packed, numbers = [], []
    for codes, some in (
        (lists.codes, slots[entries[~late]]),
        (delta.added.codes, delta.slots()[entries[late] - built]),
    ):
        packed.append(packed_codes(codes, some))
        numbers.append(np.stack([array.reshape(-1)[some] for array in (codes.slopes, codes.offsets)]))
    slopes, offsets = np.concatenate(numbers, axis=1)
    return Draft(
        signs=np.asarray(lists.signs),
        centres=np.asarray(lists.centres),
        list_of_row=delta.list_of_row.take(entries),
        packed=np.concatenate(packed),
        slopes=slopes,
        offsets=offsets,
    )
