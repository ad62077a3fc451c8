"""One sentence of the report, and how its numbers are written."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline_lib.reporting import style
from pipeline_lib.reporting.summary import Estimate


@dataclass(frozen=True)
class Finding:
    """A sentence and, where it counts cases, the cases."""

    text: str
    cases: tuple[str, ...] = ()


def percent(value: float) -> str:
    """A share as whole per cent."""
    return f"{100 * value:.0f} %"


def with_interval(e: Estimate) -> str:
    """A value with its interval, where it has one."""
    return f"{style.number(e.value)} {style.interval(e.low, e.high)}".strip()
