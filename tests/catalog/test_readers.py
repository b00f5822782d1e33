"""Files and folders as rows."""

import csv
import io
import itertools
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sameitem.catalog.columns import BadRow, DeleteRow, Row
from sameitem.catalog.readers import MAX_LINE, Entry, open_source
from sameitem.core.errors import InputError, NotFoundError
from sameitem.core.records import Box, ImageKind

CELL = st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=12)
QUOTED = st.text(alphabet='ab",;|\t\r\n 红', max_size=12)


def entries(path: Path, columns: dict[str, str] | None = None, after: int = 0) -> list[Entry]:
    return [entry for entry, _ in open_source(path, columns or {}).rows(after)]


def feed(folder: Path, content: str | bytes, name: str = "feed.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def told(found: list[Entry]) -> list[tuple[int, str, str]]:
    """Line, product and title of rows; line, reason and product of bad ones."""
    return [
        (e.line, e.reason, e.product_id) if isinstance(e, BadRow)
        else (e.line, e.product_id, "delete") if isinstance(e, DeleteRow)
        else (e.line, e.product.product_id, e.product.title)
        for e in found
    ]  # fmt: skip


@given(rows=st.lists(st.tuples(CELL, QUOTED), min_size=1, max_size=8), separator=st.sampled_from(",;\t|"))
@settings(max_examples=60, deadline=None)
def test_what_csv_writes_is_read_back_with_any_separator(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], separator: str
) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=separator)
    writer.writerow(["id", "image", "note", "title"])
    writer.writerows((f"p{i}", "a.jpg", note, title) for i, (note, title) in enumerate(rows))
    found = entries(feed(tmp_path_factory.mktemp("csv"), text.getvalue()))
    titles = [entry.product.title for entry in found if isinstance(entry, Row)]
    assert titles == [" ".join(title.replace("\r", " ").replace("\n", " ").replace("\t", " ").split(" ")).strip()
                      for _, title in rows]  # fmt: skip


@given(data=st.binary(max_size=400), header=st.sampled_from([b"id,image\n", b"id;image;title\r\n", b'{"id":1}\n', b""]))
@settings(max_examples=200, deadline=None)
def test_no_bytes_do_more_than_give_reasons(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, header: bytes
) -> None:
    path = feed(tmp_path_factory.mktemp("bytes"), header + data)
    try:
        found = entries(path)
    except InputError:
        return
    lines = [entry.line for entry in found]
    assert lines == sorted(set(lines))


@given(after=st.integers(0, 14))
@settings(max_examples=30, deadline=None)
def test_reading_after_a_line_gives_the_rest_of_reading_all(
    tmp_path_factory: pytest.TempPathFactory, after: int
) -> None:
    path = feed(tmp_path_factory.mktemp("after"), HABITS)
    whole = entries(path)
    assert entries(path, after=after) == [entry for entry in whole if entry.line > after]


HABITS = (
    "id;title;image;price\r\n"
    "1;Lamp;a.jpg;12,50\r\n"
    "\r\n"
    '2;"two\nlines";b.jpg;5\n'
    "3;too few\n"
    "4;x;c.jpg;5;extra\n"
    "5;trailing;c.jpg;5;;\n"
    ";;;\n"
    '6;"unclosed;d.jpg;5\n'
    "7;after;e.jpg;6\n"
    '8;5" screen;f.jpg;7\n'
    ";no id;g.jpg;8\n"
)


