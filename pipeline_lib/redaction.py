"""Text without secrets, for messages and logs: libraries quote addresses and headers in their errors."""

from __future__ import annotations

import os
import re

_LOGIN = re.compile(r"(?<=://)[^/\s@]*:[^/\s]*@")  # user:password@ in an address, of a proxy or a mirror
_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{16,}\b|(?<=Bearer )[\w.~+/-]{8,}")
_SECRET_NAMES = re.compile(r"(TOKEN|PASSWORD|PASSWD|SECRET|API_?KEY|ACCESS_KEY)$")
SHORTEST = 8  # a shorter value is more likely a word of the text than a secret


def redacted(text: str) -> str:
    """`text` with `***` in place of passwords in addresses, tokens, and the values of secret variables.

    Secret variables are those of the environment whose names end in TOKEN, PASSWORD, SECRET, API_KEY and the
    like. A secret that is none of these is not known as one.
    """
    text = _TOKEN.sub("***", _LOGIN.sub("***@", text))
    for name, value in os.environ.items():
        if len(value) >= SHORTEST and value in text and _SECRET_NAMES.search(name.upper()):
            text = text.replace(value, "***")
    return text
