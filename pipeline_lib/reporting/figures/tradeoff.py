"""Forgetting against utility, one panel for each objective: the study's question in one picture."""

from __future__ import annotations

import math
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from pipeline_lib.reporting import charts as made
from pipeline_lib.reporting import style
from pipeline_lib.reporting.figures.panels import (
    ATTACKS_APART,
    anchor_handles,
    as_marker,
    legend_below,
    lost_note,
    method_panels,
    optimizer_handles,
    panel_methods,
    panel_rows,
    panel_title,
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
SHARE = (-0.04, 1.04)  # ends of an axis from 0 to 1
FURTHER = "95 % of single further retrained models"
NOT_TOLD = "not told from retrained (KS p > 0.05)"
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
    "Cold colours are first-order, warm ones second-order, browns zeroth-order optimisers."
) + ATTACKS_APART


def draw(inputs: Inputs) -> Figure:
    """One panel for each task, model and method."""
    inputs = inputs.before_attacks()
    summary = Summary(inputs)
    marks = style.marks(inputs.rows)
    judged = _judged(summary)
    figure, panels = method_panels(inputs, height=2.3, chosen=list(judged), compact=True)
    for task, model, method, ax in panels:
        drawn = panel_rows(inputs, task, model, method)
        for row in drawn:
            _point(ax, _placed(summary, row, judged[task, model]), *_mark(row, marks))
        _axes(ax, summary, inputs.rows_of(task, model), *judged[task, model])
        lost_note(ax, [(row, summary.lost(row)) for row in drawn], under=True)
    anchors = anchor_handles(inputs.rows)
    if any(across == GAP for across, _ in judged.values()):
        anchors.append(Patch(color=style.BAND, label=FURTHER))
    if any(across in DISTANCES for across, _ in judged.values()):
        anchors.append(Patch(color=style.BAND, label=NOT_TOLD))
    say_left_out(
        figure,
        [style.study_label(*study) for study in inputs.studies if study not in judged],
        "nothing of one side was measured",
    )
    legend_below(figure, {**optimizer_handles(inputs.rows, marks, as_marker), "For comparison": anchors})
    return figure


def charts(inputs: Inputs) -> list[made.Chart]:
    """The same panels for the page."""
    inputs = inputs.before_attacks()
    summary, marks = Summary(inputs), style.marks(inputs.rows)
    found = []
    for (task, model), (across, up) in _judged(summary).items():
        rows = inputs.rows_of(task, model)
        x, y = _across_axis(summary, rows, across), _up_axis(summary, rows, up)
        for method in panel_methods(inputs, task, model):
            placed = [
                (made.look_of(row, marks), p)
                for row in panel_rows(inputs, task, model, method)
                if (p := _placed(summary, row, (across, up)))
            ]
            title = panel_title(inputs, task, model, method)
            found.append(made.Chart(title, [look for look, _ in placed], _layers(placed, x, y)))
    return found


def _layers(placed: list[tuple[made.Look, Placed]], x: Across, y: made.Axis) -> list[made.Values]:
    """The band or level of `retrained`, single runs, and means with their intervals."""
    looks = [look for look, _ in placed]
    runs: list[made.Values] = []
    means: list[made.Values] = []
    for look, p in placed:
        names = {"row": look.row}
        runs += [{**names, "seed": seed, "x": p.across[seed], "y": p.up[seed]} for seed in p.seeds]
        mean = {**names, "x": p.x.value if p.x else 0.0, "y": p.y.value, "seeds": len(p.seeds)}
        ends = [(axis.inside(e.low), axis.inside(e.high)) if e else (None, None)
                for axis, e in ((x.axis, p.x), (y, p.y))]  # fmt: skip
        means.append(mean | dict(zip(("x1", "x2", "y1", "y2"), (*ends[0], *ends[1]), strict=True)))
    said = made.told(row="Row", x=x.axis.plain, y=y.plain)
    both = {"x": x.axis.channel("x"), "y": y.channel("y")}
    layers = [made.band(x.axis.low, x.band, x.axis, x.words)] if x.band is not None else []
    if x.level is not None:
        level = {"type": "rule", "color": style.RETRAINED_COLOUR, "strokeDash": [6, 3]}
        layers.append(made.plain([{"x": x.level}], level, x=x.axis.channel("x")))
    bar = {"type": "rule", "strokeWidth": 1.2}
    wide = {**both, "x": x.axis.channel("x1"), "x2": {"field": "x2"}}
    tall = {**both, "y": y.channel("y1"), "y2": {"field": "y2"}}
    layers += [
        made.line(means, looks, bar, {"filter": "isValid(datum.x1)"}, **wide),
        made.line(means, looks, bar, {"filter": "isValid(datum.y1)"}, **tall),
        made.points(
            runs, looks, {"size": 28, "opacity": 0.55}, **both, tooltip=[*said, *made.told(seed="Seed")]
        ),
        made.points(means, looks, {"size": 110}, **both, tooltip=[*said, *made.told(seeds="Mean of seeds")]),
    ]
    return layers


