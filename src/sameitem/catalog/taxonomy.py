"""The taxonomy: top categories, their leaves, and where a shop's own category text belongs.

A shop writes what it likes ("Home > Lamps", "女装-连衣裙"). That text, normalised, is a leaf; its top category comes
from the shop's mapping file, else from the words of the text where they clearly name something we know, else it
stays open ("") and the kNN vote decides when an index is built.
"""

import csv
import re
import tomllib
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from sameitem.catalog.encoding import detect_encoding
from sameitem.core.errors import InputError

OTHERS = "others"
_SEPARATORS = (
    r">+|»|›|→",
    r"\|",
    r"/|\\",
    r"\s[-–—]\s|(?<=[一-鿿])[-–—](?=[一-鿿])",
)  # the first kind that occurs counts
_ID = re.compile(r"[a-z0-9_]{1,64}")
_TOKEN = re.compile(r"[一-鿿]|[^\W_一-鿿]+")  # one Chinese character, or a run of letters and digits
_CONJUNCTION = re.compile(r"[&,;+/、]|\band\b|\bor\b|[和与及]")
_CUT = re.compile(r"\b(?:for|with|without|of|in|by)\b|[(\[{]")  # what follows does not name the thing itself
_TAILS = (  # may follow the word that names the thing: "phone accessories", "dresses women"
    *("accessory", "set", "collection", "product", "item", "supply", "gift", "sale", "new", "other", "more", "led"),
    *("men", "man", "women", "woman", "lady", "unisex", "adult", "kid", "child", "children", "girl", "boy", "baby"),
    *("配件", "套装", "系列", "用品", "新品", "女士", "男士", "女", "男", "儿童"),
)
_HEADERS = ("top", "top_category", "category", "category_id", "id")  # the second column of a mapping may be called

Words = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Category:
    """A top category, or a leaf under one."""

    id: str
    name: str
    name_zh: str
    parent: str | None  # None for a top category


class Taxonomy:
    """Top categories with their leaves, the words that name them, and the shop's own mapping."""

    def __init__(
        self,
        categories: Sequence[Category],
        *,
        words: Mapping[str, str] | None = None,
        mapping: Mapping[str, str] | None = None,
    ) -> None:
        """Build a taxonomy.

        Args:
            categories: top categories in the order they are shown, and leaves; "others" is added when missing.
            words: what a text may say -> id of the category it names.
            mapping: the shop's own category text -> id of a category; holds for what is below that text, too.

        Raises:
            InputError: ids that are malformed or come twice, a leaf without its top category, a word that names two
                categories, a mapping to an unknown id.
        """
        everything = list(categories)
        if all(category.id != OTHERS for category in everything):
            everything.append(Category(OTHERS, "Others", "其他", None))
        self._by_id = {category.id: category for category in everything}
        self.top = tuple(category for category in everything if category.parent is None)
        self.leaves = tuple(category for category in everything if category.parent is not None)
        _check(everything)
        self._words: dict[Words, str] = {}
        for text, named in (words or {}).items():
            self._learn(text, named)
        for category in everything:
            for text in (category.id.replace("_", " "), category.name, category.name_zh):
                self._words.setdefault(_tokens(text), category.id)
        self._mapping = {}
        for text, named in (mapping or {}).items():
            if named not in self._by_id:
                raise InputError(f"category map: {text!r} goes to {named!r}, which is none of {self._known()}")
            self._mapping[_levels(text.casefold())] = self._top(named)
        self._longest = max(len(tokens) for tokens in self._words)
        self._tails = tuple(_tokens(tail) for tail in _TAILS)

    def category(self, category_id: str) -> Category | None:
        """Return the category of an id of this taxonomy, None when there is none."""
        return self._by_id.get(category_id)

    def top_of(self, category_text: str) -> str:
        """Return the id of the top category of a shop's category text; "" when the text does not tell."""
        if category_text in self._by_id:
            return self._top(category_text)
        levels = _levels(category_text.casefold())
        for depth in range(len(levels), 0, -1):
            if levels[:depth] in self._mapping:
                return self._mapping[levels[:depth]]
        for level in reversed(levels):
            tops = self._named(level)
            if tops:
                return tops.pop() if len(tops) == 1 else ""
        return ""

    def leaf_of(self, category_text: str) -> str:
        """Return the leaf of a shop's category text: a leaf's id where the text is id or name, else the path.

        The path is in lower case with " > " between its levels, so that two spellings are one leaf; "" for no text.
        """
        levels = _levels(category_text.casefold())
        if len(levels) == 1:
            known = self._by_id.get(category_text.strip()) or self._by_id.get(self._words.get(_tokens(levels[0]), ""))
            names = () if known is None else (known.id, known.name.casefold(), known.name_zh.casefold())
            if known is not None and levels[0] in names:
                return known.id
        return " > ".join(levels)

    def _named(self, level: str) -> set[str]:
        """Return the top categories that one level of a path names."""
        tokens = _tokens(level)
        if tokens in self._words:  # "food and drink" is one thing
            return {self._top(self._words[tokens])}
        tops: set[str] = set()
        for part in _CONJUNCTION.split(level):
            tops |= self._named_by_phrase(_tokens(_CUT.split(part)[0]))
        return tops

    def _named_by_phrase(self, tokens: Words) -> set[str]:
        """Return what a phrase names: in English and Chinese alike its last word says what the thing is."""
        while tokens:
            head = self._ending(tokens)
            if head is not None:
                return {head}
            tail = next((tail for tail in self._tails if tokens[-len(tail) :] == tail), tokens)
            tokens = tokens[: -len(tail)]
        return set()

    def _ending(self, tokens: Words) -> str | None:
        for length in range(min(self._longest, len(tokens)), 0, -1):
            named = self._words.get(tokens[-length:])
            if named is not None:
                return self._top(named)
        return None

    def _learn(self, text: str, named: str) -> None:
        tokens = _tokens(text)
        if named not in self._by_id:
            raise InputError(f"taxonomy: the word {text!r} names {named!r}, which is none of {self._known()}")
        if not tokens:
            raise InputError(f"taxonomy: {named!r} has the word {text!r}, which has no letter or digit")
        if self._words.setdefault(tokens, named) != named:
            raise InputError(f"taxonomy: the word {text!r} names both {self._words[tokens]!r} and {named!r}; keep one")

    def _top(self, category_id: str) -> str:
        return self._by_id[category_id].parent or category_id

    def _known(self) -> str:
        return ", ".join(category.id for category in self.top)


