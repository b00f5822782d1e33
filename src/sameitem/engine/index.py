"""A published index version, opened: coarse filter by one-bit codes, fine ranking by exact distance."""

import math
import mmap
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sameitem.core.errors import ConflictError, InputError, NotFoundError, ShapeError
from sameitem.core.growing import Growing
from sameitem.engine.build import COLOUR_BINS, UNIT_TOLERANCE, check_block
from sameitem.engine.delta import Delta
from sameitem.engine.distances import colour_distances
from sameitem.engine.files import differences
from sameitem.engine.kernels import BLOCK, ROW_BYTES, exact_distances
from sameitem.engine.lists import EVERYTHING, Codes, Effort, Lists, open_lists
from sameitem.engine.manifest import Manifest, read_manifest
from sameitem.engine.members import EntryHit, Members
from sameitem.engine.rotation import ROUNDS
from sameitem.engine.sieve import Sieve

HASHED_BYTES = 4_000_000  # files up to this size are checked by content whenever an index is opened
FURTHER = 0.5  # where a share s of the entries is allowed, s ** -FURTHER times as many lists are looked through
MOSTLY = 0.9  # of the entries allowed: as much effort as if all were
SURELY = 4  # times the effort that must change no hit of a filtered search
ROOM = 0.5  # of the machine's memory: rows that are larger than that are read one by one
FEW = 2048  # entries that are all ranked, whatever the effort: as fast as looking for the best among them
RANKED_SHARE = 4  # so are they where one in this many would be a candidate
DEEPER = 2  # entries ranked for each hit asked for: some stand for a product that is shown already


