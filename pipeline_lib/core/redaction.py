"""Text that is safe to show: without secrets, and with control characters made visible.

Libraries quote addresses and headers in their errors. Ids, names and answers can hold escape sequences of a
terminal, or marks that make a text read as another.
"""

from __future__ import annotations

import io
import os
import re
import unicodedata
from typing import Any, TextIO

_LOGIN = re.compile(r"(?<=://)[^/\s@]*:[^/\s]*@")  # user:password@ in an address, of a proxy or a mirror
_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{16,}\b|(?<=Bearer )[\w.~+/-]{8,}")
_SECRET_NAMES = re.compile(r"(TOKEN|PASSWORD|PASSWD|SECRET|API_?KEY|ACCESS_KEY)$")
SHORTEST = 8  # a shorter value is more likely a word of the text than a secret

_HIDDEN = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")  # Unicode's categories of invisible characters
LINES = "\n\t"  # allowed in a text of several lines
_PLAIN = re.compile(r"[\n\t -~]*")  # needs no change


def redacted(text: str) -> str:
    """`text` with `***` in place of passwords in addresses, tokens, and the values of secret variables.

    Secret variables are those of the environment whose names end in TOKEN, PASSWORD, SECRET, API_KEY and the
    like. Other secrets are not recognised.
    """
    text = _TOKEN.sub("***", _LOGIN.sub("***@", text))
    for name, value in os.environ.items():
        if len(value) >= SHORTEST and value in text and _SECRET_NAMES.search(name.upper()):
            text = text.replace(value, "***")
    return text


def visible(text: Any, keep: str = LINES) -> str:
    """`text` with control, formatting and surrogate characters as visible codes, except those in `keep`.

    A right-to-left override makes an answer read as another; an escape sequence colours, moves or clears
    what a terminal shows. With `keep=""` line ends become visible too, for names within a line.
    """
    text = str(text)
    if keep == LINES and _PLAIN.fullmatch(text):
        return text
    return "".join(
        f"⟨U+{ord(char):04X}⟩" if char not in keep and unicodedata.category(char) in _HIDDEN else char
        for char in text
    )


def listed(names: Any, shown: int = 5) -> str:
    """The first names of a list, made visible, and how many more there are."""
    names = [visible(name, keep="") for name in names]
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


class VisibleStream(io.TextIOBase):
    """A text stream into `handle` that makes all text visible: what commands print quotes the user."""

    def __init__(self, handle: TextIO) -> None:
        self._handle = handle

    def write(self, text: str) -> int:
        self._handle.write(visible(text))
        return len(text)

    def flush(self) -> None:
        self._handle.flush()

    def fileno(self) -> int:
        return self._handle.fileno()

    def isatty(self) -> bool:
        return self._handle.isatty()

    def writable(self) -> bool:
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._handle.encoding
