"""Inverted lists of one-bit codes: what the coarse filter looks through instead of everything.

Each image belongs to the list of its nearest centre. Its code is the signs of what the centre leaves of it, and two
numbers turn the code's product with a query into an estimate of the squared distance:

    |q - x|^2  ~  |q - c|^2 + offset + slope * <q, signs>

with r = x - c, s = sign(r), f = |r|^2 / <r, s>, slope = -2 f, offset = |r|^2 + 2 f <c, s>. The query itself stands in
the product, not its difference from the centre: so one look-up table serves all lists.

Source: article §03.1 (binary inverted index); Gao, Long: RaBitQ (SIGMOD 2024) for the estimate; one table for all lists
is ours.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sameitem.core.errors import InputError, ShapeError
from sameitem.engine.kernels import BLOCK, ROW_BYTES, fill_blocks, nearest_centres, search_lists
from sameitem.engine.rotation import rotate, rotation_signs

CHUNK_ROWS = 2048  # features turned or compared at once
SAMPLED, ROUNDS = 50, 8  # features a list for k-means, at most, and its rounds
MOST_SAMPLED = 1 << 18  # features for k-means, but for one a list
COMPARED = 40  # centres compared exactly with each feature: of 6,324 the nearest is missed by 4 features in 10,000
EVERYTHING = np.zeros(0, np.uint8)  # no filter
NO_BLOCK = -1

_SLOT = np.arange(BLOCK)
_BYTE_OF_SLOT = 2 * (_SLOT % 8) + _SLOT // 8 % 2

Features = Callable[[NDArray[np.int64]], NDArray[np.float32]]  # rows to their features (rows, dim)


class Codes(NamedTuple):
    """One-bit codes in blocks of 32, as the kernels scan them."""

    blocks: NDArray[np.uint8]  # (blocks, bits / 16, 64), see kernels.py
    slopes: NDArray[np.float32]  # (blocks, 32)
    offsets: NDArray[np.float32]  # (blocks, 32) infinite where no code lies
    ids: NDArray[np.uint32]  # (blocks, 32) row of each code


class Added(NamedTuple):
    """What was added to lists since they were made (delta.py), as the kernels see it; none of it changes its size."""

    codes: Codes
    newest: NDArray[np.int32]  # (lists,) newest block of each list, NO_BLOCK: it has none; empty: no list has
    before: NDArray[np.int32]  # (blocks,) the next older block of the same list
    halves: NDArray[np.uint16]  # (entries, dim) the bits of the float16 rows that lie behind those of the lists


@dataclass(frozen=True, slots=True)
class Effort:
    """How much a search looks at."""

    probes: int  # lists
    candidates: int  # codes of them whose images may be compared exactly
    slack: float = float("inf")  # they are, in the order of their estimates, until one lies so far above the k-th

    def times(self, factor: int) -> "Effort":
        """Return so many times the effort."""
        return Effort(factor * self.probes, factor * self.candidates, self.slack)


@dataclass(frozen=True, slots=True, eq=False)
class Lists:
    """Inverted lists: the codes of list i lie in blocks `starts[i]` to `starts[i + 1]`."""

    signs: NDArray[np.int8]  # the rotation, see rotation.py
    centres: NDArray[np.float16]  # (lists, bits) rotated
    centre_codes: Codes
    starts: NDArray[np.int64]  # (lists + 1,)
    list_of_row: NDArray[np.int32]  # (rows,)
    codes: Codes
    is_hamming: bool  # codes are the signs of the images themselves

    def search(
        self,
        queries: NDArray[np.float32],
        stored: NDArray[np.float16],
        *,
        k: int,
        effort: Effort,
        wanted: NDArray[np.uint8] = EVERYTHING,
        wanted_lists: NDArray[np.uint8] = EVERYTHING,
        added: Added | None = None,
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the rows of the k nearest images of each query with their squared distances, nearest first.

        Args:
            queries: (n, dim) of unit length.
            stored: (rows, dim) features.
            k: how many; where fewer are found, the last rows are -1 and their distances infinite.
            effort: how much to look at; at least k candidates are.
            wanted: bits of the rows that may be found, the lowest of a byte first; empty: all may.
            wanted_lists: bits of the lists that are looked through; empty: all.
            added: rows behind those of `stored`.

        Raises:
            ShapeError: queries of another dim than the stored features.
            InputError: k or effort below 1.
        """
        if queries.ndim != 2 or queries.shape[1] != stored.shape[1] or not stored.flags.c_contiguous:
            raise ShapeError(f"need queries (n, {stored.shape[1]}) and rows side by side, got {queries.shape}")
        if min(k, effort.probes, effort.candidates) < 1:
            raise InputError(f"need k, probes and candidates of at least 1, got k {k} and {effort}")
        queries = np.array(queries, np.float32)  # its own: the kernels are compiled for arrays that may be written
        added = added if added is not None else no_addition(self.signs.shape[1], stored.shape[1])
        rows = np.empty((len(queries), k), np.int64)
        distances = np.empty((len(queries), k), np.float64)
        search_lists(
            queries,
            rotate(queries, self.signs),
            self.centres.view(np.uint16),
            self.centre_codes,
            self.starts,
            self.codes,
            stored.view(np.uint16),
            added,
            self.is_hamming,
            min(effort.probes, len(self.centres)),
            max(k, effort.candidates),
            np.float32(np.inf if self.is_hamming else effort.slack),  # Hamming distances are no distances to compare
            wanted_lists,
            wanted,
            rows,
            distances,
        )
        return rows, distances

    def encode(
        self, features: NDArray[np.float32]
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32], NDArray[np.int32]]:
        """Return codes, slopes and offsets (see `encode`) and the lists of features (n, dim), as `make_lists` does."""
        rotated = rotate(features, self.signs)
        list_of_row = nearest(rotated, self.centres, self.centre_codes)
        exact = self.centres[list_of_row].astype(np.float32)
        return *(encode_signs(rotated) if self.is_hamming else encode(rotated, exact)), list_of_row


