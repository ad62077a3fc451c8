"""Fronts of trained models: the gap to `retrained` against joint utility, along every judged run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from pipeline_lib.core.runs import MATCHED, RunKey
from pipeline_lib.metrics.path import Path
from pipeline_lib.reporting import charts as made
from pipeline_lib.reporting import style
from pipeline_lib.reporting.figures.panels import (
    anchor_handles,
    legend_below,
    lost_note,
    panel_methods,
    panel_title,
    plain_ticks,
    say_left_out,
)
from pipeline_lib.reporting.headline import FRONT
from pipeline_lib.reporting.inputs import Inputs, Row
from pipeline_lib.reporting.likeness import scale_of
from pipeline_lib.reporting.summary import Summary

CAPTION = (
    "Upper part of a panel: each thin line is one run, from `original` (cross) on. Its points are models "
    "after some of its steps, at a constant rate, as shorter runs with the same warm-up steps would leave "
    "them, judged by likelihood alone. Left is closer to `retrained` (stars: each seed held against the "
    "others), on either side of it; up is more joint utility of likelihoods. A hexagon is `base`, the "
    "pretrained model before fine-tuning. The dashed level is the utility at which rows are compared. The "
    "mark of a row stands where its run is compared: at the leftmost place of its line at or above the "
    "level, a point, or where the line crosses the level, interpolated between its two neighbouring points. "
    "A ring is the model that was made there (`matched`). Lower part, on the same axis: the same least gaps "
    "row by row. A mark is a run, the upright stroke the mean over seeds with its 95 % interval. That "
    "interval says nothing about a difference of two rows, which is paired by seed. A row of which a run "
    "has no path has no mean: the others would be survivors. In the grey band, which goes on to 0, lie at "
    "least 95 % of single further `retrained` seeds. A least gap inside it would not show that a model is "
    "like `retrained`, because that is what chose its place. Controls keep something of an optimiser's step "
    "and lose the rest; where a method has some they stand in a panel of their own, with the optimisers "
    "that they control. Cold colours are first-order, warm ones second-order, browns zeroth-order optimisers."
)
WIDTH = 5.0  # inches: one panel across, whose text is still read on a telephone
PATHS, LINE = 1.6, 0.155  # height in inches of the upper part, and of a row in the lower
AROUND = 0.7  # inches of title, label and ticks
ROOM = 1.25  # between the nearest value and the edge of the logarithmic axis, as a factor
ACROSS = "Gap to retrained (nats per token, ← better)"
UP = "Joint utility of\nlikelihoods (better →)"
FURTHER = "95 % of single further retrained"
INK = "#444444"  # of forms that no row owns
RING: dict[str, Any] = {"linestyle": "", "marker": "o", "markersize": 8, "markerfacecolor": "none"}
MEAN: dict[str, Any] = {"linestyle": "", "marker": "|", "markersize": 10, "markeredgewidth": 2.2}
LEVEL: dict[str, Any] = {"color": style.RETRAINED_COLOUR, "linestyle": "--", "linewidth": 0.8}


class Panel(NamedTuple):
    """Some rows of one method, in the order in which they are listed."""

    task: str
    model: str
    title: str
    rows: list[Row]


class Study(NamedTuple):
    """What every panel draws from: the judged runs, and how each row is marked."""

    summary: Summary
    paths: Mapping[RunKey, Path]
    marks: Mapping[str, style.Mark]


def draw(inputs: Inputs) -> Figure:
    """One or two panels for each task, model and method with runs that were judged on their way."""
    found = _study(inputs)
    summary, paths, _ = found
    panels = [panel for study in inputs.studies for panel in _panels(summary, *study, paths)]
    heights = [size for panel in panels for size in (PATHS, LINE * (len(panel.rows) + 0.6))]
    figure = Figure(figsize=(WIDTH, sum(heights) + AROUND * len(panels) or 0.5))
    shared = {study: _limits(summary, *study, paths) for study in dict.fromkeys(p[:2] for p in panels)}
    if panels:
        grid = figure.subplots(len(heights), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
        for panel, upper, lower in zip(panels, grid[::2], grid[1::2], strict=True):
            for ax in (upper, lower):
                _scale(ax, inputs, panel, shared[panel.task, panel.model])
            _upper(upper, found, panel)
            _lower(lower, found, panel)
    left_out = [style.study_label(*study) for study in inputs.studies if study not in shared]
    say_left_out(figure, left_out, "no run was judged on its way")
    legend_below(figure, _legend(inputs, any(key.after == MATCHED for key in paths)))
    return figure


def charts(inputs: Inputs) -> list[made.Chart]:
    """The upper part of every panel for the page; of a row the path of its first run, and all on demand."""
    study = _study(inputs)
    panels = [panel for one in inputs.studies for panel in _panels(study.summary, *one, study.paths)]
    return [_chart(study, panel) for panel in panels]


def _chart(study: Study, panel: Panel) -> made.Chart:
    summary, paths, marks = study
    inputs, level = summary.inputs, summary.inputs.paths.levels[panel.task]
    x = made.Axis(ACROSS, *_limits(summary, panel.task, panel.model, paths), log=True)
    trained: list[made.Values] = []
    fronts: list[made.Values] = []
    ends: list[made.Values] = []
    beside: list[made.Values] = []
    for row in panel.rows:
        keys = [row.key.seeded(seed) for seed in row.seeds if row.key.seeded(seed) in paths]
        for key in keys:
            name = {"row": made.name_of(row), "seed": key.seed, "first": key == keys[0]}
            trained += [{**name, "x": p.gap, "y": p.utility, "step": p.step} for p in paths[key].points]
            front = paths[key].front(level)
            fronts.append({**name, "x": front.gap, "y": front.utility, "step": front.step})
            if (again := paths.get(key._replace(after=MATCHED))) is not None:
                *_, end = again.points
                ends.append({**name, "x": end.gap, "y": end.utility, "step": end.step})
    anchors = [row for row in inputs.rows_of(panel.task, panel.model) if row.anchor]
    for row in anchors:
        beside += [{"row": made.name_of(row), "x": gap, "y": up} for gap, up in _anchor(summary, row)]
    up = [value["y"] for value in (*trained, *fronts, *beside)]
    room = 0.05 * (max(up) - min(up)) or 0.05
    y = made.Axis(UP, min(up) - room, max(up) + room)
    both = {"x": x.channel("x"), "y": y.channel("y")}
    said = made.told(row="Row", x=x.plain, y=y.plain)
    told = [*said, *made.told(seed="Seed", step="Step")]
    looks = [made.look_of(row, marks) for row in (*anchors, *panel.rows)]
    scale = scale_of(inputs, panel.task, panel.model)
    of_run: dict[str, Any] = {"detail": {"field": "seed"}, "order": {"field": "step"}}
    way = {"strokeWidth": 1.2, "opacity": 0.75, "point": {"size": 14}}
    rule = {"type": "rule", "color": style.RETRAINED_COLOUR, "strokeDash": [6, 3]}
    ring = {"size": 170, "filled": False, "strokeWidth": 1.5, "shape": "circle", "type": "point"}
    layers = [
        *([made.band(x.low, scale.limit(), x, FURTHER)] if scale else []),
        made.plain([{"y": level}], rule, y=y.channel("y")),
        made.curves(trained, looks, way, made.ONE_SEED, **both, **of_run, tooltip=told),
        made.points(beside, looks, {"size": 80, "opacity": 0.8}, **both, tooltip=said),
        made.points(fronts, looks, {"size": 70}, **both, tooltip=told),
        *([made.line(ends, looks, ring, **both, tooltip=told)] if ends else []),
    ]
    return made.Chart(panel.title, looks, layers, toggle=True, height=320)


def _study(inputs: Inputs) -> Study:
    paths = {
        key: Path.of(study)
        for key, study in inputs.studied.items()
        if study.judged and study.retrained and study.level is not None
    }
    return Study(Summary(inputs), paths, style.marks(inputs.rows))


def _panels(summary: Summary, task: str, model: str, paths: Mapping[RunKey, Path]) -> list[Panel]:
    """Of each method its rows, then its controls with what they control; one panel where that is all.

    A row that lost all of its runs is listed too.
    """
    inputs, found, judged = summary.inputs, [], {key.row for key in paths}
    if not any(key[:2] == (task, model) for key in judged):
        return []
    for method in panel_methods(inputs, task, model):
        rows = [
            row
            for row in inputs.rows_of(task, model, method)
            if not row.key.after and (row.key in judged or summary.lost(row))
        ]
        names = {row.key.optimizer for row in rows}
        methods = [row for row in rows if not names.intersection(row.controls)]
        controls = list(dict.fromkeys(one for row in methods for one in _with_controls(row, rows)))
        title = panel_title(inputs, task, model, method)
        if not set(methods) <= set(controls):
            found.append(Panel(task, model, title, methods))
            title += ": controls, with what they control"
        if controls:
            found.append(Panel(task, model, title, controls))
    return found


def _with_controls(row: Row, rows: Sequence[Row]) -> list[Row]:
    """The row and its controls; nothing where it has none."""
    controls = [other for other in rows if row.key.optimizer in other.controls]
    return [row, *controls] if controls else []


def _limits(summary: Summary, task: str, model: str, paths: Mapping[RunKey, Path]) -> tuple[float, float]:
    """The axis of gaps that all panels of a study share."""
    gaps = [point.gap for key, path in paths.items() if key[:2] == (task, model) for point in path.points]
    anchors = [row for row in summary.inputs.rows_of(task, model) if row.anchor]
    gaps += [gap for row in anchors for gap, _ in _anchor(summary, row)]
    return min(gaps) / ROOM, max(gaps) * ROOM


def _scale(ax: Axes, inputs: Inputs, panel: Panel, limits: tuple[float, float]) -> None:
    """The axis of gaps with the band of further `retrained` seeds, which has no lower end."""
    ax.set(xscale="log", xlim=limits)
    plain_ticks(ax.xaxis)
    if (scale := scale_of(inputs, panel.task, panel.model)) is not None:
        ax.axvspan(limits[0], scale.limit(), color=style.BAND, zorder=0, linewidth=0)


def _upper(ax: Axes, study: Study, panel: Panel) -> None:
    """Utility against gap: anchors, the path of every run, where it is compared, and the model made there."""
    summary, paths, marks = study
    inputs = summary.inputs
    level = inputs.paths.levels[panel.task]
    for row in (row for row in inputs.rows_of(panel.task, panel.model) if row.anchor):
        colour, marker = style.ANCHOR_MARKS[row.key.method]
        for x, y in _anchor(summary, row):
            ax.plot([x], [y], linestyle="", color=colour, marker=marker, markersize=5, alpha=0.7, zorder=3)
    for row in panel.rows:
        mark = marks[style.mark_name(row)]
        for key in (row.key.seeded(seed) for seed in row.seeds if row.key.seeded(seed) in paths):
            points, front = paths[key].points, paths[key].front(level)
            ax.plot(
                [point.gap for point in points],
                [point.utility for point in points],
                color=mark.colour,
                linestyle=mark.line,
                linewidth=0.6,
                marker=".",
                markersize=1.5,
                alpha=0.4,
                zorder=1,
            )
            ax.plot([front.gap], [front.utility], **_mark(mark, 4.5), zorder=4)
            if (made := paths.get(key._replace(after=MATCHED))) is not None:
                *_, end = made.points
                ax.plot([end.gap], [end.utility], **RING | {"color": mark.colour}, zorder=5)
    ax.axhline(level, **LEVEL, zorder=2)
    ax.tick_params(labelbottom=False)
    ax.set_ylabel(UP)
    ax.set_title(panel.title, loc="left")
    lost_note(ax, [(row, summary.lost(row)) for row in panel.rows], under=True)


def _lower(ax: Axes, study: Study, panel: Panel) -> None:
    """A line for each row: the least gap of each run, and the mean of the row."""
    summary, paths, marks = study
    level = summary.inputs.paths.levels[panel.task]
    for place, row in enumerate(panel.rows):
        mark = marks[style.mark_name(row)]
        keys = [row.key.seeded(seed) for seed in row.seeds]
        gaps = [paths[key].front(level).gap for key in keys if key in paths]
        ax.plot(gaps, [place] * len(gaps), **_mark(mark, 4), alpha=0.8, zorder=4)
        if len(gaps) == len(keys) and (mean := summary.estimate(row, *FRONT)) is not None:
            if mean.low is not None and mean.high is not None:
                ax.plot([mean.low, mean.high], [place, place], color=mark.colour, linewidth=1, zorder=2)
            ax.plot([mean.value], [place], **MEAN, color=mark.colour, zorder=3)
    ax.set(
        ylim=(len(panel.rows) - 0.4, -0.6),
        yticks=range(len(panel.rows)),
        yticklabels=[style.optimizer_label(row) for row in panel.rows],
        xlabel=ACROSS,
    )
    ax.tick_params(axis="y", length=0)


def _mark(mark: style.Mark, size: float) -> dict[str, Any]:
    """The look of a row's mark: filled ones have a white edge, so that those on top of each other differ."""
    return {
        "linestyle": "",
        "marker": mark.marker,
        "color": mark.colour,
        "markersize": size,
        "markerfacecolor": mark.face,
        "markeredgecolor": mark.colour if mark.hollow else "white",
        "markeredgewidth": 0.9 if mark.hollow else 0.4,
    }