@dataclass(frozen=True, slots=True)
class AlibabaCategory:
    """A category of Alibaba Cloud Image Search's public reference."""

    id: int
    name: str
    name_zh: str
    ours: tuple[str, ...]  # ids of our top categories and leaves


@cache
def alibaba_categories() -> tuple[AlibabaCategory, ...]:
    """Return the 14 categories of Alibaba Cloud Image Search, for callers that use its ids."""
    content = tomllib.loads(files(__package__).joinpath("data/alibaba.toml").read_text(encoding="utf-8"))
    return tuple(
        AlibabaCategory(one["id"], one["name"], one["name_zh"], tuple(one["ours"])) for one in content["category"]
    )


def alibaba_id(top: str, leaf: str = "") -> int:
    """Return the id Alibaba Cloud Image Search has for one of our categories; its "Others" where it has none."""
    by_ours = {ours: category.id for category in alibaba_categories() for ours in category.ours}
    return by_ours.get(leaf, by_ours.get(top, by_ours[OTHERS]))


def load_taxonomy(path: Path | None = None, category_map: Path | None = None) -> Taxonomy:
    """Return a taxonomy.

    Args:
        path: TOML file as `catalog/data/top14.toml`; None = the 14 top categories that ship.
        category_map: CSV file with two columns, the shop's category text and the id of one of our categories; a first
            line that calls the second column `top`, `top_category`, `category`, `category_id` or `id` is skipped.
            None = no mapping.

    Raises:
        InputError: a file that cannot be read, or does not fit; names file, place and what is accepted.
    """
    if path is None:
        content = files(__package__).joinpath("data/top14.toml").read_text(encoding="utf-8")
        name = "top14.toml"
    else:
        content, name = _read_text(path), path.name
    try:
        found = tomllib.loads(content)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"taxonomy {name} is not TOML: {error}; correct that line") from error
    try:
        categories, words = _categories_of(found)
        plain = Taxonomy(categories, words=words)
        if category_map is None:
            return plain
        return Taxonomy(categories, words=words, mapping=_mapping_of(category_map, plain))
    except InputError as error:
        raise InputError(f"{name}: {error}") from error


