"""A drawn shop's clicks as a triplet file: coloured things, photos of them on busy backdrops, and a start to train."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from drawn_graphs import photo_of_a_thing
from sameitem.clicks.triplet_file import write_triplets
from sameitem.clicks.triplets import Picture, Tally, Triplet
from sameitem.core.errors import NotFoundError
from sameitem.core.records import Box, ContentHash, ImageId, Pixels

SIDE = 120  # of the pictures


@dataclass(frozen=True)
class DrawnClicks:
    """A triplet file and what it names."""

    file: Path
    pixels: dict[ContentHash, Pixels]
    photos: list[ContentHash]
    images: list[ContentHash]  # by item
    item_of: list[int]  # of each photo
    boxes: list[tuple[float, float, float, float]]  # of each photo's thing, shares of the side; no trainer sees them

    def photo(self, content_hash: ContentHash) -> Pixels:
        """Return a picture's pixels as the photo store does."""
        try:
            return self.pixels[content_hash]
        except KeyError:
            raise NotFoundError(f"no photo {content_hash[:8]}") from None


def draw_clicks(folder: Path, *, photos: int = 48, items: int = 12, negatives: int = 3) -> DrawnClicks:
    """Draw items and photos of them, and write triplets: each photo's own item, and others that were not clicked."""
    generator = np.random.default_rng(5)
    things = [generator.integers(0, 256, (5, 5, 3), dtype=np.uint8) for _ in range(items)]
    white = np.full((SIDE, SIDE, 3), 255, np.uint8)
    images = [photo_of_a_thing((15, 15, SIDE - 15, SIDE - 15), thing=thing, backdrop=white) for thing in things]
    item_of = [number % items for number in range(photos)]
    shown, boxes = [], []
    for item in item_of:
        sides = generator.integers(45, 70, 2)
        left, top = (int(generator.integers(0, SIDE - side)) for side in sides)
        box = (left, top, left + int(sides[0]), top + int(sides[1]))
        shown.append(photo_of_a_thing(box, thing=things[item], backdrop=_busy(generator)))
        boxes.append((box[0] / SIDE, box[1] / SIDE, box[2] / SIDE, box[3] / SIDE))
    named = [[_name(picture) for picture in pictures] for pictures in (shown, images)]
    drawn = DrawnClicks(
        folder / "triplets.parquet",
        dict(zip((*named[0], *named[1]), (*shown, *images), strict=True)),
        named[0],
        named[1],
        item_of,
        boxes,
    )

    def mined() -> Iterator[Triplet]:
        for photo, item in zip(drawn.photos, item_of, strict=True):
            for other in generator.permutation([i for i in range(items) if i != item])[:negatives]:
                yield triplet(photo, drawn.images[item], drawn.images[other])

    folder.mkdir(parents=True, exist_ok=True)
    write_triplets(drawn.file, mined(), Tally())
    return drawn


def triplet(photo: ContentHash, positive: ContentHash, negative: ContentHash, *, box: Box | None = None) -> Triplet:
    """Return a triplet of one search."""
    return Triplet(Picture(photo, box), ImageId(1), positive, ImageId(2), negative, "search", "user", 1.0)


def _busy(generator: np.random.Generator) -> NDArray[np.uint8]:
    spots = generator.integers(90, 200, (9, 9, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(spots).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def _name(pixels: Pixels) -> ContentHash:
    return ContentHash(hashlib.sha256(pixels.tobytes()).hexdigest())