def open_lists(
    signs: NDArray[np.int8],
    centres: NDArray[np.float16],
    starts: NDArray[np.int64],
    list_of_row: NDArray[np.int32],
    codes: Codes,
    *,
    is_hamming: bool,
) -> Lists:
    """Put lists together from what is stored of them; the centres' own codes are made here."""
    return Lists(signs, centres, code_centres(centres), starts, list_of_row, codes, is_hamming)


def no_codes(blocks: int, bits: int) -> Codes:
    """Return room for so many blocks of codes, with no code in it."""
    return Codes(
        blocks=np.zeros((blocks, bits // 16, ROW_BYTES), np.uint8),
        slopes=np.zeros((blocks, BLOCK), np.float32),
        offsets=np.full((blocks, BLOCK), np.inf, np.float32),
        ids=np.zeros((blocks, BLOCK), np.uint32),
    )


@lru_cache
def no_addition(bits: int, dim: int) -> Added:
    """Return what stands for nothing added: always the same, not to be written to."""
    none = np.zeros(0, np.int32)
    return Added(no_codes(0, bits), none, none, np.empty((0, dim), np.uint16))


def lists_for(rows: int) -> int:
    """Return how many lists suit so many rows: the larger the lists, the more of them."""
    return max(1, min(int(2 * rows**0.5), rows // 128))


@dataclass(frozen=True, slots=True, eq=False)
class Draft:
    """Features sorted into lists and encoded, row by row: what is laid out in blocks."""

    signs: NDArray[np.int8]  # the rotation, see rotation.py
    centres: NDArray[np.float16]  # (lists, bits) rotated
    list_of_row: NDArray[np.int32]  # (rows,)
    packed: NDArray[np.uint8]  # (rows, bits / 8)
    slopes: NDArray[np.float32]  # (rows,)
    offsets: NDArray[np.float32]  # (rows,)


def make_lists(features: Features, rows: int, *, lists: int, seed: int, is_hamming: bool = False) -> Lists:
    """Sort features into inverted lists by k-means and encode them: `draft_lists`, laid out in memory."""
    draft = draft_lists(features, rows, lists=lists, seed=seed, is_hamming=is_hamming)
    starts, codes = lay_out(draft.packed, draft.slopes, draft.offsets, draft.list_of_row, lists)
    return open_lists(draft.signs, draft.centres, starts, draft.list_of_row, codes, is_hamming=is_hamming)


def draft_lists(features: Features, rows: int, *, lists: int, seed: int, is_hamming: bool = False) -> Draft:
    """Sort features into lists by k-means and encode them, on all processors, with few features in memory at once.

    Args:
        features: gives the features (n, dim) of unit length of some rows; called by several threads.
        rows: how many there are.
        lists: how many lists; no more than rows.
        seed: of rotation, sample and centres.
        is_hamming: encode the images themselves instead of what their centres leave of them, for comparison: codes are
            then ordered by their Hamming distance, as in the article.

    Raises:
        InputError: no rows, or more lists than rows.
    """
    if not 1 <= lists <= rows:
        raise InputError(f"need 1 to {rows} lists for {rows} rows, got {lists}")
    generator = np.random.default_rng(seed)
    sampled = min(rows, max(lists, min(SAMPLED * lists, MOST_SAMPLED)))
    sample = np.sort(generator.choice(rows, sampled, replace=False))
    signs = rotation_signs(features(sample[:1]).shape[1], seed=seed)
    centres = find_centres(_turned(features, sample, signs), lists, generator=generator).astype(np.float16)
    coded, exact = code_centres(centres), centres.astype(np.float32)
    packed, list_of_row = np.empty((rows, signs.shape[1] // 8), np.uint8), np.empty(rows, np.int32)
    slopes, offsets = np.empty(rows, np.float32), np.empty(rows, np.float32)

    def sort(part: slice) -> None:
        rotated = rotate(features(np.arange(part.start, part.stop)), signs)
        list_of_row[part] = nearest(rotated, centres, coded)
        packed[part], slopes[part], offsets[part] = (
            encode_signs(rotated) if is_hamming else encode(rotated, exact[list_of_row[part]])
        )

    _on_all_processors(sort, rows)
    return Draft(signs, centres, list_of_row, packed, slopes, offsets)


def encode(
    rotated: NDArray[np.float32], centres: NDArray[np.float32]
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
    """Return the codes of rotated features relative to their centres, and their slopes and offsets.

    What lies on its centre gets slope 0 and offset 0.

    Args:
        rotated: (rows, bits)
        centres: (rows, bits)

    Returns:
        (rows, bits / 8) signs, the lowest bit first, (rows,) and (rows,).
    """
    rest = rotated - centres
    bits = rest > 0
    signs = np.where(bits, np.float32(1), np.float32(-1))
    square = np.einsum("ij,ij->i", rest, rest)
    factor = square / np.maximum(np.abs(rest).sum(axis=1), np.float32(1e-20))
    offset = square + 2 * factor * np.einsum("ij,ij->i", centres, signs)
    return np.packbits(bits, axis=1, bitorder="little"), -2 * factor, offset


def encode_signs(rotated: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
    """Return codes as `encode` does, with which the estimate is the number of bits that differ from the query's."""
    rows, bits = rotated.shape
    packed = np.packbits(rotated > 0, axis=1, bitorder="little")
    return packed, np.full(rows, -0.5, np.float32), np.full(rows, bits / 2, np.float32)


def lay_out(
    packed: NDArray[np.uint8],
    slopes: NDArray[np.float32],
    offsets: NDArray[np.float32],
    list_of_row: NDArray[np.int32],
    lists: int,
) -> tuple[NDArray[np.int64], Codes]:
    """Return codes in blocks, those of a list side by side in the order of their rows, and each list's first block.

    Args:
        packed: (rows, bits / 8), see `encode`.
        slopes: (rows,)
        offsets: (rows,)
        list_of_row: (rows,) 0 to lists - 1.
        lists: how many.
    """
    starts, parts = lay_out_in_parts(packed, slopes, offsets, list_of_row, lists, blocks=len(packed) + lists)
    return starts, next(parts)


def lay_out_in_parts(
    packed: NDArray[np.uint8],
    slopes: NDArray[np.float32],
    offsets: NDArray[np.float32],
    list_of_row: NDArray[np.int32],
    lists: int,
    *,
    blocks: int,
) -> tuple[NDArray[np.int64], Iterator[Codes]]:
    """Return each list's first block, and what `lay_out` returns, at most so many blocks after the other."""
    counts = np.bincount(list_of_row, minlength=lists)
    starts = np.concatenate([[0], np.cumsum(-(-counts // BLOCK))]).astype(np.int64)
    ends = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    order = np.argsort(list_of_row, kind="stable").astype(np.uint32)

    def between(first: int, last: int) -> Codes:
        codes = no_codes(last - first, 8 * packed.shape[1])
        fill_blocks(first, starts, ends, order, packed, slopes, offsets, codes)
        return codes

    total = int(starts[-1])
    return starts, (between(first, min(first + blocks, total)) for first in range(0, total, blocks))


def groups_of(packed: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the groups of four bits of packed codes: (rows, bits / 8) to (rows, bits / 4)."""
    return np.stack([packed & 15, packed >> 4], axis=2).reshape(len(packed), 2 * packed.shape[1])


def put_code(block: NDArray[np.uint8], slot: int, groups: NDArray[np.uint8]) -> None:
    """Write the groups (bits / 4,) of a code into an empty slot of a block (bits / 16, 64)."""
    block.reshape(-1, 16)[:, _BYTE_OF_SLOT[slot]] |= groups << np.uint8(0 if slot < BLOCK // 2 else 4)


def packed_codes(codes: Codes, slots: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return some codes as `encode` packs them: (n,) slots, 32 a block, to (n, bits / 8)."""
    block, slot = np.divmod(slots, BLOCK)
    groups = codes.blocks.reshape(len(codes.blocks), -1, 16)[block, :, _BYTE_OF_SLOT[slot]]
    groups = (groups >> np.where(slot < BLOCK // 2, 0, 4)[:, None].astype(np.uint8)) & np.uint8(15)
    return np.asarray(groups[:, 0::2] | groups[:, 1::2] << np.uint8(4))


def find_centres(sample: NDArray[np.float32], lists: int, *, generator: np.random.Generator) -> NDArray[np.float32]:
    """Return (lists, bits) centres of a sample by k-means; a centre that loses everything starts anew elsewhere."""
    centres = sample[np.sort(generator.choice(len(sample), lists, replace=False))]
    for _ in range(ROUNDS):
        closest = _nearest_of_all(sample, centres.astype(np.float16))
        sums = np.zeros_like(centres)
        for part in _parts(len(sample)):
            order = np.argsort(closest[part], kind="stable")
            filled, first = np.unique(closest[part][order], return_index=True)
            sums[filled] += np.add.reduceat(sample[part][order], first, axis=0)
        counts = np.bincount(closest, minlength=lists)
        empty = np.flatnonzero(counts == 0)
        centres = np.asarray(sums / np.maximum(counts, 1)[:, None], np.float32)
        centres[empty] = sample[generator.choice(len(sample), len(empty), replace=False)]
    return centres


def code_centres(centres: NDArray[np.float16]) -> Codes:
    """Return the codes of centres relative to their mean."""
    exact = centres.astype(np.float32)
    middle = np.broadcast_to(exact.mean(axis=0), exact.shape)
    return lay_out(*encode(exact, middle), np.zeros(len(exact), np.int32), 1)[1]


def nearest(rows: NDArray[np.float32], centres: NDArray[np.float16], coded: Codes) -> NDArray[np.int32]:
    """Return the nearest centre of each rotated row (rows, bits), of equals the first; rarely one that is as near.

    The centres' codes choose `COMPARED` of them, which are compared exactly.
    """
    found = np.empty(len(rows), np.int32)
    nearest_centres(rows, centres.view(np.uint16), coded, COMPARED, found)
    return found


def _turned(features: Features, rows: NDArray[np.int64], signs: NDArray[np.int8]) -> NDArray[np.float32]:
    turned = np.empty((len(rows), signs.shape[1]), np.float32)

    def turn(part: slice) -> None:
        turned[part] = rotate(features(rows[part]), signs)

    _on_all_processors(turn, len(rows))
    return turned


def _nearest_of_all(rows: NDArray[np.float32], centres: NDArray[np.float16]) -> NDArray[np.int32]:
    coded, found = code_centres(centres), np.empty(len(rows), np.int32)

    def find(part: slice) -> None:
        found[part] = nearest(rows[part], centres, coded)

    _on_all_processors(find, len(rows))
    return found


def _on_all_processors(work: Callable[[slice], None], rows: int) -> None:
    """Do work that releases the GIL for all rows, a few at once; which thread does which part changes nothing."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(work, _parts(rows)):
            pass


def _parts(rows: int) -> list[slice]:
    return [slice(start, min(start + CHUNK_ROWS, rows)) for start in range(0, rows, CHUNK_ROWS)]