def _categories_of(content: Mapping[str, Any]) -> tuple[list[Category], dict[str, str]]:
    tops = content.get("top")
    if set(content) != {"top"} or not isinstance(tops, list) or not tops:
        raise InputError(f"taxonomy: need one or more [[top]] tables and nothing else, got {sorted(content)}")
    categories: list[Category] = []
    words: dict[str, str] = {}
    for number, top in enumerate(tops, start=1):
        where = f"top category {number}"
        top_id = _text(top, "id", where)
        leaves = top.get("leaves", {})
        if not isinstance(leaves, dict):
            raise InputError(f"taxonomy: {where}: leaves: need a table of leaves by id, got {leaves!r:.80}")
        named: Iterator[tuple[str, Any, str | None]] = iter(
            [(top_id, {key: top[key] for key in top if key not in ("id", "leaves")}, None)]
            + [(leaf_id, leaf, top_id) for leaf_id, leaf in leaves.items()]
        )
        for category_id, entry, parent in named:
            at = f"category {category_id!r}"
            if not isinstance(entry, dict) or (extra := sorted(set(entry) - {"name", "name_zh", "words"})):
                got = extra if isinstance(entry, dict) else entry
                raise InputError(f"taxonomy: {at}: need name, name_zh and words, got {got!r:.80}")
            name = _text(entry, "name", at)
            categories.append(Category(category_id, name, _text(entry, "name_zh", at, default=name), parent))
            said = entry.get("words", [])
            if not isinstance(said, list) or not all(isinstance(word, str) for word in said):
                raise InputError(f"taxonomy: {at}: words: need a list of texts, got {said!r:.80}")
            for word in said:
                if words.setdefault(word, category_id) != category_id:
                    raise InputError(f"taxonomy: the word {word!r} names both {words[word]!r} and {category_id!r}")
    return categories, words


def _text(entry: Mapping[str, Any], key: str, where: str, *, default: str | None = None) -> str:
    value = entry.get(key, default) if isinstance(entry, dict) else None
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"taxonomy: {where}: {key}: need a text, got {value!r:.80}")
    return value


def _check(categories: Sequence[Category]) -> None:
    tops = {category.id for category in categories if category.parent is None}
    seen: set[str] = set()
    for category in categories:
        if not _ID.fullmatch(category.id):
            raise InputError(f"taxonomy: id {category.id!r}: need 1 to 64 of a-z, 0-9 and _")
        if category.id in seen:
            raise InputError(f"taxonomy: id {category.id!r} comes twice; ids of top categories and leaves are one set")
        seen.add(category.id)
        if category.parent is not None and category.parent not in tops:
            raise InputError(f"taxonomy: leaf {category.id!r} is under {category.parent!r}, which is no top category")


def _mapping_of(path: Path, taxonomy: Taxonomy) -> dict[str, str]:
    mapping: dict[str, str] = {}
    levels: dict[Words, str] = {}
    accepted = ", ".join(category.id for category in taxonomy.top)
    for line, row in _csv_rows(path):
        cells = [cell.strip() for cell in row]
        if not any(cells):
            continue
        if len(cells) != 2 or not all(cells):
            raise InputError(f"category map {path.name}, row {line}: need text,id, got {row!r:.120}")
        text, named = cells
        if taxonomy.category(named) is None:
            if line == 1 and named.casefold() in _HEADERS:
                continue
            raise InputError(f"category map {path.name}, row {line}: {named!r} is none of {accepted}")
        if levels.setdefault(_levels(text.casefold()), named) != named:
            raise InputError(f"category map {path.name}, row {line}: {text!r} goes to {named!r} and to another above")
        mapping[text] = named
    return mapping


def _csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    try:
        with path.open(encoding=detect_encoding(path), newline="") as file:
            yield from enumerate(csv.reader(file), start=1)
    except OSError as error:
        raise InputError(f"{path.name} cannot be read: {error.strerror}; check its name in the settings") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"category map {path.name} is not CSV: {error}; save it as CSV in UTF-8") from error


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path.name} cannot be read: {error.strerror}; check its name in the settings") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path.name} is not UTF-8 at byte {error.start}; save it as UTF-8") from error


def _levels(text: str) -> Words:
    """Return the levels of a category path: `a > b`, `a/b`, `a | b`, `a - b` and the like."""
    levels = [unicodedata.normalize("NFKC", text)]
    for separator in _SEPARATORS:
        levels = [level for part in levels for level in re.split(separator, part)]
        levels = [" ".join(level.split()) for level in levels if any(char.isalnum() for char in level)]
        if len(levels) > 1:
            break
    return tuple(levels)


def _tokens(text: str) -> Words:
    """Return the words of a phrase: stems of words of an alphabet, single Chinese characters."""
    folded = unicodedata.normalize("NFKC", text).casefold().replace("'s ", " ").replace("’s ", " ")
    return tuple(_stem(token) for token in _TOKEN.findall(folded))


def _stem(word: str) -> str:
    """Return what singular and plural of an English word share; no word by itself."""
    if not word.isascii() or len(word) < 3:
        return word
    for ending, stem in (("sses", "ss"), ("shes", "sh"), ("ches", "ch"), ("xes", "x"), ("oes", "o"), ("ies", "y")):
        if word.endswith(ending):
            return word[: -len(ending)] + stem
    if word.endswith("s") and not word.endswith("ss"):
        word = word[:-1]
    for ending, stem in (("ie", "y"), ("ve", "f"), ("fe", "f"), ("oe", "o")):
        if word.endswith(ending):
            return word[: -len(ending)] + stem
    return word