@dataclass(frozen=True, slots=True, eq=False)
class Index:
    """The files of one index version, memory-mapped, and what was added since; any number of threads may search."""

    manifest: Manifest
    members: Members
    lists: Lists
    rows: NDArray[np.float16]  # (entries, dim) as built
    colours: NDArray[np.float16]  # (entries, COLOUR_BINS) as built
    delta: Delta = field(init=False)
    _colours: Growing[np.float16] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "delta", Delta(self.lists, len(self.rows), self.manifest.dim))
        object.__setattr__(self, "_colours", Growing(self.colours))

    def append(
        self,
        features: NDArray[np.float32],
        colours: NDArray[np.float32],
        *,
        image_ids: NDArray[np.int64],
        products: NDArray[np.int32],
    ) -> NDArray[np.int64]:
        """Add entries with one member each, and return the members' rows; one thread at a time may.

        Args:
            features: (n, dim) of unit length.
            colours: (n, 24) histograms.
            image_ids: (n,) of the members.
            products: (n,) rows of their products.

        Raises:
            InputError, ShapeError: features or colours that an index cannot hold.
        """
        check_block(features, colours, dim=self.manifest.dim, first_row=self.members.entries)
        rows = np.arange(len(self.members), len(self.members) + len(features))
        self._colours.append(colours.astype(np.float16))
        self.members.append(image_ids, products)
        self.delta.append(features)
        return rows

    def features(self, entries: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the stored features of some entries, added ones too: (n, dim)."""
        late, built = entries >= len(self.rows), len(self.rows)
        found = np.empty((len(entries), self.manifest.dim), np.float32)
        found[~late], found[late] = self.rows[entries[~late]], self.delta.rows[entries[late] - built]
        return found

    def colours_of(self, entries: NDArray[np.int64]) -> NDArray[np.float16]:
        """Return the colour histograms of some entries, added ones too: (n, 24)."""
        return self._colours.take(entries)

    def sieve(self, mask: NDArray[np.bool_]) -> Sieve:
        """Prepare who may be shown for searching: (members,)."""
        return Sieve(self.members, self.delta.list_of_row, len(self.lists.centres), mask)

    def search(
        self,
        query: NDArray[np.float32],
        *,
        k: int,
        allowed: Sieve | None = None,
        without_product: int | None = None,
        effort: Effort | None = None,
        exact: bool = False,
        one_per_product: bool = False,
        colour: NDArray[np.float32] | None = None,
        colour_weight: float = 0.0,
    ) -> list[EntryHit]:
        """Return the k nearest entries, best first; fewer only where no more can be found by what is allowed.

        Args:
            query: (dim,) feature of unit length.
            k: how many hits, at least 1.
            allowed: who may be shown (filters, deletions); None allows all.
            without_product: row of a product that is not shown.
            effort: how much the coarse filter looks at; None takes what the certificate measured, more where k is
                larger than the certified one or little is allowed, and everything where there is no certificate.
            exact: rank every allowed entry: a linear scan over the stored rows.
            one_per_product: show each product at most once. The effort is then doubled until k products are found,
                or every product that is allowed, or all was ranked. Where a filter leaves less than most entries, which
                the certificate says nothing about, more effort is made until four times as much changes no hit.
            colour: (24,) histogram of the query's subject; needed where colour_weight is not 0.
            colour_weight: the ranked distance is `squared L2 + colour_weight * (1 - histogram intersection)`.

        Raises:
            ShapeError: an array of another shape than the index needs.
            InputError: k, effort or weight out of range, a query that is not of unit length, a missing colour.
        """
        self._check(query, k, effort, colour, colour_weight)
        query = np.array(query, np.float32)
        count, share = (self.members.entries, 1.0) if allowed is None else (allowed.entries, allowed.share)
        if count == 0:
            return []
        is_filtered = share < MOSTLY
        effort = effort or self.effort_for(k, share=share)
        deep = DEEPER * max(k, self._certified_k)
        before: list[EntryHit] | None = None
        while True:
            everything = exact or max(FEW, RANKED_SHARE * effort.candidates, deep) >= count
            if everything:
                entries = self._every_entry(allowed)
                distances = self._distances(query, entries)
            else:
                entries, distances = self._candidates(query, effort, deep, allowed, whole=colour_weight > 0)
            if colour is not None and colour_weight:
                distances = distances + colour_weight * colour_distances(self.colours_of(entries), colour)
            hits = self.members.rank(
                entries,
                distances,
                k=k,
                allowed=None if allowed is None else allowed.mask,
                without_product=without_product,
                one_per_product=one_per_product,
            )
            others = 0 if without_product is None else 1
            is_whole = len(hits) == k or (one_per_product and self._products(hits) + others >= self._findable(allowed))
            if everything or (is_whole and (not is_filtered or hits == before)):
                return hits
            effort, deep = effort.times(SURELY if is_filtered else 2), deep if is_whole else 2 * deep
            before = hits

    def effort_for(self, k: int, *, share: float = 1.0) -> Effort:
        """Return how much the coarse filter shall look at for the first k hits.

        What the certificate measured holds up to its own k; each doubling of k doubles it, so that the pages of one
        depth come from the same candidates. Where a share of the entries is allowed, its nearest lie further away, and
        more lists are looked through. Without a certificate everything is.
        """
        certificate = self.manifest.certificate
        if certificate is None:
            return Effort(len(self.lists.centres), len(self.rows))
        doublings = max(0, (-(-k // certificate.k) - 1).bit_length())
        probes = math.ceil(certificate.probes * share**-FURTHER)
        slack = math.inf if certificate.slack is None or share < MOSTLY else certificate.slack
        return Effort(probes, certificate.candidates, slack).times(1 << doublings)

    def warm(self) -> None:
        """Search once each way, so that what is compiled on first use is compiled before the first query."""
        query = self.rows[0].astype(np.float32)
        self.lists.search(query[None], self.rows, k=1, effort=Effort(1, 1), wanted=np.ones(1, np.uint8))
        self._distances(query, np.zeros(1, np.int64))
        self.sieve(np.ones(len(self.members), np.bool_))

    @property
    def _certified_k(self) -> int:
        return self.manifest.certificate.k if self.manifest.certificate else 1

    def _candidates(
        self, query: NDArray[np.float32], effort: Effort, deep: int, allowed: Sieve | None, *, whole: bool
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the `deep` nearest entries with their distances; whole: all candidates, as more decides the order."""
        if whole:
            deep, effort = max(deep, effort.candidates), replace(effort, slack=math.inf)
        is_filtered = allowed is not None and allowed.share < MOSTLY
        rows, distances = self.lists.search(
            query[None],
            self.rows,
            k=deep,
            effort=effort,
            wanted=EVERYTHING if allowed is None else allowed.bits,
            wanted_lists=allowed.list_bits if allowed is not None and is_filtered else EVERYTHING,
            added=self.delta.added,
        )
        found = rows[0] >= 0
        return rows[0][found], distances[0][found]

    def _every_entry(self, allowed: Sieve | None) -> NDArray[np.int64]:
        if allowed is None:
            return np.arange(self.members.entries)
        return np.flatnonzero(np.unpackbits(allowed.bits, bitorder="little"))

    def _distances(self, query: NDArray[np.float32], entries: NDArray[np.int64]) -> NDArray[np.float64]:
        query, built = np.ascontiguousarray(query), len(self.rows)
        late = entries >= built
        distances = np.empty(len(entries), np.float64)
        for here, rows, first in ((~late, self.rows, 0), (late, self.delta.rows, built)):
            found = np.empty(np.count_nonzero(here), np.float64)
            exact_distances(query, rows.view(np.uint16), entries[here] - first, found)
            distances[here] = found
        return distances

    def _products(self, hits: list[EntryHit]) -> int:
        rows = np.array([row for hit in hits for row in (hit.member_row, *hit.duplicates)], np.int64)
        return len(np.unique(self.members.products_of(rows)))

    def _findable(self, allowed: Sieve | None) -> int:
        return len(np.unique(self.members.every_product())) if allowed is None else allowed.products

    def _check(
        self,
        query: NDArray[np.float32],
        k: int,
        effort: Effort | None,
        colour: NDArray[np.float32] | None,
        colour_weight: float,
    ) -> None:
        if query.shape != (self.manifest.dim,):
            raise ShapeError(
                f"need a feature ({self.manifest.dim},) of model {self.manifest.model_version}, got {query.shape}"
            )
        if not abs(float(np.linalg.norm(query)) - 1) <= UNIT_TOLERANCE:
            raise InputError(f"need a feature of length 1, got {float(np.linalg.norm(query)):g}")
        if k < 1 or (effort is not None and min(effort.probes, effort.candidates) < 1):
            raise InputError(f"need k, probes and candidates of at least 1, got k {k} and {effort}")
        if not 0 <= colour_weight < np.inf or (colour_weight and (colour is None or colour.shape != (COLOUR_BINS,))):
            raise InputError(f"need a finite weight >= 0 and, above 0, a colour ({COLOUR_BINS},), got {colour_weight}")


def open_index(folder: Path, *, verify: bool = False) -> Index:
    """Open an index version; its arrays stay on the disk until they are used.

    Args:
        folder: of the version.
        verify: compare every byte with its checksum, not only those of files up to 4 MB and the sizes of the others.

    Raises:
        NotFoundError: there is no such version.
        ConflictError: a format this release does not read, or a file that does not fit the manifest; names it.
    """
    manifest = read_manifest(folder)
    wrong = differences(folder, manifest.files.items(), hash_up_to_bytes=None if verify else HASHED_BYTES)
    if wrong:
        raise ConflictError(f"index version {folder.name} is damaged: {'; '.join(wrong)}; run `sameitem build`")
    entries, members = manifest.counts.entries, manifest.counts.members
    try:
        found = Members(
            entry_image_id=_array(folder / "entry_image_id.npy", np.int64, (entries,)),
            image_id=_array(folder / "member_image_id.npy", np.int64, (members,)),
            entry=_array(folder / "member_entry.npy", np.int64, (members,)),
            product=_array(folder / "member_product.npy", np.int32, (members,)),
        )
        found.share(
            _array(folder / "entry_start.npy", np.int32, (entries + 1,)),
            _array(folder / "entry_member.npy", np.int32, (entries,)),
        )
        return Index(
            manifest=manifest,
            members=found,
            lists=_lists(folder, manifest),
            rows=_rows(folder / "rows.npy", (entries, manifest.dim)),
            colours=_array(folder / "colour.npy", np.float16, (entries, COLOUR_BINS)),
        )
    except FileNotFoundError as error:
        raise NotFoundError(f"index version {folder.name} is being removed; open the live one") from error
    except (ValueError, InputError) as error:
        raise ConflictError(f"index version {folder.name} is damaged: {error}; run `sameitem build`") from error


def _lists(folder: Path, manifest: Manifest) -> Lists:
    bits = -(-manifest.dim // 64) * 64
    starts = _array(folder / "list_start.npy", np.int64, (manifest.lists + 1,))
    blocks, entries = int(starts[-1]), manifest.counts.entries
    list_of_row = _array(folder / "entry_list.npy", np.int32, (entries,))
    ids = _array(folder / "code_row.npy", np.uint32, (blocks, BLOCK))
    if starts[0] != 0 or (np.diff(starts) < 0).any():
        raise InputError("list_start.npy does not ascend from 0")
    if ids.max() >= entries or list_of_row.min() < 0 or list_of_row.max() >= manifest.lists:
        raise InputError(f"code_row.npy or entry_list.npy points beyond {entries} entries and {manifest.lists} lists")
    return open_lists(
        _array(folder / "rotation.npy", np.int8, (ROUNDS, bits)),
        _array(folder / "centres.npy", np.float16, (manifest.lists, bits)),
        starts,
        list_of_row,
        Codes(
            blocks=_array(folder / "codes.npy", np.uint8, (blocks, bits // 16, ROW_BYTES)),
            slopes=_array(folder / "code_slope.npy", np.float32, (blocks, BLOCK)),
            offsets=_array(folder / "code_offset.npy", np.float32, (blocks, BLOCK)),
            ids=ids,
        ),
        is_hamming=manifest.code == "hamming",
    )


def _rows(path: Path, shape: tuple[int, int]) -> NDArray[np.float16]:
    """Map the rows for fine ranking; where they will not stay in memory, nothing is read around each of them."""
    rows = _array(path, np.float16, shape)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    mapped = getattr(rows.base, "_mmap", None)
    if rows.nbytes > ROOM * memory and isinstance(mapped, mmap.mmap) and hasattr(mmap, "MADV_RANDOM"):
        mapped.madvise(mmap.MADV_RANDOM)
    return rows


def _array(path: Path, dtype: type[np.generic], shape: tuple[int, ...]) -> NDArray[Any]:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.shape != shape or array.dtype != dtype or not array.flags.c_contiguous:
        raise InputError(f"{path.name} holds {array.shape} {array.dtype}, the manifest says {shape} {np.dtype(dtype)}")
    return np.asarray(array)
