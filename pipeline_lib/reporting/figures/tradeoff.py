"""Forgetting against utility, one panel for each objective: the study's question in one picture."""

from __future__ import annotations

import math

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from pipeline_lib.reporting import style
from pipeline_lib.reporting.figures.panels import (
    ANCHOR_MARKS,
    diverged_note,
    legend_below,
    method_panels,
    optimizer_handles,
)
from pipeline_lib.reporting.inputs import Inputs, Row
from pipeline_lib.reporting.summary import Estimate, Summary

# Distance from `retrained`, not the forget loss or ROUGE: forgetting more than a model that never saw the
# data is a trace too, and this axis counts it. D, not the p-value: p shrinks with the number of questions, D
# does not. Records without wrong answers have no D: then ROUGE-L, with the level of `retrained`.
DISTANCE = ("forget", "ks_statistic")
OVERLAP = ("forget", "rouge_l_recall")
UTILITY = ("utility", "model_utility")
BAND = "#e9e9e9"

CAPTION = (
    "The ideal is the corner at the upper left. Horizontal: the Kolmogorov-Smirnov distance D between the "
    "truth ratios of the forget questions and those of `retrained`; 0 is the same distribution, and too "
    "little and too much forgetting both raise it. (For a task without wrong answers: forget ROUGE-L, where "
    "the dashed level of `retrained` is the aim.) Large marks: means over seeds with 95 % intervals (over "
    "seeds; for a single seed, bootstrap over groups of questions), cut off at the panel's edge. Small "
    "light marks: single seeds. In the grey band a 5 % KS test cannot tell a single run from `retrained`. "
    "Cold colours are first-order, warm colours second-order optimisers."
)


def draw(inputs: Inputs) -> Figure:
    """One panel for each task, model and method."""
    summary = Summary(inputs)
    marks = style.marks(inputs.rows)
    figure, panels = method_panels(inputs, height=2.2)
    for task, model, method, ax in panels:
        rows = inputs.rows_of(task, model)
        shown = [row for row in rows if row.order == "none" or row.key.method == method]
        axis = DISTANCE if summary.has(task, model, *DISTANCE) else OVERLAP
        for row in shown:
            colour, marker, face = _mark(row, marks)
            _point(ax, summary, row, axis, colour, marker, face)
        _axes(ax, summary, rows, axis)
        diverged_note(ax, [(row, len(summary.diverged(row))) for row in shown])
    anchors: list[Artist] = [
        Line2D([], [], linestyle="", color=colour, marker=marker, markersize=6.5, label=name)
        for name, (colour, marker) in ANCHOR_MARKS.items()
    ]
    anchors.append(Patch(color=BAND, label="like retrained (KS p > 0.05)"))
    legend_below(figure, {**optimizer_handles(inputs.rows, marks, lines=False), "For comparison": anchors})
    return figure


def _mark(row: Row, marks: dict[str, style.Mark]) -> tuple[str, str, str]:
    if row.order == "none":
        colour, marker = ANCHOR_MARKS[row.key.method]
        return colour, marker, colour
    mark = marks[row.key.optimizer]
    return mark.colour, mark.marker, mark.face


def _across(summary: Summary, row: Row, axis: tuple[str, str]) -> dict[int, float]:
    """`retrained` is at distance 0 from itself, where the metrics leave that out."""
    values = summary.by_seed(row, *axis)
    if not values and row.key.method == "retrained":
        return dict.fromkeys(summary.finished(row), 0.0)
    return values


def _point(
    ax: Axes, summary: Summary, row: Row, axis: tuple[str, str], colour: str, marker: str, face: str
) -> None:
    across, up = _across(summary, row, axis), summary.by_seed(row, *UTILITY)
    seeds = [seed for seed in across if seed in up]
    if not seeds:
        return
    x, y = summary.estimate(row, *axis), summary.estimate(row, *UTILITY)
    assert y is not None
    if len(seeds) > 1:
        light = [across[seed] for seed in seeds], [up[seed] for seed in seeds]
        ax.plot(*light, linestyle="", marker=marker, color=colour, alpha=0.5, markersize=3.2, mew=0, zorder=2)
    ax.errorbar(
        x.value if x else 0.0,
        y.value,
        xerr=_bar(x),
        yerr=_bar(y),
        color=colour,
        marker=marker,
        markerfacecolor=face,
        markeredgecolor="white" if face == colour else colour,
        markeredgewidth=0.5 if face == colour else 1.0,
        markersize={"*": 9, "D": 5.5}.get(marker, 6.5),
        elinewidth=0.8,
        capsize=1.5,
        zorder=3,
    )


def _bar(estimate: Estimate | None) -> list[list[float]] | None:
    """Lengths below and above the mean. A bootstrap interval can miss its value by a hair: never below 0."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return None
    return [[max(0.0, estimate.value - estimate.low)], [max(0.0, estimate.high - estimate.value)]]


def _axes(ax: Axes, summary: Summary, rows: list[Row], axis: tuple[str, str]) -> None:
    """The same limits in all panels of a study. A bar may leave the panel, a mark may not."""
    heights = [v for row in rows for v in summary.by_seed(row, *UTILITY).values()]
    low, high = min(heights), max(heights)
    margin = max(0.05, 0.15 * (high - low))
    ax.set_ylim(low - margin, high + margin)
    ax.set_xlim(-0.04, 1.04)
    ax.set_ylabel("Model utility (better →)")
    if axis == OVERLAP:
        retrained = next(row for row in rows if row.key.method == "retrained")
        level = summary.estimate(retrained, *axis)
        if level is not None:
            ax.axvline(level.value, color=style.RETRAINED_COLOUR, linestyle="--", linewidth=0.8, zorder=1)
        ax.set_xlabel("Forget ROUGE-L (dashed: retrained)")
        return
    counts = [e.n for row in rows if (e := summary.estimate(row, *axis)) is not None and e.n]
    # Critical value of the two-sample test with n and n values: sqrt(-ln(0.05 / 2) / 2) sqrt(2 / n).
    critical = math.sqrt(-math.log(0.025) / 2) * math.sqrt(2 / counts[0])
    ax.axvspan(-0.04, critical, color=BAND, zorder=0, linewidth=0)
    ax.set_xlabel("KS D to retrained (← better)")
