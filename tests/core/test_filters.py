from collections.abc import Callable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sameitem.core.errors import InputError
from sameitem.core.filters import MAX_LENGTH, Numbers, column, parse_filter, product_value
from sameitem.core.records import Attribute, Product, ProductId

LAMP = {"price": 25.0, "brand": "Lumo", "in_stock": True, "size": "42", "colour": "", "code": "007"}


def holds(text: str, record: Mapping[str, Attribute | None] = LAMP) -> bool:
    return parse_filter(text).matches(record.get)


@pytest.mark.parametrize(
    "text",
    [
        "price >= 25",
        "price>10 and PRICE_X = 1 Or price < 50",
        'brand IN ("Lumo", "Other")',
        "brand in ('Lumo')",
        'brand NOT IN ("Other")',
        'NOT brand = "Other"',
        "NOT NOT price = 25",
        "in_stock = true",
        "in_stock != FALSE",
        '(price < 10 OR price > 20) AND brand != "x"',
        "`price` = 2.5e1",
        "price = +25.0",
        'price = "25"',
        "size = 42",
        "size >= 41.5",
        'code = "007"',
    ],
)
def test_an_expression_that_is_true_of_a_record_matches_it(text: str) -> None:
    assert holds(text)


@pytest.mark.parametrize(
    "text",
    [
        "price > 25",
        'brand = "lumo"',
        'brand NOT IN ("Lumo", "Other")',
        "in_stock = 1",
        "brand > 3",
        "code = 7",
        "code >= 0",
        'price = 25 AND NOT brand = "Lumo"',
    ],
)
def test_an_expression_that_is_false_of_a_record_does_not_match_it(text: str) -> None:
    assert not holds(text)


@pytest.mark.parametrize("name", ["colour", "unheard_of"])
def test_a_missing_value_satisfies_only_the_empty_text(name: str) -> None:
    for comparison in ('= "a"', '!= "a"', 'NOT IN ("a")', "< 3", ">= 3", '!= ""', "= true"):
        assert not holds(f"{name} {comparison}")
    assert holds(f'{name} = ""')
    assert holds(f'{name} IN ("a", "")')
    assert holds(f'NOT {name} = "a"')


def test_and_binds_tighter_than_or_and_not_tighter_than_both() -> None:
    assert holds("price = 25 OR price = 1 AND price = 2")
    assert not holds("(price = 25 OR price = 1) AND price = 2")
    assert holds("NOT price = 1 OR price = 25")
    assert not holds("NOT (price = 1 OR price = 25)")


def test_names_may_be_chinese_dotted_or_anything_between_backquotes() -> None:
    record = {"颜色": "红", "size.eu": 41.0, "in": "x", "a `b` c": 1.0}
    assert holds("颜色 = \"红\" AND size.eu = 41 AND `in` = 'x' AND `a ``b`` c` = 1", record)


@given(st.text(max_size=40), st.sampled_from("\"'"))
def test_any_text_can_be_written_between_quotes(text: str, quote: str) -> None:
    for escape in ("\\" + quote, quote + quote):
        escaped = text.replace("\\", "\\\\").replace(quote, escape)
        assert holds(f"name = {quote}{escaped}{quote}", {"name": text})


