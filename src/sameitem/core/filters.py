"""Filter expressions: one grammar for search, selection, the product routes and the command line.

    price >= 10 AND price < 50 AND brand IN ("a", "b") AND NOT colour = "red"

    expression  := term { OR term }
    term        := factor { AND factor }
    factor      := { NOT } ( "(" expression ")" | comparison )
    comparison  := name ( "<" | "<=" | ">" | ">=" ) number
                 | name ( "=" | "!=" ) value
                 | name [ NOT ] IN "(" value { "," value } ")"
    value       := number | "text" | 'text' | true | false
    name        := a letter or _, then letters, digits, _ and . ; anything else between backquotes

Keywords ignore case; names and texts do not. In a text, a backslash or a second quote makes the next character literal.

What a comparison means (two truth values, no third):

- A missing value (the shop did not say; empty text) satisfies no comparison, neither `=` nor `!=` nor `NOT IN`. Only
  the empty text stands for it: `brand = ""` finds products without a brand, `brand != ""` those with one.
- NOT turns the answer around, so `NOT colour = "red"` keeps products without a colour and `colour != "red"` does not.
- A text that reads as a plain number (`42`, `-1.5`; not `007` or `1e5`) equals that number and is ordered like it; a
  text that reads as true or false equals that. Anything else of another type is different, and not ordered.
"""

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sameitem.core.errors import InputError
from sameitem.core.records import Attribute, Product

MAX_LENGTH: Final = 4096  # characters of an expression
MAX_DEPTH: Final = 50  # parentheses inside one another

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Numbers:
    """A column whose values are all numbers; NaN = missing."""

    values: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Labels:
    """A column of any values, each distinct one held once."""

    codes: NDArray[np.int32]  # row -> position in `values`; -1 = missing
    values: Sequence[Attribute]


Column = Numbers | Labels


@dataclass(frozen=True, slots=True)
class _Comparison:
    name: str
    symbol: str  # a key of _ORDERED, or "=" (one of the literals), or "!=" (present and none of them)
    literals: tuple[Attribute, ...]


@dataclass(frozen=True, slots=True)
class _Not:
    part: "_Node"


@dataclass(frozen=True, slots=True)
class _All:
    parts: tuple["_Node", ...]


@dataclass(frozen=True, slots=True)
class _Any:
    parts: tuple["_Node", ...]


_Node = _Comparison | _Not | _All | _Any

_ORDERED: Final[Mapping[str, Callable[..., bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True, slots=True)
class Filter:
    """A parsed expression; make one with `parse_filter`."""

    text: str
    root: _Node

    def names(self) -> frozenset[str]:
        """Return every attribute name the expression speaks of."""
        return frozenset(_names(self.root))

    def matches(self, value_of: Callable[[str], Attribute | None]) -> bool:
        """Tell whether one record satisfies the expression.

        Args:
            value_of: the record's value for a name; None or "" = missing.
        """
        return _matches(self.root, value_of)

    def mask(self, column_of: Callable[[str], Column | None], rows: int) -> Mask:
        """Tell for each of many records what `matches` would say.

        Args:
            column_of: the values of all records for a name; None = nobody has it.
            rows: number of records.

        Returns:
            (rows,) true where the record satisfies the expression.
        """
        columns = {name: column_of(name) for name in self.names()}
        return _mask(self.root, columns, rows)


def parse_filter(text: str) -> Filter:
    """Return the filter that an expression describes.

    Raises:
        InputError: not an expression of the grammar, longer than 4096 characters or more than 50 parentheses deep; says
            the position (counted from 1), what was expected there and what was found.
    """
    if len(text) > MAX_LENGTH:
        raise InputError(f"filter: {len(text)} characters, at most {MAX_LENGTH} are accepted", field="filter")
    return Filter(text, _Parser(text).parse())


def column(values: Sequence[Attribute | None]) -> Column:
    """Return a column for one value a record, None or "" where it is missing."""
    present = [value for value in values if not is_missing(value)]
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in present):
        return Numbers(np.array([np.nan if is_missing(v) else float(v or 0.0) for v in values], dtype=np.float64))
    positions: dict[tuple[type, Attribute], int] = {}
    codes = np.full(len(values), -1, dtype=np.int32)
    for row, value in enumerate(values):
        if value is not None and not is_missing(value):
            codes[row] = positions.setdefault((type(value), value), len(positions))
    return Labels(codes, tuple(value for _, value in positions))


def product_value(product: Product, name: str) -> Attribute | None:
    """Return what a name in a filter means for a product: a field of the record, else one of its free attributes.

    A free attribute that has the name of a field is reached as `attributes.NAME`.
    """
    if name in _PRODUCT_FIELDS:
        value: Attribute | None = getattr(product, name)
        return value
    return product.attributes.get(name, product.attributes.get(name.removeprefix("attributes.")))


_PRODUCT_FIELDS: Final = frozenset(field.name for field in fields(Product)) - {"attributes"}


# ---- meaning: one record ----


def _names(node: _Node) -> list[str]:
    match node:
        case _Comparison(name):
            return [name]
        case _Not(part):
            return _names(part)
        case _All(parts) | _Any(parts):
            return [name for part in parts for name in _names(part)]


def _matches(node: _Node, value_of: Callable[[str], Attribute | None]) -> bool:
    match node:
        case _Comparison(name):
            return _satisfies(value_of(name), node)
        case _Not(part):
            return not _matches(part, value_of)
        case _All(parts):
            return all(_matches(part, value_of) for part in parts)
        case _Any(parts):
            return any(_matches(part, value_of) for part in parts)


def _satisfies(value: Attribute | None, comparison: _Comparison) -> bool:
    if value is None or is_missing(value):
        return comparison.symbol == "=" and "" in comparison.literals
    if comparison.symbol in _ORDERED:
        number = _as_number(value)
        return number is not None and _ORDERED[comparison.symbol](number, comparison.literals[0])
    found = any(_equal(value, literal) for literal in comparison.literals)
    return found == (comparison.symbol == "=")


def is_missing(value: Attribute | None) -> bool:
    """Tell whether a value stands for "the shop did not say": nothing, the empty text, not a number."""
    return value is None or value == "" or value != value  # the last is NaN


def _equal(value: Attribute, literal: Attribute) -> bool:
    if isinstance(value, str) and isinstance(literal, str):
        return value == literal
    if isinstance(value, bool) or isinstance(literal, bool):
        truth = _as_truth(value)
        return truth is not None and truth == _as_truth(literal)
    number = _as_number(value)
    return number is not None and number == _as_number(literal)


_PLAIN_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,307})(?:\.[0-9]+)?")


