"""What comes back on the way of a stage: the forget answers after its steps, beside `retrained`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
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
from pipeline_lib.reporting import charts as made
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
ACROSS, UP = "Step of the stage", "Log-probability per token\n(nats, untaught groups)"
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


def charts(inputs: Inputs) -> list[made.Chart]:
    """The same panels for the page; the lines of seeds on demand."""
    summary, marks, found = Summary(inputs), style.marks(inputs.rows), []
    for case in _cases(inputs):
        curves = [one for one in _curves(summary, case) if one.values.size]
        looks = [made.look_of(one.row, marks) for one in curves]
        found.append(made.Chart(_title(inputs, case), looks, _layers(curves, looks), toggle=True))
    return found


def _layers(curves: Sequence[Curve], looks: Sequence[made.Look]) -> list[made.Values]:
    """Means over seeds, single seeds, and the range of `retrained`."""
    means: list[made.Values] = []
    alone: list[made.Values] = []
    area: list[made.Values] = []
    for one, look in zip(curves, looks, strict=True):
        name, steps = {"row": look.row}, one.steps
        means += [{**name, "step": step, "y": y} for step, y in zip(steps, one.mean, strict=True)]
        for seed, values in zip(one.seeds, one.values.tolist(), strict=True):
            own = {**name, "seed": seed, "first": False}
            alone += [{**own, "step": step, "y": y} for step, y in zip(steps, values, strict=True)]
        if _banded(one.row):
            ends = zip(steps, *one.range, strict=True)
            area = [{**name, "step": step, "y": low, "high": high} for step, low, high in ends]
    every = [value["y"] for value in (*alone, *area)]
    room = 0.05 * (max(every) - min(every)) or 0.05
    y = made.Axis(UP, min(every) - room, max(every) + room)
    most = max(value["step"] for value in means)
    both = {"x": made.Axis(ACROSS, 0, most).channel("step"), "y": y.channel("y")}
    said = made.told(row="Row", step="Step", y=y.plain)
    by_seed = {"detail": {"field": "seed"}, "tooltip": [*said, *made.told(seed="Seed")]}
    thick: made.Values = {"strokeWidth": 2, "point": {"size": 36}}
    layers = [
        made.curves(alone, looks, {"strokeWidth": 0.8, "opacity": 0.6}, made.ONE_SEED, **both, **by_seed),
        made.curves(means, looks, thick, **both, tooltip=said),
    ]
    if area:
        grey = {"type": "area", "opacity": 0.18}
        layers.insert(0, made.line(area, looks, grey, **both, y2={"field": "high"}))
    return layers


class Curve(NamedTuple):
    """A row, as it was before the stage: (seeds, steps) on the steps that all of its seeds have."""

    row: Row
    seeds: list[int]
    steps: list[int]
    values: np.ndarray

    @property
    def mean(self) -> list[float]:
        return self.values.mean(axis=0).tolist()

    @property
    def range(self) -> tuple[list[float], list[float]]:
        """Lowest and highest seed of each step."""
        return self.values.min(axis=0).tolist(), self.values.max(axis=0).tolist()


def _curves(summary: Summary, case: Case) -> Iterator[Curve]:
    """The rows of a panel; a row without a judged seed has no values."""
    inputs = summary.inputs
    for row, after in _pairs(inputs, case):
        found = {seed: path for seed in after.seeds if (path := _path(inputs, row, after, seed))}
        steps = sorted(set.intersection(*(set(path) for path in found.values()))) if found else []
        values = np.array([[path[step] for step in steps] for path in found.values()])
        yield Curve(row, list(found), steps, values)


def _pairs(inputs: Inputs, case: Case) -> Iterator[tuple[Row, Row]]:
    """Each row of a panel before the stage and after it."""
    by_key = {row.key: row for row in inputs.rows}
    for row in panel_rows(inputs, case.task, case.model, case.method):
        first, labels = split_stages(row.key.after)
        after = by_key.get(row.key._replace(after=f"{first}/{case.labels}" if first else case.labels))
        if not labels and after is not None:
            yield row, after


def _panel(ax: Axes, summary: Summary, case: Case, marks: Mapping[str, style.Mark]) -> list[Row]:
    """Draw a panel; returns the rows in it, as they were before the stage."""
    shown = [one for one in _curves(summary, case) if one.values.size]
    for one in shown:
        _line(ax, one, marks)
    ax.set_title(_title(summary.inputs, case), loc="left")
    lost_note(ax, [(row, summary.lost(after)) for row, after in _pairs(summary.inputs, case)])
    ax.set(xlabel=ACROSS, ylabel=UP)
    return [one.row for one in shown]


def _title(inputs: Inputs, case: Case) -> str:
    title = f"{case.method}, then {case.labels}" if case.method else case.labels
    return panel_title(inputs, case.task, case.model, title)


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


def _line(ax: Axes, drawn: Curve, marks: Mapping[str, style.Mark]) -> None:
    row, steps = drawn.row, drawn.steps
    if row.anchor:
        look = _anchor_look(row.key.method)
    else:
        mark = marks[style.mark_name(row)]
        look = {"color": mark.colour, "linestyle": mark.line}
    ax.plot(steps, drawn.mean, **look, marker=".", markersize=3, zorder=2 if row.anchor else 3)
    if not row.anchor and len(drawn.seeds) > 1:
        ax.plot(steps, drawn.values.T, **look, linewidth=0.5, alpha=0.5, zorder=2)
    if _banded(row):
        ax.fill_between(steps, *drawn.range, color=look["color"], alpha=0.18, linewidth=0, zorder=1)


def _banded(row: Row) -> bool:
    return row.anchor and row.key.method == "retrained"


def _anchor_look(name: str) -> dict[str, Any]:
    return {"color": style.ANCHOR_MARKS[name][0], "linestyle": style.ANCHOR_LINES[name]}
