"""Values by key, and parts of groups."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from math import ceil
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


def grouped(pairs: Iterable[tuple[Key, Value]]) -> dict[Key, list[Value]]:
    """The values of each key; keys in the order in which they first come, values in the order given."""
    found: dict[Key, list[Value]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return found


def taught_groups(groups: float, total: int) -> int:
    """How many of a split's groups a stage teaches: so many (whole), or this share of them, rounded up."""
    return groups if isinstance(groups, int) else ceil(groups * total)