def _as_number(value: Attribute) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        return float(value) if _PLAIN_NUMBER.fullmatch(value) else None
    return float(value)


def _as_truth(value: Attribute) -> bool | None:
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False}.get(value.lower()) if isinstance(value, str) else None


# ---- meaning: many records ----


def _mask(node: _Node, columns: Mapping[str, Column | None], rows: int) -> Mask:
    match node:
        case _Comparison(name):
            return _column_mask(columns[name], node, rows)
        case _Not(part):
            return ~_mask(part, columns, rows)
        case _All(parts):
            every = np.ones(rows, dtype=np.bool_)
            for part in parts:
                every &= _mask(part, columns, rows)
            return every
        case _Any(parts):
            some = np.zeros(rows, dtype=np.bool_)
            for part in parts:
                some |= _mask(part, columns, rows)
            return some


def _column_mask(column: Column | None, comparison: _Comparison, rows: int) -> Mask:
    match column:
        case None:
            return np.full(rows, _satisfies(None, comparison))
        case Labels(codes, values):
            answers = [_satisfies(value, comparison) for value in values]
            return np.array([*answers, _satisfies(None, comparison)], dtype=np.bool_)[codes]  # code -1 is the last
        case Numbers(values):
            missing = np.isnan(values)
            if comparison.symbol in _ORDERED:
                answer = np.asarray(_ORDERED[comparison.symbol](values, comparison.literals[0]))
            else:
                wanted = [number for literal in comparison.literals if (number := _as_number(literal)) is not None]
                answer = np.isin(values, wanted, invert=comparison.symbol == "!=")
            return np.where(missing, _satisfies(None, comparison), answer)


# ---- syntax ----

_TOKEN: Final = re.compile(
    r"""\s*(?:
        (?P<number>[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)(?![\w.])
      | (?P<word>[^\W\d][\w.]*)
      | `(?P<quoted_name>(?:[^`]|``)+)`
      | (?P<text>"(?:[^"\\]|\\.|"")*"|'(?:[^'\\]|\\.|'')*')
      | (?P<symbol><=|>=|!=|[=<>(),])
      | (?P<end>\Z)
    )""",
    re.VERBOSE | re.DOTALL,
)
_KEYWORDS: Final = frozenset({"AND", "OR", "NOT", "IN", "TRUE", "FALSE"})
_EXACT_INTEGERS: Final = 2**53  # a larger number may stand for its neighbour as well, which an identifier must not


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # "name", "value", "end", or the keyword or symbol itself
    value: Attribute
    start: int
    stop: int


