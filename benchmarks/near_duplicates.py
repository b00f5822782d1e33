"""Measure what near-duplicate grouping finds and what it wrongly joins on real photographs.

python benchmarks/near_duplicates.py --data FOLDER [--out FILE]
"""

import argparse
import datetime
import hashlib
import io
import os
import platform
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from sameitem.catalog.duplicates import group_duplicates
from sameitem.catalog.quality import measure, perceptual_hash
from sameitem.core.records import CatalogueImage, ContentHash, ImageId, ImageKind, Pixels, ProductId
from sameitem.core.settings import SelectionSettings
from sameitem.features.colour import describe_colour
from sameitem.features.embed import Embedder
from sameitem.features.model_folder import shipped_model
from sameitem.learning.real_sets import RealSets, Row

EDITED = 100  # photos of a set whose edits are looked for
THUMBNAIL_PX = 384


class Photos:
    """Pictures with what the catalogue and the build know of them."""

    def __init__(self, pictures: Sequence[Pixels], embedder: Embedder) -> None:
        self._pixels = {ContentHash(hashlib.sha256(pixels.tobytes()).hexdigest()): pixels for pixels in pictures}
        self.images = [_image(row, pixels) for row, pixels in enumerate(pictures)]
        self.features = embedder.embed(pictures)
        self.colours = np.stack([describe_colour(pixels) for pixels in pictures])

    def group(self, rules: SelectionSettings) -> NDArray[np.int64]:
        """Return each picture's representative."""
        return group_duplicates(self.images, self.features, self.colours, rules, pixels_of=self._pixels.__getitem__)


def _image(row: int, pixels: Pixels) -> CatalogueImage:
    picture = Image.fromarray(pixels)
    picture.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.LANCZOS)
    small = np.asarray(picture)
    return CatalogueImage(
        image_id=ImageId(row),
        product_id=ProductId(str(row)),
        name="main",
        kind=ImageKind.MAIN,
        content_hash=ContentHash(hashlib.sha256(pixels.tobytes()).hexdigest()),
        width=pixels.shape[1],
        height=pixels.shape[0],
        quality=measure(small),
        perceptual_hash=perceptual_hash(small),
    )


def edits(pixels: Pixels) -> Iterator[tuple[str, Pixels]]:
    """Yield what shops do to a copied photo."""
    picture = Image.fromarray(pixels)
    width, height = picture.size
    yield "JPEG 40", _encoded(picture, 40)
    yield "three quarters", _encoded(picture.resize((width * 3 // 4, height * 3 // 4)), 85)
    yield "half", _encoded(picture.resize((width // 2, height // 2)), 85)
    yield "brighter 5 %", _encoded(ImageEnhance.Brightness(picture).enhance(1.05), 85)
    yield "contrast 10 %", _encoded(ImageEnhance.Contrast(picture).enhance(1.1), 85)
    edge_x, edge_y = width // 50, height // 50
    yield "cropped 2 %", _encoded(picture.crop((edge_x, edge_y, width - edge_x, height - edge_y)), 85)
    canvas = Image.new("RGB", (width + 2 * edge_x, height + 2 * edge_y), "white")
    canvas.paste(picture, (edge_x, edge_y))
    yield "white margin 2 %", _encoded(canvas, 85)


def _encoded(picture: Image.Image, quality: int) -> Pixels:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream).convert("RGB"))


def found_edits(sets: RealSets, rows: Sequence[Row], embedder: Embedder, rules: SelectionSettings) -> dict[str, float]:
    """Return, per edit, the share of photos whose edit is grouped with them."""
    generator = np.random.default_rng(0)
    found: dict[str, list[bool]] = {}
    for place in generator.permutation(len(rows))[:EDITED]:
        original = sets.pixels(rows[place])
        for name, edited in edits(original):
            group = Photos([original, edited], embedder).group(rules)
            found.setdefault(name, []).append(bool(group[0] == group[1]))
    return {name: float(np.mean(hits)) for name, hits in found.items()}


def near_hashes(photos: Photos, rules: SelectionSettings) -> float:
    """Return the share of pairs of pictures whose hashes are near."""
    hashes = np.array([image.perceptual_hash for image in photos.images], np.uint64)
    bits = np.bitwise_count(hashes[:, None] ^ hashes[None, :])
    return float((bits[np.triu_indices(len(hashes), 1)] <= rules.hash_bits).mean())


def grouped(name: str, photos: Photos, rows: Sequence[Row], rules: SelectionSettings) -> str:
    """Group a whole set and format what happened."""
    begun = time.process_time()
    leaders = photos.group(rules)
    seconds = time.process_time() - begun
    hashes = [image.content_hash for image in photos.images]
    joined = [(row, leader) for row, leader in enumerate(leaders.tolist()) if hashes[row] != hashes[leader]]
    other = sum(rows[row].product != rows[leader].product for row, leader in joined)
    cells = [name, len(rows), len(rows) - len(set(hashes)), len(joined), other, f"{near_hashes(photos, rules):.1e}"]
    return f"| {' | '.join(str(cell) for cell in cells)} | {seconds:.1f} |"


def main() -> None:
    """Measure, print the tables and, where asked, keep them in a file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the real photographs (manifest.csv)")
    parser.add_argument("--out", type=Path, help="also write the tables to this file")
    options = parser.parse_args()
    sets, embedder, rules = RealSets(options.data), Embedder(shipped_model()), SelectionSettings()
    names = ("abo", "fashion_hi", "clothing", "grocery")
    columns = {name: found_edits(sets, sets.select(name), embedder, rules) for name in names}
    lines = [f"| edit | {' | '.join(columns)} |", "|---" * (1 + len(columns)) + "|"]
    for edit in columns[names[0]]:
        lines.append(f"| {edit} | {' | '.join(f'{column[edit]:.2f}' for column in columns.values())} |")
    lines += ["", "| set | images | equal content | joined by look | of another product | near hashes | CPU s |"]
    lines.append("|---" * 7 + "|")
    for name in names[:3]:
        rows = sets.select(name)
        lines.append(grouped(name, Photos([sets.pixels(row) for row in rows], embedder), rows, rules))
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    text = (
        f"# Near-duplicates on real photographs\n\n`python benchmarks/near_duplicates.py --data FOLDER`, "
        f"{datetime.date.today().isoformat()}, {machine}, model {embedder.version}. Share of {EDITED} photos whose "
        "edited copy is grouped with them; then whole sets (in abo, a product is a cluster of near-identical "
        "listings; elsewhere every image is its own product).\n\n" + "\n".join(lines) + "\n"
    )
    print(text)
    if options.out is not None:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
