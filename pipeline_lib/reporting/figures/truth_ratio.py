"""Distribution of the forget questions' truth ratios, against `retrained` and `original`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import offset_copy

from pipeline_lib.errors import UserError
from pipeline_lib.reporting import style
from pipeline_lib.reporting.figures.panels import diverged_note, method_panels
from pipeline_lib.reporting.inputs import Inputs, Row, RunKey, finite
from pipeline_lib.reporting.summary import Summary

CAPTION = (
    "R of a question is the probability of the paraphrased right answer over the (geometric) mean "
    "probability of the wrong answers, each per token. Curves: share of questions with at most this R, all "
    "seeds together. A method that really forgets lies on the grey curve of `retrained`; right of it, the "
    "model still knows the answers; left of it, it avoids them. D: Kolmogorov-Smirnov distance to "
    "`retrained`, mean over seeds."
)


def log_truth_ratio(record: dict[str, Any], where: str) -> float:
    """log R = mean of the wrong answers' NLL per token - NLL per token of the paraphrased answer (nats).

    The form of TOFU's published logs (arXiv 2401.06121; the paper writes 1/R), as in evaluation/metrics,
    which this layer may not import; a test holds the two together. The logarithm, because R itself overflows
    where a model has gone far astray.
    """
    try:
        right = record["paraphrase_nll"] / record["paraphrase_tokens"]
        pairs = zip(record["distractor_nll"], record["distractor_tokens"], strict=True)
        wrong = [nll / tokens for nll, tokens in pairs]
        value = sum(wrong) / len(wrong) - right
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise UserError(
            f"{where}: no truth ratio can be had from record {record.get('id')!r} ({error!r})"
        ) from None
    if not finite(value):
        raise UserError(f"{where}: the truth ratio of record {record.get('id')!r} is {value!r}")
    return value


def draw(inputs: Inputs) -> Figure:
    """One panel for each task, model and method."""
    summary = Summary(inputs)
    marks = style.marks(inputs.rows)
    figure, panels = method_panels(inputs, height=2.9)
    for task, model, method, ax in panels:
        if not summary.has(task, model, "forget", "ks_statistic"):
            ax.text(0.5, 0.5, "no wrong answers, no truth ratio", transform=ax.transAxes, ha="center")
            ax.set_axis_off()
            continue
        anchors = [row for row in inputs.rows_of(task, model) if row.order == "none"]
        rows = inputs.rows_of(task, model, method)
        values = {row.key: log_ratios(inputs, summary, row) for row in [*anchors, *rows]}
        for row in anchors:
            retrained = row.key.method == "retrained"
            colour = style.RETRAINED_COLOUR if retrained else style.ORIGINAL_COLOUR
            _curve(
                ax,
                values[row.key],
                row.key.method + _d(summary, row),
                colour,
                "-" if retrained else ":",
                wide=True,
            )
        for row in rows:
            mark = marks[row.key.optimizer]
            label = mark.label + _d(summary, row)
            _curve(ax, values[row.key], label, mark.colour, mark.line, wide=False)
        # All of the anchors and nearly all of the rest: one model far astray must not flatten the others.
        ends = [np.quantile(v, [0, 1] if row.order == "none" else [0.02, 0.98])
                for row in [*anchors, *rows] if len(v := values[row.key])]  # fmt: skip
        low, high = min(e[0] for e in ends), max(e[1] for e in ends)
        ax.set_xscale("log")
        ax.set_xlim(float(np.exp(low - 0.1)), float(np.exp(high + 0.1)))
        ax.set_ylim(0, 1.02)
        ax.set_xlabel("Truth ratio R of a forget question")
        ax.set_ylabel("Share of questions ≤ R")
        # Below the axis label, whatever the panel's height.
        below = offset_copy(ax.transAxes, fig=figure, y=-0.41, units="inches")
        ax.legend(
            loc="upper center",
            bbox_to_anchor=(0.44, 0),
            bbox_transform=below,
            borderaxespad=0,
            fontsize=7,
            handlelength=1.7,
            ncols=2,
            columnspacing=1,
        )
        diverged_note(ax, [(row, len(summary.diverged(row))) for row in rows])
    return figure


def log_ratios(inputs: Inputs, summary: Summary, row: Row) -> np.ndarray:
    """log R of the forget questions of all finished seeds, sorted."""
    found: list[float] = []
    for seed in summary.finished(row):
        key = RunKey(*row.key, seed)
        where = f"records.jsonl of {'/'.join(map(str, key))}"
        records = [r for r in inputs.records.get(key, ()) if r.get("split") == "forget"]
        if not records:
            raise UserError(f"{where}: not given, or without a record of the forget split")
        found += [log_truth_ratio(record, where) for record in records]
    return np.sort(np.array(found))


def _curve(
    ax: Axes, values: Sequence[float] | np.ndarray, label: str, colour: str, line: str, wide: bool
) -> None:
    """Empirical distribution: a step up of 1/n at every value, from 0 to 1 across the panel."""
    if not len(values):
        return
    x = np.exp(np.clip(values, -math.log(1e30), math.log(1e30)))
    shares = np.arange(1, len(x) + 1) / len(x)
    x, shares = np.concatenate([[1e-30], x, [1e30]]), np.concatenate([[0.0], shares, [1.0]])
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


def _d(summary: Summary, row: Row) -> str:
    estimate = summary.estimate(row, "forget", "ks_statistic")
    if row.key.method == "retrained" or estimate is None:
        return ""
    return f", D = {estimate.value:.2f}"
