"""One query."""

import csv
from collections import defaultdict
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from sameitem.catalog.store import Listing
from sameitem.core.database import write
from sameitem.core.errors import InputError, NotFoundError, UnavailableError
from sameitem.core.records import Box, ProductId
from sameitem.engine.manifest import read_manifest, write_manifest
from sameitem.engine.versions import current, list_versions
from sameitem.pipeline.online import Searcher, SearchRequest
from sameitem.pipeline.same_item import EXTRA, SHIPPED
from sameitem.pipeline.shop import Shop
from sameitem.pipeline.versions import switch_version
from sameitem.upkeep.demo_shop import DemoShop
from shops import open_shop, run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def photos(drawn: DemoShop) -> list[tuple[bytes, ProductId, Box]]:
    with drawn.queries.open(newline="", encoding="utf-8") as file:
        return [
            (
                (drawn.folder / row["image"]).read_bytes(),
                ProductId(row["product_id"]),
                Box(*(float(part) for part in row["box"].split(","))),
            )
            for row in csv.DictReader(file)
        ]


@pytest.fixture
def searcher(shop: Shop) -> Searcher:
    return Searcher(shop)


def test_a_catalogue_photo_finds_itself_first(searcher: Searcher, drawn: DemoShop) -> None:
    with drawn.catalogue.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))[::17]
    for row in rows:
        answer = searcher.search(SearchRequest(photo=(drawn.folder / row["image"]).read_bytes()))
        best = answer.results[0]
        assert row["product_id"] in {best.product.product_id, *(listing.product_id for listing in best.duplicates)}
        assert best.visual_score > 0.8


def test_the_answer_says_where_box_and_category_come_from(
    searcher: Searcher, photos: list[tuple[bytes, ProductId, Box]]
) -> None:
    photo, _, box = photos[0]
    predicted = searcher.search(SearchRequest(photo=photo))
    assert (predicted.box_source, predicted.category_source) == ("detected", "fused")
    assert 0 <= predicted.box.left < predicted.box.right <= predicted.width
    assert 0 <= predicted.box.top < predicted.box.bottom <= predicted.height
    given = searcher.search(SearchRequest(photo=photo, box=box, categories=("shoes",)))
    assert (given.box_source, given.category_source, given.category_id) == ("caller", "caller", "shoes")
    assert given.box == box
    assert {result.category_id for result in given.results} == {"shoes"}


def test_a_relative_box_is_the_same_as_its_pixels(
    searcher: Searcher, photos: list[tuple[bytes, ProductId, Box]]
) -> None:
    photo, _, _ = photos[0]
    size = searcher.search(SearchRequest(photo=photo))
    pixels = Box(0.25 * size.width, 0.25 * size.height, 0.75 * size.width, 0.75 * size.height)
    one = searcher.search(SearchRequest(photo=photo, box=pixels))
    other = searcher.search(SearchRequest(photo=photo, box=Box(0.25, 0.25, 0.75, 0.75), box_is_relative=True))
    assert [r.image.image_id for r in one.results] == [r.image.image_id for r in other.results]
    assert one.box == other.box


def test_filters_hold_for_every_result_and_none_that_fits_is_missing(
    searcher: Searcher, photos: list[tuple[bytes, ProductId, Box]], shop: Shop
) -> None:
    answer = searcher.search(SearchRequest(photo=photos[0][0], filter="price < 40 AND in_stock = true", num=100))
    cheap = {p.product_id for p in shop.catalogue.products() if p.price is not None and p.price < 40 and p.in_stock}
    found = {result.product.product_id for result in answer.results}
    folded = {listing.product_id for result in answer.results for listing in result.duplicates}
    assert found <= cheap
    assert cheap <= found | folded
    assert answer.found == len(cheap)


def test_pages_continue_each_other(searcher: Searcher, photos: list[tuple[bytes, ProductId, Box]]) -> None:
    photo = photos[1][0]
    whole = searcher.search(SearchRequest(photo=photo, num=20))
    parts = [searcher.search(SearchRequest(photo=photo, num=5, start=start)) for start in (0, 5, 10, 15)]
    paged = [result for part in parts for result in part.results]
    assert [r.image.image_id for r in paged] == [r.image.image_id for r in whole.results]
    assert [r.rank for r in paged] == list(range(1, 21))


def test_one_result_per_product_unless_asked_otherwise(
    searcher: Searcher, photos: list[tuple[bytes, ProductId, Box]]
) -> None:
    photo = photos[2][0]
    one = [r.product.product_id for r in searcher.search(SearchRequest(photo=photo, num=40)).results]
    assert len(set(one)) == len(one)
    every = searcher.search(SearchRequest(photo=photo, num=60, distinct_product=False)).results
    assert len({r.product.product_id for r in every}) < len(every)


