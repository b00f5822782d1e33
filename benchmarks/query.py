"""A whole photo query through HTTP at many images: wall time, and CPU per stage.

    python benchmarks/query.py [--images 100000] [--photos FOLDER] [--queries 300] [--json OUT]

Photos are real files: those of FOLDER (searched for *.jpg), else user photos of the drawn demo shop. Gallery features
are drawn: features of those photos plus noise, so that every query has a neighbourhood. The server runs as a process of
its own with one client that sends one photo after the other.
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

from sameitem.catalog.store import Listing, NewImage
from sameitem.core.database import write
from sameitem.core.photo_store import decode_stored
from sameitem.core.records import ImageKind, Photo, Product, ProductId, Quality
from sameitem.core.settings import load_settings
from sameitem.engine.build import COLOUR_BINS, seal, write_index
from sameitem.engine.certificate import certify
from sameitem.engine.index import open_index
from sameitem.engine.members import Members
from sameitem.engine.versions import new_version, publish, start_build
from sameitem.pipeline.listings import DECISIONS, MEMBERS, PRODUCTS, write_decisions, write_members, write_products
from sameitem.pipeline.shop import Shop
from sameitem.upkeep.demo_shop import draw_shop
from sameitem.upkeep.founding import found_shop

BATCH = 2_000
IMAGES_PER_PRODUCT = 4
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
    print(f"index: {time.perf_counter() - begun:.1f} s", file=sys.stderr)
    return shop


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
    write_members(folder / MEMBERS, ((image, shop.taxonomy.top_of(product.category)) for image, product in listed))
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
            runs = {
                "plain": {},
                "filtered 5 %": {"filter": "price < 50"},
            }
            return {name: _measure(pool, address, files, queries, fields) for name, fields in runs.items()}
    finally:
        server.terminate()
        server.wait()


def _measure(
    pool: urllib3.PoolManager, address: str, files: Sequence[Path], queries: int, fields: dict[str, str]
) -> dict[str, Any]:
    for path in files[:20]:
        _send(pool, address, path, fields)
    before, times = _cpu(pool, address), []
    stages: dict[str, list[float]] = {}
    for i in range(queries):
        begun = time.perf_counter()
        answer = _send(pool, address, files[i % len(files)], fields)
        times.append(1e3 * (time.perf_counter() - begun))
        for stage, ms in answer["took_ms"].items():
            stages.setdefault(stage, []).append(ms)
    after = _cpu(pool, address)
    return {
        "queries": queries,
        "p50_ms": float(np.percentile(times, 50)),
        "p99_ms": float(np.percentile(times, 99)),
        "stages": {
            stage: {
                "p50_ms": float(np.percentile(values, 50)),
                "p99_ms": float(np.percentile(values, 99)),
                "cpu_ms": 1e3 * (after[stage] - before[stage]) / queries,
            }
            for stage, values in stages.items()
        },
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
