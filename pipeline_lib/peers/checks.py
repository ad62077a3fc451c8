"""Reading files that other programs wrote: every number is looked at before it is used."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.json_text import parse_json

LARGEST_LOSS = 1e6  # nats a token; a vocabulary's worst token costs far less, so more is no log-probability


def read_object(path: Path | str, expected: str) -> dict[str, Any]:
    """The JSON object in `path`, or a `UserError` that says what was `expected` there."""
    try:
        content = parse_json(Path(path).read_bytes(), str(path))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    except UserError as error:
        raise UserError(f"{error}. Expected {expected}.") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected {expected}, found {_kind(content)}")
    return content


def number(value: Any, where: str, low: float = -math.inf, high: float = math.inf) -> float:
    """A finite number from `low` to `high` (a bool is none), or a `UserError` that starts with `where`."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"{where}: expected a number, found {_kind(value)}")
    if not -1e300 < value < 1e300:  # also an integer that no float can hold; NaN compares as false
        raise UserError(
            f"{where}: {str(value)[:20]} is not a finite number: the model that was evaluated is broken"
        )
    if not low <= value <= high:
        raise UserError(f"{where}: expected a number from {low:g} to {high:g}, found {value!r}")
    return float(value)


def is_missing(value: Any) -> bool:
    """Null or NaN, by itself or anywhere in a list or an object: a row that was not measured."""
    if isinstance(value, dict | list):
        return any(map(is_missing, value.values() if isinstance(value, dict) else value))
    return value is None or (isinstance(value, float) and math.isnan(value))


def loss(value: Any, where: str) -> float:
    """A mean negative log-likelihood per token, in nats; a rounding error below 0 counts as 0."""
    return max(0.0, number(value, where, -1e-4, LARGEST_LOSS))


def losses(value: Any, where: str) -> list[float]:
    """The losses of wrong answers: a list that is not empty."""
    if not isinstance(value, list) or not value:
        raise UserError(f"{where}: expected the losses of at least one wrong answer, found {_kind(value)}")
    return [loss(x, f"{where}, wrong answer {i}") for i, x in enumerate(value, start=1)]


def numbers(value: Any, where: str) -> list[float]:
    """A list of finite numbers, which may be empty."""
    if not isinstance(value, list):
        raise UserError(f"{where}: expected a list of numbers, found {_kind(value)}")
    return [number(x, where) for x in value]


def same_keys(fields: dict[str, Iterable[str]], where: str) -> None:
    """Every field must speak of the same rows."""
    sets = {name: set(keys) for name, keys in fields.items()}
    (first, keys), *others = sets.items()
    for name, found in others:
        if found != keys:
            different = min(keys ^ found, key=lambda key: (len(key), key))
            raise UserError(
                f"{where}: {first} has {len(keys)} rows and {name} {len(found)}; row {different!r} is in one "
                "of them only. The file is not whole: evaluate the model again."
            )


def _kind(value: Any) -> str:
    if isinstance(value, list | dict | str) and not value:
        return f"an empty {type(value).__name__}"
    name = type(value).__name__
    return f"a {name} of {len(value)}" if isinstance(value, list | dict) else f"{name} {str(value)[:40]!r}"
