"""Losses over the steps of unlearning, and what the optimisers log about their steps and curvature."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.runs import LOST
from pipeline_lib.reporting import style
from pipeline_lib.reporting.figures.panels import (
    as_line,
    legend_below,
    lost_note,
    optimizer_handles,
    panel_title,
)
from pipeline_lib.reporting.inputs import Inputs, Row, RunKey, finite

CAPTION = (
    "Negative log-likelihood per answer token (nats) of the batch of each step; for objectives that train "
    "refusals (PO), the forget side is the loss on the refusals. Small panels, where an optimiser logs them: "
    "share of coordinates clipped, Euclidean norm of the step without weight decay, and mean over all "
    "coordinates of the averaged curvature at every estimate (Gauss-Newton or Hessian in nats per answer "
    "token and squared unit of the weights; the estimator is in the table of settings). "
    "With `diagnostics: true`: the share of the step's squared norm in clipped coordinates, and the cosines "
    "of the step with those that Signum and AdamW would take from the same momentum (1: the same direction). "
    "Lines: means over seeds, each point the mean of up to 1 % of the steps; bands: lowest and highest "
    "seed. × marks where a seed diverged. The steps of stages, which come after unlearning, are not shown."
)
POINTS = 100
LOSSES = {"forget_loss": "Forget loss (nats / token)", "retain_loss": "Retain loss (nats / token)"}
STEPS = {
    "clipped_share": "Clipped share",
    "update_norm": "Update norm",
    "curvature_mean": "Mean curvature",
}
DIRECTIONS = {
    "clipped_norm_share": "Clipped share of norm²",
    "cosine_signum": "Cosine with Signum",
    "cosine_adamw": "Cosine with AdamW",
}
UP_TO_ONE = ("clipped_share", *DIRECTIONS)
HEIGHTS = {2: 2.0, 3: 1.6}  # inches of a row of so many panels


def draw(inputs: Inputs) -> Figure:
    """For each task, model and method one row of losses, and one of what its optimisers log besides."""
    cases = [
        (task, model, method)
        for task, model in inputs.studies
        for method in inputs.methods(task, model)
        if _rows(inputs, task, model, method)
    ]
    if not cases:
        raise UserError("the figure trajectory needs at least one method besides original and retrained")
    marks = style.marks(inputs.rows)
    status = dict(zip(inputs.costs["run"], inputs.costs["status"], strict=True))
    logged = [_logged(inputs, _rows(inputs, *case)) for case in cases]
    heights = [HEIGHTS[size] for lines in logged for size in (2, *(3 for _ in lines))]
    figure = Figure(figsize=(2 * style.PANEL_WIDTH, sum(heights)))
    grid = figure.add_gridspec(len(heights), 6, height_ratios=heights)
    line = 0
    for case, lines in zip(cases, logged, strict=True):
        rows = _rows(inputs, *case)
        labels = dict(LOSSES)
        places = [grid[line, :3], grid[line, 3:]]
        for below, names in enumerate(lines, start=line + 1):
            labels |= names
            places += [grid[below, 2 * i : 2 * i + 2] for i in range(len(names))]
        axes = [figure.add_subplot(place) for place in places]
        line += 1 + len(lines)
        for ax, (name, label) in zip(axes, labels.items(), strict=True):
            drawn: list[float] = []
            for row in rows:
                drawn += _draw_row(ax, inputs, row, name, marks[style.mark_name(row)], status)
            ax.set(xlabel="Step", ylabel=label)
            _scale(ax, name, drawn)
        for ax in axes[:2]:
            ax.set_title(panel_title(inputs, *case), loc="left")
        ends = ((row, [status[row.key.seeded(seed)] for seed in row.seeds]) for row in rows)
        lost_note(axes[0], [(row, [end for end in found if end in LOST]) for row, found in ends])
    trained = (row for row in inputs.rows if row.order != "none" and not row.key.after)
    legend_below(figure, optimizer_handles(trained, marks, as_line))
    return figure


def _rows(inputs: Inputs, task: str, model: str, method: str) -> list[Row]:
    """The unlearning runs of a method that take steps."""
    rows = inputs.rows_of(task, model, method)
    return [row for row in rows if row.order != "none" and not row.key.after]


def _logged(inputs: Inputs, rows: Sequence[Row]) -> list[dict[str, str]]:
    """Lines of small panels: what of `STEPS`, and of `DIRECTIONS`, any run of these rows has a number for.

    Without a cosine there is no line of directions: runs without `diagnostics` have the first of them too.
    """
    runs = [row.key.seeded(seed) for row in rows for seed in row.seeds]
    lines = [
        {
            name: label
            for name, label in part.items()
            if any(series(inputs, key, name)[0].size for key in runs)
        }
        for part in (STEPS, DIRECTIONS)
    ]
    return [names for names in lines if names and list(names) != ["clipped_norm_share"]]


def series(inputs: Inputs, key: RunKey, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps with a value of `name` and the values, both (n,); empty where the run has none."""
    if key not in inputs.steps:
        raise UserError(f"the figure trajectory has no steps.jsonl of {'/'.join(map(str, key))}")
    steps, values = [], []
    for number, row in enumerate(inputs.steps[key], start=1):
        if (value := row.get(name)) is None:
            continue
        if not finite(value):
            raise UserError(f"steps.jsonl of {'/'.join(map(str, key))}, line {number}: {name} is {value!r}")
        steps.append(float(row["step"]))
        values.append(float(value))
    return np.array(steps), np.array(values)


