"""What a figure shows, artist by artist, as plain values; `python -m tests.reporting.drawn` keeps it.

The files in `drawn/` hold one artist a line, so that a changed figure is a diff to be read. Where the layout
puts panels, their labels and legends is left out, because that hangs on the fonts.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.spines import Spine
from matplotlib.text import Annotation, Text

from pipeline_lib.reporting import style
from pipeline_lib.reporting.figures import build_figure
from pipeline_lib.reporting.inputs import Inputs
from tests.reporting.artists import Entry, colour, look, numbers, of_handle, once, place, plain, words

FOLDER = Path(__file__).with_name("drawn")
DIGITS = 6  # of a number in a file


def described(figure: Figure) -> list[Entry]:
    """An entry for the figure, its axes (insets too), the x and y axis of each, and every artist."""
    figure.draw_without_rendering()  # chooses the ticks
    layout = figure.get_layout_engine()
    entry: Entry = {"kind": "figure", "size": numbers(figure.get_size_inches())}
    entries = [entry | {"face": colour(figure.get_facecolor()), "layout": type(layout).__name__}]
    return plain([*entries, *_children(figure, "figure")])


def _children(parent: Figure | Axes, where: str) -> Iterator[Entry]:
    """What was put into a figure or into axes, in the order in which that was done; axes last."""
    inner: list[Axes] = []
    for artist in parent.get_children():
        if isinstance(artist, Axes):
            inner.append(artist)
        elif isinstance(artist, Legend) and artist.get_visible():
            yield from _legend(artist, where)
        elif artist.get_visible() and not _of_the_frame(artist, parent):
            yield {"in": where, **look(artist), **place(artist)}
    for number, ax in enumerate(inner):
        if ax.get_visible():
            yield from _axes(ax, f"axes {number}" if where == "figure" else f"{where} inset {number}")


def _of_the_frame(artist: Artist, parent: Figure | Axes) -> bool:
    """Whether this comes with any figure or axes; `_axes` says what these look like."""
    if isinstance(parent, Axes) and isinstance(artist, Text) and not isinstance(artist, Annotation):
        return artist not in parent.texts  # the titles
    return artist is parent.patch or isinstance(artist, Spine | Axis)


def _axes(ax: Axes, where: str) -> Iterator[Entry]:
    entry: Entry = {"in": where, "kind": "axes"}
    if (spec := ax.get_subplotspec()) is not None:
        grid = spec.get_gridspec()
        entry["place"] = [grid.nrows, grid.ncols, spec.num1, spec.num2]
        for name, ratios in (("heights", grid.get_height_ratios()), ("widths", grid.get_width_ratios())):
            if len(set(ratios)) > 1:
                entry[name] = numbers(ratios)
    else:
        entry["position"] = numbers(ax.get_position().bounds)
    if not ax.axison:
        entry["off"] = True
    else:
        entry["face"] = colour(ax.get_facecolor())
        entry["spines"] = {
            name: [float(spine.get_linewidth()), colour(spine.get_edgecolor())]
            for name, spine in ax.spines.items()
            if spine.get_visible()
        }
    yield entry
    for side, title in (("left", ax._left_title), ("center", ax.title), ("right", ax._right_title)):
        if title.get_text():
            yield {"in": where, "kind": f"title, {side}", **words(title)}
    for axis in (ax.xaxis, ax.yaxis):
        limits = numbers(axis.get_view_interval())
        scale = {"in": where, "kind": f"{axis.axis_name} axis", "scale": axis.get_scale(), "limits": limits}
        yield scale | (_ticks(axis) if ax.axison and axis.get_visible() else {})
    yield from _children(ax, where)


def _ticks(axis: Axis) -> Entry:
    low, high = sorted(axis.get_view_interval())
    room = 1e-9 * (high - low)

    def within(ticks: list[Any]) -> list[Any]:
        return [tick for tick in ticks if low - room <= tick.get_loc() <= high + room]

    major, minor = within(axis.get_major_ticks()), within(axis.get_minor_ticks())
    shown = [tick for tick in major if tick.label1.get_visible()]
    entry: Entry = {"ticks": [float(tick.get_loc()) for tick in major]}
    entry["names"] = [tick.label1.get_text() for tick in shown]
    if minor:
        entry["minor"] = [float(tick.get_loc()) for tick in minor]
    if names := [name for tick in minor if (name := tick.label1.get_text())]:
        entry["minor names"] = names
    looks = [{k: v for k, v in words(tick.label1).items() if k != "text"} for tick in shown]
    entry["look"] = looks[0] if looks else None
    entry["other looks"] = [[tick, own] for tick, own in enumerate(looks) if own != looks[0]]
    entry["marks"] = once([look(t.tick1line)["marker"] for t in major if t.tick1line.get_visible()])
    entry["grid"] = once([look(tick.gridline) for tick in major if tick.gridline.get_visible()])
    entry = {name: value for name, value in entry.items() if value not in ([], None)}
    for name, text in (("label", axis.label), ("offset", axis.get_offset_text())):
        if text.get_text():
            entry[name] = words(text)
    return entry


def _legend(legend: Legend, where: str) -> Iterator[Entry]:
    codes = {code: name for name, code in Legend.codes.items()}
    entry: Entry = {"in": where, "kind": "legend", "columns": legend._ncols, "zorder": legend.get_zorder()}
    entry["loc"] = codes.get(legend._loc, legend._loc)
    if outside := getattr(legend, "_outside_loc", None):
        entry["outside"] = outside
    if (box := legend._bbox_to_anchor) is not None:
        # Kept as asked for: the parent's own place comes of the layout.
        dpi, parent = legend.get_figure(root=True).dpi, legend.axes or legend.get_figure(root=True)
        entry["anchor"] = numbers(box._bbox.bounds)
        entry["moved"] = numbers((box._transform.transform((0, 0)) - parent.bbox.p0) / dpi)
    spaces = ("handletextpad", "handlelength", "columnspacing", "labelspacing", "borderpad", "borderaxespad")
    entry["spaces"] = [float(getattr(legend, name)) for name in spaces]
    if legend.get_frame_on():
        entry["frame"] = look(legend.get_frame())
    if legend.get_title().get_text():
        entry["title"] = words(legend.get_title())
    yield entry
    for handle, text in zip(legend.legend_handles, legend.get_texts(), strict=True):
        yield {"in": f"{where} legend", **words(text), "handle": of_handle(handle)}


def drawn(name: str, inputs: Inputs) -> list[Entry]:
    """The description of the figure `name`, in the style in which it is saved."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(style.RC)
        return described(build_figure(name, inputs))


def lines_of(entries: list[Entry]) -> str:
    """The entries as JSON lines, their numbers short enough to be read."""
    lines = [json.dumps(_short(entry), ensure_ascii=False, separators=(",", ":")) for entry in entries]
    return "".join(f"{line}\n" for line in lines)


def _short(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _short(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_short(inner) for inner in value]
    if isinstance(value, float):
        value = float(f"{value:.{DIGITS}g}")
        return int(value) if value.is_integer() else value
    return value


def main() -> None:
    """Write the file of every variant, and nothing else into the folder."""
    from tests.reporting.variants import VARIANTS

    with tempfile.TemporaryDirectory() as folder:
        made = {
            name: lines_of(drawn(variant.figure, variant.inputs(Path(folder))))
            for name, variant in VARIANTS.items()
        }
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("*.jsonl"):
        old.unlink()
    for name, lines in made.items():
        (FOLDER / f"{name}.jsonl").write_text(lines, encoding="utf-8")


if __name__ == "__main__":
    main()
