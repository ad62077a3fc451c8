"""Training time, peak memory and clipped share of every row, side by side."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline_lib.core.errors import UserError
from pipeline_lib.reporting import style
from pipeline_lib.reporting.inputs import Inputs, Row
from pipeline_lib.reporting.summary import cost_by_seed, cost_estimate

CAPTION = (
    "Clipped share: mean share of coordinates at the limit of the second-order update; a first-order row "
    "has none. Large marks: means over the seeds that finished; small light marks: single seeds. With a "
    "clipped share near 1 the curvature has no say and the method moves like Signum. What stages cost is "
    "in the table of costs."
)
QUANTITIES = [
    ("train_time_s", "Training time"),
    ("peak_memory_mb", "Peak memory"),
    ("clipped_share", "Clipped share"),
]


def draw(inputs: Inputs) -> Figure:
    """One row of three panels for each task and model; one line for each method and optimiser."""
    cases = [(task, model, rows) for task, model in inputs.studies if (rows := _rows(inputs, task, model))]
    if not cases:
        raise UserError("the figure cost needs at least one method besides original and retrained")
    marks = style.marks(inputs.rows)
    # One line of the plot is 0.19 inches, so that its label stays readable; the rest is titles and ticks.
    heights = [0.19 * (len(rows) + len({row.key.method for row in rows})) + 0.85 for *_, rows in cases]
    figure = Figure(figsize=(2 * style.PANEL_WIDTH, sum(heights)))
    grid = figure.subplots(len(cases), 3, squeeze=False, sharey="row", height_ratios=heights)
    for axes, (task, model, rows) in zip(grid, cases, strict=True):
        places = _places(rows)
        for ax, (column, label) in zip(axes, QUANTITIES, strict=True):
            factor, unit = _unit(inputs, rows, column)
            for row, place in zip(rows, places, strict=True):
                _dot(ax, inputs, row, column, factor, place, marks[style.mark_name(row)])
            ax.set(
                xlabel=f"{label} ({unit})" if unit else label,
                xlim=(-0.04, 1.06) if column == "clipped_share" else (0, 1.08 * ax.get_xlim()[1]),
            )
            for place in places:
                ax.axhline(place, linewidth=0.4, color="#dddddd", zorder=0)
            ax.tick_params(axis="y", length=0)
        _labels(axes[0], rows, places)
        if len(cases) > 1:
            axes[0].set_title(style.study_label(task, model), loc="left")
    return figure


def _rows(inputs: Inputs, task: str, model: str) -> list[Row]:
    """Unlearning runs alone: a method that takes no step costs nothing, and a stage is another training."""
    rows = inputs.rows_of(task, model)
    return [row for row in rows if row.order != "none" and not row.key.after]


def _places(rows: list[Row]) -> list[float]:
    """Heights from the top, with a free line above every method for its name."""
    places: list[float] = []
    at, method = 0.0, None
    for row in rows:
        at += 1 if row.key.method == method else 2
        method = row.key.method
        places.append(-at)
    return places


def _labels(ax: Axes, rows: list[Row], places: list[float]) -> None:
    ticks, texts, heads = list(places), [style.optimizer_label(row) for row in rows], []
    for i, row in enumerate(rows):
        if i == 0 or rows[i - 1].key.method != row.key.method:
            ticks.append(places[i] + 1)
            texts.append(row.key.method)
            heads.append(len(texts) - 1)
    ax.set_yticks(ticks, texts)
    ax.set_ylim(min(places) - 0.6, max(ticks) + 0.6)
    for head in heads:
        ax.get_yticklabels()[head].set_fontweight("bold")


def _unit(inputs: Inputs, rows: list[Row], column: str) -> tuple[float, str]:
    largest = max((v for row in rows for v in cost_by_seed(inputs, row, column).values()), default=0.0)
    if column == "train_time_s":
        return (1 / 60, "min") if largest >= 600 else (1.0, "s")
    if column == "peak_memory_mb":
        return (1 / 1024, "GiB") if largest >= 2048 else (1.0, "MiB")
    return 1.0, ""


def _dot(
    ax: Axes, inputs: Inputs, row: Row, column: str, factor: float, place: float, mark: style.Mark
) -> None:
    if (estimate := cost_estimate(inputs, row, column)) is None:
        finished = bool(cost_by_seed(inputs, row, "steps"))
        text = "no clipping" if finished and column == "clipped_share" else "" if finished else "diverged"
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
        at = ax.get_yaxis_transform()
        ax.text(0.03, place, text, transform=at, va="center", fontsize=7, color="#666666", bbox=box)
        return
    seeds = [value * factor for value in cost_by_seed(inputs, row, column).values()]
    if len(seeds) > 1:
        ax.plot(
            seeds,
            [place] * len(seeds),
            linestyle="",
            marker=mark.marker,
            color=mark.colour,
            alpha=0.5,
            ms=3.2,
            mew=0,
        )
    ax.plot(
        estimate.value * factor,
        place,
        marker=mark.marker,
        color=mark.colour,
        markerfacecolor=mark.face,
        ms=6,
        zorder=3,
    )
