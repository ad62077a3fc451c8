"""The words of a text in any script, for everything that counts or compares words.

A word is a run of letters, marks and digits (Unicode categories L, M and N), so that the vowel signs of Hindi
and the accents of decomposed Latin stay inside it. Chinese, Japanese, Thai, Lao, Khmer, Burmese and a few
more write no spaces between words; there each character with its marks is a word of its own, because finding
their words takes a dictionary, and two dictionaries disagree. Before that a text is brought to one form: NFKC
(full-width letters, half-width kana, ligatures, composed Hangul), case folded, without invisible format
characters and the Arabic tatweel, which change how a word looks and not which word it is.

Trap: a count of words is then a count of characters for these scripts, so it is compared within one
language only.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from typing import NamedTuple

# Blocks of scripts that write no spaces between words (Unicode 15, Blocks.txt), first and last code point.
_SPACELESS = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x19FF),  # Tai Le, New Tai Lue, Khmer symbols
    (0x1A20, 0x1AAF),  # Tai Tham
    (0x1B00, 0x1B7F),  # Balinese
    (0x2E80, 0x2FDF),  # radicals of Han
    (0x3005, 0x3007),
    (0x3021, 0x3029),
    (0x3031, 0x3035),
    (0x3038, 0x30FA),  # Hiragana, Katakana
    (0x30FC, 0x312F),  # Katakana, Bopomofo
    (0x31A0, 0x31BF),
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0x9FFF),
    (0xA000, 0xA4CF),  # Yi
    (0xA980, 0xA9FF),  # Javanese, Myanmar
    (0xAA60, 0xAADF),  # Myanmar, Tai Viet
    (0xF900, 0xFAFF),  # Han
    (0x1B000, 0x1B16F),  # Kana
    (0x20000, 0x323AF),  # Han
)
_LAST_MARK = 0x20000  # above it only variation selectors are marks


_ALONE = "".join(f"\\U{low:08x}-\\U{high:08x}" for low, high in _SPACELESS)
_SPACELESS_LETTER = re.compile(rf"(?=\w)[{_ALONE}]")


class _Patterns(NamedTuple):
    word: re.Pattern[str]
    piece: re.Pattern[str]


_ASCII = _Patterns(re.compile(r"\w+(?:'\w+)*"), re.compile(r"[^\W_]+"))  # what the others find in such a text


@cache
def _of_any_script() -> _Patterns:
    # Every combining mark, within a regular expression's class.
    mark = "".join(chr(i) for i in range(_LAST_MARK) if unicodedata.category(chr(i))[0] == "M")
    letter = rf"(?:(?![{_ALONE}])[\w{mark}])"
    character = rf"(?=\w)[{_ALONE}][{mark}]*"
    return _Patterns(
        re.compile(rf"{character}|(?=\w){letter}+(?:['’׳״](?=\w){letter}+)*"),
        re.compile(rf"{character}|(?=[^\W_])(?:(?!_){letter})+"),
    )


def _patterns(text: str) -> _Patterns:
    return _ASCII if text.isascii() else _of_any_script()


def folded(text: str) -> str:
    """The form in which words are compared."""
    text = unicodedata.normalize("NFKC", text)
    if not text.isascii():
        text = "".join(c for c in text if not _unseen(c))
    return unicodedata.normalize("NFC", text.casefold())


def _unseen(char: str) -> bool:
    """Format characters such as joiners, the Arabic tatweel, variation selectors."""
    return unicodedata.category(char) == "Cf" or char == "ـ" or "\ufe00" <= char <= "\ufe0f"


def words(text: str) -> list[str]:
    """Words in order; an apostrophe inside a word belongs to it and is written as '."""
    text = folded(text)
    return [word.replace("’", "'") for word in _patterns(text).word.findall(text)]


def pieces(text: str) -> list[str]:
    """Words in order, parted at apostrophes and underscores too, as ROUGE parts them."""
    text = folded(text)
    return _patterns(text).piece.findall(text)


def letters_of(text: str) -> dict[str, int]:
    """How many letters are `latin`, `spaceless` (no spaces between words) and `other`."""
    counts = {"latin": 0, "spaceless": 0, "other": 0}
    for char in unicodedata.normalize("NFKC", text):
        if char.isalpha():
            counts[_kind(char)] += 1
    return counts


@cache
def _kind(char: str) -> str:
    if _SPACELESS_LETTER.match(char):
        return "spaceless"
    return "latin" if unicodedata.name(char, "").startswith("LATIN ") else "other"


def is_latin(text: str) -> bool:
    """Are most of its letters Latin? So also for a text without letters."""
    counts = letters_of(text)
    return counts["latin"] >= counts["spaceless"] + counts["other"]


def is_chinese(text: str) -> bool:
    """Are all its letters of scripts without spaces Chinese characters?"""
    letters = [char for char in unicodedata.normalize("NFKC", text) if _kind(char) == "spaceless"]
    return bool(letters) and all(unicodedata.name(char, "").startswith("CJK ") for char in letters)


def has_spaces_between_words(text: str) -> bool:
    """Is most of the text in scripts that write spaces between words? So also for a text without letters."""
    counts = letters_of(text)
    return counts["spaceless"] <= counts["latin"] + counts["other"]
