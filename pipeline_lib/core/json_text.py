"""JSON as this project reads it: one message refuses what the standard (RFC 8259) leaves open.

Python's reader keeps the last of two values with the same key, turns 1e999 into infinity, accepts NaN, and
fails with errors of its own on deep nesting and long integers. It accepts half a character (a lone
surrogate), which then fails when the text is written. Files from elsewhere can hold any of these.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Iterator
from typing import Any

from pipeline_lib.core.errors import UserError

DEEPEST = 100  # blocks and lists within each other; no file of ours or of a peer has ten
_DEEP = f"nested too deeply; at most {DEEPEST} blocks and lists may hold each other"
LONGEST_INTEGER = 300  # digits; beyond, no float can hold it

# Anything that could become a number out of range. A match inside a text only costs time.
_LARGE = (re.compile(r"[eE]\+?[0-9]{3}"), re.compile(r"[0-9]{200}"))
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")

# Longest first: the mark of UTF-32 begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# These begin a text with units of two or four bytes.
WIDE = tuple(mark for mark, name in _MARKS if name != "utf-8-sig")


class NotJson(UserError):
    """The text is no JSON at all, as opposed to JSON that is refused."""


class _Odd:
    """Takes the place of a refused part of the value; `what` says why, as the end of a sentence."""

    def __init__(self, what: str) -> None:
        self.what = what


def decoded(content: bytes, where: str) -> str:
    """The text of a file's bytes: UTF-8, or UTF-16 or UTF-32 that says so by its byte order mark.

    Raises `UserError` that names the byte and how to convert the file.
    """
    if b"\0" in content[:2] and not content.startswith(codecs.BOM_UTF32_BE):
        raise UserError(
            f"{where}: looks like UTF-16 without its byte order mark. Save the text as UTF-8, for "
            "example with `iconv -f UTF-16LE -t UTF-8`."
        )
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        place = f"line {line}, " if encoding.startswith("utf-8") and line > 1 else ""
        raise UserError(
            f"{where}: not {encoding.removesuffix('-sig').upper()} ({place}byte {error.start} is "
            f"{content[error.start]:#04x}). Save the text as UTF-8, for example with "
            "`iconv -f WINDOWS-1252 -t UTF-8`."
        ) from None


def parse_json(text: str | bytes, where: str, finite: bool = False) -> Any:
    """The value of a JSON text; every fault is a `UserError` that begins with `where`, the file and line.

    Besides broken syntax this refuses a key given twice in a block, nesting of more than `DEEPEST`, integers
    that no float holds, and lone surrogates; with `finite` also NaN, Infinity and numbers that overflow.
    Without it these pass, as the measurements of a broken model hold such numbers and their readers say which
    model it is.
    """
    if isinstance(text, bytes):
        text = decoded(text, where)
    odd: list[_Odd] = []

    def note(what: str) -> _Odd:
        odd.append(_Odd(what))
        return odd[-1]

    def block(pairs: list[tuple[str, Any]]) -> Any:
        found = dict(pairs)
        if len(found) == len(pairs):
            return found
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        return note(f"the key {twice!r} appears twice")

    def integer(digits: str) -> Any:
        if len(digits) > LONGEST_INTEGER:
            return note(f"an integer of {len(digits.lstrip('-'))} digits")
        return int(digits)

    def real(digits: str) -> Any:
        value = float(digits)
        return value if math.isfinite(value) or not finite else note(f"{digits[:20]} is beyond all floats")

    def constant(name: str) -> Any:
        return note(f"{name} is no number of JSON") if finite else float(name)

    hooks: dict[str, Any] = {}
    if any(pattern.search(text) for pattern in _LARGE):
        hooks = {"parse_int": integer, "parse_float": real}
    try:
        value = json.loads(text, object_pairs_hook=block, parse_constant=constant, **hooks)
    except json.JSONDecodeError as error:
        raise NotJson(f"{where}: not valid JSON ({error})") from None
    except RecursionError:
        raise UserError(f"{where}: {_DEEP}") from None
    if odd or _too_deep(value, text) or _SURROGATE.search(text):
        for path, what in _faults(value):
            raise UserError(f"{where}: {f'`{path}`: ' if path else ''}{what}")
    return value


def _too_deep(value: Any, text: str) -> bool:
    """Whether nesting exceeds DEEPEST. Finding the place of the fault takes ten times as long."""
    if text.count("[") + text.count("{") <= DEEPEST:
        return False
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(DEEPEST + 1):
        items = (item for found in level for item in (found.values() if isinstance(found, dict) else found))
        level = [item for item in items if isinstance(item, dict | list)]
        if not level:
            return False
    return True


def _faults(value: Any) -> Iterator[tuple[str, str]]:
    """(place, fault) of every refused part of a value, in the order of the text."""
    waiting: list[tuple[str, int, Any]] = [("", 0, value)]
    while waiting:
        path, depth, found = waiting.pop()
        inner: list[tuple[str, int, Any]] = []
        if isinstance(found, _Odd):
            yield path, found.what
        elif depth > DEEPEST:
            yield path[:60] + "...", _DEEP
            return
        elif isinstance(found, str):
            if _half_character(found):
                yield path, f"holds half a character (a lone surrogate): {found[:40]!r}"
        elif isinstance(found, dict):
            for key, item in found.items():
                if _half_character(key):
                    yield path, f"a key holds half a character (a lone surrogate): {key[:40]!r}"
                inner.append((f"{path}.{key}" if path else key, depth + 1, item))
        elif isinstance(found, list):
            inner = [(f"{path}[{i}]", depth + 1, item) for i, item in enumerate(found)]
        waiting += inner[::-1]


def _half_character(text: str) -> bool:
    return not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text)
