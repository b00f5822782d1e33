"""Builds, updates and compactions killed at any moment: what is live is whole, and nothing acknowledged is lost."""

import os
import shutil
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

import update_process
from sameitem.core.records import ProductId
from sameitem.engine.index import open_index
from sameitem.engine.versions import current, list_versions
from sameitem.pipeline.online import Searcher, SearchRequest
from sameitem.upkeep.demo_shop import DemoShop
from shops import import_source, open_shop, run

KILLS = int(os.environ.get("SAMEITEM_TEST_KILLS", "5"))
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300 + 30 * KILLS)]


def test_a_build_killed_at_any_moment_never_leaves_half_an_index(
    database_url: str, tmp_path: Path, built_folder: Path, drawn: DemoShop
) -> None:
    folder = tmp_path / "shop"
    shutil.copytree(built_folder, folder, ignore=shutil.ignore_patterns("catalogue.db*", "index"))
    shop = open_shop(folder, catalogue={"url": database_url})
    import_source(shop, drawn.catalogue)
    first = run(shop, "build")["version"]
    searcher = Searcher(shop)
    image = shop.catalogue.images(ProductId("P00001"))[0]
    request = SearchRequest(image_of=(image.product_id, image.name), num=20)
    expected = [result.image.image_id for result in searcher.search(request, record=False).results]
    stop, read = threading.Event(), []

    def keep_reading() -> None:
        while not stop.is_set():
            answer = searcher.search(request, record=False)
            read.append((answer.index_version, [result.image.image_id for result in answer.results] == expected))

    reader = threading.Thread(target=keep_reading)
    reader.start()
    rng = np.random.default_rng(11)
    published = [str(first)]
    try:
        for _ in range(KILLS):
            published += _killed_after(rng.uniform(0.2, 4.0), folder, database_url)
            live = current(shop.index_root)
            assert live is not None
            assert live >= published[-1]
            open_index(shop.index_root / live, verify=True)
    finally:
        stop.set()
        reader.join()
    assert len(read) > KILLS
    assert all(same for _, same in read)
    last = run(shop, "build")["version"]
    assert current(shop.index_root) == last == list_versions(shop.index_root)[-1]
    assert not list(shop.index_root.glob(".*/"))
    shop.close()


def test_updates_and_compactions_killed_at_any_moment_lose_nothing_that_was_acknowledged(
    database_url: str, tmp_path: Path, built_folder: Path, drawn: DemoShop
) -> None:
    folder = tmp_path / "shop"
    shutil.copytree(built_folder, folder, ignore=shutil.ignore_patterns("catalogue.db*", "index"))
    shop = open_shop(folder, catalogue={"url": database_url}, selection={"extra_images": 0})
    import_source(shop, drawn.catalogue)
    run(shop, "build")
    rng = np.random.default_rng(5)
    written: dict[str, str] = {}  # what was acknowledged last of each product: the content of its picture, or "-"
    puts, compactions = 0, set()
    for turn in range(KILLS):
        said = _updated_until_killed(rng.uniform(0.0, 2.5), folder, database_url, seed=turn)
        done = [line.split()[2:] for line in said if line.startswith("done")]
        puts += sum(content != "-" for _, content in done)
        written |= dict(done)
        stored = {str(number): "-" for number in range(update_process.PRODUCTS)}
        for batch in shop.catalogue.scan():
            late = [image for image, _ in batch if image.product_id.startswith("late-")]
            stored |= {image.product_id.removeprefix("late-"): image.content_hash for image in late}
        unsure = said[-1].split()[2:] if said[-1].startswith("begin") else ["", ""]
        for number, content in written.items():
            assert stored[number] == content or [number, stored[number]] == unsure
        written = dict(stored)
        live = current(shop.index_root)
        compactions.add(live)
        open_index(shop.index_root / str(live), verify=True)
        gallery = Searcher(shop).gallery()
        listed = {gallery.product_id(row): row for row in np.flatnonzero(gallery.alive).tolist()}
        expected = {f"late-{number}": content for number, content in stored.items() if content != "-"}
        assert {name for name in listed if name.startswith("late-")} == expected.keys()
        allowed = gallery.allowed(None, categories=(), now=datetime.now(UTC))
        for name, content in expected.items():
            feature = update_process.feature_of(content, gallery.index.manifest.dim)[0]
            best = gallery.index.search(feature, k=1, allowed=allowed)[0]
            assert best.member_row == listed[name]
            assert best.distance < 1e-6
    assert puts > KILLS
    assert len(compactions) > 1
    shop.close()


def _updated_until_killed(seconds: float, folder: Path, url: str, *, seed: int) -> list[str]:
    """Let a process write and compact, kill it some time after it began, and return the whole lines that it said."""
    script = Path(update_process.__file__)
    command = [sys.executable, str(script), str(folder), url, str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        threading.Timer(seconds, process.kill).start()
        said = process.stdout.read()
    assert process.returncode == -9, "the process ended by itself"
    return ["ready", *said[: said.rfind("\n") + 1].splitlines()]


def _killed_after(seconds: float, folder: Path, url: str) -> list[str]:
    """Let a process build and kill it; return the versions that it said were published.

    The time counts from its start: much of it is spent on imports, the rest falls anywhere in its builds.
    """
    script = Path(__file__).with_name("build_process.py")
    process = subprocess.Popen([sys.executable, str(script), str(folder), url], stdout=subprocess.PIPE, text=True)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
    said = process.communicate()[0].split()
    assert process.returncode == -9, "the process ended by itself"
    return said
