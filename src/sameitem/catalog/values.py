"""The words and numbers of shop files as values: prices, counts, shares, ratings, flags, dates, boxes.

Every function answers None for what it cannot read with certainty; the caller counts it. Nothing is guessed silently:
what is decided where a text has two readings is said in the docstring and in docs/import.md.
"""

import json
import math
import re
import tomllib
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

from sameitem.core.records import Box, ImageKind

IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".heic", ".heif", ".gif", ".bmp", ".tif", ".tiff")
)
_MULTIPLIERS = {"": 1, "k": 1_000, "千": 1_000, "w": 10_000, "万": 10_000, "萬": 10_000, "m": 1_000_000, "亿": 10**8}
_LONGEST = 100  # characters of a number, a date or a word
_DIGITS = r"\d(?:[\d.,'’ ]*\d)?"
_MONEY = re.compile(
    rf"(?P<before>[^\d\-]*?)(?P<number>\.?{_DIGITS})(?:[.,][-–—]+)?\s*(?P<unit>[千万萬亿]|[kKwW](?![A-Za-z])|)(?P<after>[^\d]*)"
)
_COUNT = re.compile(
    rf"(?P<before>[^\d\-]*?)(?P<number>{_DIGITS})\s*(?P<unit>[千万萬亿]|[kKwWmM](?![A-Za-z])|)\s*\+?\s*(?P<after>[^\d]*)"
)


