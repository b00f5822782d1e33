"""Near-duplicates: listings whose pictures are nearly the same are folded behind the best one.

Every picture is compared with the representatives found before it, best picture first. Those with a near perceptual
hash are candidates; of these, those with a near feature; of these, nearest first, the first that is practically
identical or shows the same picture when one is laid on the other (`same_picture`). A picture without such a
representative becomes one. So every member is close to its representative, there are no chains, and the answer does not
depend on the order of the input. Comparing hashes grows with pictures times representatives: nanoseconds a pair.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sameitem.catalog.same_picture import difference, reduce_picture
from sameitem.core.errors import ShapeError
from sameitem.core.records import CatalogueImage, ContentHash, Pixels
from sameitem.core.settings import SelectionSettings

Rows = NDArray[np.floating[Any]]

_BLOCK: Final = 64  # pictures whose hashes are compared at once
_CHUNK: Final = 4096  # with so many representatives: what is compared stays in the processor's cache
_CANDIDATES: Final = 64  # features compared per picture at most: nearest hash first, then best picture
_LOOKS: Final = 4  # candidates laid on a picture at most, nearest feature first
_REMEMBERED: Final = 8192  # reduced pictures kept, 12 kB each
_CERTAIN: Final = 0.02  # feature distance from which, with the same colours, nobody has to look
_SAME_COLOURS: Final = 0.1  # summed difference of two colour histograms, 0..2


def group_duplicates(
    images: Sequence[CatalogueImage],
    features: Rows,
    colours: Rows,
    rules: SelectionSettings,
    *,
    pixels_of: Callable[[ContentHash], Pixels] | None = None,
) -> NDArray[np.int64]:
    """Return for each image the row of the image that represents it: its own row where that is itself.

    Images with the same content always share a representative. Larger pictures represent smaller ones, then sharper
    ones the others, then those with the smaller image id.

    Args:
        images: in any order.
        features: (images, dim) unit rows; may be memory-mapped and of half precision.
        colours: (images, bins) colour histograms that sum to 1.
        rules: how near is near.
        pixels_of: a stored picture, at any size; None when there are no pictures to look at: then only what features
            and colours make certain is a duplicate.

    Raises:
        ShapeError: the arrays do not have one row per image.
    """
    for name, rows in (("features", features), ("colours", colours)):
        if rows.ndim != 2 or len(rows) != len(images):
            raise ShapeError(f"need {len(images)} rows of {name}, one per image, got {rows.shape}")
    order = sorted(range(len(images)), key=lambda row: _rank(images[row]))
    first_of_content: dict[ContentHash, int] = {}
    for row in order:
        first_of_content.setdefault(images[row].content_hash, row)
    distinct = np.array(list(first_of_content.values()), np.int64)  # best picture first
    judge = _Judge(images, features, colours, rules, pixels_of)
    representative = _lead(distinct, np.array([images[row].perceptual_hash for row in distinct], np.uint64), judge)
    return np.array([representative[first_of_content[image.content_hash]] for image in images], np.int64)


def _rank(image: CatalogueImage) -> tuple[float, float, int]:
    return (-min(image.width, image.height), -image.quality.sharpness, image.image_id)


def _lead(rows: NDArray[np.int64], hashes: NDArray[np.uint64], judge: "_Judge") -> dict[int, int]:
    """Return row -> row of its representative; earlier rows represent later ones."""
    leaders = np.empty_like(rows)  # positions in `rows`
    leader_hashes = np.empty_like(hashes)
    count = 0
    representative: dict[int, int] = {}
    for start in range(0, len(rows), _BLOCK):
        block = hashes[start : start + _BLOCK]
        known = count
        earlier, within = _hamming(block, leader_hashes[:known]), _hamming(block, block)
        for place, row in enumerate(rows[start : start + _BLOCK].tolist()):
            bits = np.concatenate([earlier[place], within[place, leaders[known:count] - start]])
            found = judge.choose(row, rows[leaders[:count]], bits)
            if found is None:
                leaders[count], leader_hashes[count] = start + place, block[place]
                count += 1
            representative[row] = row if found is None else found
    return representative


def _hamming(left: NDArray[np.uint64], right: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """(left, right): differing bits of every pair."""
    bits = np.empty((len(left), len(right)), np.uint8)
    for start in range(0, len(right), _CHUNK):
        columns = slice(start, start + _CHUNK)
        np.bitwise_count(left[:, None] ^ right[None, columns], out=bits[:, columns])
    return bits


class _Judge:
    """Decides which representative a picture belongs to; remembers the pictures it looked at."""

    def __init__(
        self,
        images: Sequence[CatalogueImage],
        features: Rows,
        colours: Rows,
        rules: SelectionSettings,
        pixels_of: Callable[[ContentHash], Pixels] | None,
    ) -> None:
        self._images = images
        self._features = features
        self._colours = colours
        self._rules = rules
        self._pixels_of = pixels_of
        self._reduced = lru_cache(maxsize=_REMEMBERED)(self._reduce)

    def choose(self, row: int, leaders: NDArray[np.int64], bits: NDArray[np.uint8]) -> int | None:
        """Return the representative of a row, or None.

        Args:
            row: of the picture.
            leaders: rows of the representatives so far, best picture first.
            bits: for each of them, differing bits of the hashes.
        """
        near = np.flatnonzero(bits <= self._rules.hash_bits)
        if not len(near):
            return None
        candidates = leaders[near[np.argsort(bits[near], kind="stable")[:_CANDIDATES]]]
        feature = self._features[row].astype(np.float32)
        distances = ((self._features[candidates].astype(np.float32) - feature) ** 2).sum(axis=1)
        nearest = np.argsort(distances, kind="stable")[:_LOOKS]
        for place in nearest[distances[nearest] <= self._rules.duplicate_distance].tolist():
            candidate = int(candidates[place])
            if self._is_certain(row, candidate, float(distances[place])) or self._looks_same(row, candidate):
                return candidate
        return None

    def _is_certain(self, row: int, candidate: int, distance: float) -> bool:
        if distance > _CERTAIN:
            return False
        return float(np.abs(self._colours[row] - self._colours[candidate]).sum()) <= _SAME_COLOURS

    def _looks_same(self, row: int, candidate: int) -> bool:
        if self._pixels_of is None:
            return False
        return difference(self._reduced(candidate), self._reduced(row)) <= self._rules.duplicate_difference

    def _reduce(self, row: int) -> Pixels:
        assert self._pixels_of is not None
        return reduce_picture(self._pixels_of(self._images[row].content_hash))
