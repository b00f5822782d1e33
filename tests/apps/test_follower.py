"""Servers that follow the catalogue."""

import io
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from sameitem.apps.follower import Follower
from sameitem.catalog.store import Listing, NewImage
from sameitem.clicks.counts import counts_of
from sameitem.clicks.log import Event
from sameitem.core.database import write
from sameitem.core.records import Box, Product, ProductId
from sameitem.pipeline import compaction
from sameitem.pipeline.online import Searcher, SearchRequest
from sameitem.pipeline.shop import Shop
from shops import open_shop

pytestmark = pytest.mark.slow
PATIENCE_S = 60.0


def put(shop: Shop, product_id: str, *, seed: int) -> None:
    """Write an image of coloured patches whose feature nobody knows."""
    colours = np.random.default_rng(seed).integers(256, size=(4, 4, 3)).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(colours).resize((320, 320), Image.Resampling.BILINEAR).save(out, "JPEG", quality=90)
    photo = shop.intake.take(out.getvalue())
    shop.photos.put(photo)
    good = next(shop.catalogue.scan())[0][0]
    image = NewImage("front", good.kind, photo.content_hash, 320, 320, good.quality, 0, Box(0, 0, 320, 320))
    with write(shop.database) as connection:
        shop.catalogue.upsert(connection, [Listing(Product(ProductId(product_id)), (image,))])


def listed(searcher: Searcher) -> set[str]:
    gallery = searcher.gallery()
    return {str(gallery.product_id(row)) for row in np.flatnonzero(gallery.alive).tolist()}


def comes_true(fact: Callable[[], bool]) -> bool:
    end = time.monotonic() + PATIENCE_S
    while not fact() and time.monotonic() < end:
        time.sleep(0.01)
    return fact()


def test_every_server_shows_what_one_of_them_computes_and_another_goes_on_when_that_one_ends(shop: Shop) -> None:
    shops = [shop, open_shop(shop.folder)]
    searchers = [Searcher(one) for one in shops]
    followers = [
        Follower(one, searcher, wake_runner=lambda: None) for one, searcher in zip(shops, searchers, strict=True)
    ]
    put(shop, "first", seed=1)
    assert all(comes_true(lambda s=searcher: "first" in listed(s)) for searcher in searchers)
    followers[0].stop()
    put(shop, "second", seed=2)
    assert comes_true(lambda: "second" in listed(searchers[1]))
    followers[1].stop()
    assert not any(thread.name == "follower" for thread in threading.enumerate())
    shops[1].close()


def test_a_server_that_begins_before_anything_is_published_waits(tmp_path_factory: pytest.TempPathFactory) -> None:
    shop = open_shop(tmp_path_factory.mktemp("empty") / "shop")
    follower = Follower(shop, Searcher(shop), wake_runner=lambda: None)
    time.sleep(0.3)
    assert any(thread.name == "follower" for thread in threading.enumerate())
    follower.stop()
    shop.close()


def test_a_compaction_is_asked_for_once_when_one_is_due(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "LEAST_CHANGED", 2)
    monkeypatch.setattr(compaction, "LEAST_SHARE", 0.001)
    woken = threading.Event()
    searcher = Searcher(shop)
    follower = Follower(shop, searcher, wake_runner=woken.set)
    for number in range(2):
        put(shop, f"new-{number}", seed=number)
    assert woken.wait(PATIENCE_S)
    assert comes_true(lambda: {"new-0", "new-1"} <= listed(searcher))
    time.sleep(0.3)  # it looks several times more
    assert [job.kind for job in shop.jobs.pending(["compact", "build"])] == ["compact"]
    follower.stop()


def test_a_catalogue_that_cannot_be_read_for_a_moment_is_followed_later(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    searcher, follow = Searcher(shop), Searcher.follow
    failed = threading.Event()

    def fail_once(self: Searcher, *, compute: bool) -> int:
        if not failed.is_set():
            failed.set()
            raise OSError("the disk is away")
        return follow(self, compute=compute)

    monkeypatch.setattr(Searcher, "follow", fail_once)
    monkeypatch.setattr("sameitem.apps.follower.SULK_S", 0.05)
    follower = Follower(shop, searcher, wake_runner=lambda: None)
    put(shop, "late", seed=3)
    assert comes_true(lambda: "late" in listed(searcher))
    follower.stop()
    assert "cannot follow" in caplog.text


def test_searches_and_clicks_are_counted_by_the_first_of_several_servers(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sameitem.apps.follower.COUNT_S", 0.05)
    image = next(shop.catalogue.scan())[0][0]
    searcher = Searcher(shop)
    followers = [Follower(shop, searcher, wake_runner=lambda: None) for _ in range(2)]
    answer = searcher.search(SearchRequest(photo=shop.photos.read(image.content_hash), user_id="ann"))
    first = answer.results[0].product.product_id
    assert shop.clicks.take_events([Event("e", answer.search_id, "click", first)]).stored == 1
    assert comes_true(lambda: counts_of(shop.database, [first]).clicks.tolist() == [1])
    for follower in followers:
        follower.stop()
    assert counts_of(shop.database, [first]).shown.tolist() == [1]
