"""Builds killed at any moment: the live index is always whole, and no published version is lost."""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from sameitem.core.records import ProductId
from sameitem.engine.index import open_index
from sameitem.engine.versions import current, list_versions
from sameitem.pipeline.online import Searcher, SearchRequest
from sameitem.upkeep.demo_shop import DemoShop
from shops import import_source, open_shop, run

pytestmark = pytest.mark.slow
KILLS = int(os.environ.get("SAMEITEM_TEST_KILLS", "5"))


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
