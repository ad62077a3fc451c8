"""The comparisons at a glance: every pair's difference in the quantity that decides, with its interval."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline_lib.core.grouping import grouped
from pipeline_lib.core.redaction import visible
from pipeline_lib.reporting import charts as made
from pipeline_lib.reporting import style
from pipeline_lib.reporting.figures.panels import ATTACKS_APART, say_left_out
from pipeline_lib.reporting.finding import p_text
from pipeline_lib.reporting.headline import RECOVERY
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
    "A mark without a bar has no test. Where the suite declares stages after which rows are compared, "
    "recovery after them stands below: it is of one family with the gap. The table of comparisons has the "
    "other quantities."
) + ATTACKS_APART


def draw(inputs: Inputs) -> Figure:
    """One panel for each task and model that has a pair."""
    summary = Summary(inputs)
    found = {study: _deciding(summary, *study) for study in inputs.studies}
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


def charts(inputs: Inputs) -> list[made.Chart]:
    """A chart for each task, model and question: the same pairs for the page."""
    summary, found = Summary(inputs), []
    for study in inputs.studies:
        if not (entries := _deciding(summary, *study)):
            continue
        ends = [v for e in entries if (d := e.difference) for v in (d.value, d.low, d.high) if v is not None]
        room = 0.08 * (max(*ends, 0.0) - min(*ends, 0.0)) if ends else 1.0
        axis = made.Axis(_across(entries), min([*ends, 0.0]) - room, max([*ends, 0.0]) + room)
        for question, asked in grouped((entry.question, entry) for entry in entries).items():
            name = style.study_label(*study) if len(inputs.studies) > 1 else ""
            found.append(_chart(": ".join(filter(None, (name, question))), asked, axis))
    return found


def _chart(title: str, entries: Sequence[Comparison], axis: made.Axis) -> made.Chart:
    looks = list({e.row: made.Look(made.name_of(e.row), style.order_colour(e.row)) for e in entries}.values())
    values = []
    for number, entry in enumerate(entries):
        d, (names, verdict) = entry.difference, _words(entry)
        words = [visible(text, keep="") for text in (names, verdict)]
        value = {"row": made.name_of(entry.row), "place": number, "words": words, "claimed": entry.claimed}
        value |= {"against": made.name_of(entry.against), "verdict": words[1], "p": d.p_holm if d else None}
        values.append(value | {"x": d.value, "low": d.low, "high": d.high} if d else value)
    place: made.Values = {"field": "place", "type": "ordinal", "axis": None}
    told = made.told(
        row="Row", against="Against", x="Difference", low="From", high="To", p="Holm's p", verdict="Verdict"
    )
    fill = {"condition": {"test": "datum.claimed", "value": 1}, "value": 0}
    edge = {"strokeWidth": 1.5, "size": 90}
    below = {"yOffset": 16}
    text = {
        "type": "text",
        "align": "left",
        "baseline": "top",
        "lineHeight": 15,
        "fontSize": 11,
        "yOffset": -28,
    }
    there = {"filter": "isValid(datum.x)"}
    level = {"type": "rule", "color": style.RETRAINED_COLOUR, "strokeDash": [6, 3]}
    bars = {"x": axis.channel("low"), "x2": {"field": "high"}, "y": place}
    layers = [
        made.plain([{"x": 0}], level, x=axis.channel("x")),
        made.line(
            values,
            looks,
            {"type": "rule", "strokeWidth": 2, **below},
            {"filter": "isValid(datum.low)"},
            **bars,
            tooltip=told,
        ),
        made.points(values, looks, {**edge, **below}, there, x=axis.channel("x"), y=place, tooltip=told),
        made.plain(
            values,
            {**text, "limit": {"expr": "width"}},
            made.SHOWN,
            x={"value": 0},
            y=place,
            text={"field": "words"},
        ),
    ]
    layers[2]["encoding"]["fillOpacity"] = fill
    return made.Chart(title, looks, layers, height=64 * len(entries))


def _deciding(summary: Summary, task: str, model: str) -> list[Comparison]:
    """Those of models before any attack in the first quantity that decides, and declared recovery."""
    entries = family(summary, task, model)
    plain = [entry for entry in entries if not summary.inputs.attacked(entry.row)]
    first = next((entry.quantity for entry in plain if entry.quantity.decides), None)
    chosen = [entry for entry in plain if entry.quantity == first]
    recovered = [e for e in entries if e.quantity.decides and e.quantity.metric == RECOVERY.metric]
    return sorted(chosen + recovered, key=lambda entry: entries.index(_first_asked(entries, entry)))


def _first_asked(entries: Sequence[Comparison], entry: Comparison) -> Comparison:
    """The first one that answers the same question: what answers one stands together."""
    return next(one for one in entries if one.question == entry.question)


def _texts(entries: Sequence[Comparison]) -> list[tuple[str, Comparison | None]]:
    """From the top, each question and under it what is said of each of its pairs."""
    found: list[tuple[str, Comparison | None]] = []
    question = ""
    for entry in entries:
        if entry.question != question:
            question = entry.question
            found.append((textwrap.fill(visible(question, keep=""), LETTERS), None))
        found.append(("\n".join(textwrap.fill(words, LETTERS) for words in _words(entry)), entry))
    return found


def _words(entry: Comparison) -> tuple[str, str]:
    """A pair, and what is said of it."""
    d = entry.difference
    p = f" (Holm's p {p_text(d.p_holm)})" if d and d.p_holm is not None else ""
    return f"{style.row_label(entry.row)} against {style.row_label(entry.against)}:", entry.verdict + p


def _lines(text: tuple[str, Comparison | None]) -> float:
    """Height in lines: of a pair with its bar and what stands between it and the next."""
    words, entry = text
    return words.count("\n") + (2.5 if entry else 1.3)


def _panel(ax: Axes, entries: Sequence[Comparison]) -> None:
    at = 0.0
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
    ax.set_xlabel(_across(entries))


def _across(entries: Sequence[Comparison]) -> str:
    found = {entry.quantity: entry.quantity for entry in entries}
    labels = " or ".join(style.within(quantity.label) for quantity in found)
    down, up = (" or ".join(getattr(quantity, way) for quantity in found) for way in ("down", "up"))
    return f"Difference in {labels}\n← {down} | {up} →"


def _mark(ax: Axes, entry: Comparison, place: float) -> None:
    d, colour = entry.difference, style.order_colour(entry.row)
    assert d is not None
    if d.low is not None and d.high is not None:
        ax.plot([d.low, d.high], [place, place], color=colour, linewidth=1.2)
    face = colour if entry.claimed else "white"
    ax.plot([d.value], [place], marker="o", color=colour, markerfacecolor=face, markersize=5, zorder=3)
