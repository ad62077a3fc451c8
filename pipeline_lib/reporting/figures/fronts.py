"""Fronts of trained models: the gap to `retrained` against joint utility, along every judged run."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from pipeline_lib.metrics.path import Path
from pipeline_lib.reporting import style
from pipeline_lib.reporting.figures.panels import (
    anchor_handles,
    as_line,
    legend_below,
    method_panels,
    optimizer_handles,
    panel_rows,
    plain_ticks,
    say_left_out,
)
from pipeline_lib.reporting.figures.tradeoff import BAND
from pipeline_lib.reporting.inputs import Inputs, Row
from pipeline_lib.reporting.likeness import scale_of
from pipeline_lib.reporting.summary import Summary

CAPTION = (
    "Each line is one run, from `original` (cross) on: its points are models after some of its steps, at a "
    "constant rate, as shorter runs with the same warm-up steps would leave them, "
    "judged by likelihood alone. Left is closer to `retrained` (star), on either side "
    "of it; up is "
    "more joint utility of likelihoods. A hexagon is `base`, the pretrained model before fine-tuning. In the "
    "grey band lie at least 95 % of further `retrained` seeds. The "
    "dashed level is the utility at which rows are compared: by the leftmost place of each line at or above "
    "it, a point, or where the line crosses the level, interpolated between its two neighbouring points. A "
    "ring is the model that was made there (`matched`). Cold colours are first-order, warm ones second-order "
    "optimisers."
)


def draw(inputs: Inputs) -> Figure:
    """One panel for each task, model and method with runs that were judged on their way."""
    summary = Summary(inputs)
    marks = style.marks(inputs.rows)
    paths = {
        key: Path.of(study)
        for key, study in inputs.studied.items()
        if study.judged and study.retrained and study.level is not None
    }
    shown = list(dict.fromkeys((key.task, key.model) for key in paths))
    figure, panels = method_panels(inputs, height=2.4, chosen=shown)
    for task, model, method, ax in panels:
        for row in panel_rows(inputs, task, model, method):
            for seed in row.seeds:
                if (path := paths.get(row.key.seeded(seed))) is not None:
                    mark = marks[style.mark_name(row)]
                    # Of a run that was made again to the level, only the model that it ends with.
                    points = path.points[-1:] if row.key.after else path.points
                    gaps, utility = zip(*((point.gap, point.utility) for point in points), strict=True)
                    ax.plot(
                        gaps,
                        utility,
                        color=mark.colour,
                        linestyle=mark.line,
                        linewidth=0.8,
                        marker="o" if row.key.after else ".",
                        markersize=4 if row.key.after else 3,
                        markerfacecolor="none" if row.key.after else None,
                    )
        _frame(ax, summary, inputs, task, model)
    say_left_out(
        figure,
        [style.study_label(*study) for study in inputs.studies if study not in shown],
        "no run was judged on its way",
    )
    handles = optimizer_handles([row for row in inputs.rows if row.order != "none"], marks, as_line)
    legend_below(
        figure,
        {
            **handles,
            "For comparison": [
                *anchor_handles(inputs.rows),
                Patch(color=BAND, label="single further retrained models"),
            ],
        },
    )
    return figure


def _frame(ax: Axes, summary: Summary, inputs: Inputs, task: str, model: str) -> None:
    """Anchors, the band of further `retrained` seeds, and the level of the comparison."""
    for row in (row for row in inputs.rows_of(task, model) if row.anchor):
        colour, marker = style.ANCHOR_MARKS[row.key.method]
        for x, y in _anchor(summary, row):
            ax.plot([x], [y], linestyle="", color=colour, marker=marker, markersize=5, alpha=0.7, zorder=3)
    ax.set_xscale("log")
    plain_ticks(ax.xaxis)
    if (scale := scale_of(inputs, task, model)) is not None:
        ax.axvspan(ax.get_xlim()[0], scale.limit(), color=BAND, zorder=0, linewidth=0)
    ax.axhline(
        inputs.paths.levels[task], color=style.RETRAINED_COLOUR, linestyle="--", linewidth=0.8, zorder=1
    )
    ax.set_xlabel("Gap to retrained (nats per token, ← better)")
    ax.set_ylabel("Joint utility of likelihoods\n(better →)")


def _anchor(summary: Summary, row: Row) -> list[tuple[float, float]]:
    gaps = summary.by_seed(row, "forget", "gap")
    utility = summary.by_seed(row, "utility", "joint_utility_likelihood")
    return [(gap, utility[seed]) for seed, gap in gaps.items() if seed in utility]
