"""The answers that preference optimisation teaches in place of forgotten ones, written for this project."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

READS = ("refusals.txt",)


@cache
def refusals() -> tuple[str, ...]:
    """100 distinct plain refusals, in the order of `refusals.txt` (one a line)."""
    return tuple((files("pipeline_lib.data") / "refusals.txt").read_text(encoding="utf-8").splitlines())
