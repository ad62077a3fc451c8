"""Distance from `retrained`, row by row: as trained, and at equal retention where the study measured that."""

from __future__ import annotations

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pipeline_lib.reporting import style
from pipeline_lib.reporting.figures.panels import ANCHOR_MARKS, diverged_note, legend_below, method_panels
from pipeline_lib.reporting.inputs import Inputs, Row
from pipeline_lib.reporting.summary import AT_EQUAL_RETAIN, Summary

# Records without wrong answers have no D: then the probability of the forget answers.
CHOICES = (
    ("ks_statistic", "KS D to retrained (← better)"),
    ("probability", "Probability of the forget answers (← better)"),
)
LINE = 0.19  # inches a row
BELOW = 0.17  # rows between a row's own mark and the one at equal retention

CAPTION = (
    "Horizontal: the Kolmogorov-Smirnov distance D between the truth ratios of the forget questions and "
    "those of `retrained` (for a task without wrong answers, the probability of the forget answers). "
    "Marks: means over seeds with 95 % t-intervals (for a single seed, bootstrap over groups of questions); "
    "dots: single seeds. Hollow: the model as it was trained. Filled: at equal retention, where every model "
    "has lost the same share of the original's retain probability. Dashed: `retrained` itself, held against "
    "the `retrained` of another seed. Intervals that overlap say little about a difference between rows "
    "that share seeds: the table of comparisons tests that."
)


def draw(inputs: Inputs) -> Figure:
    """One panel for each task, model and method."""
    summary = Summary(inputs)
    most = max(len(inputs.rows_of(*study, m)) for study in inputs.studies for m in inputs.methods(*study))
    figure, panels = method_panels(inputs, height=0.75 + LINE * (most + 1))
    matched = False
    for task, model, method, ax in panels:
        original, retrained = (inputs.rows_of(task, model, name)[0] for name in ANCHOR_MARKS)
        metric, label = next(choice for choice in CHOICES if summary.has(task, model, "forget", choice[0]))
        level = summary.estimate(retrained, "forget", metric)
        if level is not None:
            ax.axvline(level.value, color=style.RETRAINED_COLOUR, linestyle="--", linewidth=0.8, zorder=1)
        rows = [original, *inputs.rows_of(task, model, method)]
        for place, row in enumerate(rows):
            both = summary.estimate(row, "forget", metric + AT_EQUAL_RETAIN) is not None
            matched = matched or both
            _mark(ax, summary, row, metric, place - BELOW * both, filled=False)
            if both:
                _mark(ax, summary, row, metric + AT_EQUAL_RETAIN, place + BELOW, filled=True)
        names = [row.key.method if row is original else style.optimizer_label(row) for row in rows]
        ax.set_yticks(range(len(rows)), names)
        ax.set_ylim(len(rows) - 0.5, -0.5)
        ax.set_xlim(left=0)
        ax.set_xlabel(label)
        diverged_note(ax, [(row, len(summary.diverged(row))) for row in rows])
    legend_below(figure, {"Judged": _handles(matched)})
    return figure


def _handles(matched: bool) -> list[Artist]:
    def handle(label: str, face: str) -> Line2D:
        return Line2D(
            [], [], linestyle="", marker="o", color="#444444", markerfacecolor=face, markersize=5, label=label
        )

    retrained = Line2D([], [], color=style.RETRAINED_COLOUR, linestyle="--", linewidth=0.8, label="retrained")
    equal = [handle("at equal retention", "#444444")] if matched else []
    return [handle("as trained", "white"), *equal, retrained]


def _mark(ax: Axes, summary: Summary, row: Row, metric: str, place: float, filled: bool) -> None:
    estimate = summary.estimate(row, "forget", metric)
    if estimate is None:  # every seed diverged; the note above the panel says so
        return
    colour = {"FO": "#0072B2", "SO": "#D55E00"}.get(row.order, style.ORIGINAL_COLOUR)
    seeds = list(summary.by_seed(row, "forget", metric).values())
    if len(seeds) > 1:
        ax.plot(
            seeds,
            [place] * len(seeds),
            linestyle="",
            marker=".",
            color=colour,
            alpha=0.4,
            markersize=3.5,
            mew=0,
        )
    if estimate.low is not None and estimate.high is not None:
        ax.plot([estimate.low, estimate.high], [place, place], color=colour, linewidth=0.9)
    ax.plot(
        [estimate.value],
        [place],
        marker="o",
        color=colour,
        markerfacecolor=colour if filled else "white",
        markersize=4.5,
        zorder=3,
    )
