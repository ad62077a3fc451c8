"""Forgetting against utility, one panel for each objective: the study's question in one picture."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from pipeline_lib.reporting import style
from pipeline_lib.reporting.figures.panels import (
    ATTACKS_APART,
    anchor_handles,
    as_marker,
    legend_below,
    lost_note,
    method_panels,
    optimizer_handles,
    panel_rows,
    plain_ticks,
    say_left_out,
)
from pipeline_lib.reporting.headline import GAP, LIKELIHOOD_DISTANCE, RATIO_DISTANCE, Measure, axes
from pipeline_lib.reporting.inputs import Inputs, Row
from pipeline_lib.reporting.likeness import scale_of
from pipeline_lib.reporting.summary import Estimate, Summary

# Distance from `retrained`, not the forget loss or ROUGE, is the first headline metric: forgetting more than
# a
# model that never saw the data is a trace too, and that axis counts it. Studies without a gap have D, not its
# p-value: p shrinks with the number of questions, D does not.
DISTANCES = (RATIO_DISTANCE, LIKELIHOOD_DISTANCE)
BAND = "#e9e9e9"
LONG_LABEL = 20  # letters of an axis' name that leave no room beside them for a note
LOG_FROM = 5.0  # a perplexity that grows by this factor or more needs a logarithmic axis

CAPTION = (
    "Arrows at the axes point to the better side; the axes are what judges each task first. The gap is how "
    "far the log-probability of the forget answers is from that of `retrained`, on either side, in nats per "
    "token; in its grey band lie at least 95 % of single further `retrained` models, to which the small "
    "marks compare. KS D: the "
    "Kolmogorov-Smirnov distance between the truth ratios of the forget questions and those of `retrained` "
    "(of likelihoods where a task has no wrong answers); 0 is the same distribution, and too little and too "
    "much forgetting both raise it. On any other axis of forgetting the dashed level of `retrained` is the "
    "aim, where the task has one. Large marks: means over seeds with 95 % intervals (over "
    "seeds; for a single seed, bootstrap over groups of questions), cut off at the panel's edge. Small "
    "light marks: single seeds. In the grey band of D a 5 % KS test cannot tell a single run from "
    "`retrained`. "
    "Cold colours are first-order, warm colours second-order optimisers."
) + ATTACKS_APART


def draw(inputs: Inputs) -> Figure:
    """One panel for each task, model and method."""
    inputs = inputs.before_attacks()
    summary = Summary(inputs)
    marks = style.marks(inputs.rows)
    judged = {study: axes(summary, *study) for study in inputs.studies}
    shown = [study for study, (x, y) in judged.items() if x and y]
    figure, panels = method_panels(inputs, height=2.3, chosen=shown, compact=True)
    for task, model, method, ax in panels:
        across, up = judged[task, model]
        assert across is not None and up is not None
        drawn = panel_rows(inputs, task, model, method)
        for row in drawn:
            _point(ax, summary, row, (across, up), *_mark(row, marks))
        _axes(ax, summary, inputs.rows_of(task, model), across, up)
        lost_note(ax, [(row, summary.lost(row)) for row in drawn], under=True)
    anchors = anchor_handles(inputs.rows)
    if any(judged[study][0] == GAP for study in shown):
        anchors.append(Patch(color=BAND, label="95 % of single further retrained models"))
    if any(judged[study][0] in DISTANCES for study in shown):
        anchors.append(Patch(color=BAND, label="not told from retrained (KS p > 0.05)"))
    say_left_out(
        figure,
        [style.study_label(*study) for study in inputs.studies if study not in shown],
        "nothing of one side was measured",
    )
    legend_below(figure, {**optimizer_handles(inputs.rows, marks, as_marker), "For comparison": anchors})
    return figure


def _mark(row: Row, marks: dict[str, style.Mark]) -> tuple[str, str, str]:
    if row.anchor:
        colour, marker = style.ANCHOR_MARKS[row.key.method]
        return colour, marker, colour
    mark = marks[style.mark_name(row)]
    return mark.colour, mark.marker, mark.face


def _across(summary: Summary, row: Row, axis: Measure) -> dict[int, float]:
    """`retrained` is at distance 0 from itself, where the metrics leave that out."""
    values = summary.by_seed(row, *axis)
    if not values and row.anchor and row.key.method == "retrained" and axis in DISTANCES:
        return dict.fromkeys(summary.finished(row), 0.0)
    return values


def _point(
    ax: Axes,
    summary: Summary,
    row: Row,
    axes_of: tuple[Measure, Measure],
    colour: str,
    marker: str,
    face: str,
) -> None:
    axis, utility = axes_of
    across, up = _across(summary, row, axis), summary.by_seed(row, *utility)
    if not (seeds := [seed for seed in across if seed in up]):
        return
    x, y = summary.estimate(row, *axis), summary.estimate(row, *utility)
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


def _axes(ax: Axes, summary: Summary, rows: list[Row], across: Measure, up: Measure) -> None:
    """The same limits in all panels of a study. A bar may leave the panel, a mark may not."""
    _limits(ax, "y", [v for row in rows for v in summary.by_seed(row, *up).values()], up, least=0.05)
    ax.set_ylabel(_label(summary, rows, up))
    if across in DISTANCES:
        ax.set_xlim(-0.04, 1.04)
        counts = [e.n for row in rows if (e := summary.estimate(row, *across)) is not None and e.n]
        # Critical value of the two-sample test with n and n values: sqrt(-ln(0.05 / 2) / 2) sqrt(2 / n).
        critical = math.sqrt(-math.log(0.025) / 2) * math.sqrt(2 / counts[0])
        ax.axvspan(-0.04, critical, color=BAND, zorder=0, linewidth=0)
        of = "" if across == RATIO_DISTANCE else " of likelihoods"
        ax.set_xlabel(f"KS D{of} to retrained (← better)")
        return
    if across == GAP:
        ax.set_xlabel("Gap to retrained\n(nats per token, ← better)")
        values = [v for row in rows for v in summary.by_seed(row, *across).values()]
        ax.set(xscale="log", xlim=(min(values) / 1.4, max(values) * 1.4))
        plain_ticks(ax.xaxis)
        if scale := scale_of(summary.inputs, *rows[0].key[:2]):
            ax.axvspan(min(values) / 1.4, scale.limit(), color=BAND, zorder=0, linewidth=0)
        return
    if style.is_share(across.metric):
        ax.set_xlim(-0.04, 1.04)
    else:
        _limits(ax, "x", [v for row in rows for v in summary.by_seed(row, *across).values()], across)
    retrained = next((row for row in rows if row.anchor and row.key.method == "retrained"), None)
    level = summary.estimate(retrained, *across) if retrained else None
    if level is None:
        ax.set_xlabel(_label(summary, rows, across))
        return
    ax.axvline(level.value, color=style.RETRAINED_COLOUR, linestyle="--", linewidth=0.8, zorder=1)
    ax.set_xlabel(_with_note(across.label, "(dashed: retrained)"))


def _limits(ax: Axes, side: str, values: list[float], measure: Measure, least: float = 0.0) -> None:
    """Room around all values; perplexities that explode on a logarithmic scale."""
    low, high = min(values), max(values)
    if "perplexity" in measure.metric and low > 0 and high > LOG_FROM * low:
        room = (high / low) ** 0.15
        ax.set(**{f"{side}scale": "log", f"{side}lim": (low / room, high * room)})
        plain_ticks(ax.yaxis if side == "y" else ax.xaxis)
        return
    margin = max(least if style.is_share(measure.metric) else 0.05 * abs(high), 0.15 * (high - low), 1e-6)
    ax.set(**{f"{side}lim": (low - margin, high + margin)})


def _label(summary: Summary, rows: list[Row], measure: Measure) -> str:
    """The measure's name with an arrow to its better side; an upright axis is read upwards."""
    found = next((e for row in rows if (e := summary.estimate(row, *measure))), None)
    if found is None or found.higher_is_better is None:
        return measure.label
    return _with_note(measure.label, "(better →)" if found.higher_is_better else "(← better)")


def _with_note(label: str, note: str) -> str:
    return f"{label}{chr(10) if len(label) > LONG_LABEL else ' '}{note}"
