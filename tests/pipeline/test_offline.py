"""The daily build."""

import csv
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from galleries import is_switching
from sameitem.catalog.store import Listing
from sameitem.core.database import write
from sameitem.core.errors import InputError, RefusedError
from sameitem.core.records import ProductId
from sameitem.engine.certificate import certify
from sameitem.engine.index import open_index
from sameitem.engine.manifest import Certificate
from sameitem.engine.versions import LOCK, current, list_versions, prune
from sameitem.pipeline.listings import DECISIONS, MEMBERS, PRODUCTS, read_members, read_products, read_table
from sameitem.pipeline.offline import build
from sameitem.pipeline.same_item import ask_gallery, fit_curves, read_curves
from sameitem.pipeline.shop import Shop
from sameitem.upkeep.demo_shop import DemoShop
from shops import NOW, import_source, open_shop, run

pytestmark = pytest.mark.slow


def test_every_image_is_in_the_gallery_or_has_a_reason(shop: Shop) -> None:
    folder = shop.index_root / str(current(shop.index_root))
    decided = read_table(folder / DECISIONS)
    assert len(decided) == shop.catalogue.counts().images
    inside = {row["image_id"] for row in decided if row["status"] in ("gallery", "duplicate")}
    members = read_table(folder / MEMBERS, ["image_id"])
    assert {row["image_id"] for row in members} == inside
    assert all(row["reason"] for row in decided if row["status"] == "set_aside")


def test_rows_of_the_tables_describe_the_rows_of_the_engine(shop: Shop) -> None:
    folder = shop.index_root / str(current(shop.index_root))
    index = open_index(folder)
    listings = shop.catalogue.listings([int(image_id) for image_id in index.members.image_id])
    names, _ = read_members(folder / MEMBERS)
    products = read_products(folder / PRODUCTS)
    for row, image_id in enumerate(index.members.image_id):
        image, product = listings[int(image_id)]
        assert names[row] == image.name
        assert products[index.members.product[row]] == product


def test_planted_near_duplicates_are_folded(shop: Shop, drawn: DemoShop) -> None:
    folder = shop.index_root / str(current(shop.index_root))
    folded = {row["product_id"] for row in read_table(folder / DECISIONS) if row["status"] == "duplicate"}
    with drawn.planted.open(newline="", encoding="utf-8") as file:
        planted = {row["product_id"] for row in csv.DictReader(file)}
    assert planted
    assert len(planted & folded) >= 0.5 * len(planted)


def test_a_second_build_takes_every_feature_from_the_cache(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_crops: object) -> None:
        raise AssertionError("a feature was computed again")

    monkeypatch.setattr(shop.embedder(shop.settings.model.active), "embed", refuse)
    before = current(shop.index_root)
    report = build(shop, tell=lambda _step, _share: None, now=NOW + timedelta(days=400))
    assert report.version == current(shop.index_root) != before


def test_a_build_below_the_asked_recall_publishes_nothing(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RefusedError("recall 0.9 is below the asked 0.999")

    before = current(shop.index_root)
    monkeypatch.setattr("sameitem.pipeline.offline.certify", refuse)
    with pytest.raises(RefusedError):
        run(shop, "build")
    assert current(shop.index_root) == before
    assert {path.name for path in shop.index_root.iterdir()} == {"CURRENT", LOCK, before}


def test_the_certificate_of_the_manifest_can_be_measured_again(shop: Shop) -> None:
    index = open_index(shop.index_root / str(current(shop.index_root)))
    written = index.manifest.certificate
    assert written is not None
    measured = certify(
        index,
        lambda rows: index.rows[rows].astype(np.float32),
        asked=written.asked,
        k=written.k,
    )
    assert measured.recall >= written.asked


def test_the_manifest_keeps_curves_of_the_same_item(shop: Shop) -> None:
    folder = shop.index_root / str(current(shop.index_root))
    index, (_, tops) = open_index(folder), read_members(folder / MEMBERS)
    written = read_curves(index.manifest.extra)
    assert written.queries > 0
    assert set(written.categories) <= set(tops)
    assert written == fit_curves(ask_gallery(index, tops))


def test_a_selection_that_leaves_nothing_says_what_it_dropped(tmp_path: Path, drawn: DemoShop) -> None:
    shop = open_shop(tmp_path / "shop", selection={"where": "price < 0"})
    import_source(shop, drawn.catalogue)
    with pytest.raises(InputError, match="filtered"):
        run(shop, "build")
    assert current(shop.index_root) is None
    shop.close()


def test_an_empty_catalogue_is_told_what_to_do(tmp_path: Path) -> None:
    shop = open_shop(tmp_path / "shop")
    with pytest.raises(InputError, match="sameitem import"):
        run(shop, "build")
    shop.close()


@pytest.mark.parametrize("cached", [True, False])
def test_a_lost_photo_is_set_aside_and_counted(shop: Shop, cached: bool) -> None:
    image = shop.catalogue.images(ProductId("P00000"))[0]
    shop.photos.delete(image.content_hash)
    if not cached:
        shutil.rmtree(shop.folder / "features")
    report = run(shop, "build")
    assert report["dropped"]["unreadable"] == 1  # type: ignore[index]


def test_query_photos_that_are_damaged_or_gone_are_passed_over(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = next(iter(shop.photos.hashes()))
    hashes = [sound, *("0" * 63 + last for last in "01")]
    for content_hash, content in zip(hashes, (shop.photos.read(sound), b"no picture", b""), strict=True):
        file = shop.query_photos.path(content_hash)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    asked: list[NDArray[np.float32] | None] = []

    def note(*arguments: Any, queries: NDArray[np.float32] | None, **options: Any) -> Certificate:
        asked.append(queries)
        return certify(*arguments, queries=queries, **options)

    monkeypatch.setattr("sameitem.pipeline.offline.certify", note)
    run(shop, "build")
    with monkeypatch.context() as blind:  # the second build reads no photo that the first one has embedded
        blind.setattr("sameitem.pipeline.offline.user_subjects", lambda *_: pytest.fail("embedded again"))
        run(shop, "build")
    shop.query_photos.delete(sound)
    run(shop, "build")
    assert [None if queries is None else len(queries) for queries in asked] == [1, 1, None]
    assert np.array_equal(asked[0], asked[1])  # type: ignore[arg-type]


def test_a_build_publishes_and_clears_away_under_the_lock_of_switches(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []

    def look(index_root: Path, **options: Any) -> list[str]:
        seen.append(is_switching(index_root))
        return prune(index_root, **options)

    monkeypatch.setattr("sameitem.pipeline.versions.prune", look)
    run(shop, "build")
    assert (seen, is_switching(shop.index_root)) == ([True], False)


def test_old_versions_are_cleared_away_and_the_live_one_stays(shop: Shop) -> None:
    for _ in range(4):
        run(shop, "build")
    assert len(list_versions(shop.index_root)) == shop.settings.engine.keep_versions
    assert current(shop.index_root) == list_versions(shop.index_root)[-1]


def test_a_product_without_a_category_gets_one_by_vote(shop: Shop) -> None:
    product = shop.catalogue.product(ProductId("P00000"))
    with write(shop.database) as connection:
        shop.catalogue.upsert(connection, [Listing(replace(product, category=""))])
    run(shop, "build")
    folder = shop.index_root / str(current(shop.index_root))
    _, tops = read_members(folder / MEMBERS)
    products = read_products(folder / PRODUCTS)
    numbers = open_index(folder).members.product
    voted = {tops[row] for row, number in enumerate(numbers) if products[number].product_id == "P00000"}
    assert voted
    assert voted <= {category.id for category in shop.taxonomy.top}
