"""Like `retrained`, or not: the gap of every row against the gap of further `retrained` seeds."""

from __future__ import annotations

from pipeline_lib.reporting import style
from pipeline_lib.reporting.headline import GAP, GAP_SIGNED, JOINT_UTILITY, Measure
from pipeline_lib.reporting.inputs import Inputs, Row
from pipeline_lib.reporting.likeness import TELLS, Likeness, likeness, scale_of
from pipeline_lib.reporting.paired import LEVEL
from pipeline_lib.reporting.summary import Summary
from pipeline_lib.reporting.tables.layout import EMPTY, Cell, Number, Table, estimate_cell, interval_notes
from pipeline_lib.reporting.tables.of_metrics import anchor_note, line_of

CAPTION = (
    "The gap is the primary quantity: the mean over forget groups of the distance between the "
    "log-probability of the answers and its mean over `retrained` seeds, in nats per token. Signed: above 0 "
    "the model still knows, below 0 it avoids the answers, which tells that they were there. Limit: the mean "
    "gap that as many further `retrained` seeds as the row has stay below with 95 %; p: the probability that "
    "theirs is as large or larger; it is about the runs of the row that there are, not about further seeds "
    "of it. Both come from the variance of seeds, and of what a seed makes of groups and of single "
    "questions, with the degrees of freedom below the table. A row is like `retrained` where p is at least "
    "0.05, no single seed has a p below 0.05 over the number of seeds, and the limit is at most a quarter of "
    "the gap of `original`; else the study could not have told. Read joint utility beside it: a broken model "
    "may be like `retrained` on the forget set. The row `retrained` holds each seed against the others, and "
    "of `base`, which was taught nothing, nothing is said; nor of rows `matched`, which end where "
    "`retrained` is nearest. Told apart: in how many seeds a test at 5 % tells the model from the one "
    "`retrained` of its seed, question by question. KS is TOFU's Forget Quality as published: it takes the "
    "two models' answers as independent, which they are not, and misses differences that paired tests see. "
    "Wilcoxon's signed-rank test and the permutation of D are paired, but take one `retrained` for all, so "
    "that they tell two `retrained` seeds apart too. Equivalence margin: the margin within which a test of "
    "equivalence would call the two models alike at 5 %."
)
_TESTS = {"forget_quality": "KS", "wilcoxon_p": "Wilcoxon", "permutation_d_p": "permuted D"}
_MARGIN = Measure("forget", "equivalence_margin")
_HEADS = ("Gap ↓", "Signed", "Limit", "p", "Seeds inside", "What can be said", "Joint utility ↑")


def build(inputs: Inputs) -> list[Table]:
    """One table for each task and model."""
    summary = Summary(inputs)
    return [_table(summary, task, model) for task, model in inputs.studies]


def _table(summary: Summary, task: str, model: str) -> Table:
    inputs = summary.inputs
    if not summary.has(task, model, *GAP):
        note = anchor_note(inputs, task, model) or "Only one `retrained` finished."
        return Table(task, model, (), (), (note,))
    rows = inputs.rows_of(task, model)
    tests = [name for name in _TESTS if summary.has(task, model, "forget", name)]
    shown = [m for m in (GAP, GAP_SIGNED, JOINT_UTILITY, _MARGIN) if summary.has(task, model, *m)]
    estimates = [{m: summary.estimate(row, *m) for m in shown} for row in rows]
    lines = []
    for row, found in zip(rows, estimates, strict=True):
        cells = [estimate_cell(f"{m.split}.{m.metric}", found[m]) for m in (GAP, GAP_SIGNED)]
        if row == inputs.retrained(
            task, model
        ):  # each against the others: their signed mean is 0 by construction
            cells[1] = EMPTY
        cells += _judged(likeness(summary, row))
        cells.append(estimate_cell("utility.joint_utility", found.get(JOINT_UTILITY)))
        cells += [_told_apart(summary, row, name) for name in tests]
        cells.append(estimate_cell("forget.equivalence_margin", found.get(_MARGIN)))
        lines.append(line_of(summary, row, cells))
    heads = (*_HEADS, *(f"Told apart by {_TESTS[name]}" for name in tests), "Equivalence margin ↓")
    notes = (
        *interval_notes(e for found in estimates for e in found.values()),
        _scale_note(summary, task, model),
    )
    return Table(task, model, heads, tuple(lines), tuple(filter(None, notes)))


def _told_apart(summary: Summary, row: Row, name: str) -> Cell:
    """In how many seeds a test tells the model from the one `retrained` of its seed."""
    if not (p := summary.by_seed(row, "forget", name)):
        return EMPTY
    rejected = sum(value < LEVEL for value in p.values())
    number = Number(f"forget.{name}: told apart", rejected, seeds=len(p))
    return Cell(f"{rejected} of {len(p)}", numbers=(number,))


def _judged(found: Likeness | None) -> list[Cell]:
    if found is None:
        return [EMPTY] * 4
    if found.p is None or found.limit is None:
        return [EMPTY, EMPTY, EMPTY, Cell(found.verdict.replace("`", "") or "–")]
    p = "<0.001" if found.p < 0.001 else style.number(found.p)
    limit = Number("forget.gap: limit", found.limit, seeds=found.seeds)
    return [
        Cell(style.number(found.limit), numbers=(limit,)),
        Cell(p, numbers=(Number("forget.gap: p", found.p, seeds=found.seeds),)),
        Cell(f"{found.inside} of {found.seeds}"),
        Cell(found.verdict.replace("`", "")),
    ]


def _scale_note(summary: Summary, task: str, model: str) -> str:
    """Degrees of freedom, and what share of the memory would go unnoticed in one run."""
    scale = scale_of(summary.inputs, task, model)
    if scale is None:
        return "One `retrained` seed: nothing says how far two of them are apart. Add `retrained_seeds`."
    between, inner, single = scale.freedom
    memory = summary.estimate(summary.inputs.original(task, model), *GAP)
    share = f", {100 * scale.limit() / memory.value:.0f} % of the gap of `original`" if memory else ""
    return (
        f"{scale.seeds} `retrained` seeds and {len(scale.sizes)} forget groups: {between}, {inner} and "
        f"{single} degrees of freedom, "
        f"of seeds, groups and questions. The limit for one run is "
        f"{style.number(scale.limit())}{share}; with more than {100 * TELLS:.0f} % no row is called like "
        "`retrained`."
    )
