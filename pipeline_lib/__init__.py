"""Unlearning studies from raw data to tables and figures: the library behind the Snakemake workflow.

`from pipeline_lib import Request, forget` is the command `unlearning forget` in Python (docs/forget.md).
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["Outcome", "Request", "forget"]  # their types: __init__.pyi


def __getattr__(name: str) -> Any:
    """The names above, imported when they are asked for: jobs import this package and none of them."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.removal"), name)
