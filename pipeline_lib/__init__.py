"""Unlearning studies from raw data to tables and figures: the library behind the Snakemake workflow.

`from pipeline_lib import Request, forget` is the command `unlearning forget` in Python (docs/forget.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline_lib.removal import Outcome, Request, forget

__all__ = ["Outcome", "Request", "forget"]


def __getattr__(name: str) -> Any:
    """The names above, imported when they are asked for: nothing else here needs what they need."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pipeline_lib import removal

    return getattr(removal, name)
