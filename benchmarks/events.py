"""How many events a second are taken, counted and looked up, and how many a second over HTTP.

    python benchmarks/events.py [--events 100000] [--database postgresql://...] [--out benchmarks/events.md]

Searches with lists of twenty are written down, four events on each are sent in batches of several sizes, through the
log and over HTTP (one connection, one server process), then counted. Wall time and processor time of this process; for
HTTP, of the server.
"""

import argparse
import os
import platform
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import urllib3

from sameitem.clicks.counts import counts_of, take_in, total_counts
from sameitem.clicks.log import Event, Search, Shown
from sameitem.core.records import ImageId, ProductId
from sameitem.core.settings import load_settings
from sameitem.pipeline.shop import Shop
from sameitem.upkeep.founding import found_shop

PRODUCTS, LISTED, EACH = 20_000, 20, 4
BATCHES = (1000, 100, 10, 1)
USERS = 0.3  # of a search: how many different ones


@dataclass(frozen=True)
class Speed:
    """What was done how fast."""

    what: str
    per_s: float
    cpu_us: float  # a piece
    pieces: int


def measured(what: str, pieces: int, work: Callable[[], object], cpu: Callable[[], float] = time.process_time) -> Speed:
    """Do the work and return its speed."""
    begun, used = time.perf_counter(), cpu()
    work()
    spent = cpu() - used
    speed = Speed(what, pieces / (time.perf_counter() - begun), 1e6 * spent / pieces, pieces)
    print(f"{speed.what}: {speed.per_s:,.0f}/s, {speed.cpu_us:,.0f} us of processor each", flush=True)
    return speed


def record(shop: Shop, count: int, generator: np.random.Generator) -> list[Search]:
    """Write searches down, each in a transaction of its own as a server does."""
    found = []
    for _ in range(count):
        listed = generator.choice(PRODUCTS, LISTED, replace=False)
        places = [Shown(n, ProductId(f"p{one}"), "front", ImageId(int(one)), 0.5) for n, one in enumerate(listed, 1)]
        user = f"user-{generator.integers(max(1, round(USERS * count)))}"
        now = time.time()
        search = Search(shop.clicks.new_search_id(), now, "", None, "", "i", "m", user, "", tuple(places))
        shop.clicks.record_search(search)
        found.append(search)
    return found


def events_on(searches: Sequence[Search], name: str, generator: np.random.Generator) -> list[Event]:
    """Return events on every search, in a random order."""
    kinds = ("click", "click", "cart", "purchase")
    found = [
        Event(f"{name}-{search.search_id}-{n}", search.search_id, kinds[n], search.shown[n * 3].product_id)
        for search in searches
        for n in range(EACH)
    ]
    return [found[row] for row in generator.permutation(len(found))]


def parts(events: Sequence[Event], size: int) -> Iterator[Sequence[Event]]:
    """Cut events into batches."""
    return (events[start : start + size] for start in range(0, len(events), size))


@contextmanager
def server(shop: Shop) -> Iterator[tuple[str, Callable[[], float]]]:
    """Serve the shop in a process of its own; give the address and what tells its processor seconds."""
    command = [sys.executable, "-m", "sameitem", "--shop", str(shop.folder), "serve", "--port", "0"]
    command += ["--set", f"catalogue.url={shop.settings.catalogue.url}"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    line = next(line for line in process.stderr if "http://" in line)
    address = "http://" + line.split("http://")[1].split("/")[0]
    ticks = os.sysconf("SC_CLK_TCK")

    def cpu() -> float:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / ticks

    try:
        yield address, cpu
    finally:
        process.terminate()
        process.wait()


def over_http(pool: urllib3.PoolManager, address: str, batches: Sequence[Sequence[Event]]) -> None:
    """Send batches one after the other."""
    for batch in batches:
        body = [{name: value for name, value in asdict(event).items() if value not in ("", None)} for event in batch]
        answer = pool.request("POST", f"{address}/v1/events", json={"events": body})
        if answer.status != 200 or answer.json()["stored"] != len(batch):
            raise SystemExit(f"{answer.status}: {answer.data[:300]!r}")


def measure(shop: Shop, count: int) -> list[Speed]:
    """Measure everything on one database."""
    generator = np.random.default_rng(0)
    searches: list[Search] = []
    speeds = [
        measured("search written down", count // EACH, lambda: searches.extend(record(shop, count // EACH, generator)))
    ]
    take = shop.clicks.take_events
    for size in BATCHES:
        batches = list(parts(events_on(searches, f"log-{size}", generator)[: max(1000, min(count, size * 500))], size))
        sent = sum(map(len, batches))
        speeds.append(measured(f"event, log, batches of {size}", sent, partial(list, map(take, batches))))
        if size == BATCHES[0]:  # before the other sizes send the same again under other names
            taken = count // EACH + sent
            speeds.append(measured("search or event counted", taken, lambda: take_in(shop.database)))
    forged = [Event(str(n), "f" * 44, "click", ProductId("p1")) for n in range(count)]
    speeds.append(
        measured("forged event refused, log, batches of 1000", count, lambda: [take(p) for p in parts(forged, 1000)])
    )
    with server(shop) as (address, cpu), urllib3.PoolManager() as pool:
        for size in BATCHES:
            batches = list(
                parts(events_on(searches, f"http-{size}", generator)[: max(500, min(count, size * 200))], size)
            )
            work = partial(over_http, pool, address, batches)
            speeds.append(measured(f"event, HTTP, batches of {size}", sum(map(len, batches)), work, cpu))
    wanted = [ProductId(f"p{n}") for n in range(60)]
    counts_of(shop.database, wanted)
    speeds.append(
        measured("counts of 60 products", 500, lambda: [counts_of(shop.database, wanted) for _ in range(500)])
    )
    user = "user-1"
    speeds.append(measured("clicks of a user", 500, lambda: [shop.clicks.clicked_by(user) for _ in range(500)]))
    speeds.append(
        measured(f"sums over {PRODUCTS:,} products", 20, lambda: [total_counts(shop.database) for _ in range(20)])
    )
    return speeds


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--database", default="", help="PostgreSQL, to be measured besides SQLite")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    columns: dict[str, list[Speed]] = {}
    for name, url in (("SQLite", ""), *([("PostgreSQL", given.database)] if given.database else [])):
        print(name)
        with tempfile.TemporaryDirectory() as folder:
            shop_folder = Path(folder) / "shop"
            found_shop(shop_folder)
            limits = {"catalogue": {"url": url}, "clicks": {"events_per_user": 10**9}}
            shop = Shop(shop_folder, load_settings(shop_folder, limits)[0])
            columns[name] = measure(shop, given.events)
            shop.close()
    if given.out:
        given.out.write_text(page(columns, given.events), encoding="utf-8")


def page(columns: dict[str, list[Speed]], events: int) -> str:
    """Return the results as a page."""
    lines = [
        "# Events",
        "",
        f"`python benchmarks/events.py --events {events}`, {datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, "
        f"{os.cpu_count()} cores, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}. "
        f"Load of the machine: {os.getloadavg()[1]:.1f}: microseconds of processor (of this process; over HTTP of the "
        "server) are what compares.",
        "",
        "| what | " + " | ".join(f"{name}: a second | us of processor each" for name in columns) + " |",
        "|---" * (1 + 2 * len(columns)) + "|",
    ]
    for row in zip(*columns.values(), strict=True):
        cells = " | ".join(f"{speed.per_s:,.0f} | {speed.cpu_us:,.0f}" for speed in row)
        lines.append(f"| {row[0].what} | {cells} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
