"""What the catalogue is told while a version is live, and compaction."""

import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sameitem.catalog.store import Listing, NewImage
from sameitem.core.database import write
from sameitem.core.errors import ConflictError, UnavailableError
from sameitem.core.records import Box, ImageKind, Product, ProductId
from sameitem.engine.versions import current, list_versions, make_live
from sameitem.pipeline import compaction, following
from sameitem.pipeline.compaction import COMPACTED, compact, is_due
from sameitem.pipeline.extraction import extract
from sameitem.pipeline.gallery import Gallery
from sameitem.pipeline.online import Result, Searcher, SearchRequest
from sameitem.pipeline.shop import Shop
from sameitem.upkeep.demo_shop import DemoShop
from shops import run

pytestmark = pytest.mark.slow


def patches(seed: int) -> bytes:
    """A photo of coloured patches, of each seed its own."""
    colours = np.random.default_rng(seed).integers(256, size=(4, 4, 3)).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(colours).resize((320, 320), Image.Resampling.BILINEAR).save(out, "JPEG", quality=90)
    return out.getvalue()


def found(searcher: Searcher, photo: bytes, **how: object) -> list[Result]:
    request = SearchRequest(photo=photo, crop=False, num=100, distinct_product=False, **how)
    return list(searcher.search(request, record=False).results)


def ids(results: list[Result]) -> set[tuple[ProductId, str]]:
    return {(result.product.product_id, result.image.name) for result in results}


def put(
    shop: Shop, product_id: str, name: str, photo: bytes, *, kind: ImageKind = ImageKind.MAIN, **about: object
) -> None:
    """Write a picture to the catalogue, as an import does: nobody computes its feature."""
    taken = shop.intake.take(photo)
    shop.photos.put(taken)
    good = next(shop.catalogue.scan())[0][0]
    image = NewImage(
        name=name,
        kind=kind,
        content_hash=taken.content_hash,
        width=taken.width,
        height=taken.height,
        quality=good.quality,
        perceptual_hash=0,
        box=Box(0, 0, taken.width, taken.height),
    )
    known = list(shop.catalogue.products([ProductId(product_id)]))
    product = replace(known[0] if known else Product(ProductId(product_id)), **about)
    with write(shop.database) as connection:
        shop.catalogue.upsert(connection, [Listing(product, (image,))])


def follow(searcher: Searcher) -> None:
    while searcher.follow(compute=True):
        pass


@pytest.fixture
def searcher(shop: Shop) -> Searcher:
    searcher = Searcher(shop)
    searcher.follow(compute=True)
    return searcher


def test_a_new_picture_is_found_once_its_feature_is_known_and_a_deleted_one_no_more(
    shop: Shop, searcher: Searcher
) -> None:
    photo = patches(1)
    put(shop, "new", "front", photo, category="Shoes > Trainers", price=12.5)
    assert ("new", "front") not in ids(found(searcher, photo))
    assert searcher.follow(compute=False) == 0
    assert searcher.follow(compute=True) == 1
    best = found(searcher, photo)[0]
    assert (best.product.product_id, best.image.name) == ("new", "front")
    assert best.visual_score > 0.99
    assert ("new", "front") in ids(found(searcher, photo, filter="price = 12.5"))
    assert ("new", "front") not in ids(found(searcher, photo, filter="price = 13"))
    with write(shop.database) as connection:
        assert shop.catalogue.delete_image(connection, ProductId("new"), "front")
    assert ("new", "front") not in ids(found(searcher, photo))


def test_a_picture_that_was_replaced_is_found_by_the_new_one_only(shop: Shop, searcher: Searcher) -> None:
    before, after = patches(1), patches(2)
    for photo in (before, after):
        put(shop, "new", "front", photo)
        follow(searcher)
    best = found(searcher, after)[0]
    assert (best.image.name, round(best.visual_score, 2)) == ("front", 1.0)
    again = [one for one in found(searcher, before) if one.product.product_id == "new"]
    assert len(again) == 1
    assert again[0].visual_score < 0.99


def test_filters_see_what_is_new_about_a_product(shop: Shop, searcher: Searcher) -> None:
    photo = patches(1)
    put(shop, "new", "front", photo, price=12.5)
    follow(searcher)
    for price in (20.0, 12.5, None):
        filter_ = "price = 20"
        put(shop, "new", "front", photo, price=price)
        assert (("new", "front") in ids(found(searcher, photo, filter=filter_))) == (price == 20.0)
    past = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    put(shop, "new", "front", photo, expires_at=past)
    assert ("new", "front") not in ids(found(searcher, photo))


def test_what_selection_refuses_is_not_added(shop: Shop, searcher: Searcher) -> None:
    past = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    put(shop, "gone", "front", patches(1), expires_at=past)
    put(shop, "new", "detail", patches(2), kind=ImageKind.DETAIL)
    follow(searcher)
    assert not searcher.gallery().pending
    assert not {("gone", "front"), ("new", "detail")} & ids(found(searcher, patches(1)))


def test_a_missing_photo_does_not_stop_the_others(shop: Shop, searcher: Searcher) -> None:
    for number in (1, 2):
        put(shop, f"new-{number}", "front", patches(number))
    shop.photos.delete(shop.catalogue.image(ProductId("new-1"), "front").content_hash)
    follow(searcher)
    assert ids(found(searcher, patches(2))) & {("new-1", "front"), ("new-2", "front")} == {("new-2", "front")}


