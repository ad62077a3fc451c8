"""One sentence of the report, and how its numbers are written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline_lib.reporting import style
from pipeline_lib.reporting.summary import Estimate

ROUNDING = 1e-9  # of a mean over seeds


@dataclass(frozen=True)
class Finding:
    """A sentence and, where it counts cases, the cases."""

    text: str
    cases: tuple[str, ...] = ()


def percent(value: float) -> str:
    """A share as whole per cent; what is more than nothing or less than all is not rounded to it."""
    if ROUNDING < value < 0.005:
        return "under 1 %"
    return "over 99 %" if 0.995 <= value < 1 - ROUNDING else f"{style.number(100 * value, 0)} %"


def span(values: Sequence[tuple[float, str]], text: Callable[[float], str] = percent) -> str:
    """The lowest and the highest of (value, row), each with its row; one where they look alike."""
    (low, first), (high, last) = min(values), max(values)
    if len(values) == 1:
        return f"{text(low)} ({first})"
    if text(low) == text(high):
        return f"{text(low)} (each of {len(values)} rows)"
    return f"{text(low)} ({first}) to {text(high)} ({last})"


def of_seeds(count: int, seeds: int) -> str:
    """ "2 of 3 seeds"."""
    return f"{count} of {seeds} seed{'' if seeds == 1 else 's'}"


def with_interval(e: Estimate) -> str:
    """A value with its interval, where it has one."""
    return f"{style.number(e.value)} {style.interval(e.low, e.high)}".strip()


def p_text(value: float) -> str:
    """What stands behind the name of a p-value: "< 0.001" or "= 0.012"."""
    return "< 0.001" if value < 0.001 else f"= {style.number(value)}"
