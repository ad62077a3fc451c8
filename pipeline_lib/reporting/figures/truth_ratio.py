"""Distribution of the forget questions' truth ratios, or likelihoods, against `retrained` and `original`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import offset_copy

from pipeline_lib.core.errors import UserError
from pipeline_lib.metrics.rows import Row as Record
from pipeline_lib.metrics.rows import distractors_of
from pipeline_lib.metrics.truth_ratio import log_truth_ratio
from pipeline_lib.reporting import style
from pipeline_lib.reporting.figures.panels import (
    ATTACKS_APART,
    lost_note,
    method_panels,
    panel_rows,
    plain_ticks,
    say_left_out,
)
from pipeline_lib.reporting.headline import (
    LIKELIHOOD_DISTANCE,
    RATIO_DISTANCE,
    Measure,
    distance,
    without_retrained,
)
from pipeline_lib.reporting.inputs import Inputs, Row, finite
from pipeline_lib.reporting.summary import Summary

LINE, LINES = 0.145, 4  # inches of a line of a panel's legend; how many lines a panel has room for
FAR = 1e30  # ends of the curves, beyond any panel
CAPTION = (
    "R of a question is the probability of the paraphrased right answer over the (geometric) mean "
    "probability of the wrong answers, each per token. Curves: share of questions with at most this R, all "
    "seeds together. A method that forgets lies on the grey curve of `retrained`. The dotted curve of "
    "`original` shows on which side a model lies that knows the answers; a curve on the other side of "
    "`retrained` avoids them, which is a trace too. Where `original` and `retrained` lie together, the panel "
    "cannot show forgetting. D: Kolmogorov-Smirnov distance to `retrained`, mean over seeds. A task without "
    "wrong answers has no R: its panels show the mean negative log-likelihood of the forget answers' tokens, "
    "read in the same way. A task that cannot have a `retrained` is left out."
) + ATTACKS_APART


@dataclass(frozen=True)
class _Kind:
    """What the panels of a study show: `value` of a record, and on a logarithmic axis exp of it.

    `name` and `lacking` are for errors: what the value is, and what is said of a record that has none.
    """

    value: Callable[[Record], float]
    name: str
    lacking: str
    distance: Measure
    logarithmic: bool
    across: str
    up: str

    def of(self, record: Record, where: str) -> float:
        """The value, or a `UserError` that starts with `where`."""
        try:
            value = self.value(record)
        except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            lacking = self.lacking.format(f"record {record.get('id')!r}")
            raise UserError(f"{where}: {lacking} ({error!r})") from None
        if not finite(value):
            raise UserError(f"{where}: the {self.name} of record {record.get('id')!r} is {value!r}")
        return value


RATIOS = _Kind(
    # The metric's own, in nats. The logarithm, because R overflows where a model has gone far astray.
    lambda row: log_truth_ratio(row["paraphrase_nll"], row["paraphrase_tokens"], *distractors_of(row)),
    "truth ratio",
    "no truth ratio can be had from {}",
    RATIO_DISTANCE,
    True,
    "Truth ratio R of a forget question",
    "Share of questions ≤ R",
)
LIKELIHOODS = _Kind(
    lambda row: row["answer_nll"] / row["answer_tokens"],
    "likelihood",
    "{} has no likelihood",
    LIKELIHOOD_DISTANCE,
    False,
    "Mean NLL of a forget answer's tokens (nats)",
    "Share of answers ≤ NLL",
)


def draw(inputs: Inputs) -> Figure:
    """One panel for each task, model and method."""
    inputs = inputs.before_attacks()
    summary = Summary(inputs)
    marks = style.marks(inputs.rows)
    shown = [study for study in inputs.studies if inputs.retrained(*study)]
    figure, panels = method_panels(inputs, height=2.9, chosen=shown)
    kinds = {RATIO_DISTANCE: RATIOS, LIKELIHOOD_DISTANCE: LIKELIHOODS}
    lines = LINES
    for task, model, method, ax in panels:
        if (measured := distance(summary, task, model)) is None:
            ax.text(0.5, 0.5, "no wrong answers, no truth ratio", transform=ax.transAxes, ha="center")
            ax.set_axis_off()
            continue
        kind, rows = kinds[measured], panel_rows(inputs, task, model, method)
        rows = [row for row in rows if kind is LIKELIHOODS or not row.likelihood_only]
        lines = max(lines, _panel(ax, summary, kind, rows, marks))
    specs = [spec for *_, ax in panels if (spec := ax.get_subplotspec())]
    grown = LINE * (lines - LINES) * len({spec.rowspan.start for spec in specs})
    figure.set_figheight(figure.get_figheight() + grown)
    say_left_out(figure, without_retrained(summary), "no model that never saw the data")
    return figure


def _panel(ax: Axes, summary: Summary, kind: _Kind, drawn: list[Row], marks: dict[str, style.Mark]) -> int:
    """Draw the curves; returns the lines of the legend, which has one column where two are too wide."""
    values = {row.key: record_values(summary, row, kind) for row in drawn}
    for row in drawn:
        d = _d(summary, row, kind.distance)
        if row.anchor:
            dashed = "-" if row.key.method == "retrained" else style.ANCHOR_LINES[row.key.method]
            colour = style.order_colour(row)
            _curve(ax, values[row.key], row.key.method + d, colour, dashed, kind.logarithmic, wide=True)
        else:
            mark = marks[style.mark_name(row)]
            _curve(ax, values[row.key], mark.label + d, mark.colour, mark.line, kind.logarithmic, wide=False)
    # All of the anchors and nearly all of the rest: one model far astray must not flatten the others.
    ends = [np.quantile(v, [0, 1] if row.anchor else [0.02, 0.98])
            for row in drawn if len(v := values[row.key])]  # fmt: skip
    low, high = min(e[0] for e in ends), max(e[1] for e in ends)
    if kind.logarithmic:
        ax.set(xscale="log", xlim=np.exp([low - 0.1, high + 0.1]))
        if high - low < math.log(100):  # else powers of ten stand alone
            plain_ticks(ax.xaxis)
    else:
        room = max(0.02 * (high - low), 1e-3)
        ax.set_xlim(low - room, high + room)
    ax.set(ylim=(0, 1.02), xlabel=kind.across, ylabel=kind.up)
    # Below the axis label, whatever the panel's height.
    figure = ax.get_figure(root=True)
    assert figure is not None
    below = offset_copy(ax.transAxes, fig=figure, y=-0.41, units="inches")
    lost_note(ax, [(row, summary.lost(row)) for row in drawn])
    columns = 2
    while True:
        legend = ax.legend(
            loc="upper center",
            bbox_to_anchor=(0.44, 0),
            bbox_transform=below,
            borderaxespad=0,
            fontsize=7,
            handlelength=1.7,
            ncols=columns,
            columnspacing=1,
        )
        if columns == 1 or legend.get_window_extent().width <= style.PANEL_WIDTH * figure.dpi:
            return math.ceil(len(legend.get_texts()) / columns)
        columns = 1


def record_values(summary: Summary, row: Row, kind: _Kind) -> np.ndarray:
    """The kind's value of the forget questions of all finished seeds, sorted."""
    found: list[float] = []
    for seed in summary.finished(row):
        key = row.key.seeded(seed)
        where = f"records.jsonl of {'/'.join(map(str, key))}"
        records = [r for r in summary.inputs.records.get(key, ()) if r.get("split") == "forget"]
        if not records:
            raise UserError(f"{where}: not given, or without a record of the forget split")
        found += [kind.of(record, where) for record in records]
    return np.sort(np.array(found))


def _curve(
    ax: Axes,
    values: Sequence[float] | np.ndarray,
    label: str,
    colour: str,
    line: str,
    logarithmic: bool,
    wide: bool,
) -> None:
    """Empirical distribution: a step up of 1/n at every value, from 0 to 1 across the panel."""
    if not len(values):
        return
    x = np.exp(np.clip(values, -math.log(FAR), math.log(FAR))) if logarithmic else np.asarray(values)
    shares = np.arange(1, len(x) + 1) / len(x)
    ends = (1 / FAR if logarithmic else -FAR, FAR)
    x, shares = np.concatenate([[ends[0]], x, [ends[1]]]), np.concatenate([[0.0], shares, [1.0]])
    ax.plot(
        x,
        shares,
        drawstyle="steps-post",
        color=colour,
        linestyle=line,
        label=label,
        linewidth=2 if wide else 1.2,
        zorder=2 if wide else 3,
    )


def _d(summary: Summary, row: Row, measure: Measure) -> str:
    estimate = summary.estimate(row, *measure)
    if (row.anchor and row.key.method == "retrained") or estimate is None:
        return ""
    return f", D = {estimate.value:.2f}"
