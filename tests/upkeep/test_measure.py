"""Measuring a shop and writing the report."""

from pathlib import Path

import pytest

from sameitem.core.database import write
from sameitem.core.errors import InputError
from sameitem.core.records import ImageId
from sameitem.evaluation.evaluate import read_queries
from sameitem.pipeline.shop import Shop
from sameitem.upkeep.demo_shop import DemoShop
from sameitem.upkeep.measure import evaluate_shop, photo_of, picture_of
from sameitem.upkeep.work import silent

pytestmark = pytest.mark.slow


def test_the_report_shows_the_photos_and_what_was_found(shop: Shop, drawn: DemoShop, tmp_path: Path) -> None:
    evaluation = evaluate_shop(shop, drawn.queries, html=tmp_path / "report.html", tell=silent)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("<img src='data:image/jpeg;base64,") == sum(1 + len(o.shown) for o in evaluation.outcomes)
    assert "picture missing" not in page


def test_a_report_that_has_no_folder_is_refused_before_anything_is_searched(
    shop: Shop, drawn: DemoShop, tmp_path: Path
) -> None:
    told: list[float] = []
    with pytest.raises(InputError, match=r"cannot write the report .* there is no folder"):
        evaluate_shop(
            shop,
            drawn.queries,
            html=tmp_path / "none/report.html",
            tell=lambda _step, percent, _counts: told.append(percent),
        )
    assert told == []


def test_pictures_that_are_gone_are_none(shop: Shop, drawn: DemoShop, tmp_path: Path) -> None:
    image = next(image for batch in shop.catalogue.scan() for image, _ in batch)
    there = picture_of(shop, image.image_id)
    assert there is not None
    assert there.shape == (image.height, image.width, 3)
    shop.photos.path(image.content_hash).write_bytes(b"damaged")
    assert picture_of(shop, image.image_id) is None
    shop.photos.delete(image.content_hash)
    assert picture_of(shop, image.image_id) is None
    with write(shop.database) as connection:
        shop.catalogue.delete_products(connection, [image.product_id])
    assert picture_of(shop, image.image_id) is None
    assert picture_of(shop, ImageId(10**9)) is None


def test_photos_of_queries_come_through_intake(shop: Shop, drawn: DemoShop, tmp_path: Path) -> None:
    assert photo_of(shop, read_queries(drawn.queries)[0].image) is not None
    (tmp_path / "text.jpg").write_text("no photo")
    assert photo_of(shop, tmp_path / "text.jpg") is None
    assert photo_of(shop, tmp_path / "none.jpg") is None
