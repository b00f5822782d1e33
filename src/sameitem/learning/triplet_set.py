"""What a triplet file teaches, laid out for training: squares in memory-mapped files, pairs as rows of arrays."""

import hashlib
import io
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sameitem.clicks.triplet_file import read_triplets
from sameitem.core.durable import write_whole
from sameitem.core.errors import ImageError, InputError, NotFoundError
from sameitem.core.records import ContentHash, Pixels
from sameitem.features.colour import has_plain_backdrop
from sameitem.features.preprocess import Fit, square_pixels

SIDE_PX = 224  # of the squares that are kept
HELD_OUT = 0.1  # share of the clicked images whose photos validate and never teach
GROUP = 8  # photos of a batch from one neighbourhood of items, so that their negatives are hard for each other
LEAST_PHOTOS = 32  # that teach; with fewer there is no batch

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Pairs:
    """Which photo shows what catalogue image shows, told by clicks; both are rows of arrays that others hold."""

    pairs: NDArray[np.int64]  # (pairs, 2) photo and an image of the same item
    others: NDArray[np.int64]  # (others, 2) photo and an image of another item
    is_held_out: NDArray[np.bool_]  # (photos,)

    def teaching(self) -> NDArray[np.int64]:
        """Return the pairs, by row, whose photo teaches."""
        return np.flatnonzero(~self.is_held_out[self.pairs[:, 0]])

    def validating(self) -> NDArray[np.int64]:
        """Return the pairs, by row, whose photo validates."""
        return np.flatnonzero(self.is_held_out[self.pairs[:, 0]])


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class TripletSet(Pairs):
    """Photos, catalogue images, and which shows what; nothing here says where in a photo the item is.

    Row i of `photos` is photo i; row j of `images` catalogue image j.
    """

    photos: NDArray[np.uint8]  # (photos, 224, 224, 3) padded white
    images: NDArray[np.uint8]  # (images, 224, 224, 3) padded white
    is_plain: NDArray[np.bool_]  # (images,) whether the backdrop is plain, so that the whole picture is the subject


