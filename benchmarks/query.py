"""A whole photo query through HTTP at many images: wall time, and CPU per stage.

    python benchmarks/query.py [--images 100000] [--photos FOLDER] [--queries 300] [--json OUT]

Photos are real files: those of FOLDER (searched for *.jpg), else user photos of the drawn demo shop. Gallery features
are drawn: features of those photos plus noise, so that every query has a neighbourhood. The server runs as a process of
its own with one client that sends one photo after the other; the kinds of queries take turns. A ranker is active that
learned from drawn clicks; every product has counts, and the user who searches has a history.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import urllib3
from numpy.typing import NDArray
from sqlalchemy import insert

from sameitem.catalog.store import Listing, NewImage
from sameitem.clicks.counts import product_counts
from sameitem.clicks.log import Event, Search, Shown
from sameitem.core.database import write
from sameitem.core.photo_store import decode_stored
from sameitem.core.records import ImageId, ImageKind, Photo, Product, ProductId, Quality
from sameitem.core.settings import load_settings
from sameitem.engine.build import COLOUR_BINS, seal, write_index
from sameitem.engine.certificate import certify
from sameitem.engine.index import open_index
from sameitem.engine.members import Members
from sameitem.engine.versions import new_version, publish, start_build
from sameitem.pipeline.listings import DECISIONS, MEMBERS, PRODUCTS, write_decisions, write_members, write_products
from sameitem.pipeline.rankers import RankerManifest, activate_ranker, add_ranker
from sameitem.pipeline.shop import Shop
from sameitem.rerank.features import FEATURES
from sameitem.rerank.training import train_ranker
from sameitem.upkeep.demo_shop import draw_shop
from sameitem.upkeep.founding import found_shop

BATCH = 2_000
IMAGES_PER_PRODUCT = 4
USER = "user-1"
RUNS: dict[str, dict[str, str]] = {
    "ranked": {"user_id": USER},
    "by looks": {"user_id": USER, "rerank": "false"},
    "ranked, filtered 5 %": {"user_id": USER, "filter": "price < 50"},
}
TURN = 20  # queries of a kind, before it is the next one's turn
QUALITY = Quality(100.0, 128.0, 50.0, 0.0, 0.0, 0.5)


def main() -> None:
    """Build the shop, serve it, query it, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        files = sorted(options.photos.rglob("*.jpg")) if options.photos else _draw(folder / "drawn")
        files = files[:: max(1, len(files) // 200)]
        shop = _fill(folder / "shop", files, options.images)
        report = _query(shop, files, options.queries)
        shop.close()
    report |= {"images": options.images, "photos": len(files), "machine": platform.processor() or platform.machine()}
    report |= {"cores": os.cpu_count(), "load": os.getloadavg()[0], "python": platform.python_version()}
    _print(report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _draw(folder: Path) -> list[Path]:
    draw_shop(folder, products=140, queries=120)
    return sorted((folder / "queries").iterdir())


def _fill(folder: Path, files: Sequence[Path], images: int) -> Shop:
    found_shop(folder)
    shop = Shop(folder, load_settings(folder)[0])
    photos = [shop.intake.take(path.read_bytes()) for path in files]
    for photo in photos:
        shop.photos.put(photo)
    embedder = shop.embedder(shop.active_model)
    real = embedder.embed([decode_stored(photo.encoded) for photo in photos])
    begun = time.perf_counter()
    products = images // IMAGES_PER_PRODUCT
    for start in range(0, products, BATCH):
        listings = [_listing(number, photos) for number in range(start, min(start + BATCH, products))]
        with write(shop.database) as connection:
            shop.catalogue.upsert(connection, listings)
    print(f"catalogue of {images:,} images: {time.perf_counter() - begun:.1f} s", file=sys.stderr)
    begun = time.perf_counter()
    _publish(shop, real, embedder.version)
    _rank(shop)
    print(f"index: {time.perf_counter() - begun:.1f} s", file=sys.stderr)
    return shop


def _rank(shop: Shop) -> None:
    """Give every product counts and a user a history, and activate a ranker that learned from drawn clicks."""
    generator = np.random.default_rng(6)
    ids = [product.product_id for product in shop.catalogue.products()]
    rows = [
        {
            "product_id": one,
            "shown": int(seen),
            "examined": seen / 2,
            "clicks": int(seen / 20),
            "carts": 0,
            "purchases": 0,
        }
        for one, seen in zip(ids, generator.integers(1, 500, len(ids)).tolist(), strict=True)
    ]
    with write(shop.database) as connection:
        connection.execute(insert(product_counts), rows)
    shown = tuple(Shown(rank, one, "a", ImageId(rank), 0.5) for rank, one in enumerate(ids[:60], 1))
    shop.clicks.record_search(Search("s", time.time(), "", None, "", "i", "m", USER, "", shown))
    clicks = [Event(f"e{rank}", "s", "click", place.product_id, user_id=USER) for rank, place in enumerate(shown)]
    assert shop.clicks.record_events(clicks).stored == len(clicks)
    features = generator.normal(size=(20_000, len(FEATURES)))
    odds = features[:, 0] + np.sin(2 * features[:, 4]) + features[:, 7] * features[:, 10] - 3
    ranker = train_ranker(features, generator.random(len(odds)) < 1 / (1 + np.exp(-odds)), FEATURES, seed=0)
    print(f"ranker: {len(ranker.trees.roots)} trees, {len(ranker.trees.feature)} nodes", file=sys.stderr)
    add_ranker(shop.rankers_root, ranker, RankerManifest("drawn", "", shop.active_model, 0, 0, "", ""))
    activate_ranker(shop.rankers_root, "drawn")


def _listing(number: int, photos: Sequence[Photo]) -> Listing:
    product = Product(
        ProductId(f"p{number:07}"),
        category=("furniture > chairs", "shoes > boots", "watches > round")[number % 3],
        title=f"Product {number}",
        brand=f"brand {number % 50}",
        price=float(number % 997),
        in_stock=number % 7 != 0,
        attributes={"colour": ("red", "green", "blue")[number % 3]},
    )
    return Listing(product, tuple(_image(number * IMAGES_PER_PRODUCT + i, photos) for i in range(IMAGES_PER_PRODUCT)))


def _image(number: int, photos: Sequence[Photo]) -> NewImage:
    photo = photos[number % len(photos)]
    name, kind = f"{number}.jpg", ImageKind.MAIN
    return NewImage(name, kind, photo.content_hash, photo.width, photo.height, QUALITY, number)


def _publish(shop: Shop, real: NDArray[np.float32], model_version: str) -> None:
    """Write an index with drawn features: the photo's own, moved by noise, so that no two entries are equal."""
    listed = [pair for batch in shop.catalogue.scan() for pair in batch]
    ids = np.array([image.image_id for image, _ in listed])
    products = list({product.product_id: product for _, product in listed}.values())
    number = {product.product_id: row for row, product in enumerate(products)}
    rows = np.array([number[product.product_id] for _, product in listed], np.int32)
    features = _features(real, len(ids))
    now = datetime.now(UTC)
    folder = start_build(shop.index_root, version := new_version(now))
    write_index(
        folder,
        _blocks(features),
        members=Members(ids, ids, np.arange(len(ids)), rows),
        version=version,
        model_version=model_version,
        created=now,
        dim=features.shape[1],
        extra={"seq": shop.catalogue.snapshot_seq(), "dropped": {}, "duplicates": 0},
    )
    write_products(folder / PRODUCTS, products)
    rows_of_members = (
        (image.image_id, image.name, shop.taxonomy.top_of(product.category)) for image, product in listed
    )
    write_members(folder / MEMBERS, rows_of_members)
    write_decisions(folder / DECISIONS, ())
    certificate = certify(open_index(folder), lambda wanted: features[wanted], asked=shop.settings.engine.recall, k=60)
    print(f"certificate: {certificate}", file=sys.stderr)
    seal(folder, certificate=certificate, files=[PRODUCTS, MEMBERS, DECISIONS])
    publish(shop.index_root, folder)


def _features(real: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(5)
    features = real[np.arange(count) % len(real)] + rng.normal(0, 0.9 / real.shape[1] ** 0.5, (count, real.shape[1]))
    return np.asarray(features / np.linalg.norm(features, axis=1, keepdims=True), np.float32)


def _blocks(features: NDArray[np.float32]) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    colours = np.full((4096, COLOUR_BINS), 1 / COLOUR_BINS, np.float32)
    for start in range(0, len(features), 4096):
        block = features[start : start + 4096]
        yield block, colours[: len(block)]


def _query(shop: Shop, files: Sequence[Path], queries: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "sameitem", "serve", "--shop", str(shop.folder), "--port", "0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    address = next(word for word in server.stderr.readline().split() if word.startswith("http"))
    try:
        with urllib3.PoolManager() as pool:
            return _measure(pool, address, files, queries)
    finally:
        server.terminate()
        server.wait()


def _measure(pool: urllib3.PoolManager, address: str, files: Sequence[Path], queries: int) -> dict[str, Any]:
    for path in files[:20]:
        for fields in RUNS.values():
            _send(pool, address, path, fields)
    times: dict[str, list[float]] = {name: [] for name in RUNS}
    stages: dict[str, dict[str, list[float]]] = {name: {} for name in RUNS}
    cpu: dict[str, dict[str, float]] = {name: {} for name in RUNS}
    before = _cpu(pool, address)
    for start in range(0, queries, TURN):
        for name, fields in RUNS.items():
            for i in range(start, min(start + TURN, queries)):
                begun = time.perf_counter()
                answer = _send(pool, address, files[i % len(files)], fields)
                times[name].append(1e3 * (time.perf_counter() - begun))
                for stage, ms in answer["took_ms"].items():
                    stages[name].setdefault(stage, []).append(ms)
            after = _cpu(pool, address)
            for stage in stages[name]:
                cpu[name][stage] = cpu[name].get(stage, 0.0) + after[stage] - before.get(stage, 0.0)
            before = after
    return {
        name: {
            "queries": queries,
            "p50_ms": float(np.percentile(times[name], 50)),
            "p99_ms": float(np.percentile(times[name], 99)),
            "stages": {
                stage: {
                    "p50_ms": float(np.percentile(values, 50)),
                    "p99_ms": float(np.percentile(values, 99)),
                    "cpu_ms": 1e3 * cpu[name][stage] / queries,
                }
                for stage, values in stages[name].items()
            },
        }
        for name in RUNS
    }


def _send(pool: urllib3.PoolManager, address: str, path: Path, fields: dict[str, str]) -> dict[str, Any]:
    form: dict[str, Any] = {"image": (path.name, path.read_bytes(), "image/jpeg"), **fields}
    answer = pool.request("POST", f"{address}v1/search", fields=form)
    assert answer.status == 200, answer.data
    found: dict[str, Any] = json.loads(answer.data)
    return found


def _cpu(pool: urllib3.PoolManager, address: str) -> dict[str, float]:
    """Return CPU seconds spent per stage since the server began, of the answering thread."""
    spent = {}
    for line in pool.request("GET", f"{address}metrics").data.decode().splitlines():
        if line.startswith("sameitem_search_stage_cpu_seconds_total{"):
            stage = line.partition('stage="')[2].partition('"')[0]
            spent[stage] = float(line.rpartition(" ")[2])
    return spent


def _print(report: dict[str, Any]) -> None:
    for name, run in report.items():
        if isinstance(run, dict):
            print(f"\n{name}: {run['queries']} queries, p50 {run['p50_ms']:.1f} ms, p99 {run['p99_ms']:.1f} ms")
            print(f"  {'stage':<12}{'p50 ms':>10}{'p99 ms':>10}{'CPU ms':>10}")
            for stage, part in run["stages"].items():
                print(f"  {stage:<12}{part['p50_ms']:>10.2f}{part['p99_ms']:>10.2f}{part['cpu_ms']:>10.2f}")
    about = {key: value for key, value in report.items() if not isinstance(value, dict)}
    print("\n" + ", ".join(f"{key} {value}" for key, value in about.items()))


if __name__ == "__main__":
    main()
