"""One artist of a figure as plain values: how it looks and where it stands.

Colours are hex, with two digits more where they are translucent. What is usual (no marker, no rotation, black
text, coordinates of the data) is left out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.collections import Collection
from matplotlib.colors import to_hex, to_rgba
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch, Patch
from matplotlib.text import Annotation, Text

Entry = dict[str, Any]
FONT = ["DejaVu Sans"]  # of every text that does not say another


def look(artist: Artist) -> Entry:
    """Everything but where it stands."""
    entry: Entry = {"kind": type(artist).__name__, "zorder": artist.get_zorder()}
    label = str(artist.get_label())
    if label and not label.startswith("_"):
        entry["label"] = label
    match artist:
        case Line2D():
            entry |= _line(artist)
        case Text():
            entry |= words(artist)
        case Patch() | Collection():
            entry |= _area(artist)
    return entry


def of_handle(artist: Artist | None) -> Entry | None:
    """The look of what stands beside a text in a legend, which names it."""
    return artist and {name: value for name, value in look(artist).items() if name not in ("label", "zorder")}


def _line(line: Line2D) -> Entry:
    entry: Entry = {}
    alpha = line.get_alpha()
    if line.get_linestyle() != "None":
        entry["line"] = [line.get_linestyle(), float(line.get_linewidth()), colour(line.get_color(), alpha)]
    if line.get_drawstyle() != "default":
        entry["drawstyle"] = line.get_drawstyle()
    if line.get_marker() not in ("None", None, "", " "):
        entry["marker"] = {
            "form": line.get_marker(),
            "size": float(line.get_markersize()),
            "face": colour(line.get_markerfacecolor(), alpha),
            "edge": [colour(line.get_markeredgecolor(), alpha), float(line.get_markeredgewidth())],
        }
    return entry


def _area(artist: Patch | Collection) -> Entry:
    faces, edges = artist.get_facecolor(), artist.get_edgecolor()
    if isinstance(artist, Patch):
        faces, edges = [faces], [edges]
    entry: Entry = {
        "face": once([colour(one) for one in faces]),
        "edge": once([colour(one) for one in edges]),
    }
    entry["width"] = once(numbers(artist.get_linewidth()))
    if (line := artist.get_linestyle()) not in ("solid", [(0, None)]):
        entry["line"] = line
    if artist.get_hatch():
        entry["hatch"] = artist.get_hatch()
    return {name: value for name, value in entry.items() if value != []}


def words(text: Text) -> Entry:
    """A text with its font and how it stands on its place."""
    entry: Entry = {"text": text.get_text(), "size": text.get_fontsize()}
    if (of := colour(text.get_color(), text.get_alpha())) != "#000000":
        entry["colour"] = of
    if (align := f"{text.get_horizontalalignment()} {text.get_verticalalignment()}") != "left baseline":
        entry["align"] = align
    usual = {"rotation": 0.0, "weight": "normal", "style": "normal", "family": FONT}
    entry |= {name: v for name, other in usual.items() if (v := getattr(text, f"get_{name}")()) != other}
    if (box := text.get_bbox_patch()) is not None:
        form = box.get_boxstyle()
        entry["box"] = look(box) | {"form": type(form).__name__, **plain(vars(form))}
    return entry


def place(artist: Artist) -> Entry:
    """Its points, and in which coordinates they are."""
    entry: Entry = {}
    transform = artist.get_transform()
    if isinstance(artist, Line2D):
        x, y = (np.ma.filled(np.ma.asarray(v, float), np.nan) for v in artist.get_data())
        entry |= {"x": numbers(x), "y": numbers(y)}
    elif isinstance(artist, Annotation):
        entry |= {"at": numbers(artist.xy), "text at": numbers(artist.xyann)}
        entry |= {"of": f"{artist.xycoords}, {artist.anncoords}"}
        if isinstance(artist.arrow_patch, FancyArrowPatch):
            entry["arrow"] = look(artist.arrow_patch)
        return entry
    elif isinstance(artist, Text):
        entry["at"] = numbers(artist.get_position())
    elif isinstance(artist, Patch):
        entry["points"] = points(artist.get_path().transformed(artist.get_patch_transform()).vertices)
        transform = artist.get_data_transform()
    elif isinstance(artist, Collection):
        entry["paths"] = [points(path.vertices) for path in artist.get_paths()]
        if np.any(offsets := artist.get_offsets()):
            entry["offsets"] = points(offsets)
            entry["sizes"] = numbers(getattr(artist, "get_sizes", list)())
            transform = artist.get_offset_transform()
    if (of := _coordinates(artist, transform)) != "data":
        entry["of"] = of
    return entry


def _coordinates(artist: Artist, transform: Any) -> str:
    ax, names = artist.axes, {}
    if ax is not None:
        names = {"data": ax.transData, "axes": ax.transAxes}
        names |= {"x data, y axes": ax.get_xaxis_transform(), "x axes, y data": ax.get_yaxis_transform()}
    names["figure"] = artist.get_figure(root=True).transFigure
    return next((name for name, known in names.items() if known is transform), "others")


def colour(colour: Any, alpha: float | None = None) -> str:
    """Hex, with two digits more where it is translucent."""
    if isinstance(colour, str) and colour == "none":
        return "none"
    text = to_hex(to_rgba(colour, alpha), keep_alpha=True)
    return "none" if text.endswith("00") else text.removesuffix("ff") if len(text) == 9 else text


def numbers(values: Any) -> list[float | None]:
    """Plain numbers; None for one that is none."""
    return [float(value) if np.isfinite(value) else None for value in np.ravel(values)]


def points(points: Any) -> list[list[float | None]]:
    """Points (n, 2) as all x and all y."""
    return [numbers(column) for column in np.ma.filled(np.ma.asarray(points, float), np.nan).T]


def plain(value: Any) -> Any:
    """As JSON has it."""
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(inner) for inner in value]
    return value.item() if isinstance(value, np.generic) else value


def once(values: list[Any]) -> Any:
    """The one value where all are the same."""
    return values[0] if values and all(value == values[0] for value in values) else values
