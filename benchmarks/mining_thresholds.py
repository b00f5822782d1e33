"""Simulated shoppers on real photographs: what mining believes at several thresholds, beside the truth.

python benchmarks/mining_thresholds.py --data FOLDER [--only NAME] [--work FOLDER] [--sessions N]

Everything in its table is simulated. docs/decisions/0007-mining-thresholds.md has the figures.
"""

import argparse
import csv
import io
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageEnhance, ImageFilter

from sameitem.clicks.log import CLICK_TYPES
from sameitem.clicks.triplet_file import read_triplets
from sameitem.clicks.triplets import Triplet
from sameitem.core.jobs import run_job
from sameitem.core.records import Pixels, ProductId
from sameitem.core.settings import load_settings
from sameitem.learning.real_sets import RealSets, Row
from sameitem.pipeline.shop import Shop
from sameitem.upkeep.founding import found_shop
from sameitem.upkeep.mining import mine_shop
from sameitem.upkeep.shoppers import Errand, Habits, in_process, simulate
from sameitem.upkeep.work import work_of

RANKS = ((1e9, 1e-9), (2, 2.01), (20, 20.01), (5, 2), (10, 2), (20, 1), (20, 2), (20, 5), (60, 2))
SIDE_PX = 320  # of a composed photo
LOW = 4  # rank from which a right click is one that the model ranks badly


@dataclass(frozen=True, slots=True)
class Case:
    """A shop: what each product shows, its picture, and photos with what they show."""

    name: str
    products: Mapping[str, tuple[str, Row]]  # by product id: identity and picture
    photos: Sequence[tuple[str, bytes]]  # identity and JPEG


def cases() -> dict[str, Any]:
    """Return how to make each shop."""
    return {"abo": abo, "grocery": grocery, "eafit": eafit}


def abo(sets: RealSets) -> Case:
    """3,000 clusters, one picture each; photos with the item pasted on a busy background."""
    generator = np.random.default_rng(5)
    rows = list({row.product: row for row in reversed(sets.select("abo", lambda row: row.trainable))}.values())
    chosen = [rows[int(place)] for place in generator.permutation(len(rows))[:3000]]
    backgrounds = [
        row
        for archive in ("grocery", "clothing")
        for row in sets.select(archive, lambda row: row.trainable and row.role == "query")
    ]
    photos: list[tuple[str, bytes]] = []
    for number, row in enumerate(chosen):
        background = sets.pixels(backgrounds[int(generator.integers(len(backgrounds)))])
        photo = composed(sets.pixels(row), background, generator)
        if photo is not None and len(photos) < 1600:
            photos.append((f"a{number}", photo))
    return Case("abo", {f"a{number}": (f"a{number}", row) for number, row in enumerate(chosen)}, photos)


def grocery(sets: RealSets) -> Case:
    """Packages among other products; phone photos of the packages."""
    packages = sets.select("grocery", lambda row: row.category.startswith("Packages"))
    others = {row.product: row for row in reversed(sets.select("abo", lambda row: row.split == "val"))}
    products = {row.product: (row.product, row) for row in packages if row.role == "catalogue"}
    products |= {f"abo {number}": (row.product, row) for number, row in enumerate(others.values())}
    return Case("grocery", products, [(row.product, jpeg(sets, row)) for row in packages if row.role == "query"])


def eafit(sets: RealSets) -> Case:
    """Small parts on plain grey, every picture a product of its own; photos on busy floors."""
    rows = sets.select("eafit_dev")
    products = {f"e{number}": (row.product, row) for number, row in enumerate(rows) if row.role == "catalogue"}
    return Case("eafit", products, [(row.product, jpeg(sets, row)) for row in rows if row.role == "query"])


