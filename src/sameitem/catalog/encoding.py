"""Which encoding a shop's text file is written in, by trial on the bytes that tell."""

import codecs
from collections.abc import Callable
from pathlib import Path

_LINE = 1 << 20  # bytes of one look at a line
_TELLING = 256 << 10  # bytes outside ASCII lines to judge by
_SEARCHED = 1 << 30  # bytes to look through for them
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it starts with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_ENOUGH = 40  # characters outside ASCII that rule out chance
_TOLERATED = 0.02  # share of broken characters in a file that is UTF-8 all the same


def detect_encoding(path: Path) -> str:
    """Return the encoding of a text file: by its byte order mark, else the most plausible one.

    UTF-8 when (nearly) all bytes outside ASCII form its sequences. Otherwise each legacy encoding reads the telling
    lines, and the one with the largest share of characters that its users write wins: GB18030, Big5, Shift-JIS,
    EUC-KR, Windows-1252, Windows-1251.
    """
    with path.open("rb") as file:
        head = file.read(4096)
        for mark, name in _MARKS:
            if head.startswith(mark):
                return name
        if head.count(0) > len(head) // 5:
            return "utf-16-le" if head[1::2].count(0) >= head[0::2].count(0) else "utf-16-be"
        file.seek(0)
        sample = _telling_lines(file.readline)
    return guess_encoding(sample)


def guess_encoding(sample: bytes) -> str:
    """Return the most plausible encoding of bytes without a mark; "utf-8" when they are ASCII."""
    text = codecs.getincrementaldecoder("utf-8")("replace").decode(sample)  # a character cut at the end is not broken
    foreign = sum(not c.isascii() for c in text)
    if text.count("\ufffd") <= foreign * _TOLERATED:
        return "utf-8"
    shares = {name: _plausible_share(sample, name, is_usual) for name, is_usual in _USUAL.items()}
    best = max(shares, key=lambda name: shares[name])  # the first of equals
    is_hangul = shares["cp949"] == 1.0 and foreign >= _ENOUGH  # its bytes read as everyday Chinese, but not vice versa
    return "cp949" if best == "gb18030" and is_hangul else best


def _telling_lines(readline: Callable[[int], bytes]) -> bytes:
    found, looked = bytearray(), 0
    while len(found) < _TELLING and looked < _SEARCHED and (line := readline(_LINE)):
        looked += len(line)
        if not line.isascii():
            found += line
    return bytes(found)


def _plausible_share(sample: bytes, name: str, is_usual: Callable[[str, str, str], bool]) -> float:
    """Return the share of characters outside ASCII that are usual; a broken one counts as several unusual ones."""
    text = sample.decode(name, "replace")
    padded = f" {text} "
    usual = total = 0
    for position, c in enumerate(text):
        if not c.isascii():
            total += 5 if c == "\ufffd" else 1
            usual += c != "\ufffd" and is_usual(padded[position], c, padded[position + 2])
    return usual / total if total else 0.0


def _chinese(_before: str, c: str, _after: str) -> bool:
    """Level 1 of GB 2312, its punctuation and full-width letters: nearly all of everyday text."""
    code = c.encode("gb2312", "ignore")
    return len(code) == 2 and (0xB0 <= code[0] <= 0xD7 or code[0] in (0xA1, 0xA3))


def _traditional(_before: str, c: str, _after: str) -> bool:
    code = c.encode("big5", "ignore")
    return len(code) == 2 and 0xA1 <= code[0] <= 0xC6


def _japanese(_before: str, c: str, _after: str) -> bool:
    code = c.encode("shift_jis", "ignore")
    is_kana = "\u3041" <= c <= "\u30ff"
    return len(code) == 2 and (is_kana or code[0] == 0x81 or 0x88 <= code[0] <= 0x97)


def _korean(_before: str, c: str, _after: str) -> bool:
    return "가" <= c <= "힣"


def _cyrillic(before: str, c: str, after: str) -> bool:
    return "А" <= c <= "я" and any("А" <= neighbour <= "я" for neighbour in (before, after))


def _western(before: str, c: str, after: str) -> bool:
    """An accented letter beside an ASCII letter, or a sign; in other encodings' bytes they stand side by side."""
    if c.isalpha():
        beside = [neighbour for neighbour in (before, after) if neighbour.isascii()]
        return len(beside) == 2 or any(neighbour.isalpha() for neighbour in beside)
    return c in "€£¥©®°²³½¼·•–—‘’“”„…™´«»¡¿§×\u00a0" and (before.isascii() or after.isascii())


_USUAL: dict[str, Callable[[str, str, str], bool]] = {
    "gb18030": _chinese,
    "big5": _traditional,
    "cp932": _japanese,
    "cp949": _korean,
    "cp1252": _western,
    "cp1251": _cyrillic,
}
