"""A small valid suite, as the reader of YAML hands it over, for tests to change."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest

from pipeline_lib.core.errors import UserError
from pipeline_lib.study import parse_suite

COMMIT = "0123456789abcdef0123456789abcdef01234567"

_SMALL: dict[str, Any] = {
    "suite": "small",
    "seeds": [0, 1],
    "models": {"tiny": {"source": "scratch"}},
    "tasks": {"authors": {"source": "fictitious"}},
    "objectives": {"GradAscent": None, "GradDiff": {"gamma": 2}, "NPO": {"beta": 0.2}},
    "optimizers": {
        "adamw": {"learning_rate": 1e-4},
        "sophia": {"learning_rate": 1e-4},
        "published": {"kind": "sophia", "learning_rate": 1e-4, "gamma": 0.05},
    },
}


def small(**changes: Any) -> dict[str, Any]:
    """The suite with some of its blocks exchanged."""
    return copy.deepcopy({**_SMALL, **changes})


def many_words(count: int = 6000) -> str:
    """Text of so many made-up words that a tokenizer finds thousands of merges in it."""
    source = random.Random(0)
    return " ".join("".join(source.choices("aeiounrstlmkd", k=8)) for _ in range(count))


def errors(raw: Any) -> list[str]:
    """The lines of the message that this suite is refused with, the heading left out."""
    with pytest.raises(UserError) as caught:
        parse_suite(raw)
    message = str(caught.value)
    for noise in ("pydantic", "http", "Input should", "_tag", "union", "dict", "NoneType", "Value error"):
        assert noise not in message, f"not the user's words: {message}"
    heading, *lines = message.splitlines()
    assert heading == (
        "the suite has an error:" if len(lines) == 1 else f"the suite has {len(lines)} errors:"
    )
    return [line.removeprefix("  ") for line in lines]


def error(raw: Any) -> str:
    """The one line of the message."""
    (line,) = errors(raw)
    return line
