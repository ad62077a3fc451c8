"""The parts of joint utility: what is left of each under every row, and which parts say nothing."""

from __future__ import annotations

from statistics import fmean

from pipeline_lib.core.runs import RunKey
from pipeline_lib.metrics.joint_utility import Part, blind, parts_of, ratio, sighted
from pipeline_lib.metrics.questions import BENCHMARK
from pipeline_lib.metrics.study import Studied
from pipeline_lib.reporting import style
from pipeline_lib.reporting.inputs import Inputs, Row
from pipeline_lib.reporting.summary import Estimate, Summary, plain_estimate
from pipeline_lib.reporting.tables.layout import Table, estimate_cell, interval_notes
from pipeline_lib.reporting.tables.of_metrics import line_of

CAPTION = (
    "Each number is the mean of a part under the row's model over that under `original` of the same seed: "
    "probability of the answers, ROUGE-L recall and fluency on every split that must not be lost; of every "
    "benchmark accuracy less the share of guesses that are right, or of running text the probability per "
    "token. Joint utility is the least of a run's parts. A part of which `original` has too little cannot "
    "fall: below 0.05, an accuracy also where it is not above chance, probability per token of a benchmark "
    "below 0.001. It is blind, named below the table, and left out."
)


def build(inputs: Inputs) -> list[Table]:
    """One table for each task and model."""
    summary = Summary(inputs)
    return [_table(summary, task, model) for task, model in inputs.studies]


def _table(summary: Summary, task: str, model: str) -> Table:
    inputs = summary.inputs
    rows = inputs.rows_of(task, model)
    studied = {row.key: [s for key in _keys(row) if (s := inputs.studied.get(key))] for row in rows}
    original = studied[inputs.original(task, model).key]
    if not original:
        return Table(task, model, (), (), ("The scores of single questions were not kept.",))
    parts = list(parts_of(original[0]))
    unseen = [part for part in parts if blind(original[0], part)]
    shown = [part for part in parts if part not in unseen]
    estimates = [[_ratio(studied[row.key], part) for part in shown] for row in rows]
    cells = [
        [
            estimate_cell(f"{split}.{name} over original", e)
            for (split, name), e in zip(shown, found, strict=True)
        ]
        for found in estimates
    ]
    lines = tuple(line_of(summary, row, of_row) for row, of_row in zip(rows, cells, strict=True))
    named = f"Blind, and left out: {', '.join(map(_label, unseen))}." if unseen else "No part is blind."
    notes = (*interval_notes(e for found in estimates for e in found), named)
    return Table(task, model, tuple(f"{_label(part)} ↑" for part in shown), lines, notes)


def worst_part(inputs: Inputs, row: Row) -> str | None:
    """The part of which least is left, in words, as a mean over seeds; None without the questions' scores."""
    studied = [found for key in _keys(row) if (found := inputs.studied.get(key))]
    parts = sighted(studied[0]) if studied else []
    if not parts:
        return None
    return _label(min(parts, key=lambda part: fmean(ratio(study, part) for study in studied)))


def _keys(row: Row) -> list[RunKey]:
    return [row.key.seeded(seed) for seed in row.seeds]


def _ratio(studied: list[Studied], part: Part) -> Estimate | None:
    """Mean over the seeds that finished."""
    return plain_estimate([ratio(study, part) for study in studied])


def _label(part: Part) -> str:
    split, name = part
    if split.startswith(BENCHMARK):
        what = "accuracy above chance" if name == "above_chance" else "probability per token"
        return f"{style.benchmark_label(split.removeprefix(BENCHMARK))} {what}"
    return f"{style.split_label(split).capitalize()} {style.within(style.metric_label(name))}"