def test_who_opens_the_gallery_again_sees_what_was_added(shop: Shop, searcher: Searcher) -> None:
    put(shop, "new", "front", patches(1))
    follow(searcher)
    again = Searcher(shop)
    assert found(again, patches(1))[0].product.product_id == "new"
    assert again.gallery().seq == searcher.gallery().seq


def test_compaction_changes_the_version_and_no_answer(shop: Shop, drawn: DemoShop, searcher: Searcher) -> None:
    for number in range(6):
        put(shop, f"new-{number % 4}", f"front-{number}", patches(number), category="Bags > Totes")
    follow(searcher)
    listed = [searcher.gallery().product_id(row) for row in range(len(searcher.gallery().member_names))]
    with write(shop.database) as connection:
        shop.catalogue.delete_products(connection, [ProductId("P00002"), ProductId("new-3")])
    put(shop, "new-0", "front-0", patches(20))
    follow(searcher)
    put(shop, "later", "front", patches(30))  # still waits for its feature
    photos = [patches(number) for number in (0, 1, 20)]
    photos += [(drawn.folder / "queries" / name).read_bytes() for name in _names(drawn)[:4]]
    before, live = [found(searcher, photo) for photo in photos], current(shop.index_root)
    report = run(shop, "compact")
    assert current(shop.index_root) == report["version"] != live
    follow(searcher)
    gallery = searcher.gallery()
    assert gallery.version == report["version"]
    assert report["added"] == 5
    assert report["removed"] == listed.count(ProductId("P00002"))
    assert gallery.count_changed() == 1  # the one that waited
    later = [[one for one in found(searcher, photo) if one.product.product_id != "later"] for photo in photos]  # of 100
    assert [[(one.image.image_id, one.visual_score) for one in some[:60]] for some in later] == [
        [(one.image.image_id, one.visual_score) for one in some[:60]] for some in before
    ]
    assert found(searcher, patches(30))[0].product.product_id == "later"
    assert gallery.index.manifest.extra[COMPACTED] == live
    # the next one replaces it, the version of the build stays for going back
    second = run(shop, "compact")["version"]
    assert list_versions(shop.index_root) == [live, second]
    assert run(shop, "compact") == run(shop, "compact")
    make_live(shop.index_root, str(live))
    searcher.follow(compute=False)
    assert searcher.gallery().version == live
    assert found(searcher, patches(20))[0].product.product_id == "new-0"


def _names(drawn: DemoShop) -> list[str]:
    return sorted(file.name for file in (drawn.folder / "queries").iterdir())


def test_a_compaction_beside_a_publish_does_not_switch(shop: Shop, searcher: Searcher) -> None:
    put(shop, "new", "front", patches(1))
    follow(searcher)
    other = None

    def tell(step: str, _share: float) -> None:
        nonlocal other
        if step == "publish":
            other = str(list_versions(shop.index_root)[0])
            (shop.index_root / "CURRENT").write_text("20261126-143002-1a2b\n")

    with pytest.raises(ConflictError, match="another index version"):
        compact(shop, tell=tell, now=datetime.now(UTC))
    assert list_versions(shop.index_root) == [other]
    assert not list(shop.index_root.glob(".2*"))


def test_a_compaction_is_due_when_much_has_changed(
    shop: Shop, searcher: Searcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not is_due(searcher.gallery())
    monkeypatch.setattr(compaction, "LEAST_CHANGED", 2)
    monkeypatch.setattr(compaction, "LEAST_SHARE", 0.001)
    for number in range(2):
        assert not is_due(searcher.gallery())
        put(shop, f"new-{number}", "front", patches(number))
        follow(searcher)
    assert is_due(searcher.gallery())


def test_nothing_is_compacted_before_something_is_published(tmp_path: Path) -> None:
    from shops import open_shop

    shop = open_shop(tmp_path / "empty")
    with pytest.raises(UnavailableError, match="sameitem build"):
        compact(shop, tell=lambda _step, _share: None, now=datetime.now(UTC))
    shop.close()


def test_many_changes_at_once_are_the_same_as_one_by_one(shop: Shop) -> None:
    folder = shop.index_root / str(current(shop.index_root))
    one, other = (Gallery.open(folder, shop.taxonomy) for _ in range(2))
    now = datetime.now(UTC)
    image_ids = one.index.members.image_id[::3].tolist()
    for gallery in (one, other):
        gallery.allowed(None, categories=(), now=now)
    one.remove(image_ids)
    for image_id in image_ids:
        other.remove([image_id])
    masks = [gallery.allowed(None, categories=(), now=now).mask for gallery in (one, other)]
    assert np.array_equal(*masks)
    assert np.array_equal(masks[0], one.alive)


def test_a_picture_whose_feature_is_known_does_not_wait_behind_an_import(
    shop: Shop, searcher: Searcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "LOOKED_UP", 4)
    monkeypatch.setattr(following, "COMPUTED", 1)
    for number in range(8):
        put(shop, f"imported-{number}", "front", patches(number))
    put(shop, "put", "front", patches(50))
    with ThreadPoolExecutor(1) as pool:
        extract(shop, shop.embedder(shop.active_model), [shop.catalogue.image(ProductId("put"), "front")], pool)
    assert searcher.follow(compute=False) == 1
    assert found(searcher, patches(50))[0].product.product_id == "put"
    waiting = [len(searcher.gallery().pending)]
    while searcher.follow(compute=True):
        waiting.append(len(searcher.gallery().pending))
    assert waiting == list(range(8, -1, -1))
