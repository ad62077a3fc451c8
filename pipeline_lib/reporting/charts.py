"""Charts of the report that answer to the pointer: Vega-Lite specifications of what a static figure draws.

A figure's module may have `charts` beside `draw`: both take the same records, so that their numbers are the
same. A chart is plain data. Its rows are named in the field `row`, and every layer leaves out those in the
parameter `hidden`, which the page's legend sets; the parameter `seeds` says whether lines of single seeds
beyond the first are shown.
Source of the grammar: Vega-Lite 6 (vega.github.io/vega-lite).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline_lib.core.redaction import visible
from pipeline_lib.reporting import style
from pipeline_lib.reporting.inputs import Row

Values = dict[str, Any]
HEIGHT = 260  # pixels of a chart's panel
EXACT = ".5~g"  # five significant digits under the pointer
SHOWN = {"filter": "indexof(hidden, datum.row) < 0"}
ONE_SEED = {"filter": "seeds || datum.first"}
TEXTS = ("row", "said", "against", "question", "verdict", "seed", "step")  # fields that are shown as they are
SOLID = (1.0, 0.0)


def _ring(corners: int, inner: float = 1.0, turn: float = 0.0) -> str:
    """A polygon with its first corner on top; every second corner at the radius `inner`."""
    places = [
        (
            (r := 1.0 if i % 2 == 0 else inner) * math.sin(2 * math.pi * i / corners + turn),
            -r * math.cos(2 * math.pi * i / corners + turn),
        )
        for i in range(corners)
    ]
    return "M" + "L".join(f"{x:.3f},{y:.3f}" for x, y in places) + "Z"


# matplotlib's markers and lines -> those of Vega.
SHAPES = {
    "o": "circle",
    "s": "square",
    "D": "diamond",
    "^": "triangle-up",
    "v": "triangle-down",
    "P": "cross",
    "p": _ring(5),
    "h": _ring(6),
    "*": _ring(10, inner=0.4),
    "X": _ring(8, inner=0.4, turn=math.pi / 4),
}
DASHES: dict[str, tuple[float, ...]] = {"-": SOLID, "--": (6, 3), "-.": (6, 3, 1.5, 3), ":": (1.5, 3)}


@dataclass(frozen=True)
class Axis:
    """One axis: its words, its ends and whether it is logarithmic."""

    label: str
    low: float
    high: float
    log: bool = False

    @property
    def plain(self) -> str:
        """The label in one line."""
        return " ".join(self.label.split())

    def channel(self, name: str = "x") -> Values:
        """How a field of numbers is placed on the axis."""
        scale = {"type": "log" if self.log else "linear", "domain": [self.low, self.high], "nice": False}
        axis: Values = {"title": self.plain, "format": "~g", "tickCount": 5}
        if self.log:
            axis["values"] = [n * 10.0**k for k in range(-9, 10) for n in (1, 2, 5) if self.has(n * 10.0**k)]
        return {"field": name, "type": "quantitative", "scale": scale, "axis": axis}

    def has(self, value: float) -> bool:
        return self.low <= value <= self.high

    def inside(self, value: float | None) -> float | None:
        """An end of an interval, cut off at the axis."""
        return None if value is None else min(max(value, self.low), self.high)


@dataclass(frozen=True)
class Chart:
    """`looks`: of each row in it, in order. `toggle`: there are single seeds to show."""

    title: str
    looks: Sequence[Look]
    layers: Sequence[Values]
    toggle: bool = False
    height: int = HEIGHT

    def block(self) -> Values:
        """What the page is given: `spec` is whole but for the colours of the page itself."""
        params: list[Values] = [{"name": "hidden", "value": []}, {"name": "seeds", "value": False}]
        spec = {"width": "container", "height": self.height, "params": params, "layer": list(self.layers)}
        spec["autosize"] = {"type": "fit-x", "contains": "padding"}
        rows = [{"name": look.row, "colour": look.colour} for look in self.looks]
        title = visible(": ".join(self.title.splitlines()), keep="")
        return {"title": title, "rows": rows, "toggle": self.toggle, "spec": spec}


@dataclass(frozen=True)
class Look:
    """How a row is drawn in the static figures too."""

    row: str
    colour: str
    shape: str = "circle"
    hollow: bool = False
    dash: tuple[float, ...] = SOLID


def look_of(row: Row, marks: Mapping[str, style.Mark]) -> Look:
    """The colour, form and line of a row in the static figures."""
    name = name_of(row)
    if row.anchor:
        colour, marker = style.ANCHOR_MARKS[row.key.method]
        return Look(name, colour, SHAPES[marker], dash=DASHES[style.ANCHOR_LINES[row.key.method]])
    mark = marks[style.mark_name(row)]
    return Look(name, mark.colour, SHAPES[mark.marker], mark.hollow, DASHES[mark.line])


def name_of(row: Row) -> str:
    """A row's label as text that hides nothing."""
    return visible(style.row_label(row), keep="")


def line(
    values: Sequence[Values], looks: Sequence[Look], mark: Values, *transform: Values, **more: Any
) -> Values:
    """A mark for each of the values that the legend lets through, in the colour of its row."""
    colour = _by_row(looks, [look.colour for look in looks])
    return plain(values, mark, SHOWN, *transform, color=colour, **more)


def curves(
    values: Sequence[Values], looks: Sequence[Look], mark: Values, *transform: Values, **more: Any
) -> Values:
    """Lines with the rows' own dashes."""
    dash = _by_row(looks, [list(look.dash) for look in looks])
    return line(values, looks, {"type": "line", **mark}, *transform, strokeDash=dash, **more)


def points(
    values: Sequence[Values], looks: Sequence[Look], mark: Values, *transform: Values, **more: Any
) -> Values:
    """Marks with the rows' own forms."""
    shape = _by_row(looks, [look.shape for look in looks])
    hollow = {"field": "row", "oneOf": [look.row for look in looks if look.hollow]}
    inside = {"condition": {"test": hollow, "value": 0}, "value": 1}
    form = {"type": "point", "filled": True, "strokeWidth": 1, "opacity": 1, **mark}
    edge = _by_row(looks, [look.colour for look in looks])
    return line(values, looks, form, *transform, shape=shape, fillOpacity=inside, stroke=edge, **more)


def plain(values: Sequence[Values], mark: Values, *transform: Values, **encoding: Any) -> Values:
    """A layer of a specification; its marks end at the edge of the panel."""
    made: Values = {"data": {"values": list(values)}, "mark": {"clip": True, **mark}}
    return made | {"transform": list(transform), "encoding": encoding}


def _by_row(looks: Sequence[Look], values: Sequence[Any]) -> Values:
    scale = {"domain": [look.row for look in looks], "range": list(values)}
    return {"field": "row", "type": "nominal", "scale": scale, "legend": None}


def band(low: float, high: float, axis: Axis, said: str) -> Values:
    """A grey stretch of the axis across, from edge to edge."""
    value = {"low": axis.inside(low), "high": axis.inside(high), "said": said}
    ends = {"x": axis.channel("low"), "x2": {"field": "high"}}
    return plain([value], {"type": "rect", "color": style.BAND}, **ends, tooltip=told(said="Band"))


def told(**titles: str) -> list[Values]:
    """What the pointer is told: the title of each field; numbers that are measured have `EXACT` digits."""
    return [
        {"field": name, "title": title, **({} if name in TEXTS else {"format": EXACT})}
        for name, title in titles.items()
    ]
