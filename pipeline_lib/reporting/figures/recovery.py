"""What comes back on the way of a stage: the forget answers after its steps, beside `retrained`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from pipeline_lib.core.runs import split_stages
from pipeline_lib.metrics.definition import FORGET_SPLIT
from pipeline_lib.metrics.recovery import SCORE
from pipeline_lib.metrics.recovery_max import curve, level
from pipeline_lib.reporting import style
from pipeline_lib.reporting.figures.panels import (
    MAX_COLUMNS,
    as_line,
    legend_below,
    lost_note,
    optimizer_handles,
    panel_methods,
    panel_rows,
    panel_title,
    say_left_out,
)
from pipeline_lib.reporting.inputs import Inputs, Row
from pipeline_lib.reporting.summary import Summary

CAPTION = (
    "Log-probability per answer token of the forget questions after so many steps of a stage, judged by "
    "likelihood alone; questions of groups that the stage teaches are left out. Step 0 is the model before "
    "the stage. A line is the mean of a row's seeds, thin lines are its seeds; the band goes from the lowest "
    "to the highest seed of `retrained`. What lies above `retrained` at the same step came back, or was "
    "never gone: the stage does not teach it to a model that never saw the data. A line that rises to the "
    "band from below has recovered nothing. The learning rate may change on the way, so a point is no "
    "shorter stage."
)
BAND = "range of retrained seeds"
HEIGHT = 2.4  # inches of a panel


class Case(NamedTuple):
    """One panel: a judged stage, or a chain whose last one is judged, and the rows of one method.

    `method` is "" where no trained method went through it.
    """

    task: str
    model: str
    method: str
    labels: str


def draw(inputs: Inputs) -> Figure:
    """One panel for each task, model, judged stage and method; `original` and `retrained` are in each."""
    summary, marks, cases = Summary(inputs), style.marks(inputs.rows), _cases(inputs)
    columns = min(MAX_COLUMNS, max(len(cases), 1))
    rows = math.ceil(len(cases) / columns)
    figure = Figure(figsize=(style.PANEL_WIDTH * columns, HEIGHT * rows or 0.5))
    panels = list(figure.subplots(rows, columns, squeeze=False).flat) if cases else []
    shown: list[Row] = []
    for case, ax in zip(cases, panels, strict=False):
        shown += _panel(ax, summary, case, marks)
    for ax in panels[len(cases) :]:
        ax.remove()
    there = {(case.task, case.model) for case in cases}
    missing = [style.study_label(*study) for study in inputs.studies if study not in there]
    say_left_out(figure, missing, "no stage was judged on its way")
    anchors = {row.key.method: row for row in shown if row.anchor}
    beside = [Line2D([], [], **_anchor_look(name), label=name) for name in anchors]
    band = [Patch(color=style.RETRAINED_COLOUR, alpha=0.18, linewidth=0, label=BAND)]
    handles = optimizer_handles(shown, marks, as_line)
    if anchors:
        handles["For comparison"] = [*beside, *(band if "retrained" in anchors else [])]
    if handles:
        legend_below(figure, handles)
    return figure


def _cases(inputs: Inputs) -> list[Case]:
    judged = {key.row for key, study in inputs.studied.items() if study.staged is not None and study.judged}
    cases = []
    for task, model in inputs.studies:
        rows = [row for row in inputs.rows_of(task, model) if row.key in judged]
        for labels in dict.fromkeys(split_stages(row.key.after)[1] for row in rows):
            of_stage = {row.key.method for row in rows if split_stages(row.key.after)[1] == labels}
            methods = [method for method in panel_methods(inputs, task, model) if method in of_stage]
            cases += [Case(task, model, method, labels) for method in methods or [""]]
    return cases


def _panel(ax: Axes, summary: Summary, case: Case, marks: Mapping[str, style.Mark]) -> list[Row]:
    """Draw a panel; returns the rows in it, as they were before the stage."""
    inputs, lost, shown = summary.inputs, [], []
    by_key = {row.key: row for row in inputs.rows}
    for row in panel_rows(inputs, case.task, case.model, case.method):
        first, labels = split_stages(row.key.after)
        after = by_key.get(row.key._replace(after=f"{first}/{case.labels}" if first else case.labels))
        if labels or after is None:
            continue
        lost.append((row, summary.lost(after)))
        if paths := [path for seed in after.seeds if (path := _path(inputs, row, after, seed))]:
            shown.append(row)
            _line(ax, row, paths, marks)
    title = f"{case.method}, then {case.labels}" if case.method else case.labels
    ax.set_title(panel_title(inputs, case.task, case.model, title), loc="left")
    lost_note(ax, lost)
    ax.set(xlabel="Step of the stage", ylabel="Log-probability per token\n(nats, untaught groups)")
    return shown


def _path(inputs: Inputs, row: Row, after: Row, seed: int) -> dict[int, float]:
    """Step -> mean over the judging groups of one seed; empty where the stage left no model."""
    key = row.key.seeded(seed)
    study, labels = inputs.studied.get(key), split_stages(after.key.after)[1]
    found = None if study is None else study.stages.get(labels)
    if study is None or found is None or found.staged is None or not found.judged:
        return {}
    start = study.stages.get(labels.rpartition("/")[0], study)  # of a chain, the model before its last stage
    before = level(found, found.staged, start.scores[FORGET_SPLIT].values[SCORE])
    own = curve(found, found.staged, ())
    return {0: before, **dict(zip((step for step, _ in found.judged), own.model.tolist(), strict=True))}


def _line(ax: Axes, row: Row, paths: Sequence[dict[int, float]], marks: Mapping[str, style.Mark]) -> None:
    steps = sorted(set.intersection(*(set(path) for path in paths)))
    values = np.array([[path[step] for step in steps] for path in paths])  # seeds, steps
    if row.anchor:
        look = _anchor_look(row.key.method)
    else:
        mark = marks[style.mark_name(row)]
        look = {"color": mark.colour, "linestyle": mark.line}
    ax.plot(steps, values.mean(axis=0), **look, marker=".", markersize=3, zorder=2 if row.anchor else 3)
    if not row.anchor and len(paths) > 1:
        ax.plot(steps, values.T, **look, linewidth=0.5, alpha=0.5, zorder=2)
    if row.anchor and row.key.method == "retrained":
        low, high = values.min(axis=0), values.max(axis=0)
        ax.fill_between(steps, low, high, color=look["color"], alpha=0.18, linewidth=0, zorder=1)


def _anchor_look(name: str) -> dict[str, Any]:
    return {"color": style.ANCHOR_MARKS[name][0], "linestyle": style.ANCHOR_LINES[name]}
