"""The words of a text, for metrics that count them: letters and digits of any script, case folded."""

from __future__ import annotations

import re
import unicodedata

_WORD = re.compile(r"\w+(?:['’]\w+)*")


def words(text: str) -> list[str]:
    """Words in order; an apostrophe inside a word belongs to it and is written as '."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return [word.replace("’", "'") for word in _WORD.findall(folded)]