def test_bad_rows_are_told_and_cost_no_other_row(tmp_path: Path) -> None:
    assert told(entries(feed(tmp_path, HABITS))) == [
        (2, "1", "Lamp"),
        (4, "2", "two lines"),
        (6, "columns", ""),
        (7, "columns", ""),
        (8, "5", "trailing"),
        (10, "unreadable", ""),
        (11, "7", "after"),
        (12, "8", '5" screen'),
        (13, "no_product_id", ""),
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb18030", "cp932"])
def test_a_feed_is_read_in_the_encoding_it_was_written(tmp_path: Path, encoding: str) -> None:
    text = (
        "商品コード,画像,タイトル\nあ1,a.jpg,赤いドレス\n"
        if encoding == "cp932"
        else "商品ID,图片,标题\n红1,a.jpg,连衣裙\n"
    )
    found = entries(feed(tmp_path, text.encode(encoding)))
    assert told(found) == [(2, "あ1", "赤いドレス") if encoding == "cp932" else (2, "红1", "连衣裙")]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_may_end_in_three_ways(tmp_path: Path, end: str) -> None:
    assert told(entries(feed(tmp_path, end.join(["id,title", "1,a", "2,b", ""])))) == [(2, "1", "a"), (3, "2", "b")]


def test_nul_characters_vanish_and_broken_bytes_stay_in_their_cell(tmp_path: Path) -> None:
    content = (
        "id,title,image\n1,a\0b,a.jpg\n2,红色连衣裙男士运动鞋玻璃杯羽绒服,b.jpg\n".encode() * 20 + b"3,caf\xe9,c.jpg\n"
    )
    assert told(entries(feed(tmp_path, content)))[-1][2] == "caf\ufffd"
    assert told(entries(feed(tmp_path, content)))[0][2] == "ab"


def test_a_cell_may_be_long_and_a_line_too_long(tmp_path: Path) -> None:
    content = f"id,image,title\n1,a.jpg,{'x' * 200_000}\n2,b.jpg,{'x' * (MAX_LINE + 5)}\n3,c.jpg,short\n"
    found = told(entries(feed(tmp_path, content)))
    assert [(line, key) for line, key, _ in found] == [(2, "1"), (3, "unreadable"), (4, "3")]


def test_the_separator_line_of_spreadsheets_is_obeyed(tmp_path: Path) -> None:
    assert told(entries(feed(tmp_path, "sep=;\nid;title\n1;b,c,d\n"))) == [(3, "1", "b,c,d")]


def test_the_header_decides_between_separators(tmp_path: Path) -> None:
    content = "id;title;image\n1;a,b,c,d;x.jpg\n2;a,b,c,d;y.jpg\n"
    assert told(entries(feed(tmp_path, content))) == [(2, "1", "a,b,c,d"), (3, "2", "a,b,c,d")]


def test_the_description_tells_what_was_detected(tmp_path: Path) -> None:
    path = feed(tmp_path, "货号;标题;颜色\n1;灯;红色\n".encode("gb18030"))
    assert open_source(path, {}).description == (
        "CSV, gb18030, separated by ';': product_id = 货号; title = 标题; no images; attributes: 颜色"
    )


def test_googles_product_search_file_needs_no_header(tmp_path: Path) -> None:
    content = (
        'gs://b/x/1.jpg,img1,set,p1,homegoods-v2,Chair,"color=red,style=oak","10,20,110,20,110,220,10,220"\n'
        "gs://b/x/2.jpg,,set,p1,homegoods-v2\n"
    )
    first, second = entries(feed(tmp_path, content))
    assert isinstance(first, Row)
    assert isinstance(second, Row)
    assert (first.line, first.product.title, first.product.category) == (1, "Chair", "homegoods-v2")
    assert first.product.attributes == {"product_set_id": "set", "color": "red", "style": "oak"}
    assert (first.images[0].name, first.images[0].box) == ("img1", Box(10, 20, 110, 220))
    assert second.images[0].location == "gs://b/x/2.jpg"


def test_json_lines_give_rows_deletions_and_reasons(tmp_path: Path) -> None:
    content = (
        '{"operator":"ADD","item_id":"1","pic_list":["a.jpg","b.jpg"],"cat_id":0}\n\n'
        '{"operator":"DELETE","item_id":"2"}\nnot json\n[1]\n{"title":"no id"}\n{"id":null}\n' + "[" * 5000 + "\n"
    )
    found = entries(feed(tmp_path, content, "increment.meta"))
    assert told(found) == [
        (1, "1", ""),
        (3, "2", "delete"),
        (4, "unreadable", ""),
        (5, "unreadable", ""),
        (6, "no_product_id", ""),
        (7, "no_product_id", ""),
        (8, "unreadable", ""),
    ]


def test_a_misspelt_column_of_json_lines_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such column"):
        open_source(feed(tmp_path, '{"id": 1, "name": "a"}\n', "feed.jsonl"), {"title": "nme"})


RECORDS: list[dict[str, Any]] = [
    {"product_id": f"p{i}", "title": f"Lamp {i}", "price": i / 4, "image": f"{i}.jpg", "in_stock": bool(i % 2)}
    for i in range(700)
]


def test_parquet_and_json_lines_give_the_rows_of_csv(tmp_path: Path) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(RECORDS[0]))
    writer.writeheader()
    writer.writerows(RECORDS)
    pq.write_table(pa.Table.from_pylist(RECORDS), tmp_path / "feed.parquet", row_group_size=300)
    by_csv = entries(feed(tmp_path, text.getvalue()))
    by_json = entries(feed(tmp_path, "\n".join(json.dumps(record) for record in RECORDS), "feed.jsonl"))
    by_parquet = entries(tmp_path / "feed.parquet")
    said = [[(e.product, e.images) for e in found if isinstance(e, Row)] for found in (by_csv, by_json, by_parquet)]
    assert said[0] == said[1] == said[2]
    assert entries(tmp_path / "feed.parquet", after=450) == by_parquet[450:]


