"""Distance from `retrained`, row by row: as trained, and at equal retention where the study measured that."""

from __future__ import annotations

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pipeline_lib.metrics.definition import AT_EQUAL_RETAIN
from pipeline_lib.reporting import style
from pipeline_lib.reporting.figures.panels import (
    ATTACKS_APART,
    legend_below,
    lost_note,
    method_panels,
    panel_methods,
    panel_rows,
    say_left_out,
)
from pipeline_lib.reporting.headline import without_retrained
from pipeline_lib.reporting.inputs import Inputs, Row
from pipeline_lib.reporting.summary import Summary

# Records without wrong answers have no truth ratios: then likelihoods are compared, or (in studies older than
# that comparison) the probability of the forget answers.
CHOICES = (
    ("ks_statistic", "KS D to retrained (← better)"),
    ("ks_statistic_likelihood", "KS D of likelihoods to retrained (← better)"),
    ("probability", "Probability of the forget answers (← better)"),
)
LINE = 0.19  # inches a row
BELOW = 0.17  # rows between a row's own mark and the one at equal retention

CAPTION = (
    "Horizontal: the Kolmogorov-Smirnov distance D between the truth ratios of the forget questions and "
    "those of `retrained`; for a task without wrong answers, that between the likelihoods of the forget "
    "answers (each the mean over an answer's tokens). A task that cannot have a `retrained` is left out. "
    "Marks: means over seeds with 95 % t-intervals (for a single seed, bootstrap over groups of questions); "
    "dots: single seeds. Hollow: the model as it was trained. Filled: at equal retention, where every model "
    "has lost the same share of the original's retain probability. Dashed: `retrained` itself, held against "
    "the `retrained` of another seed. Intervals that overlap say little about a difference between rows "
    "that share seeds: the table of comparisons tests that."
) + ATTACKS_APART


def draw(inputs: Inputs) -> Figure:
    """One panel for each task, model and method."""
    inputs = inputs.before_attacks()
    summary = Summary(inputs)
    shown = [study for study in inputs.studies if inputs.retrained(*study) and _choice(summary, *study)]
    # `retrained` is a level, not a row.
    sizes = [len(panel_rows(inputs, *study, m)) for study in shown for m in panel_methods(inputs, *study)]
    figure, panels = method_panels(inputs, height=0.75 + LINE * (max(sizes, default=1) - 1), chosen=shown)
    matched = False
    for task, model, method, ax in panels:
        retrained = inputs.retrained(task, model)
        assert retrained is not None
        metric, label = _choice(summary, task, model) or CHOICES[0]
        if (level := summary.estimate(retrained, "forget", metric)) is not None:
            ax.axvline(level.value, color=style.RETRAINED_COLOUR, linestyle="--", linewidth=0.8, zorder=1)
        rows = [row for row in panel_rows(inputs, task, model, method) if row != retrained]
        rows = [row for row in rows if not row.likelihood_only or summary.by_seed(row, "forget", metric)]
        for place, row in enumerate(rows):
            both = summary.estimate(row, "forget", metric + AT_EQUAL_RETAIN) is not None
            matched = matched or both
            _mark(ax, summary, row, metric, place - BELOW * both, filled=False)
            if both:
                _mark(ax, summary, row, metric + AT_EQUAL_RETAIN, place + BELOW, filled=True)
        names = [style.optimizer_label(row) for row in rows]
        ax.set_yticks(range(len(rows)), names)
        ax.set(xlim=(0, None), ylim=(len(rows) - 0.5, -0.5), xlabel=label)
        lost_note(ax, [(row, summary.lost(row)) for row in rows])
    say_left_out(figure, without_retrained(summary), "no model that never saw the data")
    legend_below(figure, {"Judged": _handles(matched)})
    return figure


def _choice(summary: Summary, task: str, model: str) -> tuple[str, str] | None:
    return next((choice for choice in CHOICES if summary.has(task, model, "forget", choice[0])), None)


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
    colour = style.order_colour(row)
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