def _anchor(summary: Summary, row: Row) -> list[tuple[float, float]]:
    gaps = summary.by_seed(row, "forget", "gap")
    utility = summary.by_seed(row, "utility", "joint_utility_likelihood")
    return [(gap, utility[seed]) for seed, gap in gaps.items() if seed in utility]


def _legend(inputs: Inputs, matched: bool) -> dict[str, list[Artist]]:
    """The rows are named in the lower parts, so that only the forms remain."""
    run: dict[str, Any] = {
        "color": INK,
        "linestyle": "",
        "marker": "o",
        "markeredgecolor": "white",
        "markeredgewidth": 0.4,
    }
    forms: list[Artist] = [
        Line2D([], [], color=INK, linewidth=0.6, marker=".", markersize=1.5, label="one run"),
        Line2D([], [], **run, markersize=4.5, label="where it is compared"),
        Line2D([], [], **MEAN | {"linestyle": "-"}, color=INK, linewidth=1, label="mean over seeds, 95 %"),
        Line2D([], [], **LEVEL, label="utility of comparison"),
    ]
    if matched:
        forms.append(Line2D([], [], **RING, color=INK, label="model made there"))
    band = Patch(color=style.BAND, label=FURTHER)
    return {"Runs": forms, "For comparison": [*anchor_handles(inputs.rows), band]}