def test_parquet_lists_structs_times_and_bytes_are_read(tmp_path: Path) -> None:
    table = pa.table({
        "id": pa.array([7], pa.int64()),
        "images": pa.array([["a.jpg", "b.jpg"]], pa.list_(pa.string())),
        "price": pa.array([pa.scalar(1).as_py()], pa.int32()).cast(pa.decimal128(12, 2)),
        "expires_at": pa.array([1_700_000_000_000], pa.timestamp("ms", tz="UTC")),
        "raw": pa.array([b"\xff"], pa.binary()),
    })  # fmt: skip
    pq.write_table(table, tmp_path / "feed.parquet")
    (row,) = entries(tmp_path / "feed.parquet")
    assert isinstance(row, Row)
    assert (row.product.product_id, row.product.price) == ("7", 1.0)
    assert row.product.expires_at == "2023-11-14T22:13:20Z"
    assert [image.name for image in row.images] == ["a.jpg", "b.jpg"]
    assert row.product.attributes == {}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.xlsx", b"PK\x03\x04...", "save the sheet as CSV"),
        ("a.csv.gz", b"\x1f\x8b...", "unpack it"),
        ("a.jpg", b"\xff\xd8\xff...", "a photo"),
        ("a.json", b'[{"id": 1}]', "one JSON object per line"),
        ("a.xml", b"<rss/>", "XML"),
        ("a.csv", b" \n", "empty"),
        ("a.csv", b"foo,bar\n1,2\n", "no column holds the product id"),
        ("a.parquet", b"PAR1 and then nothing", "not readable as Parquet"),
    ],
)
def test_a_file_of_another_kind_is_refused_with_what_to_do(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        open_source(feed(tmp_path, content, name), {})


def test_a_source_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="does not exist"):
        open_source(tmp_path / "feed.csv", {})


def test_the_share_read_grows_to_one(tmp_path: Path) -> None:
    path = feed(tmp_path, "id,title\n" + "".join(f"{i},{'x' * 500}\n" for i in range(400)))
    shares = [share for _, share in open_source(path, {}).rows(0)]
    assert shares == sorted(shares)
    assert shares[0] < 0.2
    assert shares[-1] == 1.0


def pictures(folder: Path, *names: str) -> list[tuple[str, str, str]]:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    rows = [entry for entry in entries(folder) if isinstance(entry, Row)]
    return [(row.product.product_id, row.product.category, row.images[0].location) for row in rows]


def test_a_sub_folder_is_a_product_and_the_folders_above_its_category(tmp_path: Path) -> None:
    assert pictures(tmp_path, "sku1/10.jpg", "sku1/2.PNG", "Lamps/Oak/s2/a.webp", "notes.txt", "__MACOSX/x/a.jpg") == [
        ("Lamps/Oak/s2", "Lamps > Oak", "Lamps/Oak/s2/a.webp"),
        ("sku1", "", "sku1/2.PNG"),
        ("sku1", "", "sku1/10.jpg"),
    ]


def test_the_prefix_of_a_file_name_is_a_product(tmp_path: Path) -> None:
    names = ["sku1_1.jpg", "sku1-2.jpg", "sku9.jpg", "sku9_2.png", "a (1).jpg", "a (2).jpg", "lamp_back.jpg",
             "chair-90.jpg", "IMG_1.jpg", "IMG_2.jpg", "商品_1.jpg", "red_lamp.jpg"]  # fmt: skip
    products = {product for product, _, _ in pictures(tmp_path, *names)}
    assert products == {"sku1", "sku9", "a", "lamp", "chair-90", "IMG_1", "IMG_2", "商品", "red_lamp"}


def test_a_folder_that_only_wraps_the_others_says_nothing(tmp_path: Path) -> None:
    assert pictures(tmp_path, "images/s1/a.jpg", "images/s2/a.jpg") == [("s1", "", "s1/a.jpg"), ("s2", "", "s2/a.jpg")]
    assert open_source(tmp_path, {}).images_root == tmp_path / "images"


def test_a_word_in_the_file_name_tells_the_kind(tmp_path: Path) -> None:
    pictures(tmp_path, "s/x_detail.jpg", "s/主图.jpg", "s/x.jpg")
    kinds = {e.images[0].name: e.images[0].kind for e in entries(tmp_path) if isinstance(e, Row)}
    assert kinds == {"x_detail.jpg": ImageKind.DETAIL, "主图.jpg": ImageKind.MAIN, "x.jpg": None}


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no images"):
        open_source(tmp_path, {})


def test_a_large_file_is_read_in_constant_memory(tmp_path: Path) -> None:
    import tracemalloc

    line = "p,title of a lamp," + "x" * 200 + "\n"
    path = feed(tmp_path, "id,title,note\n" + line * 10_000)
    source = open_source(path, {})
    tracemalloc.start()
    count = sum(1 for _ in itertools.islice(source.rows(0), 2_000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 2_000
    assert peak < 2_000_000
