"""Like `retrained`, or not: the gap of every row against the gap of further `retrained` seeds."""

from __future__ import annotations

from pipeline_lib.metrics import declared
from pipeline_lib.reporting import style
from pipeline_lib.reporting.headline import GAP, GAP_SIGNED, Measure
from pipeline_lib.reporting.inputs import Inputs
from pipeline_lib.reporting.likeness import TELLS, Likeness, likeness, scale_of
from pipeline_lib.reporting.summary import Summary
from pipeline_lib.reporting.tables.layout import EMPTY, Cell, Number, Table, estimate_cell, interval_notes
from pipeline_lib.reporting.tables.of_metrics import anchor_note, line_of

CAPTION = (
    "The gap is the primary quantity: the mean over forget groups of the distance between the "
    "log-probability "
    "of the answers and its mean over `retrained` seeds, in nats per token. Signed: above 0 the model still "
    "knows, below 0 it avoids the answers, which tells that they were there. Limit: the mean gap that "
    "as many "
    "further `retrained` seeds as the row has stay below with 95 %; p: the probability that theirs is "
    "as large "
    "or larger. Both come from the variance of the seeds and of what a seed makes of single groups, with the "
    "degrees of freedom below the table. A row is like `retrained` where p is at least 0.05 and the "
    "limit is at "
    "most a quarter of the gap of `original`; else the study could not have told. The row `retrained` holds "
    "each seed against the others. Beside it, each model against the one `retrained` of its seed, "
    "question by "
    "question: Forget Quality in its published definition (the KS test takes the two models' answers as "
    "independent, which they are not: it misses differences that paired tests see), Wilcoxon's "
    "signed-rank test, "
    "a permutation test of D, and the margin within which a test of equivalence would call the two alike at "
    "5 %. These take one `retrained` for all, so that two `retrained` seeds differ in them too."
)
_PAIRED = ("forget_quality", "wilcoxon_p", "permutation_d_p", "equivalence_margin")
_HEADS = ("Gap ↓", "Signed", "Limit", "p", "Seeds inside", "What can be said")


def build(inputs: Inputs) -> list[Table]:
    """One table for each task and model."""
    summary = Summary(inputs)
    return [_table(summary, task, model) for task, model in inputs.studies]


def _table(summary: Summary, task: str, model: str) -> Table:
    inputs = summary.inputs
    if not summary.has(task, model, *GAP):
        return Table(
            task, model, (), (), (anchor_note(inputs, task, model) or "Only one `retrained` finished.",)
        )
    rows = inputs.rows_of(task, model)
    paired = [Measure("forget", name) for name in _PAIRED if summary.has(task, model, "forget", name)]
    estimates = [[summary.estimate(row, *m) for m in (GAP, GAP_SIGNED, *paired)] for row in rows]
    lines = []
    for row, (gap, signed, *others) in zip(rows, estimates, strict=True):
        cells = [estimate_cell("forget.gap", gap), estimate_cell("forget.gap_signed", signed)]
        cells += _judged(likeness(summary, row))
        cells += [
            estimate_cell(f"forget.{m.metric}", e, style.decimals(m.metric))
            for m, e in zip(paired, others, strict=True)
        ]
        lines.append(line_of(summary, row, cells))
    heads = (*_HEADS, *(declared()[m.metric].short for m in paired))
    notes = (*interval_notes(e for found in estimates for e in found), _scale_note(summary, task, model))
    return Table(task, model, heads, tuple(lines), tuple(filter(None, notes)))


def _judged(found: Likeness | None) -> list[Cell]:
    if found is None:
        return [EMPTY] * 4
    if found.p is None or found.limit is None:
        return [EMPTY, EMPTY, EMPTY, Cell(found.verdict or "–")]
    p = "<0.001" if found.p < 0.001 else style.number(found.p)
    return [
        Cell(
            style.number(found.limit), numbers=(Number("forget.gap: limit", found.limit, seeds=found.seeds),)
        ),
        Cell(p, numbers=(Number("forget.gap: p", found.p, seeds=found.seeds),)),
        Cell(f"{found.inside} of {found.seeds}"),
        Cell(found.verdict.replace("`", "")),
    ]


def _scale_note(summary: Summary, task: str, model: str) -> str:
    """Degrees of freedom, and what share of the memory would go unnoticed in one run."""
    scale = scale_of(summary.inputs, task, model)
    if scale is None:
        return "One `retrained` seed: nothing says how far two of them are apart. Add `retrained_seeds`."
    between, inner = scale.freedom
    memory = summary.estimate(summary.inputs.original(task, model), *GAP)
    share = f" {100 * scale.limit() / memory.value:.0f} % of" if memory else ""
    return (
        f"{scale.seeds} `retrained` seeds and {scale.groups} forget groups: {between} degrees of "
        f"freedom of seeds, "
        f"{inner} of what a seed makes of single groups. The limit for one run is "
        f"{style.number(scale.limit())},"
        f"{share} the gap of `original`; a quarter ({100 * TELLS:.0f} %) is the most with which a row "
        f"is called like "
        "`retrained`."
    )
