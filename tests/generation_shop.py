"""A shop of blurred colour patterns with two tiny models: one that tells them apart, and one that hardly does."""

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from drawn_graphs import SIDE, embedding_graph, write_drawn
from sameitem.pipeline.shop import Shop
from shops import import_source, open_shop

PRODUCTS = 24
GOOD, POOR = "good", "poor"
FLAGS = {
    "model": {"active": POOR},
    "gate": {"least_queries": PRODUCTS},
    "selection": {"min_sharpness": 0.0},
    "intake": {"deadline_s": 60.0},  # of a busy machine
}


def pattern(number: int) -> Image.Image:
    """Draw a product's picture: soft patches of colour."""
    patches = np.random.default_rng(number).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(patches).resize((160, 160), Image.Resampling.BICUBIC)


def open_models(folder: Path, **flags: object) -> Shop:
    """Open the shop at a folder, made with both models where there is none; it starts with the poor one."""
    is_new = not folder.exists()
    shop = open_shop(folder, **(FLAGS | flags))
    if is_new:
        write_drawn(shop.models_root / GOOD, embedding_graph(scale=1e-3), version=GOOD)
        write_drawn(shop.models_root / POOR, embedding_graph(weights=corner()), version=POOR)
    return shop


def corner() -> NDArray[np.float32]:
    """Return weights that look at little more than the three numbers of one pixel."""
    weights = np.random.default_rng(1).standard_normal((3 * SIDE * SIDE, 128)).astype(np.float32) * 1e-3
    weights[:: SIDE * SIDE] += 1.0
    return weights


def draw_source(folder: Path) -> tuple[Path, Path]:
    """Draw the catalogue and labelled photos of it, a little darker and noisy; return both CSV files."""
    folder.mkdir(parents=True)
    feed: list[dict[str, str]] = []
    labelled: list[dict[str, str]] = []
    for number in range(PRODUCTS):
        picture, product_id = pattern(number), f"P{number:02}"
        picture.save(folder / f"{product_id}.png")
        noise = np.random.default_rng([number, 1]).normal(-20, 12, (160, 160, 3))
        photo = np.clip(np.asarray(picture) + noise, 0, 255).astype(np.uint8)
        Image.fromarray(photo).save(folder / f"{product_id}-photo.png")
        feed.append({"product_id": product_id, "image": f"{product_id}.png"})
        labelled.append({"image": f"{product_id}-photo.png", "product_id": product_id})
    for name, rows in (("feed.csv", feed), ("queries.csv", labelled)):
        with (folder / name).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return folder / "feed.csv", folder / "queries.csv"


def fill(shop: Shop, feed: Path) -> None:
    """Import the catalogue."""
    assert import_source(shop, feed)["added"] == PRODUCTS
