"""The paper's first figure: forget quality and utility, first against second order, method by method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from pipeline_lib.core.grouping import grouped
from pipeline_lib.reporting import style
from pipeline_lib.reporting.figures.panels import legend_below, lost_note, optimizer_handles
from pipeline_lib.reporting.headline import Measure
from pipeline_lib.reporting.inputs import Inputs, Row
from pipeline_lib.reporting.paper.rows import paired
from pipeline_lib.reporting.summary import Summary

CAPTION = (
    "Forget quality is the p-value of the test of the forget set's truth ratios against those of "
    "`retrained`; over seeds the geometric mean, as the mean of log10 p. Where the suite asks for the "
    "paper's own protocol, a panel shows its forget quality too, which holds forget against retain truth "
    "ratios of one model, so that `original` may pass. Bars: means over seeds; dots: single seeds. Lines: "
    "`original` (dotted), `retrained` (dashed) and `base` (dots and dashes), where there is one."
)
QUALITY = Measure("forget", "forget_quality_log10")
RELEASED = Measure("forget", "forget_quality_as_released")
UTILITY = Measure("utility", "model_utility")
LABELS = {
    QUALITY: "Forget quality p (better →)",
    RELEASED: "Forget quality p, as released",
    UTILITY: "Model utility (better →)",
}
WIDTH, WIDEST = 0.8, 0.35  # of a group of bars, of one bar
SIDE, NUMBER = 0.7, 0.31  # inches: what stands beside the bars of a panel, and the longest number


def draw(inputs: Inputs) -> Figure:
    """One row of panels for each task of authors and model."""
    summary = Summary(inputs)
    marks = style.marks(inputs.rows)
    released = any(summary.has(*study, *RELEASED) for study in inputs.studies)
    measures = [QUALITY, *([RELEASED] if released else []), UTILITY]
    figure = Figure(figsize=(2 * style.PANEL_WIDTH, 2.3 * len(inputs.studies)))
    grid = figure.subplots(len(inputs.studies), len(measures), squeeze=False)
    for (task, model), axes in zip(inputs.studies, grid, strict=True):
        rows = paired(inputs.rows_of(task, model))
        for ax, measure in zip(axes, measures, strict=True):
            _panel(ax, summary, rows, measure, marks, len(measures))
        axes[0].set_title(style.study_label(task, model), loc="left")
        lost_note(axes[-1], [(row, summary.lost(row)) for row in rows if not row.anchor])
    legend_below(figure, optimizer_handles(inputs.rows, marks, _patch))
    return figure


def _panel(
    ax: Axes,
    summary: Summary,
    rows: Sequence[Row],
    measure: Measure,
    marks: Mapping[str, style.Mark],
    panels: int,
) -> None:
    """Draw one measure's bars; `panels`: how many stand side by side."""
    task, model = rows[0].key[:2]
    if not summary.has(task, model, *measure):
        ax.text(0.5, 0.5, f"{measure.label}:\nnot measured", transform=ax.transAxes, ha="center", va="center")
        ax.set_axis_off()
        return
    # By what stands below them: a method, or an anchor after a stage.
    bars = grouped((row.key.method if row.unlearned else row.display, row) for row in rows if not row.anchor)
    inches = (2 * style.PANEL_WIDTH / panels - SIDE) / len(bars)  # of a group with the space around it
    highest = 0.0
    for place, of_method in enumerate(bars.values()):
        width = min(WIDTH / len(of_method), WIDEST)
        narrow = inches * (width if len(of_method) > 1 else 1) < NUMBER
        for i, row in enumerate(of_method):
            where = place + (i - (len(of_method) - 1) / 2) * width, width, narrow
            highest = max(highest, _bar(ax, summary, row, measure, where, marks[style.mark_name(row)]))
    for row in (row for row in rows if row.anchor):
        if (estimate := summary.estimate(row, *measure)) is not None:
            level = _plain(measure, estimate.value)
            highest = max(highest, level)
            line = style.ANCHOR_LINES[row.key.method]
            ax.axhline(level, color=style.order_colour(row), linestyle=line, linewidth=0.9, zorder=1)
    ax.set_xticks(range(len(bars)), list(bars))
    if len(bars) > 4:
        ax.tick_params(axis="x", labelrotation=35)
    ax.set(ylim=(0, 1.12 if measure != UTILITY else max(0.1, 1.15 * highest)), ylabel=LABELS[measure])


def _plain(measure: Measure, value: float) -> float:
    return float(10**value) if measure == QUALITY else value


def _bar(
    ax: Axes,
    summary: Summary,
    row: Row,
    measure: Measure,
    where: tuple[float, float, bool],
    mark: style.Mark,
) -> float:
    """Draw one row's bar with its number and its seeds; returns the largest of them.

    `where`: middle and width of the bar, and whether its number must be turned to find room.
    """
    at, width, narrow = where
    estimate = summary.estimate(row, *measure)
    if estimate is None:  # every seed diverged; the note above the panel says so
        ax.text(at, 0.01, "×", ha="center", va="bottom", fontsize=7, color=mark.colour)
        return 0.0
    value = _plain(measure, estimate.value)
    seeds = [_plain(measure, v) for v in summary.by_seed(row, *measure).values()]
    ax.bar(at, value, width=0.92 * width, color=mark.face, edgecolor=mark.colour, linewidth=0.8, zorder=2)
    if len(seeds) > 1:
        spread = np.linspace(-0.2, 0.2, len(seeds)) * width
        ax.plot(at + spread, seeds, linestyle="", marker=".", color="#222222", markersize=3, mew=0, zorder=3)
    text = f"{value:.2f}" if value >= 0.005 else f"{value:.0e}"
    top = max([value, *seeds])
    behind = {"facecolor": "white", "edgecolor": "none", "pad": 0.3}  # the lines of the anchors pass there
    ax.annotate(
        text,
        (at, top),
        xytext=(0, 2),
        textcoords="offset points",
        ha="center",
        va="bottom",
        fontsize=6 if narrow else 7,
        rotation=90 if narrow else 0,
        bbox=behind,
        zorder=4,
    )
    return top


def _patch(mark: style.Mark) -> Patch:
    """An optimiser's legend entry as a bar."""
    return Patch(facecolor=mark.face, edgecolor=mark.colour, label=mark.label)