def composed(item: Pixels, background: Pixels, generator: Generator) -> bytes | None:
    """Paste what is not nearly white of an item on a background, slanted, in another light."""
    mask = item.min(axis=2) < 240
    ys, xs = np.nonzero(mask)
    if len(ys) < 200:
        return None
    left, top, right, bottom = xs.min(), ys.min(), xs.max() + 1, ys.max() + 1
    cover = Image.fromarray((mask[top:bottom, left:right] * 255).astype(np.uint8))
    cover = cover.filter(ImageFilter.MinFilter(3)).filter(ImageFilter.GaussianBlur(1))
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * cover.size
    placed = corners * generator.uniform(0.35, 0.75) * SIDE_PX / max(cover.size)
    placed += generator.uniform(-0.1, 0.1, (4, 2)) * placed.max(axis=0)
    turn = generator.uniform(-0.3, 0.3)
    placed = (placed - placed.mean(axis=0)) @ [[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]
    if (np.ptp(placed, axis=0) >= SIDE_PX).any():
        return None
    placed += generator.uniform(-placed.min(axis=0), SIDE_PX - placed.max(axis=0))
    warp = homography(placed, corners)
    size, kind = (SIDE_PX, SIDE_PX), Image.Transform.PERSPECTIVE
    front = Image.fromarray(item[top:bottom, left:right]).transform(size, kind, warp, Image.Resampling.BICUBIC)
    over = cover.transform(size, kind, warp, Image.Resampling.BILINEAR)
    share = generator.uniform(0.5, 1)
    corner = generator.uniform(0, 1 - share, 2) * background.shape[1::-1]
    part = (*corner, *(corner + share * np.array(background.shape[1::-1])))
    photo = Image.composite(front, Image.fromarray(background).resize(size, box=part), over)
    for change in (ImageEnhance.Brightness, ImageEnhance.Color, ImageEnhance.Contrast):
        photo = change(photo).enhance(float(generator.uniform(0.7, 1.28)))
    out = io.BytesIO()
    photo.filter(ImageFilter.GaussianBlur(float(generator.uniform(0, 1)))).save(out, "JPEG", quality=85)
    return out.getvalue()


def homography(points: np.ndarray, images: np.ndarray) -> list[float]:
    """Return the eight numbers of the perspective map from points to images."""
    rows = []
    for (x, y), (u, v) in zip(points, images, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
    solved: list[float] = np.linalg.solve(np.array(rows), images.ravel()).tolist()
    return solved


def jpeg(sets: RealSets, row: Row) -> bytes:
    """Return an image of the sets as a file's bytes."""
    out = io.BytesIO()
    Image.fromarray(sets.pixels(row)).save(out, "JPEG", quality=90)
    return out.getvalue()


def made(case: Case, sets: RealSets, folder: Path) -> Shop:
    """Found a shop, import and build it."""
    pictures = folder / "pictures"
    pictures.mkdir(parents=True)
    with (folder / "catalogue.csv").open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["product_id", "image"])
        for number, (product, (_, row)) in enumerate(case.products.items()):
            (pictures / f"{number}.jpg").write_bytes(jpeg(sets, row))
            table.writerow([product, f"pictures/{number}.jpg"])
    found_shop(folder / "shop")
    shop = Shop(folder / "shop", load_settings(folder / "shop")[0])
    source = {"source": str(folder / "catalogue.csv"), "columns": {}, "full": False, "uploaded": False}
    for kind, arguments in (("import", source), ("build", {})):
        run_job(shop.jobs, shop.jobs.submit(kind, arguments).id, work_of(shop))
    return shop


def shopped(shop: Shop, case: Case, sessions: int) -> dict[str, str]:
    """Let simulated shoppers search with every photo; return the identity by the photo's hash."""
    generator, identity = np.random.default_rng(1), {}
    sellers: dict[str, set[ProductId]] = {}
    for product, (item, _) in case.products.items():
        sellers.setdefault(item, set()).add(ProductId(product))

    def errands() -> Iterator[Errand]:
        for place in generator.permutation(len(case.photos)):
            item, photo = case.photos[int(place)]
            identity[shop.intake.take(photo).content_hash] = item
            yield Errand(photo, frozenset(sellers[item]))

    report = simulate(
        errands(), in_process(shop), sessions=sessions, habits=Habits(), generator=generator, tell=lambda *_: None
    )
    print(f"{case.name} (simulated): {report}", flush=True)
    return identity


def measure(shop: Shop, case: Case, identity: Mapping[str, str], out: Path) -> str:
    """Mine and return a line of the table."""
    mined = mine_shop(shop, out, hear=lambda *_: None)
    shows: dict[int, str] = {}
    for batch in shop.catalogue.scan():
        shows |= {image.image_id: case.products[image.product_id][0] for image, _ in batch}
    sessions: dict[str, list[Triplet]] = {}
    for triplet in read_triplets(out):
        sessions.setdefault(triplet.search_id, []).append(triplet)
    clicked, positives, negatives = 0, [], []
    right, right_low, used, used_low = 0, 0, 0, 0
    for session in shop.clicks.sessions():
        places = {event.rank for event in session.events if event.type in CLICK_TYPES}
        clicked += bool(places)
        item = identity[session.search.photo_hash]
        triplets = sessions.get(session.search.search_id, [])
        taken = {triplet.positive_id for triplet in triplets}
        for place in session.search.shown:
            if place.rank in places and shows[place.image_id] == item:
                right, right_low = right + 1, right_low + (place.rank >= LOW)
                used += place.image_id in taken
                used_low += place.image_id in taken and place.rank >= LOW
        if triplets:
            positives.append(np.mean([shows[image_id] == item for image_id in taken]))
            negatives.append(np.mean([shows[image_id] != item for image_id in {t.negative_id for t in triplets}]))
    return (
        f"| {len(positives) / clicked:.2f} | {np.mean(positives):.3f} | {np.mean(negatives):.3f} | {used / right:.2f} "
        f"| {used_low / right_low:.2f} | {mined.report.triplets:,} |"
    )


def main() -> None:
    """Print the table of each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", choices=["abo", "grocery", "eafit"])
    parser.add_argument("--work", type=Path, help="an empty folder for the shops; default: a temporary one")
    parser.add_argument("--sessions", type=int, default=2000, help="at most; each photo is searched with once")
    arguments = parser.parse_args()
    sets = RealSets(arguments.data)
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work or Path(temporary)
        for name, make in cases().items():
            if arguments.only not in (None, name):
                continue
            case = make(sets)
            shop = made(case, sets, work / name)
            identity = shopped(shop, case, arguments.sessions)
            print(
                "| ranks same / other | used | positives right | negatives right | right clicks used | low | triplets |"
            )
            print("|---|---|---|---|---|---|---|")
            for same, other in RANKS:
                part = {"same_item_rank": same, "other_item_rank": other, "local_check_rank": 0}
                other_shop = Shop(shop.folder, load_settings(shop.folder, {"mining": part})[0])
                line = measure(other_shop, case, identity, work / name / "t.parquet")
                print(f"| {same:g} / {other:g} {line}", flush=True)
                other_shop.close()
            shop.close()


if __name__ == "__main__":
    main()
