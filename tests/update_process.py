"""Adds, replaces and deletes images and compacts, until killed: `update_process.py SHOP DATABASE_URL SEED`.

Prints what it is about to write and, once that was committed, what it wrote.
"""

import shutil
import sys
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from sameitem.catalog.store import Listing, NewImage
from sameitem.core.database import write
from sameitem.core.records import CatalogueImage, ContentHash, Product, ProductId
from sameitem.core.settings import load_settings
from sameitem.pipeline.compaction import compact
from sameitem.pipeline.online import Searcher
from sameitem.pipeline.shop import Shop

PRODUCTS = 12  # whose images are written, one name each


def feature_of(content_hash: str, dim: int) -> np.ndarray:
    """Return the unit feature that a drawn picture is said to have."""
    drawn = np.random.default_rng(int(content_hash[:12], 16)).standard_normal((1, dim)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def put(shop: Shop, number: int, content_hash: str, like: CatalogueImage) -> None:
    """Write an image whose photo and feature are there."""
    embedder = shop.embedder(shop.active_model)
    photo = shop.photos.path(ContentHash(content_hash))
    photo.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(shop.photos.path(like.content_hash), photo)
    colour = np.full((1, 24), 1 / 24, np.float32)
    shop.cache(embedder).put([(ContentHash(content_hash), None)], feature_of(content_hash, embedder.dim), colour)
    image = NewImage("front", like.kind, ContentHash(content_hash), like.width, like.height, like.quality, 0)
    product = Product(ProductId(f"late-{number}"), price=float(number))
    with write(shop.database) as connection:
        shop.catalogue.upsert(connection, [Listing(product, (image,))])


def keep_compacting(shop: Shop, searcher: Searcher, generator: np.random.Generator) -> None:
    """Compact again and again, and follow what was published."""
    while True:
        time.sleep(generator.uniform(0, 0.3))
        compact(shop, tell=lambda _step, _share: None, now=datetime.now(UTC))
        searcher.follow(compute=False)


def say(text: str) -> None:
    """Tell the parent."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    shop = Shop(Path(sys.argv[1]), load_settings(Path(sys.argv[1]), {"catalogue": {"url": sys.argv[2]}})[0])
    generator = np.random.default_rng(int(sys.argv[3]))
    like = replace(next(shop.catalogue.scan())[0][0], box=None)
    searcher = Searcher(shop)
    searcher.follow(compute=False)
    seeds = generator.spawn(1)
    threading.Thread(target=keep_compacting, args=(shop, searcher, *seeds), daemon=True).start()
    say("ready")
    while True:
        number = int(generator.integers(PRODUCTS))
        if generator.random() < 0.3:
            say(f"begin delete {number} -")
            with write(shop.database) as connection:
                shop.catalogue.delete_products(connection, [ProductId(f"late-{number}")])
            say(f"done delete {number} -")
        else:
            content_hash = generator.bytes(32).hex()
            say(f"begin put {number} {content_hash}")
            put(shop, number, content_hash, like)
            say(f"done put {number} {content_hash}")
        searcher.gallery()
