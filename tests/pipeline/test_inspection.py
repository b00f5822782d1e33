"""What an operator sees of a shop agrees with what the build wrote and the searches show."""

import csv
from collections import Counter
from dataclasses import replace

import pytest

from sameitem.catalog.selection import Reason
from sameitem.clicks.figures import Act, LoggedSearch
from sameitem.core.database import write
from sameitem.core.errors import InputError, NotFoundError
from sameitem.core.records import ProductId
from sameitem.engine.versions import current
from sameitem.pipeline.inspection import (
    ask_again,
    dropped_images,
    duplicate_groups,
    find_images,
    live_gallery,
)
from sameitem.pipeline.listings import DECISIONS, read_table
from sameitem.pipeline.one_image import look_again
from sameitem.pipeline.online import Searcher, SearchRequest
from sameitem.pipeline.shop import Shop
from sameitem.upkeep.demo_shop import DemoShop

pytestmark = pytest.mark.slow


def test_pages_of_what_was_dropped_are_the_decisions_of_the_build(shop: Shop) -> None:
    version = current(shop.index_root)
    assert version
    decisions = read_table(shop.index_root / version / DECISIONS)
    counts = Counter(row["reason"] for row in decisions if row["reason"])
    assert counts[Reason.NEAR_DUPLICATE]
    for reason, count in counts.items():
        found, first = dropped_images(shop, version, reason, start=0, limit=3)
        _, rest = dropped_images(shop, version, reason, start=3, limit=1000)
        assert found == count
        assert first + rest == [row for row in decisions if row["reason"] == reason]


def test_a_version_or_reason_that_is_not_there_is_refused(shop: Shop) -> None:
    with pytest.raises(NotFoundError, match="no index version"):
        dropped_images(shop, "20200101-000000-0000", "blurred", start=0, limit=1)
    with pytest.raises(InputError, match="near_duplicate"):
        dropped_images(shop, current(shop.index_root) or "", "ugly", start=0, limit=1)


def test_groups_are_the_entries_with_several_living_members(shop: Shop) -> None:
    searcher = Searcher(shop)
    gallery = searcher.gallery()
    members = gallery.index.members
    sizes = Counter(members.entry.tolist())
    found, groups = duplicate_groups(gallery, start=0, limit=1000)
    assert found == len(groups) == sum(size > 1 for size in sizes.values())
    assert [group.size for group in groups] == sorted((size for size in sizes.values() if size > 1), reverse=True)
    leaders = set(members.entry_image_id.tolist())
    assert all(group.members[0].image_id in leaders for group in groups)
    assert duplicate_groups(gallery, start=1, limit=1)[1] == groups[1:2]
    gone = groups[0].members[-1].product.product_id
    with write(shop.database) as connection:
        shop.catalogue.delete_products(connection, [gone])
    left = duplicate_groups(searcher.gallery(), start=0, limit=1000)[1]
    assert all(member.product.product_id != gone for group in left for member in group.members)


def test_every_image_is_where_the_build_or_the_catalogue_put_it(shop: Shop) -> None:
    searcher = Searcher(shop)
    gallery = searcher.gallery()
    decided = {row["image_id"]: row for row in read_table(shop.index_root / gallery.version / DECISIONS)}
    images = [image for batch in shop.catalogue.scan() for image, _ in batch]
    found = find_images(shop, gallery, images)
    assert [where.place for where in found] == [decided[image.image_id]["status"] for image in images]
    assert {where.place for where in found} >= {"gallery", "duplicate"}
    for image, where in zip(images, found, strict=True):
        assert where.reason == decided[image.image_id]["reason"]
        if where.represented_by:
            by = f"represented by {where.represented_by.product_id} / {where.represented_by.image_name}"
            assert decided[image.image_id]["detail"] == by
    assert {where.place for where in find_images(shop, None, images)} == {"unknown"}


def test_an_image_that_was_just_written_waits(shop: Shop) -> None:
    searcher = Searcher(shop)
    searcher.gallery()
    image = shop.catalogue.images(ProductId("P00002"))[0]
    searcher.gallery().pending[image.image_id] = 1
    assert find_images(shop, live_gallery(searcher), [image])[0].place == "waiting"


def test_held_out_searches_are_asked_again_without_being_written_down(shop: Shop, drawn: DemoShop) -> None:
    with drawn.queries.open(newline="", encoding="utf-8") as file:
        row = next(csv.DictReader(file))
    searcher = Searcher(shop)
    searcher.search(SearchRequest(photo=(drawn.folder / row["image"]).read_bytes()))
    (session,) = shop.clicks.sessions()
    search = LoggedSearch(
        number=1,
        search_id="s",
        at=0.0,
        photo_hash=session.search.photo_hash,
        box=None,
        category_id="",
        index_version="",
        shown=(),
        acts=(Act("click", session.search.shown[3].product_id, "", 4),),
    )
    gone = replace(search, photo_hash="0" * 64)
    never = replace(search, acts=(Act("click", ProductId("nobody"), "", 1),))
    found = ask_again(shop, searcher, [search, gone, never])
    assert [one.rank for one in found] == [4, None]
    assert len(found[0].results) == 10
    assert shop.clicks.count() == 1


def test_looking_again_tells_the_category_and_the_box_in_the_stored_picture(shop: Shop) -> None:
    searcher = Searcher(shop)
    image = shop.catalogue.images(ProductId("P00002"))[0]
    found = look_again(shop, searcher, image.image_id)
    product = shop.catalogue.product(ProductId("P00002"))
    assert (found.category_id, found.category_source) == (shop.taxonomy.top_of(product.category), "caller")
    assert 0 <= found.box.left < found.box.right <= image.width
    assert 0 <= found.box.top < found.box.bottom <= image.height
    with pytest.raises(NotFoundError, match="no image 999"):
        look_again(shop, searcher, type(image.image_id)(999_999))