def _draw_row(
    ax: Axes, inputs: Inputs, row: Row, name: str, mark: style.Mark, status: dict[RunKey, str]
) -> list[float]:
    """Draw one optimiser; returns what was drawn, for the choice of the scale."""
    runs = {seed: series(inputs, row.key.seeded(seed), name) for seed in row.seeds}
    longest = max((int(steps[-1]) for steps, _ in runs.values() if len(steps)), default=0)
    if not longest:
        return []
    width = math.ceil(longest / POINTS)
    centres, means, lows, highs = [], [], [], []
    for start in range(0, longest, width):
        inside = [
            (steps[here], values[here])
            for steps, values in runs.values()
            if (here := (steps > start) & (steps <= start + width)).any()
        ]
        if not inside:
            continue  # curvature is not estimated at every step
        parts = [float(values.mean()) for _, values in inside]
        centres.append(float(np.unique(np.concatenate([steps for steps, _ in inside])).mean()))
        means.append(float(np.mean(parts)))
        lows.append(min(parts))
        highs.append(max(parts))
    ax.plot(
        centres,
        means,
        color=mark.colour,
        linestyle=mark.line,
        marker="." if len(centres) == 1 else None,
        zorder=3,
    )
    if len(runs) > 1:
        ax.fill_between(centres, lows, highs, color=mark.colour, alpha=0.18, linewidth=0, zorder=2)
    for seed, (steps, values) in runs.items():
        if status[row.key.seeded(seed)] == "diverged" and len(values):
            ax.plot(steps[-1], values[-1], marker="x", color=mark.colour, markersize=6, mew=1.5, zorder=4)
    return [*lows, *highs]


def _scale(ax: Axes, name: str, drawn: list[float]) -> None:
    """Logarithmic where values span a factor of 30: one exploding run must not flatten the others."""
    if not drawn:
        ax.text(
            0.5,
            0.5,
            "not part of this objective",
            transform=ax.transAxes,
            ha="center",
            va="center",
            color="#444444",
        )
        ax.set_yticks([])
        return
    if name in UP_TO_ONE:
        ax.set_ylim(-0.03, 1.03)
        return
    floor = 1e-3 if name in LOSSES else 0.8 * min((v for v in drawn if v > 0), default=1.0)
    if min(drawn) >= 0 and max(drawn) > 30 * max(float(np.quantile(drawn, 0.05)), floor):
        ax.set(yscale="log", ylim=(max(0.8 * min(drawn), floor), max(drawn) * 1.5))
        if name in LOSSES:
            ax.yaxis.set_major_formatter("{x:g}")
    else:
        ax.set_ylim(bottom=min(0.0, *drawn))
