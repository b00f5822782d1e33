"""Columns of shop files."""

import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sameitem.catalog.columns import (
    BadRow,
    DeleteRow,
    ImageRef,
    Row,
    image_name,
    overlay,
    plan_columns,
    read_record,
)
from sameitem.core.errors import InputError
from sameitem.core.records import Box, ImageKind, Product, ProductId

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
NAMES = ["id", "image", "images", "title", "price", "currency", "box", "kind", "attributes", "stock", "rating", "free"]


def read(line: int = 2, **cells: object) -> Row:
    row = read_record(plan_columns(list(cells), {}), list(cells.values()), line)
    assert isinstance(row, Row)
    return row


@pytest.mark.parametrize(
    ("header", "fields"),
    [
        (["id", "title", "link", "image_link", "product_type"], ["product_id", "title", "url", "image", "category"]),
        (["Handle", "Title", "Vendor", "Type", "Image Src"], ["product_id", "title", "brand", "category", "image"]),
        (["商品ID", "标题", "品牌", "类目", "主图"], ["product_id", "title", "brand", "category", "image"]),
        (["货号", "商品名称", "价格(元)", "销量", "库存"], ["product_id", "title", "price", "sales", "in_stock"]),
        (["\ufeffSKU ", " NAME", "g:price", "Image-URL", "Brand"], ["product_id", "title", "price", "image", "brand"]),
        (["ProductId", "PicName", "CategoryId", "CustomContent", "OperationType"],
         ["product_id", "image", "category", "custom_content", "operation"]),
    ],
)  # fmt: skip
def test_headers_of_known_systems_are_recognised(header: list[str], fields: list[str]) -> None:
    plan = plan_columns(header, {})
    assert {name: columns[0] for name, columns in plan.fields.items()} == {name: i for i, name in enumerate(fields)}