def _judged(summary: Summary) -> dict[tuple[str, str], tuple[Measure, Measure]]:
    """The axes of the studies in which both were measured."""
    judged = {study: axes(summary, *study) for study in summary.inputs.studies}
    return {study: (x, y) for study, (x, y) in judged.items() if x and y}


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


class Placed(NamedTuple):
    """Where a row stands: the values of `seeds`, and its means."""

    seeds: list[int]
    across: dict[int, float]
    up: dict[int, float]
    x: Estimate | None  # None: `retrained`, at no distance from itself
    y: Estimate


def _placed(summary: Summary, row: Row, axes_of: tuple[Measure, Measure]) -> Placed | None:
    """None where no seed has both."""
    axis, utility = axes_of
    across, up = _across(summary, row, axis), summary.by_seed(row, *utility)
    if not (seeds := [seed for seed in across if seed in up]):
        return None
    x, y = summary.estimate(row, *axis), summary.estimate(row, *utility)
    assert y is not None
    return Placed(seeds, across, up, x, y)


def _point(ax: Axes, placed: Placed | None, colour: str, marker: str, face: str) -> None:
    if placed is None:
        return
    seeds, across, up, x, y = placed
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


class Across(NamedTuple):
    """The axis of forgetting. `band`: up to where `retrained` may lie, in `words`; `level`: where it lies."""

    axis: made.Axis
    band: float | None = None
    words: str = ""
    level: float | None = None


def _axes(ax: Axes, summary: Summary, rows: list[Row], across: Measure, up: Measure) -> None:
    """The same limits in all panels of a study. A bar may leave the panel, a mark may not."""
    x, y = _across_axis(summary, rows, across), _up_axis(summary, rows, up)
    _scale(ax, "y", y)
    _scale(ax, "x", x.axis)
    if x.band is not None:
        ax.axvspan(x.axis.low, x.band, color=style.BAND, zorder=0, linewidth=0)
    if x.level is not None:
        ax.axvline(x.level, color=style.RETRAINED_COLOUR, linestyle="--", linewidth=0.8, zorder=1)


def _scale(ax: Axes, name: str, axis: made.Axis) -> None:
    """Set one side of a panel, "x" or "y"."""
    scale = "log" if axis.log else "linear"
    ax.set(**{f"{name}scale": scale, f"{name}label": axis.label, f"{name}lim": (axis.low, axis.high)})
    if axis.log:
        plain_ticks(ax.yaxis if name == "y" else ax.xaxis)


def _up_axis(summary: Summary, rows: list[Row], up: Measure) -> made.Axis:
    values = [v for row in rows for v in summary.by_seed(row, *up).values()]
    return _limits(_label(summary, rows, up), values, up, least=0.05)


def _across_axis(summary: Summary, rows: list[Row], across: Measure) -> Across:
    values = [v for row in rows for v in summary.by_seed(row, *across).values()]
    if across in DISTANCES:
        counts = [e.n for row in rows if (e := summary.estimate(row, *across)) is not None and e.n]
        # Critical value of the two-sample test with n and n values: sqrt(-ln(0.05 / 2) / 2) sqrt(2 / n).
        critical = math.sqrt(-math.log(0.025) / 2) * math.sqrt(2 / counts[0])
        of = "" if across == RATIO_DISTANCE else " of likelihoods"
        label = f"KS D{of} to retrained (← better)"
        return Across(made.Axis(label, *SHARE), critical, NOT_TOLD)
    if across == GAP:
        label = "Gap to retrained\n(nats per token, ← better)"
        axis = made.Axis(label, min(values) / 1.4, max(values) * 1.4, log=True)
        scale = scale_of(summary.inputs, *rows[0].key[:2])
        return Across(axis, scale.limit(), FURTHER) if scale else Across(axis)
    retrained = next((row for row in rows if row.anchor and row.key.method == "retrained"), None)
    level = summary.estimate(retrained, *across) if retrained else None
    label = _with_note(across.label, "(dashed: retrained)") if level else _label(summary, rows, across)
    share = style.is_share(across.metric)
    axis = made.Axis(label, *SHARE) if share else _limits(label, values, across)
    return Across(axis, level=level.value if level else None)


def _limits(label: str, values: list[float], measure: Measure, least: float = 0.0) -> made.Axis:
    """Room around all values; perplexities that explode on a logarithmic scale."""
    low, high = min(values), max(values)
    if "perplexity" in measure.metric and low > 0 and high > LOG_FROM * low:
        room = (high / low) ** 0.15
        return made.Axis(label, low / room, high * room, log=True)
    margin = max(least if style.is_share(measure.metric) else 0.05 * abs(high), 0.15 * (high - low), 1e-6)
    return made.Axis(label, low - margin, high + margin)


def _label(summary: Summary, rows: list[Row], measure: Measure) -> str:
    """The measure's name with an arrow to its better side; an upright axis is read upwards."""
    found = next((e for row in rows if (e := summary.estimate(row, *measure))), None)
    if found is None or found.higher_is_better is None:
        return measure.label
    return _with_note(measure.label, "(better →)" if found.higher_is_better else "(← better)")


def _with_note(label: str, note: str) -> str:
    return f"{label}{chr(10) if len(label) > LONG_LABEL else ' '}{note}"
