"""Every second-order row against every first-order row of the same method: paired differences over seeds."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline_lib.reporting import style
from pipeline_lib.reporting.inputs import Inputs, Row
from pipeline_lib.reporting.summary import Estimate, Summary
from pipeline_lib.reporting.tables.layout import Cell, Line, Table, estimate_cell

CAPTION = (
    "Second order minus first order, with the same method and the same seeds. A difference is claimed only "
    "where the t-interval of the paired differences leaves out 0. The intervals are Bonferroni's: all of a "
    "table hold at once with 95 %, so that no difference is claimed because many were looked for. With two "
    "or three seeds they are wide. Differences that are the same in every seed have no interval."
)
# (split, metric, words if better, words if worse)
QUANTITIES = [
    ("forget", "ks_statistic", "closer to retrained", "farther from retrained"),
    ("utility", "model_utility", "higher utility", "lower utility"),
]


def verdict(difference: Estimate | None, better: str, worse: str) -> str:
    """What may be said of a difference in words."""
    if difference is None or difference.low is None or difference.high is None:
        return "no interval over seeds: no difference can be claimed"
    if difference.low <= 0 <= difference.high:
        return "no difference can be claimed"
    return better if (difference.value > 0) == bool(difference.higher_is_better) else worse


def pairs(inputs: Inputs, task: str, model: str, method: str) -> Iterator[tuple[Row, Row]]:
    """(second-order row, first-order row) of one method."""
    rows = inputs.rows_of(task, model, method)
    for second in (row for row in rows if row.order == "SO"):
        yield from ((second, first) for first in rows if first.order == "FO")


def count(inputs: Inputs, summary: Summary, task: str, model: str) -> int:
    """How many differences the table of this task and model holds."""
    quantities = sum(summary.has(task, model, split, metric) for split, metric, _, _ in QUANTITIES)
    methods = inputs.methods(task, model)
    return quantities * sum(len(list(pairs(inputs, task, model, method))) for method in methods)


def build(inputs: Inputs) -> list[Table]:
    """One table for each task and model."""
    summary = Summary(inputs)
    tables = []
    for task, model in inputs.studies:
        lines = []
        quantities = [q for q in QUANTITIES if summary.has(task, model, *q[:2])]
        comparisons = count(inputs, summary, task, model)
        for method in inputs.methods(task, model):
            for second, first in pairs(inputs, task, model, method):
                cells = [Cell(style.row_label(first))]
                seeds = 0
                for split, metric, better, worse in quantities:
                    difference = summary.difference(second, first, split, metric, comparisons)
                    name = f"{split}.{metric} minus {first.key.optimizer}"
                    cells += [estimate_cell(name, difference), Cell(verdict(difference, better, worse))]
                    seeds = difference.seeds if difference else 0
                lost = len(summary.diverged(second))
                lines.append(Line(second, f"{seeds} shared", lost, tuple(cells)))
        heads = ["Against"]
        for _, metric, better, worse in quantities:
            heads += [f"Difference in {style.metric_label(metric)}", f"{better} or {worse}?".capitalize()]
        tables.append(Table(task, model, tuple(heads), tuple(lines)))
    return tables
