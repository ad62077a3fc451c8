"""What the figures share: panels laid out at column width, and legend entries of the optimisers."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from pipeline_lib.core.runs import FINE_TUNED, lost_words
from pipeline_lib.reporting import style
from pipeline_lib.reporting.inputs import Inputs, Row

MAX_COLUMNS = 2  # two panels of column width fill a page
COMPACT = 2.6  # inches of a panel: letters of 7.5 points are 8 pixels where two are 390 wide


def method_panels(
    inputs: Inputs, height: float, chosen: Sequence[tuple[str, str]] | None = None, *, compact: bool = False
) -> tuple[Figure, list[tuple[str, str, str, Axes]]]:
    """One panel for each task, model and trained method; every task and model starts a new row of panels.

    Methods that take no step stand in the panels of the others (`panel_rows`). `chosen`: only these tasks and
    models. Those without a method have no panel. `compact`: panels so narrow that two across are still read
    on a telephone, and a task and model goes on in the row of the one before where all of it has room.
    """
    studies = [
        (task, model, methods)
        for task, model in (inputs.studies if chosen is None else chosen)
        if (methods := panel_methods(inputs, task, model))
    ]
    if not studies:
        return Figure(figsize=(2 * style.PANEL_WIDTH, 0.5)), []
    columns = min(MAX_COLUMNS, max(len(methods) for *_, methods in studies))
    places, taken = list[int](), 0
    for *_, methods in studies:
        left = -taken % columns
        taken += left if not compact or len(methods) > left else 0
        places += range(taken, taken + len(methods))
        taken += len(methods)
    rows = math.ceil(taken / columns)
    figure = Figure(figsize=((COMPACT if compact else style.PANEL_WIDTH) * columns, height * rows))
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for place in set(range(len(grid))) - set(places):
        grid[place].remove()
    shown = [(task, model, method) for task, model, methods in studies for method in methods]
    panels = [(*panel, grid[place]) for panel, place in zip(shown, places, strict=True)]
    for task, model, method, ax in panels:
        ax.set_title(panel_title(inputs, task, model, method), loc="left")
    return figure, panels


def panel_methods(inputs: Inputs, task: str, model: str) -> list[str]:
    """The methods that have a panel: those that are trained; all, where none is."""
    trained = {row.key.method for row in inputs.rows_of(task, model) if row.order != "none"}
    methods = inputs.methods(task, model)
    return [method for method in methods if method in trained] or methods


def panel_rows(inputs: Inputs, task: str, model: str, method: str) -> list[Row]:
    """What a method's panel shows: the anchors, its own rows, and for comparison the rows of no optimiser."""
    rows = inputs.rows_of(task, model)
    return [
        *(row for row in rows if row.anchor),
        *(row for row in rows if row.key.method == method),
        *(row for row in rows if row.order == "none" and not row.anchor and row.key.method != method),
    ]


def panel_title(inputs: Inputs, task: str, model: str, title: str) -> str:
    """The title, a method's name for one; with task and model above it where a suite has several."""
    return title if len(inputs.studies) == 1 else f"{style.study_label(task, model)}\n{title}"


# Said under a figure that is drawn of `Inputs.before_attacks`.
ATTACKS_APART = (
    " Models after an attack are in the table of robustness, beside `retrained` after the same one."
)


def say_left_out(figure: Figure, names: Sequence[str], why: str) -> None:
    """Name above the panels what is not in them: what is not drawn must not vanish."""
    if names:
        figure.set_figheight(figure.get_figheight() + 0.25)  # the panels keep theirs
        text = textwrap.fill(f"Not shown: {', '.join(names)} ({why})", int(16 * figure.get_figwidth()))
        figure.suptitle(text, fontsize=7, color="#444444", x=0.01, ha="left")


def as_line(mark: style.Mark) -> Line2D:
    """An optimiser's legend entry where its rows are lines."""
    return Line2D([], [], color=mark.colour, label=mark.label, linestyle=mark.line)


def as_marker(mark: style.Mark) -> Line2D:
    """An optimiser's legend entry where its rows are marks."""
    look: dict[str, Any] = {"linestyle": "", "marker": mark.marker, "markersize": 5.5}
    return Line2D([], [], color=mark.colour, label=mark.label, markerfacecolor=mark.face, **look)


def anchor_handles(rows: Iterable[Row]) -> list[Artist]:
    """Legend entries of the models that others are compared with; of `base` where there is one."""
    shown = {*FINE_TUNED, *(row.key.method for row in rows if row.anchor)}
    return [
        Line2D([], [], linestyle="", color=colour, marker=marker, markersize=6.5, label=name)
        for name, (colour, marker) in style.ANCHOR_MARKS.items()
        if name in shown
    ]


def optimizer_handles(
    rows: Iterable[Row], marks: Mapping[str, style.Mark], handle: Callable[[style.Mark], Artist]
) -> dict[str, list[Artist]]:
    """Legend entries under the orders of the optimisers."""
    shown = {style.mark_name(row) for row in rows if not row.anchor}
    groups = {
        heading: [handle(mark) for name, mark in marks.items() if name in shown and mark.order == order]
        for order, heading in style.ORDERS.items()
    }
    return {heading: handles for heading, handles in groups.items() if handles}


def plain_ticks(axis: Axis) -> None:
    """Ticks of a short logarithmic axis: 1, 2, 5, 10, without labels between them."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


FILLED = 0.95  # of the figure's width by a legend, which is a little wider when it is drawn


def legend_below(figure: Figure, groups: Mapping[str, Sequence[Artist]]) -> Legend:
    """One legend under all panels: a column for each group with its heading, fewer where they do not fit."""
    blocks = [[Line2D([], [], linestyle="", label=heading), *handles] for heading, handles in groups.items()]
    narrow = figure.get_figwidth() <= style.PANEL_WIDTH
    for count in range(min(len(blocks), 2) if narrow else len(blocks), 0, -1):
        columns = [[handle for block in blocks[i::count] for handle in block] for i in range(count)]
        height = max(map(len, columns))
        padding = [Line2D([], [], linestyle="", label=" ")] * height
        legend = figure.legend(
            handles=[handle for column in columns for handle in [*column, *padding][:height]],
            loc="outside lower center",
            ncols=count,
            handletextpad=0.5,
            columnspacing=1 if narrow else 2,
        )
        for text in legend.get_texts():
            if text.get_text() in groups:
                text.set_fontweight("bold")
        if count == 1 or legend.get_window_extent().width <= FILLED * figure.bbox.width:
            break
        legend.remove()
    figure.set_figheight(figure.get_figheight() + 0.165 * height)  # the panels keep theirs
    return legend


def lost_note(ax: Axes, lost: Iterable[tuple[Row, Sequence[str]]], *, under: bool = False) -> None:
    """Say above the panel which rows lost how many seeds, and why: what is not drawn must not vanish.

    `lost`: of each row the statuses of its runs without a model. `under`: below the panel's title, which has
    no room beside it.
    """
    notes = [
        f"{style.optimizer_label(row)}: {len(statuses)} of {len(row.seeds)} {lost_words(statuses)}"
        for row, statuses in lost
        if statuses
    ]
    if notes:
        if under:
            ax.set_title(ax.get_title(loc="left") + "\n" * len(notes), loc="left")
        ax.set_title("\n".join(notes), loc="right", fontsize=7, color="#444444")
