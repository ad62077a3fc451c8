"""Sentences for the report, worked out from the numbers.

Nothing is claimed without an interval that supports it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipeline_lib.reporting import style
from pipeline_lib.reporting.inputs import Inputs, Row
from pipeline_lib.reporting.summary import Estimate, Summary, cost_estimate, relative_time_estimate
from pipeline_lib.reporting.tables.comparisons import QUANTITIES, count, pairs, verdict

HIGH_CLIPPING = 0.9  # from here on nearly every coordinate moves by the same amount, as in Signum


@dataclass(frozen=True)
class Finding:
    """A sentence and, where it counts cases, the cases."""

    text: str
    cases: tuple[str, ...] = ()


def findings(inputs: Inputs, task: str, model: str) -> list[Finding]:
    """What may be said about one task and model."""
    summary = Summary(inputs)
    rows = [row for row in inputs.rows_of(task, model) if row.order != "none"]
    said = [_anchors(summary, task, model), _like_retrained(summary, rows)]
    said += [_orders(summary, task, model, method) for method in inputs.methods(task, model)]
    said += [_diverged(summary, rows), _clipping(inputs, rows), _time(inputs, rows)]
    return [finding for finding in said if finding is not None]


def _anchors(summary: Summary, task: str, model: str) -> Finding | None:
    original, retrained = (summary.inputs.rows_of(task, model, name)[0] for name in ("original", "retrained"))
    distance = summary.estimate(original, "forget", "ks_statistic")
    before, after = (summary.estimate(row, "utility", "model_utility") for row in (original, retrained))
    if not (distance and before and after):
        return None
    return Finding(
        f"Before unlearning, KS D to the retrained model is {_value(distance)} and model utility "
        f"{_value(before)}; the retrained model's utility is {_value(after)}. A method works when it brings "
        "D towards 0 and keeps utility there."
    )


def _like_retrained(summary: Summary, rows: list[Row]) -> Finding | None:
    """TOFU's criterion: the test of forget quality does not reject at 5 %."""
    if not any(summary.by_seed(row, "forget", "forget_quality_log10") for row in rows):
        return None
    parts = []
    for row in rows:
        p = summary.by_seed(row, "forget", "forget_quality_log10")
        passed = sum(value > math.log10(0.05) for value in p.values())
        if passed:
            parts.append(f"{style.row_label(row)} ({passed} of {len(row.seeds)} seeds)")
    if not parts:
        return Finding(
            "In no run are the truth ratios of the forget set statistically like those of the retrained "
            "model (KS p > 0.05)."
        )
    return Finding(
        "Truth ratios that a KS test cannot tell from the retrained model's (p > 0.05): "
        f"{', '.join(parts)}. Passing the test is not proof of forgetting: with few questions it has little "
        "power."
    )


def _orders(summary: Summary, task: str, model: str, method: str) -> Finding | None:
    """Second against first order: the differences that can be claimed, or that none can."""
    compared = list(pairs(summary.inputs, task, model, method))
    if not compared:
        return None
    cases = []
    comparisons = count(summary.inputs, summary, task, model)
    for second, first in compared:
        claims = []
        for split, metric, better, worse in QUANTITIES:
            if not summary.has(task, model, split, metric):
                continue
            difference = summary.difference(second, first, split, metric, comparisons)
            words = verdict(difference, better, worse)
            if difference is not None and words in (better, worse):
                claims.append(f"{words} (difference in {style.metric_label(metric)} {_value(difference)})")
        if claims:
            cases.append(f"{style.row_label(second)} against {style.row_label(first)}: {', '.join(claims)}.")
    start = f"{method}, second order against first order"
    if not cases:
        return Finding(f"{start}: no difference can be claimed, neither in forgetting nor in utility.")
    note = "" if len(cases) == len(compared) else " For the other pairs no difference can be claimed."
    return Finding(
        f"{start}: a difference in {len(cases)} of {len(compared)} pairs of rows.{note}", tuple(cases)
    )


def _diverged(summary: Summary, rows: list[Row]) -> Finding | None:
    parts = [
        f"{style.row_label(row)} ({len(lost)} of {len(row.seeds)} seeds, "
        f"step {', '.join(str(step) for step in lost.values())})"
        for row in rows
        if (lost := summary.diverged(row))
    ]
    return Finding(f"Diverged, and left out of the means: {', '.join(parts)}.") if parts else None


def _clipping(inputs: Inputs, rows: list[Row]) -> Finding | None:
    shares = [(row, e) for row in rows if (e := cost_estimate(inputs, row, "clipped_share"))]
    if not shares:
        return None
    listed = ", ".join(f"{style.row_label(row)} {100 * e.value:.0f} %" for row, e in shares)
    high = any(e.value >= HIGH_CLIPPING for _, e in shares)
    note = (
        " Above 90 % a row is second order by name only: it moves like the sign of momentum (Signum)."
        if high
        else ""
    )
    return Finding(f"Share of coordinates at the limit of the second-order update: {listed}.{note}")


def _time(inputs: Inputs, rows: list[Row]) -> Finding | None:
    second = [e.value for row in rows if row.order == "SO" and (e := relative_time_estimate(inputs, row))]
    if not second:
        return None
    low, high = style.number(min(second), 2), style.number(max(second), 2)
    times = low if low == high else f"{low} to {high}"
    return Finding(f"A second-order step took {times} times as long as AdamW's (means over seeds).")


def _value(e: Estimate) -> str:
    return f"{style.number(e.value)} {style.interval(e.low, e.high)}".strip()
