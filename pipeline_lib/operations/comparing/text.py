"""The differences of two studies as tables for a terminal and as lines of a csv file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pipeline_lib.core.grouping import grouped
from pipeline_lib.core.redaction import visible
from pipeline_lib.metrics import declared
from pipeline_lib.operations.comparing.differences import INDEPENDENT, NONE, PAIRED, Difference
from pipeline_lib.operations.comparing.side import row_name
from pipeline_lib.operations.plan.table import aligned
from pipeline_lib.reporting import style

COLUMNS = (
    *("task", "model", "method", "optimizer", "request", "after", "split", "metric", "higher_is_better"),
    *("a", "a_low", "a_high", "a_seeds", "b", "b_low", "b_high", "b_seeds"),
    *("difference", "ci_low", "ci_high", "interval", "n", "why", "seeds_low", "seeds_high"),
)
HEAD = ("row", "metric", "A", "B", "B - A", "95 % interval", "over seeds", "kind")
KINDS = {
    PAIRED: "paired: groups of the same questions drawn again; about these models, not about further seeds",
    INDEPENDENT: "independent: from the intervals of the two tables, as if the studies had nothing in common",
    NONE: "none: no interval",
}


def table_of(found: Sequence[Difference]) -> Iterator[str]:
    """A table for each task and model, then what the intervals are."""
    for (task, model), of in grouped(((d.row.task, d.row.model), d) for d in found).items():
        lines: list[tuple[str, ...]] = [HEAD]
        before = ""
        for difference in of:
            name = row_name(difference.row)
            lines.append((visible("" if name == before else name, keep=""), *_numbers(difference)))
            before = name
        yield "\n".join([style.study_label(task, model), *aligned(lines, words=2)])
    whys = grouped((d.kind, d.why) for d in found)
    said = []
    for kind, words in KINDS.items():
        if kind in whys:
            why = "; ".join(dict.fromkeys(filter(None, whys[kind])))
            said.append(f"  {words}{f' ({why})' if why else ''}")
    over = any(d.seeds_low is not None for d in found)
    said += (
        ["  over seeds: what further seeds would give; read it before you blame a setting"] if over else []
    )
    yield "\n".join(["Intervals, 95 %, one by one (of many, some miss by chance):", *said])


def _numbers(d: Difference) -> tuple[str, ...]:
    decimals = style.decimals(d.measure.metric)
    label = f"{d.measure.label} {style.arrow(_direction(d))}".strip()
    return (
        label,
        style.number(d.a.value, decimals),
        style.number(d.b.value, decimals),
        style.signed(d.value, decimals),
        style.interval(d.low, d.high, decimals) or "–",
        style.interval(d.seeds_low, d.seeds_high, decimals) or "–",
        d.kind,
    )


def cells_of(d: Difference) -> list[Any]:
    """The line of a difference, in the order of COLUMNS."""
    return [
        *d.row,
        *d.measure,
        _direction(d),
        *(cell for e in (d.a, d.b) for cell in (e.value, e.low, e.high, e.seeds)),
        *(d.value, d.low, d.high, d.kind, d.n, d.why, d.seeds_low, d.seeds_high),
    ]


def _direction(d: Difference) -> bool | None:
    return declared()[d.measure.metric].direction(d.measure.split)
