"""The comparisons at a glance: every pair's difference in the quantity that decides, with its interval."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline_lib.core.redaction import visible
from pipeline_lib.reporting import style
from pipeline_lib.reporting.figures.panels import ATTACKS_APART, say_left_out
from pipeline_lib.reporting.finding import p_text
from pipeline_lib.reporting.inputs import Inputs
from pipeline_lib.reporting.summary import Summary
from pipeline_lib.reporting.tables.comparisons import Comparison, family

WIDTH = 4.8  # inches: letters of 7 points are 7 pixels where the figure is 345 wide
LETTERS = 74  # of 7 points in that width
LINE = 0.14  # inches of a line of text
FRAME = 0.85  # inches of a panel's title, ticks and label

CAPTION = (
    "Every pair of rows that the suite compares, or where it names none each second-order row against each "
    "first-order row of its method, in the quantity that decides: the gap to `retrained` where it was "
    "measured. Mark: the mean over shared seeds of the first row minus the second; bar: Bonferroni's 95 % "
    "interval, so that all of a panel hold at once. Dashed: no difference. Filled: a difference is claimed, "
    "with p below 0.05 after Holm's adjustment; hollow: none can be, which does not show that there is none. "
    "A claim can stand beside a bar that just holds 0, since Holm's test claims more than these bars do. "
    "A mark without a bar has no test. The table of comparisons has the other quantities."
) + ATTACKS_APART


def draw(inputs: Inputs) -> Figure:
    """One panel for each task and model that has a pair."""
    inputs = inputs.before_attacks()
    summary = Summary(inputs)
    found = {study: _deciding(family(summary, *study)) for study in inputs.studies}
    shown = {study: entries for study, entries in found.items() if entries}
    heights = [LINE * sum(map(_lines, _texts(entries))) + FRAME for entries in shown.values()]
    figure = Figure(figsize=(WIDTH, sum(heights) or 0.5))
    if shown:
        grid = figure.subplots(len(shown), 1, squeeze=False, height_ratios=heights)
        for (study, entries), ax in zip(shown.items(), grid[:, 0], strict=True):
            _panel(ax, entries)
            if len(inputs.studies) > 1:
                ax.set_title(style.study_label(*study), loc="left")
    missing = [style.study_label(*study) for study in found if study not in shown]
    say_left_out(figure, missing, "no method runs with both rows of a comparison")
    return figure


def _deciding(entries: Sequence[Comparison]) -> list[Comparison]:
    """Those in the first quantity in which a difference may be claimed."""
    first = next((entry.quantity for entry in entries if entry.quantity.decides), None)
    return [entry for entry in entries if entry.quantity == first]


def _texts(entries: Sequence[Comparison]) -> list[tuple[str, Comparison | None]]:
    """From the top, each question and under it what is said of each of its pairs."""
    found: list[tuple[str, Comparison | None]] = []
    question = ""
    for entry in entries:
        if entry.question != question:
            question = entry.question
            found.append((textwrap.fill(visible(question, keep=""), LETTERS), None))
        d = entry.difference
        p = f" (Holm's p {p_text(d.p_holm)})" if d and d.p_holm is not None else ""
        names = f"{style.row_label(entry.row)} against {style.row_label(entry.against)}:"
        found.append((f"{textwrap.fill(names, LETTERS)}\n{textwrap.fill(entry.verdict + p, LETTERS)}", entry))
    return found


def _lines(text: tuple[str, Comparison | None]) -> float:
    """Height in lines: of a pair with its bar and what stands between it and the next."""
    words, entry = text
    return words.count("\n") + (2.5 if entry else 1.3)


def _panel(ax: Axes, entries: Sequence[Comparison]) -> None:
    quantity, at = entries[0].quantity, 0.0
    look: dict[str, Any] = {
        "transform": ax.get_yaxis_transform(),
        "va": "top",
        "fontsize": 7,
        "parse_math": False,
    }
    box = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
    for words, entry in (texts := _texts(entries)):
        ax.text(0, -at, words, **look, bbox=box, fontweight="normal" if entry else "bold")
        at += _lines((words, entry))
        if entry and entry.difference:
            _mark(ax, entry, 0.9 - at)
    ax.axvline(0, color=style.RETRAINED_COLOUR, linestyle="--", linewidth=0.8, zorder=0)
    ax.set_ylim(-sum(map(_lines, texts)), 0.3)
    ax.margins(x=0.08)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.set_xlabel(f"Difference in {style.within(quantity.label)}\n← {quantity.down} | {quantity.up} →")


def _mark(ax: Axes, entry: Comparison, place: float) -> None:
    d, colour = entry.difference, style.order_colour(entry.row)
    assert d is not None
    if d.low is not None and d.high is not None:
        ax.plot([d.low, d.high], [place, place], color=colour, linewidth=1.2)
    face = colour if entry.claimed else "white"
    ax.plot([d.value], [place], marker="o", color=colour, markerfacecolor=face, markersize=5, zorder=3)
