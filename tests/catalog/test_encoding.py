"""Encodings of shop files."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sameitem.catalog.encoding import detect_encoding, guess_encoding

TEXTS = {
    "gb18030": ["1001,红色连衣裙,服装,¥1,299.00\n1002,男士运动鞋,鞋\n", "a,红\n", "货号,标题,价格\n玻璃杯,￥5\n"],
    "big5": ["1001,紅色連衣裙,服裝\n1002,男士運動鞋,鞋\n", "貨號,標題,價格\n"],
    "cp932": ["1001,赤いドレス,服\n", "商品コード,画像,価格\nあか,シャツ\n"],
    "cp949": [
        "1001,빨간 드레스,의류,여성 원피스 여름 신상품\n1002,운동화 남성용 가벼운 러닝화,신발,스포츠 편안한 신발 모음\n"
    ],
    "cp1251": ["1001,Красное платье,Одежда\n", "1,КРАСНОЕ ПЛАТЬЕ\n"],
    "cp1252": [
        "1001,Café chair – größe 12,5 €\n",
        "1,Müller's Stühle\n",
        "Preis;Größe\n",
        "£5\n",
        "à la carte",
        "1,été,5",
    ],
    "utf-8": ["1001,红色\n", "plain", "é", "1,Красное"],
}


@pytest.mark.parametrize(("encoding", "text"), [(name, text) for name, texts in TEXTS.items() for text in texts])
def test_the_encoding_that_wrote_a_text_is_recognised(encoding: str, text: str) -> None:
    assert guess_encoding(text.encode(encoding)) == encoding


@given(data=st.data())
def test_utf_8_is_recognised_wherever_a_sample_is_cut(data: st.DataObject) -> None:
    text = data.draw(st.text(alphabet="aé红😀,\n", min_size=60, max_size=200))
    whole = text.encode()
    cut = data.draw(st.integers(len("红" * 60), max(len("红" * 60), len(whole))))
    assert guess_encoding(whole[:cut]) == "utf-8"


def test_one_broken_byte_does_not_make_a_utf_8_file_something_else() -> None:
    assert guess_encoding("红色连衣裙,男士运动鞋\n".encode() * 20 + b"caf\xe9\n") == "utf-8"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_decides(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "feed.csv"
    path.write_text("id,title\n1,红\n", encoding=encoding)
    assert path.read_text(encoding=detect_encoding(path)) == "id,title\n1,红\n"


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark_shows_by_its_zeros(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "feed.csv"
    path.write_bytes("id,title\n1,lamp\n".encode(encoding))
    assert detect_encoding(path) == encoding


def test_the_telling_lines_are_found_far_into_a_file(tmp_path: Path) -> None:
    path = tmp_path / "feed.csv"
    path.write_bytes(b"1,plain,lamp\n" * 200_000 + "2,红色连衣裙,灯\n".encode("gb18030"))
    assert detect_encoding(path) == "gb18030"