@pytest.mark.parametrize(
    ("text", "position", "expected", "found"),
    [
        ("", 1, "a name, NOT or (", "the end"),
        ("price", 6, "=, !=, <, <=, >, >=, IN or NOT IN", "the end"),
        ("price >", 8, "a number", "the end"),
        ('price > "a"', 9, "a number", "'\"a\"'"),
        ("price = 1 1", 11, "AND, OR or the end", "'1'"),
        ("price = AND", 9, "a value", "'AND'"),
        ("(price = 1", 11, "AND, OR or )", "the end"),
        ("price = 1)", 10, "AND, OR or the end", "')'"),
        ("brand IN ()", 11, "a value", "')'"),
        ("brand IN (1, )", 14, "a value", "')'"),
        ("brand NOT = 1", 11, "IN", "'='"),
        ('brand = "a', 9, 'a closing "', "'\"a'"),
        ("price ! 1", 7, "!=", "'!'"),
        ("price = 10abc", 9, "a number such as", "'10abc'"),
        ("price = 1e999", 9, "a number of at most", "'1e999'"),
        ("id = 12345678901234567", 6, "in quotes", "'12345678901234567'"),
        ("price = 1; DROP", 10, "a name, a value or an operator", "';'"),
        ("10 < price", 1, "a name, NOT or (", "'10'"),
        ("in = 3", 1, "a name, NOT or (", "'in'"),
        ("a = 1 AND", 10, "a name, NOT or (", "the end"),
        ("NOT", 4, "a name, NOT or (", "the end"),
        ("颜色 = 红", 6, "a value", "'红'"),
    ],
)
def test_an_error_says_position_expectation_and_finding(text: str, position: int, expected: str, found: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_filter(text)
    message = str(caught.value)
    assert message.startswith(f"filter, position {position}: expected ")
    assert expected in message
    assert message.endswith(f"found {found}")
    assert caught.value.field == "filter"


def test_an_expression_longer_than_the_limit_is_refused() -> None:
    with pytest.raises(InputError, match="4097 characters, at most 4096"):
        parse_filter("a = 1".ljust(MAX_LENGTH + 1))
    assert holds("price = 25".ljust(MAX_LENGTH))


@pytest.mark.parametrize("text", ["(" * 4096, "(" * 51 + "a = 1" + ")" * 51])
def test_deep_parentheses_are_refused_and_not_a_crash(text: str) -> None:
    with pytest.raises(InputError, match=r"position 51: expected at most 50 parentheses"):
        parse_filter(text)


def test_the_longest_chains_are_read_and_answered() -> None:
    assert holds("NOT " * 1020 + "price = 25")
    assert holds("price=1 OR " * 370 + "price=25")
    assert holds("(" * 50 + "price = 25" + ")" * 50)


@given(st.text(alphabet="ab =<>!()\"'`\\,.-+12eANDORNOTINtrue 红", max_size=60))
def test_any_text_is_read_or_refused_with_a_position(text: str) -> None:
    reason = ""
    try:
        parse_filter(text)
    except InputError as error:
        reason = str(error)
    assert not reason or reason.startswith("filter, position ")


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(["", "a", "b", "红", "1", "-2.5", "007", "true", "False", "1e5"]),
    st.sampled_from([0.0, -0.0, 1.0, 2.5, -2.5, 7.0, 1e300, float("nan"), float("inf")]),
)
LITERALS = st.sampled_from(
    ['""', '"a"', "'红'", '"1"', '"007"', '"true"', "1", "-2.5", "7", "1e300", "0", "true", "FALSE"]
)
NUMBERS = st.sampled_from(["0", "1", "-2.5", "7", "1e300"])
NAMES = st.sampled_from(["x", "y", "z"])
COMPARISONS = st.one_of(
    st.builds("{} {} {}".format, NAMES, st.sampled_from(["<", "<=", ">", ">="]), NUMBERS),
    st.builds("{} {} {}".format, NAMES, st.sampled_from(["=", "!="]), LITERALS),
    st.builds(
        lambda name, word, literals: f"{name} {word} ({', '.join(literals)})",
        NAMES,
        st.sampled_from(["IN", "NOT IN"]),
        st.lists(LITERALS, min_size=1, max_size=3),
    ),
)
EXPRESSIONS = st.recursive(
    COMPARISONS,
    lambda inner: st.one_of(
        inner.map("NOT ({})".format),
        st.builds("({}) AND ({})".format, inner, inner),
        st.builds("({}) OR ({})".format, inner, inner),
    ),
    max_leaves=6,
)


@given(EXPRESSIONS, st.lists(st.tuples(VALUES, VALUES), max_size=12))
def test_the_mask_of_many_records_is_the_answer_for_each(text: str, rows: list[tuple[Attribute | None, ...]]) -> None:
    records = [{"x": x, "y": y} for x, y in rows]  # nobody has a z
    parsed = parse_filter(text)
    columns = {name: column([record[name] for record in records]) for name in ("x", "y")}
    assert parsed.mask(columns.get, len(records)).tolist() == [parsed.matches(record.get) for record in records]


@given(EXPRESSIONS, st.lists(st.floats(allow_nan=True), min_size=1, max_size=12))
def test_a_column_of_numbers_answers_as_each_number_does(text: str, values: list[float]) -> None:
    parsed = parse_filter(text)
    numbers = column(values)
    assert isinstance(numbers, Numbers)
    answers = parsed.mask(lambda name: numbers, len(values)).tolist()
    assert answers == [parsed.matches(lambda name, value=value: value) for value in values]


@given(st.integers(-50, 50), st.integers(-50, 50))
def test_comparisons_agree_with_python(value: int, bound: int) -> None:
    oracle: dict[str, Callable[[int, int], bool]] = {
        "<": int.__lt__, "<=": int.__le__, ">": int.__gt__, ">=": int.__ge__, "=": int.__eq__, "!=": int.__ne__,
    }  # fmt: skip
    for symbol, expected in oracle.items():
        assert holds(f"v {symbol} {bound}", {"v": float(value)}) == expected(value, bound)


def test_the_names_of_an_expression_are_known() -> None:
    assert parse_filter("a = 1 AND NOT (b < 2 OR `c d` IN (1)) AND a > 0").names() == {"a", "b", "c d"}


def test_a_column_keeps_one_copy_of_each_label_and_tells_true_from_one() -> None:
    labels = column(["red", None, True, 1.0, "red", ""])
    assert not isinstance(labels, Numbers)
    assert labels.codes.tolist() == [0, -1, 1, 2, 0, -1]
    assert labels.values == ("red", True, 1.0)


def test_a_products_fields_come_before_its_free_attributes() -> None:
    product = Product(ProductId("p1"), price=9.5, brand="Lumo", attributes={"colour": "red", "price": "on request"})
    values = [product_value(product, name) for name in ("price", "brand", "colour", "attributes.price", "rating", "no")]
    assert values == [9.5, "Lumo", "red", "on request", None, None]
