"""Small galleries drawn from a seed, and the plain search that tests compare the engine with."""

import fcntl
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sameitem.engine.build import seal, write_index
from sameitem.engine.index import Index, open_index
from sameitem.engine.lists import lists_for, make_lists
from sameitem.engine.manifest import Certificate, Counts, Manifest
from sameitem.engine.members import EntryHit, Members
from sameitem.engine.versions import LOCK

CREATED = datetime(2026, 11, 23, 14, 30, 2, 102_000, tzinfo=UTC)
CERTIFICATE = Certificate(
    recall=1.0,
    low=1.0,
    high=1.0,
    k=60,
    queries=10,
    probes=3,
    candidates=256,
    slack=0.1,
    asked=0.999,
    float16_recall=1.0,
)


@dataclass(frozen=True)
class Drawn:
    features: NDArray[np.float32]
    colours: NDArray[np.float32]
    members: Members


def unit_rows(generator: np.random.Generator, rows: int, dim: int) -> NDArray[np.float32]:
    drawn = generator.standard_normal((rows, dim)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def histograms(generator: np.random.Generator, rows: int) -> NDArray[np.float32]:
    drawn = generator.random((rows, 24)).astype(np.float32)
    return drawn / drawn.sum(axis=1, keepdims=True)


def draw(seed: int, *, entries: int, dim: int = 16, extra_members: int = 0, products: int | None = None) -> Drawn:
    """Draw entries of which some are exactly alike, with members of random products and image ids in random order."""
    generator = np.random.default_rng(seed)
    features = unit_rows(generator, entries, dim)
    alike = generator.integers(entries, size=entries // 4)
    features[generator.integers(entries, size=len(alike))] = features[alike]
    entry = np.sort(np.concatenate([np.arange(entries), generator.integers(entries, size=extra_members)]))
    image_id = generator.permutation(10 * len(entry))[: len(entry)].astype(np.int64)
    image_id = image_id[np.lexsort((image_id, entry))]
    entry_image_id = np.array([generator.choice(image_id[entry == row]) for row in range(entries)], dtype=np.int64)
    product = generator.integers(products or len(entry), size=len(entry)).astype(np.int32)
    return Drawn(features, histograms(generator, entries), Members(entry_image_id, image_id, entry, product))


def write(
    folder: Path,
    drawn: Drawn,
    *,
    version: str = "20261123-143002-1a2b",
    block: int = 7,
    code: Literal["residual", "hamming"] = "residual",
) -> None:
    write_index(
        folder,
        (
            (drawn.features[start : start + block], drawn.colours[start : start + block])
            for start in range(0, len(drawn.features), block)
        ),
        members=drawn.members,
        version=version,
        model_version="drawn-1",
        created=CREATED,
        dim=drawn.features.shape[1],
        code=code,
    )


def build(folder: Path, drawn: Drawn, *, sealed: bool = True) -> Index:
    write(folder, drawn)
    if sealed:
        seal(folder, certificate=CERTIFICATE)
    return open_index(folder)


def in_memory(drawn: Drawn, *, lists: int | None = None) -> Index:
    """Return an index without files and certificate."""
    entries = len(drawn.features)
    made = make_lists(lambda rows: drawn.features[rows], entries, lists=lists or lists_for(entries), seed=0)
    counts = Counts(len(drawn.features), len(drawn.members.image_id), drawn.members.products)
    return Index(
        manifest=Manifest(
            version="20261123-143002-1a2b",
            model_version="drawn-1",
            created=CREATED.isoformat(),
            dim=drawn.features.shape[1],
            lists=len(made.centres),
            code="residual",
            seed=0,
            counts=counts,
            files={},
        ),
        members=drawn.members,
        lists=made,
        rows=drawn.features.astype(np.float16),
        colours=drawn.colours.astype(np.float16),
    )


def plain_search(
    index: Index,
    query: NDArray[np.float32],
    *,
    k: int,
    allowed: NDArray[np.bool_] | None = None,
    one_per_product: bool = False,
    colour: NDArray[np.float32] | None = None,
    colour_weight: float = 0.0,
) -> list[EntryHit]:
    """Search by loops over every entry and member."""
    members = index.members
    listed = {
        entry: [row for row in np.flatnonzero(members.entry == entry).tolist() if allowed is None or allowed[row]]
        for entry in range(len(members.entry_image_id))
    }

    def show(entry: int, rows: list[int]) -> int:
        own = [row for row in rows if members.image_id[row] == members.entry_image_id[entry]]
        return own[0] if own else min(rows, key=lambda row: int(members.image_id[row]))

    def distance(entry: int) -> float:
        row = index.rows[entry].astype(np.float32)
        total = math.fsum(float(difference) ** 2 for difference in row - query)
        if colour is not None:
            shared = math.fsum(map(float, np.minimum(index.colours[entry].astype(np.float32), colour)))
            total += colour_weight * (1 - shared)
        return total

    found = sorted(
        (distance(entry), int(members.image_id[show(entry, rows)]), entry) for entry, rows in listed.items() if rows
    )
    seen: set[int] = set()
    hits: list[EntryHit] = []
    for far, _, entry in found:
        rows = listed[entry]
        new = [row for row in rows if not one_per_product or int(members.product[row]) not in seen]
        if new and len(hits) < k:
            row = show(entry, new)
            others = tuple(other for other in rows if other != row)
            hits.append(EntryHit(far, int(members.image_id[row]), row, entry, others))
            seen |= {int(members.product[row]) for row in rows}
    return sorted(hits)


def is_switching(index_root: Path) -> bool:
    """Return whether somebody holds the lock of switches."""
    with (index_root / LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
