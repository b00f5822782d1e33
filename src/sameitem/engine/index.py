"""A published index version, opened: coarse filter by Hamming distance, fine ranking by exact distance."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sameitem.core.bits import Codes, binarize, hamming
from sameitem.core.errors import ConflictError, InputError, NotFoundError, ShapeError
from sameitem.engine.build import COLOUR_BINS, UNIT_TOLERANCE
from sameitem.engine.distances import colour_distances, squared_distances
from sameitem.engine.files import differences
from sameitem.engine.manifest import Manifest, read_manifest
from sameitem.engine.members import EntryHit, Members

HASHED_BYTES = 4_000_000  # files up to this size are checked by content whenever an index is opened
GATHERED_ROWS = 4096  # rows read from the file at once
ROW_BITS = 40  # of a sorting key: Hamming distance above, row below


@dataclass(frozen=True, slots=True, eq=False)
class Index:
    """The files of one index version, memory-mapped; searching changes nothing, any number of threads may."""

    manifest: Manifest
    members: Members
    rotation: NDArray[np.float32]  # (dim, bits)
    codes: Codes  # (entries, bits // 8)
    rows: NDArray[np.float16]  # (entries, dim)
    colours: NDArray[np.float16]  # (entries, COLOUR_BINS)

    def search(
        self,
        query: NDArray[np.float32],
        *,
        k: int,
        allowed: NDArray[np.bool_] | None = None,
        candidates: int | None = None,
        exact: bool = False,
        one_per_product: bool = False,
        colour: NDArray[np.float32] | None = None,
        colour_weight: float = 0.0,
    ) -> list[EntryHit]:
        """Return the k nearest entries, best first; fewer only where no more can be found by what is allowed.

        Args:
            query: (dim,) feature of unit length.
            k: how many hits, at least 1.
            allowed: (members,) who may be shown (filters, deletions); None allows all.
            candidates: how many entries pass the coarse filter; None takes what the certificate measured, more where
                k is larger than the certified one, and everything where there is no certificate.
            exact: rank every allowed entry: a linear scan over the stored rows.
            one_per_product: show each product at most once. The coarse filter then keeps twice as many candidates
                again and again until k products are found, or every product that is allowed, or all was ranked.
            colour: (24,) histogram of the query's subject; needed where colour_weight is not 0.
            colour_weight: the ranked distance is `squared L2 + colour_weight * (1 - histogram intersection)`.

        Raises:
            ShapeError: an array of another shape than the index needs.
            InputError: k, candidates or weight out of range, a query that is not of unit length, a missing colour.
        """
        self._check(query, k, allowed, candidates, colour, colour_weight)
        searchable = self.members.searchable(allowed)
        if len(searchable) == 0:
            return []
        keep = len(searchable) if exact else max(k, candidates or self.candidates_for(k))
        if keep < len(searchable):
            searchable = np.sort(self.nearness(query)[searchable]) & ((1 << ROW_BITS) - 1)
        distances = np.empty(0)
        while True:
            entries = searchable[:keep]
            new = self._distances(entries[len(distances) :], query, colour, colour_weight)
            distances = np.concatenate([distances, new])
            hits = self.members.rank(entries, distances, k=k, allowed=allowed, one_per_product=one_per_product)
            if len(hits) == k or keep >= len(searchable) or self._reaches_all(hits, allowed):
                return hits
            keep *= 2

    def candidates_for(self, k: int) -> int:
        """Return how many entries shall pass the coarse filter for the first k hits.

        What the certificate measured holds up to its own k; each doubling of k doubles it, so that the pages of one
        depth come from the same candidates. Without a certificate everything passes.
        """
        certificate = self.manifest.certificate
        if certificate is None:
            return self.manifest.counts.entries
        doublings = max(0, (-(-k // certificate.k) - 1).bit_length())
        return certificate.candidates << doublings

    def nearness(self, query: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return one number per entry by which the coarse filter sorts: Hamming distance first, then row."""
        code = binarize(query[None], self.rotation)[0]
        return (hamming(self.codes, code).astype(np.int64) << ROW_BITS) | np.arange(len(self.codes))

    def _distances(
        self,
        entries: NDArray[np.int64],
        query: NDArray[np.float32],
        colour: NDArray[np.float32] | None,
        colour_weight: float,
    ) -> NDArray[np.float64]:
        """Return the distances that rank entries; a part of the rows at a time is copied from the file."""
        distances = np.empty(len(entries), dtype=np.float64)
        for start in range(0, len(entries), GATHERED_ROWS):
            part = entries[start : start + GATHERED_ROWS]
            found = squared_distances(self.rows[part], query)
            if colour is not None and colour_weight:
                found += colour_weight * colour_distances(self.colours[part], colour)
            distances[start : start + GATHERED_ROWS] = found
        return distances

    def _reaches_all(self, hits: list[EntryHit], allowed: NDArray[np.bool_] | None) -> bool:
        """Return whether hits that were not cut at k leave no allowed product out."""
        rows = [row for hit in hits for row in (hit.member_row, *hit.duplicates)]
        return len(np.unique(self.members.product[rows])) == self.members.count_products(allowed)

    def _check(
        self,
        query: NDArray[np.float32],
        k: int,
        allowed: NDArray[np.bool_] | None,
        candidates: int | None,
        colour: NDArray[np.float32] | None,
        colour_weight: float,
    ) -> None:
        if query.shape != (self.manifest.dim,):
            raise ShapeError(
                f"need a feature ({self.manifest.dim},) of model {self.manifest.model_version}, got {query.shape}"
            )
        if not abs(float(np.linalg.norm(query)) - 1) <= UNIT_TOLERANCE:
            raise InputError(f"need a feature of length 1, got {float(np.linalg.norm(query)):g}")
        if allowed is not None and (allowed.shape != self.members.image_id.shape or allowed.dtype != np.bool_):
            raise ShapeError(
                f"need a mask ({len(self.members.image_id)},) of bool, got {allowed.shape} {allowed.dtype}"
            )
        if k < 1 or (candidates is not None and candidates < 1):
            raise InputError(f"need k >= 1 and candidates >= 1, got k {k} and candidates {candidates}")
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
    entries, members, width = manifest.counts.entries, manifest.counts.members, manifest.bits // 8
    try:
        return Index(
            manifest=manifest,
            members=Members(
                entry_image_id=_array(folder / "entry_image_id.npy", np.int64, (entries,)),
                image_id=_array(folder / "member_image_id.npy", np.int64, (members,)),
                entry=_array(folder / "member_entry.npy", np.int64, (members,)),
                product=_array(folder / "member_product.npy", np.int32, (members,)),
            ),
            rotation=_array(folder / "rotation.npy", np.float32, (manifest.dim, manifest.bits)),
            codes=_array(folder / "codes.npy", np.uint8, (entries, width)),
            rows=_array(folder / "rows.npy", np.float16, (entries, manifest.dim)),
            colours=_array(folder / "colour.npy", np.float16, (entries, COLOUR_BINS)),
        )
    except FileNotFoundError as error:
        raise NotFoundError(f"index version {folder.name} is being removed; open the live one") from error
    except (ValueError, InputError) as error:
        raise ConflictError(f"index version {folder.name} is damaged: {error}; run `sameitem build`") from error


def _array(path: Path, dtype: type[np.generic], shape: tuple[int, ...]) -> NDArray[Any]:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.shape != shape or array.dtype != dtype:
        raise InputError(f"{path.name} holds {array.shape} {array.dtype}, the manifest says {shape} {np.dtype(dtype)}")
    return np.asarray(array)