def test_a_deleted_product_is_gone_from_the_next_answer_on(
    searcher: Searcher, photos: list[tuple[bytes, ProductId, Box]], shop: Shop
) -> None:
    photo, _, _ = photos[0]
    first = searcher.search(SearchRequest(photo=photo)).results[0].product.product_id
    with write(shop.database) as connection:
        shop.catalogue.delete_products(connection, [first])
    after = searcher.search(SearchRequest(photo=photo, num=40)).results
    assert first not in {result.product.product_id for result in after}
    assert first not in {listing.product_id for result in after for listing in result.duplicates}


def test_a_changed_price_holds_in_filters_without_a_build(
    searcher: Searcher, photos: list[tuple[bytes, ProductId, Box]], shop: Shop
) -> None:
    photo, _, _ = photos[0]
    first = searcher.search(SearchRequest(photo=photo)).results[0].product
    with write(shop.database) as connection:
        shop.catalogue.upsert(connection, [Listing(replace(first, price=123456.0))])
    found = searcher.search(SearchRequest(photo=photo, filter="price = 123456")).results
    assert [result.product.product_id for result in found] == [first.product_id]


def test_a_product_that_expires_is_not_shown_any_more(
    searcher: Searcher, photos: list[tuple[bytes, ProductId, Box]], shop: Shop
) -> None:
    photo, _, _ = photos[0]
    first = searcher.search(SearchRequest(photo=photo)).results[0].product
    with write(shop.database) as connection:
        shop.catalogue.upsert(connection, [Listing(replace(first, expires_at="2020-01-01T00:00:00+00:00"))])
    after = searcher.search(SearchRequest(photo=photo, num=40)).results
    assert first.product_id not in {result.product.product_id for result in after}


def test_what_may_be_shown_without_a_filter_follows_the_clock_and_the_catalogue(shop: Shop) -> None:
    soon = datetime(2030, 1, 1, tzinfo=UTC)
    first = Searcher(shop).gallery().products.rows[0]
    with write(shop.database) as connection:
        shop.catalogue.upsert(connection, [Listing(replace(first, expires_at=soon.isoformat()))])
    gallery = Searcher(shop).gallery()
    members = gallery.index.members
    its_own = np.array([gallery.product_id(row) == first.product_id for row in range(len(members))])
    for now, is_shown in ((soon, False), (soon - timedelta(seconds=1), True), (soon + timedelta(days=1), False)):
        allowed = gallery.allowed(None, categories=(), now=now)
        assert bool(allowed.mask[its_own].any()) is is_shown, now
        assert allowed.mask[~its_own].all()
        assert allowed.products == len(set(members.product[allowed.mask].tolist()))
        assert allowed.entries == len(set(members.entry[allowed.mask].tolist()))


def test_a_leaf_or_a_top_category_narrows_the_search(
    searcher: Searcher, photos: list[tuple[bytes, ProductId, Box]], shop: Shop
) -> None:
    photo = photos[0][0]
    leaf = shop.catalogue.product(ProductId("P00000")).category
    narrow = searcher.search(SearchRequest(photo=photo, categories=(leaf,), num=40)).results
    assert {result.product.category for result in narrow} == {leaf}
    both = searcher.search(SearchRequest(photo=photo, categories=(leaf, "shoes"), num=40)).results
    assert {result.category_id for result in both} == {shop.taxonomy.top_of(leaf), "shoes"}


def test_more_like_this_leaves_the_product_itself_out(searcher: Searcher, shop: Shop) -> None:
    image = shop.catalogue.images(ProductId("P00003"))[0]
    answer = searcher.search(SearchRequest(image_of=(image.product_id, image.name), num=30))
    assert answer.results
    assert image.product_id not in {result.product.product_id for result in answer.results}


def test_a_score_threshold_cuts_the_list(searcher: Searcher, photos: list[tuple[bytes, ProductId, Box]]) -> None:
    photo = photos[0][0]
    scores = [result.score for result in searcher.search(SearchRequest(photo=photo, num=20)).results]
    least = sorted(scores)[-5]
    answer = searcher.search(SearchRequest(photo=photo, num=20, score_threshold=least))
    assert [result.score for result in answer.results] == [score for score in scores if score >= least]
    assert answer.found == len(answer.results) == 5


def test_a_score_depends_on_no_page_filter_category_or_repeated_product(
    searcher: Searcher, photos: list[tuple[bytes, ProductId, Box]]
) -> None:
    photo, _, box = photos[0]
    whole = searcher.search(SearchRequest(photo=photo, box=box, num=20)).results
    scores = {result.image.image_id: result.score for result in whole}
    expected = {result.product.product_id for result in whole if result.product.price and result.product.price < 60}
    asked = [
        searcher.search(SearchRequest(photo=photo, box=box, num=1)),
        searcher.search(SearchRequest(photo=photo, box=box, num=5, start=7)),
        searcher.search(SearchRequest(photo=photo, box=box, num=20, filter="price < 60")),
        searcher.search(SearchRequest(photo=photo, box=box, num=20, categories=(whole[3].category_id,))),
        searcher.search(SearchRequest(photo=photo, box=box, num=20, distinct_product=False)),
    ]
    assert expected
    for answer in asked:
        shown = {result.image.image_id: result.score for result in answer.results}
        assert shown.keys() & scores.keys()
        assert all(score == scores[image_id] for image_id, score in shown.items() if image_id in scores)


