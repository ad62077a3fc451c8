"""The answers that preference optimisation teaches in place of forgotten ones, written for this project."""

from __future__ import annotations

from importlib.resources import files


def refusals() -> list[str]:
    """100 distinct plain refusals, in the order of `refusals.txt` (one a line)."""
    return (files("pipeline_lib.data") / "refusals.txt").read_text(encoding="utf-8").splitlines()