def test_named_columns_win_over_recognised_ones() -> None:
    plan = plan_columns(["id", "name", "code"], {"product_id": "Code", "title": "id"})
    assert plan.fields == {"product_id": (2,), "title": (0,)}
    assert plan.attributes == ((1, "name"),)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [({"colour": "id"}, "unknown field"), ({"title": "nme"}, "no such column"), ({}, "no column holds the product id")],
)
def test_columns_that_cannot_be_placed_are_named(wanted: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        plan_columns(["foo", "name"] if not wanted else ["id", "name"], wanted)


def test_of_two_columns_for_one_field_the_other_becomes_an_attribute() -> None:
    row = read(id="1", sku="007", title="Lamp", image="a.jpg")
    assert row.product == Product(ProductId("1"), title="Lamp", attributes={"sku": "007"})


def test_all_columns_of_images_are_read() -> None:
    row = read(id="1", image="a.jpg", additional_image_link="b.jpg,c.jpg", image2="d.jpg", 图片3="e.jpg")
    assert [image.location for image in row.images] == ["a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg"]


def test_free_columns_become_attributes_with_bounded_text() -> None:
    row = read(id="1", colourName="red", Width="12.5", ean="4006381333931", zip="007", on="TRUE", html="x" * 2000)
    assert row.product.attributes == {
        "colour_name": "red",
        "width": 12.5,
        "ean": "4006381333931",
        "zip": "007",
        "on": True,
    }
    assert row.warnings == (("attribute too long", "html: 2000 characters"),)


def test_attributes_come_as_json_as_pairs_and_as_labels() -> None:
    as_json = read(id="1", attributes='{"Colour": "red", "size": 38, "sizes": ["S", "M"]}')
    as_pairs = read(**{"id": "1", "Attribute 1 name": "Colour", "Attribute 1 value(s)": "red"})
    as_labels = read(id="1", labels="colour=red,colour=blue,style=plain")
    assert as_json.product.attributes == {"colour": "red", "size": 38.0, "sizes": "S, M"}
    assert as_pairs.product.attributes == {"colour": "red"}
    assert as_labels.product.attributes == {"colour": "red, blue", "style": "plain"}


def test_a_bad_optional_value_is_dropped_and_told() -> None:
    row = read(id="1", title="Lamp", price="abc", rating="9", url="javascript:x", kind="hologram", image="a.jpg")
    assert row.product == Product(ProductId("1"), title="Lamp")
    assert sorted(row.warnings) == [("kind", "hologram"), ("price", "abc"), ("rating", "9"), ("url", "javascript:x")]


def test_a_currency_column_wins_over_the_sign_in_the_price() -> None:
    assert read(id="1", price="$5").product.currency == "USD"
    assert read(id="1", price="$5", currency="cad").product.currency == "CAD"
    assert read(id="1", price={"value": "5", "currency": "aud"}).product.currency == "AUD"


@pytest.mark.parametrize("product_id", ["", None, "  ", "x" * 513, "a\0b", "a\nb", True, ["1"], "caf\ufffd"])
def test_a_row_without_a_usable_id_is_bad(product_id: object) -> None:
    row = read_record(plan_columns(["id", "title"], {}), [product_id, "Lamp"], 7)
    assert isinstance(row, BadRow)
    assert (row.line, row.reason) == (7, "no_product_id")


@pytest.mark.parametrize(("cell", "product_id"), [(12, "12"), (12.0, "12"), ('="007"', "007"), (" a b ", "a b")])
def test_an_id_is_what_people_see(cell: object, product_id: str) -> None:
    assert read(id=cell).product.product_id == product_id


def test_increment_meta_adds_and_deletes() -> None:
    add = read(OperationType="ADD", ProductId="7", PicName="a/1.jpg", CategoryId=0, CustomContent="k:v",
               Region="20,40,60,80")  # fmt: skip
    assert add.product.category == "0"
    assert add.images == (ImageRef("a/1.jpg", "a/1.jpg", None, Box(20, 60, 40, 80), "k:v"),)
    plan = plan_columns(["operator", "item_id", "pic_list"], {})
    assert read_record(plan, ["DELETE", "7", None], 1) == DeleteRow(1, ProductId("7"))
    assert read_record(plan, ["DELETE", "7", ["a/1.jpg"]], 1) == DeleteRow(1, ProductId("7"), "a/1.jpg")
    assert isinstance(read_record(plan, ["MERGE", "7", None], 1), BadRow)


def test_images_may_be_objects_that_say_more() -> None:
    row = read(
        id="1", images=[{"url": "http://x/a.jpg", "kind": "buyer", "box": [1, 2, 3, 4], "name": "first"}, "b.jpg"]
    )
    assert row.images == (
        ImageRef("first", "http://x/a.jpg", ImageKind.BUYER, Box(1, 2, 3, 4)),
        ImageRef("b.jpg", "b.jpg"),
    )


@pytest.mark.parametrize(
    ("location", "name"),
    [
        ("images/a.jpg", "images/a.jpg"),
        (".\\images\\a.jpg", "images/a.jpg"),
        ("/data/a.jpg", "data/a.jpg"),
        ("C:\\data\\a.jpg", "data/a.jpg"),
        ("https://cdn.example/x/a%20b.jpg?v=17", "x/a b.jpg"),
        ("https://cdn.example/show.php?id=7", "show.php?id=7"),
        ("https://cdn.example/pic?id=7", "pic?id=7"),
        ("https://cdn.example/", "image"),
    ],
)
def test_a_name_is_made_from_the_location_alone(location: str, name: str) -> None:
    assert image_name(location) == name


STORED = Product(ProductId("1"), title="Old", brand="Acme", price=5.0, attributes={"colour": "red", "size": 1.0})


def test_columns_that_a_file_lacks_leave_what_is_stored() -> None:
    assert overlay(STORED, [read(id="1", price="6")]) == replace(STORED, price=6.0)
    assert overlay(STORED, [read(id="1", colour="blue")]).attributes == {"colour": "blue", "size": 1.0}


def test_an_empty_cell_clears_what_is_stored() -> None:
    cleared = overlay(STORED, [read(id="1", title="New", brand="", colour="")])
    assert cleared == replace(STORED, title="New", brand="", attributes={"size": 1.0})


def test_rows_that_only_bring_images_leave_the_product_alone() -> None:
    assert overlay(STORED, [read(id="1", title="", price="", image="b.jpg")]) == STORED


def test_the_last_row_that_says_something_wins() -> None:
    rows = [read(id="1", title="A", price="5"), read(id="1", title="B", price=""), read(id="1", title="", price="")]
    assert overlay(Product(ProductId("1")), rows) == Product(ProductId("1"), title="B", price=5.0)


def test_one_variant_in_stock_is_enough() -> None:
    rows = [read(id="1", stock="0"), read(id="1", stock="3"), read(id="1", stock="0")]
    assert overlay(Product(ProductId("1")), rows).in_stock is True


def test_a_location_without_scheme_is_fetched_over_https() -> None:
    assert read(id="1", image="//cdn.example/x/a.jpg").images == (ImageRef("x/a.jpg", "https://cdn.example/x/a.jpg"),)


@settings(deadline=None)
@given(cells=st.lists(JSON, min_size=len(NAMES), max_size=len(NAMES)), line=st.integers(1, 99))
def test_no_cell_of_any_type_breaks_a_row(cells: list[object], line: int) -> None:
    entry = read_record(plan_columns(NAMES, {}), cells, line)
    assert entry.line == line
    if isinstance(entry, Row):
        overlay(STORED, [entry])


def test_a_value_nested_beyond_reason_is_a_bad_row() -> None:
    nested: object = "a.jpg"
    for _ in range(100_000):
        nested = [nested]
    entry = read_record(plan_columns(["id", "images"], {}), ["1", nested], 5)
    assert isinstance(entry, BadRow)
    assert "nested" in entry.detail
    while isinstance(nested, list):  # taken apart by hand: freeing it at once would recurse as deep
        nested = nested.pop()


@pytest.mark.parametrize(
    "cell",
    [
        "a" + " " * 200_000 + "b",
        "," * 200_000,
        "a, " * 60_000,
        "[" * 200_000,
        "(" * 200_000,
        "1" * 200_000,
        "1 " * 90_000,
    ],
)
def test_a_long_cell_takes_no_long_time(cell: str) -> None:
    begin = time.process_time()
    for column in ("id", "image", "price", "attributes", "box", "labels", "rating", "url"):
        read_record(plan_columns(["id", column, cell], {}), ["1", cell, cell], 1)
    assert time.process_time() - begin < 2
