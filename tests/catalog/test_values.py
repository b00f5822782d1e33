"""Values of shop files."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sameitem.catalog.values import (
    Money,
    parse_box,
    parse_count,
    parse_currency,
    parse_flag,
    parse_kind,
    parse_money,
    parse_number,
    parse_page,
    parse_polygon,
    parse_rating,
    parse_region,
    parse_share,
    parse_time,
    split_locations,
)
from sameitem.core.records import Box, ImageKind

ANY = st.text(max_size=60)
NOISE = st.text(alphabet="0123456789.,'’ -–+%¥€$kK万/元EURs起~", max_size=30)


@pytest.mark.parametrize(
    ("text", "amount", "currency"),
    [
        ("¥1,299.00", 1299, "CNY"),
        ("￥ 99", 99, "CNY"),
        ("1.299,00 €", 1299, "EUR"),
        ("1.299 €", 1299, "EUR"),
        ("1.299", 1.299, ""),
        ("1,299", 1299, ""),
        ("0,125", 0.125, ""),
        ("12,5", 12.5, ""),
        ("CNY 1299", 1299, "CNY"),
        ("15.00 USD", 15, "USD"),
        ("USD $5", 5, "USD"),
        ("$5", 5, "USD"),
        ("$.99", 0.99, "USD"),
        ("HK$1,000", 1000, "HKD"),
        ("１２９９元", 1299, "CNY"),
        ("１，２９９．５０", 1299.5, ""),
        ("1 299,00", 1299, ""),
        ("1\u00a0299,00 zł", 1299, "PLN"),
        ("1'299.50", 1299.5, ""),
        ("CHF 1’299.-", 1299, "CHF"),
        ("12,-", 12, ""),
        ("Rs. 1,299", 1299, "INR"),
        ("Rs.1,29,999.00", 129999, "INR"),
        ("R$ 1.299,90", 1299.9, "BRL"),
        ("1.299.000 ₫", 1299000, "VND"),
        ("12 kr", 12, ""),
        ("1.2万", 12000, ""),
        ("£1,234,567.89", 1234567.89, "GBP"),
        ("3000円", 3000, "JPY"),
        ("0", 0, ""),
    ],
)
def test_a_price_is_read_in_the_ways_shops_write_it(text: str, amount: float, currency: str) -> None:
    assert parse_money(text) == Money(pytest.approx(amount), currency)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "abc",
        "from 12",
        "12起",
        "10-20",
        "¥10~20",
        "-5",
        "1e5",
        "NaN",
        "1,2,3",
        "12..5",
        "99.99.99",
        "€5 USD",
        "1 2",
    ],
)
def test_what_is_not_one_price_is_none(text: str) -> None:
    assert parse_money(text) is None


@given(
    cents=st.integers(0, 10**11),
    style=st.sampled_from([(",", "."), (".", ","), (" ", ","), (" ", "."), ("'", "."), ("", "."), ("", ",")]),
    money=st.sampled_from([("", "", ""), ("¥", "", "CNY"), ("", " EUR", "EUR"), ("$", "", "USD"), ("", " 元", "CNY")]),
    wide=st.booleans(),
)
def test_a_price_with_cents_is_read_back_in_any_style(
    cents: int, style: tuple[str, str], money: tuple[str, str, str], wide: bool
) -> None:
    group, decimal = style
    before, after, currency = money
    digits = f"{cents // 100:,}".replace(",", group) + decimal + f"{cents % 100:02d}"
    if wide:
        digits = "".join(chr(ord(c) + 0xFEE0) if c.isdigit() else c for c in digits)
    assert parse_money(before + digits + after) == Money(pytest.approx(cents / 100), currency)


@given(text=ANY | NOISE)
def test_no_text_breaks_a_reader_of_values(text: str) -> None:
    money = parse_money(text)
    assert money is None or (money.amount >= 0 and len(money.currency) in (0, 3))
    count = parse_count(text)
    assert count is None or 0 <= count <= 2**53
    share = parse_share(text)
    assert share is None or 0 <= share <= 1
    rating = parse_rating(text)
    assert rating is None or 0 <= rating <= 5
    for parse in (parse_number, parse_flag, parse_kind, parse_time, parse_page, parse_box, parse_currency):
        parse(text)
    assert all(split_locations(text))


@pytest.mark.parametrize(
    ("text", "count"),
    [("1.2万", 12000), ("10万+", 100000), ("3k", 3000), ("1,000+", 1000), ("月销 500件", 500), ("12.0", 12), ("7", 7)],
)
def test_a_count_is_read_with_multipliers_and_its_words(text: str, count: int) -> None:
    assert parse_count(text) == count


@pytest.mark.parametrize("text", ["-3", "1.5", "many", "12 monkeys", "3-5"])
def test_what_is_not_a_count_is_none(text: str) -> None:
    assert parse_count(text) is None


def test_a_share_above_one_needs_its_percent_sign() -> None:
    assert parse_share("3.5%") == pytest.approx(0.035)
    assert parse_share("0.035") == 0.035
    assert parse_share("3,5 %") == pytest.approx(0.035)
    assert parse_share("3.5") is None


@pytest.mark.parametrize(
    ("text", "rating"),
    [("4.5/5", 4.5), ("9/10", 4.5), ("4,5 out of 5", 4.5), ("4.8分", 4.8), ("90%", 4.5), ("★★★★☆", 4), ("4.5", 4.5)],
)
def test_a_rating_is_brought_to_the_scale_of_five(text: str, rating: float) -> None:
    assert parse_rating(text) == pytest.approx(rating)


@pytest.mark.parametrize("text", ["7", "6/5", "4/0", "good", ""])
def test_what_is_not_a_rating_is_none(text: str) -> None:
    assert parse_rating(text) is None


def test_flags_are_read_in_words_and_as_stock_counts() -> None:
    yes = ["yes", "1", "TRUE", "in stock", "In_Stock", "有货", "12", "https://schema.org/InStock", "现货"]
    no = ["no", "0", "False", "out of stock", "OutOfStock", "缺货", "售罄", "-3", "sold out"]
    assert [parse_flag(text) for text in yes] == [True] * len(yes)
    assert [parse_flag(text) for text in no] == [False] * len(no)
    assert parse_flag("perhaps") is None


def test_kinds_are_read_in_both_languages() -> None:
    assert parse_kind("主图") is parse_kind("Main") is ImageKind.MAIN
    assert parse_kind("SKU图") is parse_kind("variant") is ImageKind.SKU
    assert parse_kind("买家秀") is parse_kind("Unboxing") is ImageKind.BUYER
    assert parse_kind("详情图") is parse_kind("close-up") is ImageKind.DETAIL
    assert parse_kind("hologram") is None


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-11-23", "2026-11-23T00:00:00Z"),
        ("2026/1/3", "2026-01-03T00:00:00Z"),
        ("2026年1月3日", "2026-01-03T00:00:00Z"),
        ("23.11.2026", "2026-11-23T00:00:00Z"),
        ("11/23/2026", "2026-11-23T00:00:00Z"),
        ("20261123", "2026-11-23T00:00:00Z"),
        ("2026-11-23 10:00:00", "2026-11-23T10:00:00Z"),
        ("2016-02-24T11:07+0100", "2016-02-24T10:07:00Z"),
        ("1700000000", "2023-11-14T22:13:20Z"),
        ("1700000000000", "2023-11-14T22:13:20Z"),
        ("0300-01-01", "0300-01-01T00:00:00Z"),
    ],
)
def test_dates_become_utc(text: str, time: str) -> None:
    assert parse_time(text) == time


@pytest.mark.parametrize("text", ["11/12/2026", "2026-13-01", "0001-01-01T00:00:00+10:00", "soon", "32.1.2026"])
def test_a_date_that_is_unclear_or_none_is_none(text: str) -> None:
    assert parse_time(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "javascript:alert(1)",
        "//evil.example/x",
        "data:text/html,x",
        "ftp://a/b",
        'https://a/"onload=',
        "https://",
        "a b",
    ],
)
def test_a_link_that_a_page_must_not_hold_is_none(text: str) -> None:
    assert parse_page(text) is None


def test_a_link_is_http_or_a_path_of_the_shop() -> None:
    assert parse_page(" https://shop.example/p?id=1 ") == "https://shop.example/p?id=1"
    assert parse_page("/p/1") == "/p/1"


def test_boxes_are_read_in_three_orders() -> None:
    assert parse_box("10, 20,110,220") == parse_box({"left": 10, "top": 20, "right": 110, "bottom": 220})
    assert parse_region("10,110,20,220") == Box(10, 20, 110, 220)
    assert parse_polygon("10,20,110,20,110,220,10,220") == Box(10, 20, 110, 220)
    assert parse_box("10,20,10,220") is parse_box("1,2,3") is parse_box("-1,0,5,5") is parse_box("0,0,nan,5") is None
    assert parse_polygon("1,2,3") is None


@pytest.mark.parametrize(
    ("cell", "locations"),
    [
        ("a.jpg", ["a.jpg"]),
        ("a.jpg | b.jpg", ["a.jpg", "b.jpg"]),
        ("a.jpg;b.jpg", ["a.jpg", "b.jpg"]),
        ("a.jpg,b.png", ["a.jpg", "b.png"]),
        ("my, file.jpg", ["my, file.jpg"]),
        ("http://x/a,b.jpg", ["http://x/a,b.jpg"]),
        ("http://x/a.jpg;v=1", ["http://x/a.jpg;v=1"]),
        ("http://x/a.jpg, http://x/b.jpg", ["http://x/a.jpg", "http://x/b.jpg"]),
        ("http://x/a;http://x/b", ["http://x/a", "http://x/b"]),
        ('["a.jpg", "b.jpg"]', ["a.jpg", "b.jpg"]),
        (["a.jpg", ["b.jpg"]], ["a.jpg", "b.jpg"]),
        ("data:image/png;base64,AA,BB", ["data:image/png;base64,AA,BB"]),
        ("", []),
    ],
)
def test_several_locations_in_one_cell_are_parted(cell: object, locations: list[str]) -> None:
    assert split_locations(cell) == locations
