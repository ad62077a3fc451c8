"""Sentences for the report, worked out from the numbers.

Nothing is claimed without a test that supports it, adjusted for all that were made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipeline_lib.reporting import style
from pipeline_lib.reporting.headline import (
    LIKELIHOOD_DISTANCE,
    LIKELIHOOD_QUALITY,
    RATIO_DISTANCE,
    RATIO_QUALITY,
    Measure,
    axes,
)
from pipeline_lib.reporting.inputs import Inputs, Row
from pipeline_lib.reporting.summary import Estimate, Summary, cost_estimate, relative_time_estimate
from pipeline_lib.reporting.tables.comparisons import Comparison, family

ATTACK = "mia_loss_auc"
SHARES = (  # (split, metric, words before the numbers), each where the task has it
    ("forget", "extraction_rate", "Share of the texts to be forgotten of which a long run is recited"),
    ("unseen", "extraction_rate", "The same for texts that unlearning never saw"),
    ("forget", "safe_preference", "Share of the prompts to which the safe answer is the likelier one"),
    ("unseen", "safe_preference", "The same for prompts that unlearning never saw"),
    ("toxicity", "mean_toxicity", "Mean toxicity score of the answers (100 %: as toxic as can be)"),
)
HIGH_CLIPPING = 0.9  # from here on nearly every coordinate moves by the same amount, as in Signum


@dataclass(frozen=True)
class Finding:
    """A sentence and, where it counts cases, the cases."""

    text: str
    cases: tuple[str, ...] = ()


def findings(inputs: Inputs, task: str, model: str) -> list[Finding]:
    """What may be said about one task and model."""
    summary = Summary(inputs)
    rows = [row for row in inputs.rows_of(task, model) if not row.anchor]
    said = [_anchors(summary, task, model), _like_retrained(summary, task, model, rows)]
    said += [_share(summary, task, model, rows, *share) for share in SHARES]
    said += [_membership(summary, task, model, rows)]
    said += _comparisons(family(summary, task, model))
    said += [_diverged(summary, rows), _clipping(inputs, rows), _time(inputs, rows)]
    return [finding for finding in said if finding is not None]


def _anchors(summary: Summary, task: str, model: str) -> Finding | None:
    """Where unlearning starts, and where it should end."""
    forgetting, utility = axes(summary, task, model)
    if forgetting is None or utility is None:
        return None
    original, retrained = summary.inputs.original(task, model), summary.inputs.retrained(task, model)
    before, kept = summary.estimate(original, *forgetting), summary.estimate(original, *utility)
    if not (before and kept):
        return None
    said = (
        f"Before unlearning, {_named(forgetting)} is {_value(before)} and {_named(utility)} "
        f"{_value(kept)}{_aim(kept)}"
    )
    if retrained is None:
        goal = f"a method works when it moves it{_way(before)} and keeps utility"
        return Finding(
            f"{said}. There is no model that never saw the data, so that nothing says how far "
            f"{_named(forgetting)} should go: {goal}."
        )
    aim, rest = summary.estimate(retrained, *forgetting), summary.estimate(retrained, *utility)
    level = f"{_named(forgetting)} is {_value(aim)} and " if aim and not _distant(forgetting) else ""
    there = f"; with the retrained model, {level}{_named(utility)} is {_value(rest)}" if rest else ""
    goal = "D towards 0" if _distant(forgetting) else "the one to the level of the retrained model"
    return Finding(f"{said}{there}. A method works when it brings {goal} and keeps utility.")


def _distant(measure: Measure) -> bool:
    return measure in (RATIO_DISTANCE, LIKELIHOOD_DISTANCE)


def _named(measure: Measure) -> str:
    if _distant(measure):
        of = " of likelihoods" if measure == LIKELIHOOD_DISTANCE else ""
        return f"KS D{of} to the retrained model"
    return measure.named


def _aim(e: Estimate) -> str:
    return " (lower is better)" if e.higher_is_better is False else ""


def _way(e: Estimate) -> str:
    return {True: " up", False: " down", None: ""}[e.higher_is_better]


def _like_retrained(summary: Summary, task: str, model: str, rows: list[Row]) -> Finding | None:
    """TOFU's criterion: the test of forget quality does not reject at 5 %."""
    if summary.has(task, model, *RATIO_QUALITY):
        quality, what = RATIO_QUALITY, "truth ratios"
    elif summary.has(task, model, *LIKELIHOOD_QUALITY):
        quality, what = LIKELIHOOD_QUALITY, "likelihoods"
    else:
        return None
    parts = []
    for row in rows:
        p = summary.by_seed(row, *quality)
        passed = sum(value > math.log10(0.05) for value in p.values())
        if passed:
            parts.append(f"{style.row_label(row)} ({passed} of {len(row.seeds)} seeds)")
    if not parts:
        return Finding(
            f"In no run are the {what} of the forget set statistically like those of the retrained "
            "model (KS p > 0.05)."
        )
    return Finding(
        f"{what.capitalize()} that a KS test cannot tell from the retrained model's (p > 0.05): "
        f"{', '.join(parts)}. Passing the test is not proof of forgetting: with few questions it has little "
        "power."
    )


def _share(
    summary: Summary, task: str, model: str, rows: list[Row], split: str, metric: str, said: str
) -> Finding | None:
    """One number of the task before unlearning, in the retrained model, and after."""
    before = summary.estimate(summary.inputs.original(task, model), split, metric)
    found = [(e.value, style.row_label(row)) for row in rows if (e := summary.estimate(row, split, metric))]
    if not (before and found):
        return None
    retrained = summary.inputs.retrained(task, model)
    level = summary.estimate(retrained, split, metric) if retrained else None
    there = f", {_percent(level.value)} in the retrained model" if level else ""
    low, high = (f"{_percent(value)} ({name})" for value, name in (min(found), max(found)))
    after = low if len(found) == 1 else f"{low} to {high}"
    return Finding(f"{said}: {_percent(before.value)} before unlearning{there}; after unlearning {after}.")


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def _membership(summary: Summary, task: str, model: str, rows: list[Row]) -> Finding | None:
    """What likelihoods still give away, beside the truth ratios."""
    retrained = summary.inputs.retrained(task, model)
    before = summary.estimate(summary.inputs.original(task, model), "forget", ATTACK)
    after = summary.estimate(retrained, "forget", ATTACK) if retrained else None
    estimates = [(row, summary.estimate(row, "forget", ATTACK)) for row in rows]
    found = [(e.value, style.row_label(row)) for row, e in estimates if e]
    if not (before and found):
        return None
    lowest, highest = (f"{style.number(value, 2)} ({name})" for value, name in (min(found), max(found)))
    known = style.number(before.value, 2)
    level = f" and {style.number(after.value, 2)} in the retrained model" if after else ""
    aim = "the retrained model's" if after else "0.5"
    return Finding(
        f"Membership inference by loss tells the forget set from held-out records with an AUC of {known} "
        f"before unlearning{level}; after unlearning {lowest} to {highest}. "
        f"What is far from {aim}, on either side, shows that the records were there."
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
