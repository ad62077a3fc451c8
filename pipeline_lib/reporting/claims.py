"""Sentences for the report, worked out from the numbers.

Nothing is claimed without a test that supports it, adjusted for all that were made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipeline_lib.reporting import style
from pipeline_lib.reporting.inputs import Inputs, Row
from pipeline_lib.reporting.summary import Estimate, Summary, cost_estimate, relative_time_estimate
from pipeline_lib.reporting.tables.comparisons import Comparison, family

ATTACK = "mia_loss_auc"
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
    said += [_membership(summary, task, model, rows)]
    said += _comparisons(family(summary, task, model))
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


def _membership(summary: Summary, task: str, model: str, rows: list[Row]) -> Finding | None:
    """What likelihoods still give away, beside the truth ratios."""
    anchors = [summary.inputs.rows_of(task, model, name)[0] for name in ("original", "retrained")]
    before, after = (summary.estimate(row, "forget", ATTACK) for row in anchors)
    estimates = [(row, summary.estimate(row, "forget", ATTACK)) for row in rows]
    found = [(e.value, style.row_label(row)) for row, e in estimates if e]
    if not (before and after and found):
        return None
    lowest, highest = (f"{style.number(value, 2)} ({name})" for value, name in (min(found), max(found)))
    known, unknown = (style.number(e.value, 2) for e in (before, after))
    return Finding(
        f"Membership inference by loss tells the forget set from held-out records with an AUC of {known} "
        f"before unlearning and {unknown} in the retrained model; after unlearning {lowest} to {highest}. "
        "What is far from the retrained model's, on either side, shows that the records were there."
    )


def _comparisons(entries: list[Comparison]) -> list[Finding]:
    """For each declared question, or else each method: what differences can be claimed, or that none can."""
    by_topic: dict[str, list[Comparison]] = {}
    for entry in entries:
        topic = entry.question or f"{entry.row.key.method}, second order against first order:"
        by_topic.setdefault(topic, []).append(entry)
    found = []
    for topic, members in by_topic.items():
        by_pair: dict[tuple[Row, Row], list[Comparison]] = {}
        for entry in members:
            by_pair.setdefault(entry.pair, []).append(entry)
        cases = []
        for (row, against), quantities in by_pair.items():
            claims = [_claim(entry) for entry in quantities if entry.claimed]
            if claims:
                cases.append(
                    f"{style.row_label(row)} against {style.row_label(against)}: {', '.join(claims)}."
                )
        if cases:
            note = "" if len(cases) == len(by_pair) else " For the other pairs no difference can be claimed."
            pairs = f"{len(cases)} of {len(by_pair)} pairs of rows"
            found.append(Finding(f"{topic} A difference can be claimed in {pairs}.{note}", tuple(cases)))
        else:
            found.append(Finding(f"{topic} No difference can be claimed. {_could_detect(members)}"))
    return found


def _claim(entry: Comparison) -> str:
    d = entry.difference
    assert d is not None and d.p_holm is not None
    p = "< 0.001" if d.p_holm < 0.001 else f"= {style.number(d.p_holm)}"
    return f"{entry.verdict} (difference in {entry.quantity.label} {style.number(d.value)}, Holm's p {p})"


def _could_detect(members: list[Comparison]) -> str:
    """What these seeds could have shown, so that "no difference" is not read as "the same"."""
    sizes: dict[str, list[float]] = {}
    for entry in members:
        if entry.difference and entry.difference.detectable is not None:
            sizes.setdefault(entry.quantity.label, []).append(entry.difference.detectable)
    if not sizes:
        return "No test was possible: too few seeds, or the same difference in each."
    parts = []
    for label, found in sizes.items():
        low, high = style.number(min(found)), style.number(max(found))
        parts.append(f"{label} {low if low == high else f'{low} to {high}'}")
    return (
        f"What these seeds could have shown with a probability of 80 %, a difference in: {'; '.join(parts)}."
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
    return Finding(f"Second-order unlearning took {times} times as long as AdamW's (means over seeds).")


def _value(e: Estimate) -> str:
    return f"{style.number(e.value)} {style.interval(e.low, e.high)}".strip()