class _Parser:
    """Recursive descent over the grammar of the module's docstring; holds the place reached."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._depth = 0
        self._token = self._read(0)

    def parse(self) -> _Node:
        node = self._expression()
        if self._token.kind != "end":
            raise self._error("AND, OR or the end")
        return node

    def _expression(self) -> _Node:
        parts = [self._term()]
        while self._accept("OR"):
            parts.append(self._term())
        return parts[0] if len(parts) == 1 else _Any(tuple(parts))

    def _term(self) -> _Node:
        parts = [self._factor()]
        while self._accept("AND"):
            parts.append(self._factor())
        return parts[0] if len(parts) == 1 else _All(tuple(parts))

    def _factor(self) -> _Node:
        turned = False
        while self._accept("NOT"):
            turned = not turned
        node = self._group() if self._token.kind == "(" else self._comparison()
        return _Not(node) if turned else node

    def _group(self) -> _Node:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._error(f"at most {MAX_DEPTH} parentheses inside one another")
        self._take("(", "(")
        node = self._expression()
        self._take(")", "AND, OR or )")
        self._depth -= 1
        return node

    def _comparison(self) -> _Node:
        name = str(self._take("name", "a name, NOT or (").value)
        if self._token.kind in _ORDERED:
            symbol = self._advance().kind
            if isinstance(self._token.value, str | bool) or self._token.kind != "value":
                raise self._error("a number")
            return _Comparison(name, symbol, (self._advance().value,))
        if self._token.kind in ("=", "!="):
            symbol = self._advance().kind
            return _Comparison(name, symbol, (self._literal(),))
        symbol = "!=" if self._accept("NOT") else "="
        self._take("IN", "IN" if symbol == "!=" else "=, !=, <, <=, >, >=, IN or NOT IN")
        self._take("(", "(")
        literals = [self._literal()]
        while self._accept(","):
            literals.append(self._literal())
        self._take(")", ", or )")
        return _Comparison(name, symbol, tuple(literals))

    def _literal(self) -> Attribute:
        return self._take("value", 'a value: a number, "text", true or false').value

    def _accept(self, kind: str) -> bool:
        if self._token.kind != kind:
            return False
        self._advance()
        return True

    def _take(self, kind: str, expected: str) -> _Token:
        if self._token.kind != kind:
            raise self._error(expected)
        return self._advance()

    def _advance(self) -> _Token:
        token = self._token
        self._token = self._read(token.stop)
        return token

    def _read(self, start: int) -> _Token:
        match = _TOKEN.match(self._text, start)
        if match is None:
            raise self._unreadable(start)
        kind, found = match.lastgroup or "", match[match.lastgroup or 0]
        place = (match.start(kind), match.end())
        if kind == "number":
            return _Token("value", self._number(found, *place), *place)
        if kind == "text":
            return _Token("value", re.sub(rf"\\(.)|{found[0]}({found[0]})", r"\1\2", found[1:-1], flags=re.S), *place)
        if kind == "quoted_name":
            return _Token("name", found.replace("``", "`"), place[0] - 1, place[1])
        if kind == "word" and found.upper() in _KEYWORDS:
            keyword = found.upper()
            kind = "value" if keyword in ("TRUE", "FALSE") else keyword
            return _Token(kind, keyword == "TRUE", *place)
        return _Token({"word": "name", "symbol": found}.get(kind, kind), found, *place)

    def _number(self, found: str, start: int, stop: int) -> float:
        number = float(found)
        is_integer = found.lstrip("+-").isdigit()
        if not np.isfinite(number) or (is_integer and abs(number) >= _EXACT_INTEGERS):
            raise self._error(f"a number of at most {_EXACT_INTEGERS - 1}, or the same digits in quotes", start, stop)
        return number

    def _unreadable(self, start: int) -> InputError:
        begin = start + len(self._text[start:]) - len(self._text[start:].lstrip())
        character = self._text[begin]
        if character in "\"'`":
            return self._error(f"a closing {character}", begin, len(self._text))
        if character in "!+-." or character.isdigit():
            word = re.match(r"\S+", self._text[begin:])
            expected = "!=" if character == "!" else "a number such as 12, -1.5 or 1e3"
            return self._error(expected, begin, begin + (word.end() if word else 1))
        return self._error("a name, a value or an operator", begin, begin + 1)

    def _error(self, expected: str, start: int | None = None, stop: int | None = None) -> InputError:
        begin = self._token.start if start is None else start
        found = self._text[begin : self._token.stop if stop is None else stop]
        shown = repr(found if len(found) <= 40 else found[:40] + "...") if found else "the end"
        return InputError(f"filter, position {begin + 1}: expected {expected}, found {shown}", field="filter")