@cache
def shop_words() -> dict[str, dict[str, Any]]:
    """Return the words of shop files: column names, image kinds, flags, counts, currencies (data/words.toml)."""
    text = files("sameitem.catalog").joinpath("data", "words.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


@dataclass(frozen=True, slots=True)
class Money:
    """An amount and its currency; "" where the text names none."""

    amount: float
    currency: str


def parse_money(text: str) -> Money | None:
    """Return the one amount that a price text states, and the currency it names.

    Signs and codes may stand on either side; digits may be full-width; thousands may be grouped by comma, dot, space
    or apostrophe. A single comma before three digits groups ("1,299" is 1299); a single dot before three digits is a
    decimal point ("1.299" is 1.299) unless the text names a currency whose shops group with dots ("1.299 €" is 1299).
    Ranges, negative amounts and "from 12" are not a price: None.
    """
    found = _MONEY.fullmatch(_plain(text))
    if not found:
        return None
    before, number = found["before"].strip(), found["number"]
    if before.endswith(".") and _currency(before) is None:  # "$.99"
        before, number = before[:-1].strip(), "." + number
    elif number.startswith(".") and before:  # "Rs.1,299"
        before, number = (before + ".", number[1:]) if _currency(before + ".") is not None else (before, number)
    named = [_currency(part) for part in (before, found["after"].strip()) if part]
    if None in named:
        return None
    currencies = {currency for currency in named if currency}
    if len(currencies) > 1:
        return None
    currency = currencies.pop() if currencies else ""
    amount = _number(number, dot_groups=currency in shop_words()["currency_codes"]["group_with_dots"])
    return None if amount is None else Money(amount * _MULTIPLIERS[found["unit"].casefold()], currency)


def parse_currency(text: str) -> str | None:
    """Return the three-letter code of a currency column ("cny", "¥", "元"), None when it is not a currency we know."""
    currency = _currency(_plain(text))
    return currency or None


def parse_count(text: str) -> int | None:
    """Return a number of things: "1.2万" is 12000, "3k" 3000, "1,000+" 1000, "月销 500件" 500; None below zero."""
    words = shop_words()["counts"]["words"]
    found = _COUNT.fullmatch(_plain(text))
    if not found or not {found["before"].strip().casefold(), found["after"].strip().casefold()} - {""} <= set(words):
        return None
    value = _number(found["number"])
    count = None if value is None else value * _MULTIPLIERS[found["unit"].casefold()]
    if count is None or count > 2**53 or (not found["unit"] and count != int(count)):
        return None
    return round(count)


def parse_share(text: str) -> float | None:
    """Return a share 0..1: "3.5%" is 0.035, "0.035" itself; None above one, where percent or share is a guess."""
    plain = _plain(text)
    value = _number(plain.rstrip("%‰ "))
    if value is None:
        return None
    value /= 100 if plain.endswith("%") else 1000 if plain.endswith("‰") else 1
    return value if value <= 1 else None


def parse_rating(text: str) -> float | None:
    """Return a rating on the scale 0..5: "4.5/5", "9/10" (4.5), "4,5 out of 5", "4.8分", "90%" (4.5), "★★★★☆" (4)."""
    plain = _plain(text).casefold()
    if plain and set(plain) <= {"★", "☆"}:
        return float(plain.count("★"))
    found = re.fullmatch(
        r"(\d+(?:[.,]\d+)?)\s*(?:分|星|stars?|points?)?(?:\s*(?:/|out of|von|sur)\s*(\d+))?(%?)", plain
    )
    if not found:
        return None
    scale = 100.0 if found[3] else float(found[2] or 5)
    value = float(found[1].replace(",", "."))
    return 5 * value / scale if scale and value <= scale else None


def parse_number(text: str) -> float | None:
    """Return a number that may be negative, in percent or grouped; None for anything else."""
    plain = _plain(text)
    sign, digits = (-1, plain[1:]) if plain.startswith("-") else (1, plain)
    value = _number(digits.rstrip("% "))
    return None if value is None else sign * value / (100 if digits.endswith("%") else 1)


def parse_flag(text: str) -> bool | None:
    """Return yes or no in the words of shops ("in stock", "有货", "售罄"), or whether a stock count is above zero."""
    word = re.sub(
        r"[\s\-]+", "_", _plain(text).casefold().removeprefix("http://schema.org/").removeprefix("https://schema.org/")
    )
    flags = shop_words()["flags"]
    if word in flags["yes"]:
        return True
    if word in flags["no"]:
        return False
    value = parse_number(text)
    return None if value is None else value > 0


def parse_kind(text: str) -> ImageKind | None:
    """Return the image kind that a word names ("主图", "close-up", "buyer"), None for a word we do not know."""
    word = re.sub(r"[\s\-]+", "_", _plain(text).casefold())
    return next((ImageKind(kind) for kind, words in shop_words()["kinds"].items() if word in words), None)


def parse_time(text: str) -> str | None:
    """Return a date or time as ISO 8601 UTC ("2026-11-23T00:00:00Z"); None for day and month in unclear order.

    ISO 8601, "2026/11/23", "2026年11月23日", "23.11.2026", "20261123", seconds or milliseconds since 1970, and
    "11/23/2026" where one of the two numbers is above twelve. Without a zone it is UTC.
    """
    plain = _plain(text)
    if re.fullmatch(r"\d{10}|\d{13}", plain):
        moment = datetime.fromtimestamp(int(plain) / (1000 if len(plain) == 13 else 1), tz=UTC)
        return _iso(moment.isoformat())
    found = re.fullmatch(r"(\d{1,4})\s*[-/.年]\s*(\d{1,2})\s*[-/.月]\s*(\d{1,4})\s*日?(?:[T ]+(\d.*))?", plain)
    if not found:
        return _iso(plain)
    first, second, third = int(found[1]), int(found[2]), int(found[3])
    if len(found[1]) == 4:
        year, month, day = first, second, third
    elif len(found[3]) != 4 or ("/" in plain and first <= 12 and second <= 12 and first != second):
        return None
    else:
        year, month, day = (third, first, second) if second > 12 else (third, second, first)
    try:
        return _iso(date(year, month, day).isoformat() + (f"T{found[4].strip()}" if found[4] else ""))
    except ValueError:
        return None


def parse_box(value: object) -> Box | None:
    """Return "left,top,right,bottom" or {"left":, "top":, "right":, "bottom":}, pixels of the upright picture."""
    if isinstance(value, Mapping):
        value = [value.get(name) for name in ("left", "top", "right", "bottom")]
    numbers = _numbers(value)
    return _box(*numbers) if len(numbers) == 4 else None


def parse_region(value: object) -> Box | None:
    """Return the four numbers "x1,x2,y1,y2" (the order of Alibaba's callers) as a box."""
    numbers = _numbers(value)
    return _box(numbers[0], numbers[2], numbers[1], numbers[3]) if len(numbers) == 4 else None


def parse_polygon(value: object) -> Box | None:
    """Return the box around a polygon "x1,y1,x2,y2,..." (bounding-poly of Google's product files)."""
    numbers = _numbers(value)
    if len(numbers) < 4 or len(numbers) % 2:
        return None
    across, down = numbers[0::2], numbers[1::2]
    return _box(min(across), min(down), max(across), max(down))


def parse_page(text: str) -> str | None:
    """Return the address of a product's page: http(s) or a path of the shop; None for anything a link must not hold."""
    plain = text.strip()
    if len(plain) > 2048 or not plain.isprintable() or re.search(r"[\s\\\"<>]", plain):
        return None
    try:
        parts = urlsplit(plain)
    except ValueError:
        return None
    if parts.scheme.lower() in ("http", "https"):
        return plain if parts.netloc else None
    return plain if plain.startswith("/") and not plain.startswith("//") else None


def split_locations(value: object) -> list[str]:
    """Return the image locations of one cell: one, several between | or line ends, between commas or semicolons, JSON.

    A comma or semicolon separates only before a location that starts with a scheme, or where every part ends like an
    image file, so that one inside a URL or a file name does no harm.
    """
    if isinstance(value, str):
        text = value.strip()
        if text.startswith("["):
            try:
                return split_locations(json.loads(text))
            except ValueError:
                pass
        if text.lower().startswith("data:"):
            return [text]
        return [piece for part in re.split(r"[|\r\n]+", text) for piece in _split_marks(part.strip()) if piece]
    if isinstance(value, Iterable) and not isinstance(value, Mapping):
        return [location for item in value for location in split_locations(item)]
    return []


def _split_marks(text: str) -> list[str]:
    pieces = [piece.strip() for piece in re.split(r"[,;]\s*(?=(?:https?|gs|oss|s3):)", text)]
    if len(pieces) == 1:
        for mark in ",;":
            parts = [part.strip() for part in text.split(mark) if part.strip()]
            if len(parts) > 1 and all(re.search(r"\.[A-Za-z]{3,4}(?:\?\S*)?$", part) for part in parts):
                return parts
    return [piece.rstrip(",;").strip() for piece in pieces]


def _plain(text: str) -> str:
    """Full-width to ASCII, odd spaces to spaces, ends trimmed; nothing where no single value can be so long."""
    return "" if len(text) > _LONGEST else re.sub(r"\s+", " ", unicodedata.normalize("NFKC", text)).strip()


def _currency(text: str) -> str | None:
    """Return the code, "" for a sign that several currencies share, None for a word that is no currency."""
    words = shop_words()
    signs, codes = words["currencies"], words["currency_codes"]["all"]
    word = text.strip(" :").casefold().replace(" ", "")
    if word.upper() in codes:
        return word.upper()
    if word in signs:
        return str(signs[word])
    code = word[:3].upper()  # "USD $"
    return code if code in codes and word[3:] in signs else None


def _number(text: str, *, dot_groups: bool = False) -> float | None:
    """Read digits with grouping and decimal marks; None when the grouping is not one that people write."""
    text = text.strip()
    if not re.fullmatch(r"\.?\d(?:[\d.,'’ ]*\d)?", text):
        return None
    text = text.replace("’", "'")
    marks = [mark for mark in text if mark in ".,"]
    decimal = ""
    if len(set(marks)) == 2:
        decimal = marks[-1]
    elif len(marks) == 1:
        head, tail = text.split(marks[0])
        grouped = len(tail) == 3 and 1 <= len(head) <= 3 and head != "0"
        decimal = "" if grouped and (marks[0] == "," or dot_groups) else marks[0]
    whole, _, fraction = text.rpartition(decimal) if decimal else (text, "", "")
    if not (fraction.isdigit() or not fraction) or not _well_grouped(whole):
        return None
    value = float((re.sub(r"[.,' ]", "", whole) or "0") + "." + (fraction or "0"))
    return value if math.isfinite(value) else None


def _well_grouped(whole: str) -> bool:
    groups = re.split(r"[.,' ]", whole)
    separators = set(re.sub(r"\d", "", whole))
    if len(groups) == 1:
        return True
    inner = {len(group) for group in groups[1:-1]}
    return len(separators) == 1 and 1 <= len(groups[0]) <= 3 and len(groups[-1]) == 3 and (inner <= {3} or inner <= {2})


def _iso(text: str) -> str | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    try:
        return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    except OverflowError:
        return None


def _numbers(value: object) -> list[float]:
    if isinstance(value, str):
        value = re.split(r"[,;\s]+", value.strip().strip("[]()"))
    if not isinstance(value, Iterable):
        return []
    numbers = []
    for item in value:
        try:
            number = float(item)
        except (TypeError, ValueError):
            return []
        if not math.isfinite(number):
            return []
        numbers.append(number)
    return numbers


def _box(left: float, top: float, right: float, bottom: float) -> Box | None:
    return Box(left, top, right, bottom) if 0 <= left < right and 0 <= top < bottom else None