@dataclass(frozen=True, slots=True, eq=False)
class Named:
    """A triplet file by the content hashes of its pictures, in the order of their first lines."""

    photos: tuple[ContentHash, ...]
    images: tuple[ContentHash, ...]
    pairs: NDArray[np.int64]  # (pairs, 2) photo and an image of the same item
    others: NDArray[np.int64]  # (others, 2) photo and an image of another item

    def among(self, photo_there: NDArray[np.bool_], image_there: NDArray[np.bool_]) -> tuple[NDArray[np.int64], ...]:
        """Return pairs and others whose two pictures are there, as rows among those that are."""
        sides = (photo_there, image_there)
        return tuple(
            np.stack([np.cumsum(there)[kept[:, side]] - 1 for side, there in enumerate(sides)], 1)
            for rows in (self.pairs, self.others)
            for kept in (rows[photo_there[rows[:, 0]] & image_there[rows[:, 1]]],)
        )


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Pairs of a step and the images that they share as negatives."""

    photos: NDArray[np.int64]  # (rows,) photo of each pair, rows of one photo beside each other
    positives: NDArray[np.int64]  # (rows,) image of each pair
    images: NDArray[np.int64]  # (shared,) images that are negatives where they can be trusted, the positives first
    trusted: NDArray[np.bool_]  # (rows, shared)
    query_of_row: NDArray[np.int64]  # (rows,) from 0


def read_triplet_set(triplets: Path, photo: Callable[[ContentHash], Pixels], folder: Path) -> TripletSet:
    """Read a triplet file and lay its pictures out in `folder`; what lies there already is used again.

    Args:
        triplets: written by `sameitem mine`.
        photo: gives the pixels of a query photo or catalogue image.
        folder: for the memory-mapped squares.

    Raises:
        InputError: too few photos to learn from, or none of them can be read.
    """
    named = read_named(triplets)
    folder.mkdir(parents=True, exist_ok=True)
    photos, photo_there = _squares(named.photos, photo, folder / "photos")
    images, image_there = _squares(named.images, photo, folder / "images")
    warn_of_missing(photo_there, image_there)
    if not (photo_there.all() and image_there.all()):
        photos, images = np.asarray(photos)[photo_there], np.asarray(images)[image_there]
    unseen = np.array([is_validating(name) for name in named.images], np.bool_)
    validates = np.zeros(len(named.photos), np.bool_)
    validates[named.pairs[unseen[named.pairs[:, 1]], 0]] = True
    pairs, others = named.among(photo_there, image_there)
    found = TripletSet(
        photos=photos,
        images=images,
        is_plain=np.array([has_plain_backdrop(image) for image in images], np.bool_),
        pairs=pairs,
        others=others,
        is_held_out=validates[photo_there],
    )
    check_enough(
        found, f"{triplets.name} names {len(named.photos)} photos", "the photos of a tenth of the images validate"
    )
    return found


def read_named(triplets: Path) -> Named:
    """Read which picture shows the same item as which, and which another, from a triplet file."""
    photo_rows: dict[ContentHash, int] = {}
    image_rows: dict[ContentHash, int] = {}
    pairs: dict[tuple[int, int], None] = {}
    others: dict[tuple[int, int], None] = {}
    for triplet in read_triplets(triplets):
        row = photo_rows.setdefault(triplet.photo.content_hash, len(photo_rows))
        pairs.setdefault((row, image_rows.setdefault(triplet.positive, len(image_rows))))
        others.setdefault((row, image_rows.setdefault(triplet.negative, len(image_rows))))
    told = (np.array(list(rows), np.int64).reshape(-1, 2) for rows in (pairs, others))
    return Named(tuple(photo_rows), tuple(image_rows), *told)


def warn_of_missing(photo_there: NDArray[np.bool_], image_there: NDArray[np.bool_]) -> None:
    """Write to the log how many pictures cannot be read, where there are any."""
    if not (photo_there.all() and image_there.all()):
        _log.warning(
            "%d of %d photos and %d of %d images cannot be read and teach nothing",
            *((~photo_there).sum(), len(photo_there), (~image_there).sum(), len(image_there)),
        )


def check_enough(found: Pairs, what: str, who_validates: str) -> None:
    """Refuse triplets of which too few photos teach.

    Args:
        found: of the photos that can be read.
        what: the file and how many photos it names.
        who_validates: instead of teaching.

    Raises:
        InputError: fewer than `LEAST_PHOTOS`.
    """
    teach = len(np.unique(found.pairs[found.teaching(), 0]))
    if teach < LEAST_PHOTOS:
        raise InputError(
            f"{what}, of which {len(found.is_held_out)} can be read and {teach} teach "
            f"({who_validates}); need {LEAST_PHOTOS} that teach: wait for more clicks, then run `sameitem mine` again"
        )


def is_validating(name: str) -> bool:
    """Say whether the photos of a clicked image validate: told by its name alone, so that it never changes sides.

    What is learned must hold for items that it was not learned on; photos of items that also teach would not tell.
    """
    return int.from_bytes(hashlib.sha256(f"validate {name}".encode()).digest()[:4], "big") < HELD_OUT * 2**32


def batches(
    found: Pairs,
    features: NDArray[np.float32],
    *,
    rows: int,
    same_item: float,
    seed: int,
    step: int,
    shares_negatives: bool = True,
    random_negatives: bool = False,
    clicked_negatives: bool = False,
) -> Batch:
    """Draw the batch of a step: neighbourhoods of items, their pairs, and the images that they share as negatives.

    The same seed and step draw the same batch.

    Args:
        found: what to draw from.
        features: (images, dim) unit features by which neighbours and suspected same items are told.
        rows: pairs of the batch, a multiple of 8.
        same_item: squared distance of two images below which they may show the same item; neither is then a negative
            of the other's photo.
        seed: of the run.
        step: of the run.
        shares_negatives: False: each photo only has its own clicked session's negatives, for comparison.
        random_negatives: True: negatives are drawn from all images instead of what was shown, for comparison.
        clicked_negatives: True: only images that were clicked for some photo that teaches are negatives, and what a
            photo's own user saw and did not click is one however near it is: mining has believed it.
    """
    generator = np.random.default_rng([seed, step, 1])
    teaching = found.teaching()
    positives = found.pairs[teaching, 1]
    chosen: list[int] = []
    for seed_row in generator.choice(len(teaching), max(1, rows // GROUP), replace=len(teaching) < rows // GROUP):
        near = features[positives] @ features[positives[seed_row]]
        around = np.argpartition(-near, min(4 * GROUP, len(near) - 1))[: 4 * GROUP]
        chosen += [int(seed_row), *generator.choice(around, min(GROUP - 1, len(around)), replace=False).tolist()]
    pairs = found.pairs[teaching[np.unique(chosen)]]
    pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
    own = found.others[np.isin(found.others[:, 0], pairs[:, 0])]
    if random_negatives:
        own = np.stack([own[:, 0], generator.integers(len(features), size=len(own))], 1)
    if clicked_negatives:
        own = own[np.isin(own[:, 1], positives)]
    extra = np.unique(generator.permutation(own[:, 1])[:rows])
    images = np.concatenate([np.unique(pairs[:, 1]), np.setdiff1d(extra, pairs[:, 1])])
    photos, query_of_row = np.unique(pairs[:, 0], return_inverse=True)
    trusted = 2 - 2 * features[pairs[:, 1]] @ features[images].T >= same_item
    seen = np.isin(pairs[:, :1] * len(features) + images, own[:, 0] * len(features) + own[:, 1])
    if clicked_negatives:
        trusted |= seen
    for pair in found.pairs[
        np.isin(found.pairs[:, 0], photos)
    ]:  # an image that the photo's user clicked, in any session
        trusted[np.ix_(pairs[:, 0] == pair[0], images == pair[1])] = False
    if not shares_negatives:
        trusted &= seen
    return Batch(pairs[:, 0], pairs[:, 1], images, trusted, query_of_row.astype(np.int64))


def _squares(
    names: Sequence[str], photo: Callable[[ContentHash], Pixels], file: Path
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return the squares of pictures, and which could be read; kept in a file named after what it holds."""
    key = hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]
    there_file, whole = file.with_name(f"{file.name}-{key}-there.npy"), file.with_name(f"{file.name}-{key}.npy")
    if not there_file.is_file():
        squares = np.lib.format.open_memmap(whole, "w+", np.uint8, (len(names), SIDE_PX, SIDE_PX, 3))
        there = np.zeros(len(names), np.bool_)
        for row, name in enumerate(names):
            try:
                squares[row] = square_pixels(photo(ContentHash(name)), side_px=SIDE_PX, fit=Fit.PAD, fill=255)
                there[row] = True
            except (NotFoundError, ImageError):
                continue
        squares.flush()
        out = io.BytesIO()
        np.save(out, there)
        write_whole(there_file, out.getvalue())  # last, and at once: what a kill left half done is done again
    return np.load(whole, mmap_mode="r"), np.load(there_file)


def in_parts(count: int, size: int) -> Iterator[slice]:
    """Yield slices that cover `count` rows, at most `size` rows each."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))