def test_in_a_category_a_nearer_product_never_scores_lower(
    searcher: Searcher, photos: list[tuple[bytes, ProductId, Box]]
) -> None:
    for photo, _, _ in photos:
        by_category = defaultdict(list)
        for result in searcher.search(SearchRequest(photo=photo, num=40)).results:
            by_category[result.category_id].append((result.visual_score, result.score))
        for pairs in by_category.values():
            assert pairs == sorted(pairs, reverse=True)


def test_colours_change_the_order_and_not_the_scores(shop: Shop, photos: list[tuple[bytes, ProductId, Box]]) -> None:
    photo, _, box = photos[2]
    plain = Searcher(shop).search(SearchRequest(photo=photo, box=box, num=40))
    coloured = open_shop(shop.folder, engine={"colour_weight": 1.0})
    answer = Searcher(coloured).search(SearchRequest(photo=photo, box=box, num=40))
    coloured.close()
    scores = {result.image.image_id: result.score for result in plain.results}
    for result in answer.results:
        why = result.judgement
        assert result.score == pytest.approx(scores.get(result.image.image_id, result.score))
        assert why.colour_distance is not None
        assert why.distance == pytest.approx(why.squared_distance + why.colour_distance)
    assert [r.image.image_id for r in answer.results] != [r.image.image_id for r in plain.results]


def test_an_index_version_without_curves_is_scored_by_the_shipped_one(
    shop: Shop, photos: list[tuple[bytes, ProductId, Box]]
) -> None:
    folder = shop.index_root / str(current(shop.index_root))
    manifest = read_manifest(folder)
    extra = {key: value for key, value in manifest.extra.items() if key != EXTRA}
    assert len(extra) == len(manifest.extra) - 1
    write_manifest(folder, replace(manifest, extra=extra))
    best = Searcher(shop).search(SearchRequest(photo=photos[0][0])).results[0].judgement
    assert (best.curve, best.curve_source) == (SHIPPED, "shipped")
    assert best.score == SHIPPED.probability(np.array(best.lead))


def test_what_was_shown_is_in_the_click_log(
    searcher: Searcher, photos: list[tuple[bytes, ProductId, Box]], shop: Shop
) -> None:
    answer = searcher.search(SearchRequest(photo=photos[0][0], user_id="u1", session_id="s1"))
    logged = [session.search for session in shop.clicks.sessions() if session.search.search_id == answer.search_id]
    assert [shown.product_id for shown in logged[0].shown] == [r.product.product_id for r in answer.results]
    assert logged[0].user_id == shop.clicks.pseudonym("u1")
    assert logged[0].session_id not in ("", "s1")
    assert shop.query_photos.has(logged[0].photo_hash)  # type: ignore[arg-type]


def test_no_query_photo_is_kept_where_the_shop_says_so(shop: Shop, photos: list[tuple[bytes, ProductId, Box]]) -> None:
    private = open_shop(shop.folder, search={"photo_days": 0})
    Searcher(private).search(SearchRequest(photo=photos[0][0]))
    assert list(private.query_photos.hashes()) == []
    private.close()


def test_a_server_follows_a_build_and_a_rollback(
    searcher: Searcher, photos: list[tuple[bytes, ProductId, Box]], shop: Shop
) -> None:
    photo = photos[0][0]
    old = searcher.search(SearchRequest(photo=photo)).index_version
    run(shop, "build")
    new = searcher.search(SearchRequest(photo=photo)).index_version
    assert new == current(shop.index_root) != old
    switch_version(shop, old)
    assert searcher.search(SearchRequest(photo=photo)).index_version == old
    assert list_versions(shop.index_root) == [old, new]


def test_requests_that_cannot_be_answered_say_why(
    searcher: Searcher, photos: list[tuple[bytes, ProductId, Box]], tmp_path: Path
) -> None:
    photo = photos[0][0]
    refused = {
        "either a photo or": SearchRequest(),
        "need num of 1 to 100": SearchRequest(photo=photo, num=101),
        "start \\+ num <= 1000": SearchRequest(photo=photo, start=950, num=60),
        "score_threshold": SearchRequest(photo=photo, score_threshold=1.5),
        "unknown category 'hats'": SearchRequest(photo=photo, categories=("hats",)),
        "no product has the attribute 'colr'": SearchRequest(photo=photo, filter='colr = "red"'),
        "need a box that covers": SearchRequest(photo=photo, box=Box(-50, -50, -10, -10)),
        "finite numbers": SearchRequest(photo=photo, box=Box(float("nan"), 0, 10, 10)),
    }
    for message, request in refused.items():
        with pytest.raises(InputError, match=message):
            searcher.search(request)
    with pytest.raises(NotFoundError):
        searcher.search(SearchRequest(image_of=(ProductId("none"), "none")))
    empty = open_shop(tmp_path / "empty")
    with pytest.raises(UnavailableError, match="sameitem build"):
        Searcher(empty).search(SearchRequest(photo=photo))
    empty.close()
