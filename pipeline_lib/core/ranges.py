"""A range of a setting, {"low", "high", "scale"} with scale "log" or "linear": its places, and wider ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

DIGITS = 4  # of a number that is tried, so that tables print exactly what was run


def placed(u: float, tried: Any) -> Any:
    """The value of a range, or of a list of values, at `u` in [0, 1)."""
    if isinstance(tried, list):
        return tried[int(u * len(tried))]
    low, high = tried["low"], tried["high"]
    if tried["scale"] == "log":
        value = math.exp(math.log(low) + u * (math.log(high) - math.log(low)))
    else:
        value = low + u * (high - low)
    return min(max(_short(value), low), high)


def widened(tried: Mapping[str, Any], down: int, up: int) -> dict[str, Any]:
    """The range with so many of its own widths more below and above: factors of high / low on a log scale."""
    low, high = tried["low"], tried["high"]
    if tried["scale"] == "log":
        low, high = low * (low / high) ** down, high * (high / low) ** up
    else:
        width = high - low  # counted in widths, so that 0.4 - 2 x 0.2 is 0 and no number beside it
        low, high = width * round(low / width - down, 9), width * round(high / width + up, 9)
    return {
        "low": _short(low) if down else tried["low"],
        "high": _short(high) if up else tried["high"],
        "scale": tried["scale"],
    }


def _short(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
