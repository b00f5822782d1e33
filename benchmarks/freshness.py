"""How soon an update is searchable, and what updates cost the searches beside them.

    python benchmarks/freshness.py [--rows 100000] [--rate 100] [--seconds 30]

A shop is made of drawn vectors. This process is a server without HTTP: a thread follows the catalogue, another searches
as fast as it can. A second process adds, replaces and deletes images at the rate asked for, each in a transaction of
its own, their features already in the cache. Three kinds of phases take turns: searches alone, beside that process
writing to another shop (what a busy second processor costs), and beside it writing to this one. Then, with both going
on, every few milliseconds each change that was written is searched for: from the beginning of its write to the first
search that shows it.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from sameitem.apps.follower import Follower
from sameitem.apps.server import SWITCH_S
from sameitem.catalog.store import Listing, NewImage
from sameitem.core.database import write
from sameitem.core.records import ContentHash, ImageKind, Product, ProductId, Quality
from sameitem.core.settings import load_settings
from sameitem.engine.build import seal, write_index
from sameitem.engine.certificate import certify
from sameitem.engine.index import open_index
from sameitem.engine.members import Members
from sameitem.engine.versions import new_version, publish, start_build
from sameitem.evaluation.engine_bench import draw_vectors
from sameitem.pipeline.listings import DECISIONS, MEMBERS, PRODUCTS, write_decisions, write_members, write_products
from sameitem.pipeline.online import Searcher
from sameitem.pipeline.shop import Shop
from sameitem.upkeep.founding import found_shop

K = 60
TURN_S = 5.0
POLL_S = 0.005
SETTLED = 100  # images that are there before one is replaced or deleted: long after it was seen
COLOUR = np.full((1, 24), 1 / 24, np.float32)


def make_shop(folder: Path, rows: int) -> tuple[Shop, np.ndarray]:
    """Publish drawn vectors, two to a product, and return queries for them."""
    found_shop(folder)
    shop = Shop(folder, load_settings(folder)[0])
    embedder = shop.embedder(shop.active_model)
    vectors, queries = draw_vectors(rows, embedder.dim, queries=2000)
    version = new_version(datetime.now(UTC))
    built = start_build(shop.index_root, version)
    ids = 10**9 + np.arange(rows)
    write_index(
        built,
        (
            (vectors[start : start + 4096], np.repeat(COLOUR, min(4096, rows - start), 0))
            for start in range(0, rows, 4096)
        ),
        members=Members(ids, ids, np.arange(rows), (np.arange(rows) // 2).astype(np.int32)),
        version=version,
        model_version=embedder.version,
        created=datetime.now(UTC),
        dim=embedder.dim,
        extra={"seq": 0, "dropped": {}, "duplicates": 0},
    )
    write_products(
        built / PRODUCTS, (Product(ProductId(f"built-{row}"), price=float(row)) for row in range(-(-rows // 2)))
    )
    write_members(built / MEMBERS, ((int(number), "front", "others") for number in ids))
    write_decisions(built / DECISIONS, [])
    certificate = certify(open_index(built), lambda wanted: vectors[wanted], asked=0.999, k=K)
    seal(built, certificate=certificate, files=[PRODUCTS, MEMBERS, DECISIONS])
    publish(shop.index_root, built)
    print(f"{rows:,} vectors, {embedder.dim} numbers, certificate {certificate}", flush=True)
    return shop, queries


def feature_of(content_hash: str, dim: int) -> np.ndarray:
    """Return the drawn unit feature of a picture."""
    drawn = np.random.default_rng(int(content_hash[:12], 16)).standard_normal((1, dim), np.float32)
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True))


def keep_writing(folder: Path, rate: float) -> None:
    """Write at a rate until killed; say of each change its kind, content, and the time its write began and ended."""
    shop = Shop(folder, load_settings(folder)[0])
    embedder, generator = shop.embedder(shop.active_model), np.random.default_rng(time.time_ns())
    cache, listed = shop.cache(embedder), dict[str, str]()
    photo = Path(folder / "photo")
    photo.write_bytes(b"")
    due = time.monotonic()
    for number in range(10**9):
        time.sleep(max(0.0, due - time.monotonic()))
        due += 1 / rate
        kind = ("put", "put", "replace", "delete")[number % 4] if len(listed) > SETTLED else "put"
        product = f"late-{number}-{generator.integers(10**9)}" if kind == "put" else next(iter(listed))
        content = generator.bytes(32).hex()
        shown = shop.photos.path(ContentHash(content))
        shown.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(photo, shown)
        begun = time.monotonic()
        if kind == "delete":
            content = listed.pop(product)
            with write(shop.database) as connection:
                shop.catalogue.delete_products(connection, [ProductId(product)])
        else:
            listed.pop(product, None)
            listed[product] = content
            cache.put([(ContentHash(content), None)], feature_of(content, embedder.dim), COLOUR)
            image = NewImage("front", ImageKind.MAIN, ContentHash(content), 400, 400, GOOD, 0)
            with write(shop.database) as connection:
                shop.catalogue.upsert(connection, [Listing(Product(ProductId(product), price=1.0), (image,))])
        print(kind, content, begun, time.monotonic(), flush=True)


GOOD = Quality(sharpness=1000.0, brightness=120.0, contrast=60.0, text_share=0.0, collage_share=0.0, subject_share=0.5)


@contextmanager
def writer(folder: Path, rate: float, hear: Callable[[list[str]], None]) -> Iterator[None]:
    """Let another process write while the block runs; `hear` gets what it says, in a thread."""
    command = [sys.executable, __file__, "--write", str(folder), "--rate", str(rate)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        hear(process.stdout.readline().split())  # it has begun

        def listen() -> None:
            for line in process.stdout or ():
                hear(line.split())

        thread = threading.Thread(target=listen)
        thread.start()
        yield
        process.kill()
        thread.join()


def throughput(searcher: Searcher, queries: np.ndarray, seconds: float) -> tuple[float, float]:
    """Return searches a second of wall time, and processor milliseconds of the searching thread for each."""
    done, begun, spent = 0, time.monotonic(), time.thread_time()
    while time.monotonic() - begun < seconds:
        search(searcher, queries[done % len(queries)])
        done += 1
    return done / (time.monotonic() - begun), 1e3 * (time.thread_time() - spent) / done


def search(searcher: Searcher, query: np.ndarray) -> Any:
    """Search as a request does, from the feature on."""
    gallery = searcher.gallery()
    allowed = gallery.allowed(None, categories=(), now=datetime.now(UTC))
    return gallery, gallery.index.search(query, k=K, allowed=allowed, one_per_product=True)


def is_seen(searcher: Searcher, kind: str, content: str, dim: int) -> bool:
    """Return whether a search shows the change."""
    gallery = searcher.gallery()
    allowed = gallery.allowed(None, categories=(), now=datetime.now(UTC))
    hits = gallery.index.search(feature_of(content, dim)[0], k=1, allowed=allowed)
    return bool(hits and hits[0].distance < 1e-5) != (kind == "delete")


def freshness(searcher: Searcher, folder: Path, rate: float, queries: np.ndarray, seconds: float) -> dict[str, Any]:
    """Return for each kind of change the seconds until a search showed it."""
    waiting: dict[bool, deque[list[str]]] = {True: deque(), False: deque()}  # whether it is a deletion; oldest first
    waited: dict[str, list[float]] = {"put": [], "replace": [], "delete": []}
    load = threading.Thread(target=lambda: throughput(searcher, queries, seconds))
    with writer(folder, rate, lambda change: waiting[change[0] == "delete"].append(change)):
        load.start()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(POLL_S)
            for changes in waiting.values():  # who is not seen yet hides those written later
                while changes and is_seen(searcher, changes[0][0], changes[0][1], queries.shape[1]):
                    kind, _, begun, _ = changes.popleft()
                    waited[kind].append(time.monotonic() - float(begun))
        load.join()
    return waited


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rate", type=float, default=100.0)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        keep_writing(options.write, options.rate)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "shop"
        sys.setswitchinterval(SWITCH_S)  # as the server does
        shop, queries = make_shop(folder, options.rows)
        searcher = Searcher(shop)
        searcher.gallery().index.warm()
        follower = Follower(shop, searcher, wake_runner=lambda: None)
        throughput(searcher, queries, 1.0)
        elsewhere = Path(temporary) / "elsewhere"
        found_shop(elsewhere)
        turns = []
        for turn in range(max(2, int(options.seconds / TURN_S))):
            speeds = [throughput(searcher, queries, TURN_S)[0]]
            for written in (elsewhere, folder):
                heard: list[list[str]] = []
                with writer(written, options.rate, heard.append):
                    before = len(heard)
                    speeds.append(throughput(searcher, queries, TURN_S)[0])
                    rate = (len(heard) - before) / TURN_S
            time.sleep(3)  # until what is left was taken in
            turns.append(speeds)
            print(
                f"turn {turn}: {speeds[0]:.0f} searches/s alone, {speeds[1]:.0f} beside writes to another shop, "
                f"{speeds[2]:.0f} beside {rate:.0f} updates/s",
                flush=True,
            )
        for name, before_, after in (
            ("that another process writes", 0, 1),
            ("that the updates are for this shop", 1, 2),
        ):
            loss = 1 - np.median([speeds[after] / speeds[before_] for speeds in turns])
            print(f"throughput lost by the fact {name}: {100 * loss:.1f} % (median of {len(turns)} turns)")
        waited = freshness(searcher, folder, options.rate, queries, options.seconds)
        for kind, seconds in (*waited.items(), ("all", [one for some in waited.values() for one in some])):
            p50, p99 = 1e3 * np.quantile(seconds, [0.5, 0.99])
            print(f"{kind}: p50 {p50:.0f} ms, p99 {p99:.0f} ms, most {1e3 * max(seconds):.0f} ms of {len(seconds):,}")
        gallery = searcher.gallery()
        print(f"{len(gallery.index.delta):,} entries added, {len(gallery.pending)} wait")
        follower.stop()
        shop.close()


if __name__ == "__main__":
    main()
