"""Forget and retain loss over the steps of unlearning."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline_lib.errors import UserError
from pipeline_lib.reporting import style
from pipeline_lib.reporting.figures.panels import diverged_note, legend_below, optimizer_handles, panel_title
from pipeline_lib.reporting.inputs import Inputs, Row, RunKey, finite

CAPTION = (
    "Negative log-likelihood per answer token (nats) of the batch of each step; for objectives that train "
    "refusals (PO), the forget side is the loss on the refusals. Lines: means over seeds, each point the "
    "mean of up to 1 % of the steps; bands: lowest and highest seed. × marks where a seed diverged."
)
POINTS = 100
SIDES = [("forget_loss", "Forget loss"), ("retain_loss", "Retain loss")]


def draw(inputs: Inputs) -> Figure:
    """One row of two panels (forget, retain) for each task, model and method."""
    cases = [(task, model, m) for task, model in inputs.studies for m in inputs.methods(task, model)]
    if not cases:
        raise UserError("the figure trajectory needs at least one method besides original and retrained")
    marks = style.marks(inputs.rows)
    figure = Figure(figsize=(2 * style.PANEL_WIDTH, 2.0 * len(cases)))
    grid = figure.subplots(len(cases), 2, squeeze=False)
    status = dict(zip(inputs.costs["run"], inputs.costs["status"], strict=True))
    for axes, (task, model, method) in zip(grid, cases, strict=True):
        rows = inputs.rows_of(task, model, method)
        lost = [
            (row, sum(status[RunKey(*row.key, seed)] == "diverged" for seed in row.seeds)) for row in rows
        ]
        for ax, (name, label) in zip(axes, SIDES, strict=True):
            drawn: list[float] = []
            for row in rows:
                drawn += _draw_row(ax, inputs, row, name, marks[row.key.optimizer], status)
            ax.set_title(panel_title(inputs, task, model, method), loc="left")
            ax.set_xlabel("Step")
            ax.set_ylabel(f"{label} (nats / token)")
            _scale(ax, drawn)
        diverged_note(axes[0], lost)
    legend_below(figure, optimizer_handles(inputs.rows, marks, lines=True))
    return figure


def series(inputs: Inputs, key: RunKey, name: str) -> np.ndarray:
    """(steps,) losses of one run; empty where the objective does not look at this set."""
    if key not in inputs.steps:
        raise UserError(f"the figure trajectory has no steps.jsonl of {'/'.join(map(str, key))}")
    values = []
    for number, step in enumerate(inputs.steps[key], start=1):
        value = step.get(name)
        if value is None:
            continue
        if not finite(value):
            raise UserError(f"steps.jsonl of {'/'.join(map(str, key))}, line {number}: {name} is {value!r}")
        values.append(float(value))
    return np.array(values)


def _draw_row(
    ax: Axes, inputs: Inputs, row: Row, name: str, mark: style.Mark, status: dict[RunKey, str]
) -> list[float]:
    """Draw one optimiser; returns what was drawn, for the choice of the scale."""
    runs = {seed: series(inputs, RunKey(*row.key, seed), name) for seed in row.seeds}
    longest = max(len(values) for values in runs.values())
    if not longest:
        return []
    width = math.ceil(longest / POINTS)
    windows = range(0, longest, width)
    centres, means, lows, highs = [], [], [], []
    for start in windows:
        parts = [values[start : start + width].mean() for values in runs.values() if len(values) > start]
        centres.append(start + (min(width, longest - start) + 1) / 2)
        means.append(float(np.mean(parts)))
        lows.append(min(parts))
        highs.append(max(parts))
    ax.plot(centres, means, color=mark.colour, linestyle=mark.line, zorder=3)
    if len(runs) > 1:
        ax.fill_between(centres, lows, highs, color=mark.colour, alpha=0.18, linewidth=0, zorder=2)
    for seed, values in runs.items():
        if status[RunKey(*row.key, seed)] == "diverged" and len(values):
            ax.plot(len(values), values[-1], marker="x", color=mark.colour, markersize=6, mew=1.5, zorder=4)
    return [*lows, *highs]


def _scale(ax: Axes, drawn: list[float]) -> None:
    """Logarithmic where losses span a factor of 30: one exploding run must not flatten the others."""
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
    if min(drawn) >= 0 and max(drawn) > 30 * max(float(np.quantile(drawn, 0.05)), 1e-3):
        ax.set_yscale("log")
        ax.set_ylim(max(0.8 * min(drawn), 1e-3), max(drawn) * 1.5)
        ax.yaxis.set_major_formatter("{x:g}")
    else:
        ax.set_ylim(bottom=min(0.0, *drawn))
