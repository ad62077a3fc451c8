"""Every artist of every figure is as its file in `drawn/` says, and a change of any look is noticed."""

from __future__ import annotations

import json
from collections.abc import Callable
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from pipeline_lib.reporting.catalog import FIGURES, PAPER_FIGURES
from tests.reporting.artists import Entry
from tests.reporting.drawn import FOLDER, described, drawn, lines_of
from tests.reporting.variants import STUDIES, VARIANTS

LARGEST = 600_000  # bytes of all files
ANEW = "`python -m tests.reporting.drawn` writes the files anew; read what changed in them with `git diff`"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the studies are, each written when a figure first needs it."""
    return tmp_path_factory.mktemp("drawn")


@pytest.mark.parametrize("name", VARIANTS)
def test_a_figure_shows_what_its_file_says(name: str, folder: Path) -> None:
    variant = VARIANTS[name]
    kept = [json.loads(line) for line in (FOLDER / f"{name}.jsonl").read_text("utf-8").splitlines()]
    found = differences(kept, drawn(variant.figure, variant.inputs(folder)))
    assert not found, "\n".join([f"{name}.jsonl and the figure differ:", *found[:20], ANEW])


def test_every_figure_is_kept_and_nothing_else() -> None:
    assert {variant.figure for variant in VARIANTS.values()} == set(FIGURES) | set(PAPER_FIGURES)
    assert {variant.study for variant in VARIANTS.values()} == set(STUDIES)
    assert {path.stem for path in FOLDER.iterdir()} == set(VARIANTS), ANEW
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < LARGEST


def differences(kept: list[Entry], found: list[Entry]) -> list[str]:
    """One line for each artist that is not as kept, with the line of its file."""
    names = [_name(entry) for entry in kept], [_name(entry) for entry in found]
    lines = []
    for _, a, to_a, b, to_b in SequenceMatcher(None, *names, autojunk=False).get_opcodes():
        for i in range(max(to_a - a, to_b - b)):
            old, new = (part[i] if i < len(part) else None for part in (kept[a:to_a], found[b:to_b]))
            if old is None:
                lines.append(f"after line {to_a}: {_name(new or {})} is new")
            elif new is None:
                lines.append(f"line {a + i + 1}: {_name(old)} is missing")
            elif what := _unlike(old, new):
                lines.append(f"line {a + i + 1}: {_name(old)}: {what}")
    return lines


def _name(entry: Entry) -> str:
    parts = (entry.get(part) for part in ("in", "kind", "label", "text"))
    return ", ".join(repr(part) if i > 1 else part for i, part in enumerate(parts) if isinstance(part, str))


def _unlike(kept: Any, found: Any, where: str = "") -> str:
    """Where the first difference is, and what it is; empty where there is none."""
    if isinstance(kept, dict) and isinstance(found, dict):
        names = list(kept | found)
        pairs = ((name, kept.get(name), found.get(name)) for name in names)
    elif isinstance(kept, list) and isinstance(found, list) and len(kept) == len(found):
        pairs = ((i, *pair) for i, pair in enumerate(zip(kept, found, strict=True)))
    elif _number(kept) and _number(found):
        same = found == pytest.approx(kept, rel=1e-3, abs=1e-6)
        return "" if same else f"{where} was {kept}, is {found:g}"
    else:
        same = type(kept) is type(found) and kept == found
        return "" if same else f"{where} was {_cut(kept)}, is {_cut(found)}"
    lines = (_unlike(old, new, f"{where}[{name}]" if where else str(name)) for name, old, new in pairs)
    return next(filter(None, lines), "")


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cut(value: Any) -> str:
    return "nothing" if value is None else repr(value)[:200]


def _figure() -> Figure:
    figure = Figure(figsize=(4, 3))
    ax = figure.subplots()
    ax.plot([1, 2], [3, 4.0], marker="o", label="a line")
    ax.plot([2, 1], [3, 4.0], label="another")
    ax.fill_between([1, 2], [0, 1], [2, 3], alpha=0.5)
    ax.scatter([1, 2], [3, 1])
    ax.bar([1], [2])
    ax.errorbar([1], [2], yerr=[0.5])
    ax.text(1, 2, "a text")
    ax.annotate("a note", (1, 2), xytext=(6, 4), textcoords="offset points", bbox={"pad": 1.0})
    ax.legend(loc="upper left")
    ax.inset_axes((0.6, 0.1, 0.3, 0.3)).plot([1, 2], [2, 1])
    return figure


def _set(what: Callable[[Axes], Any], **changed: Any) -> Callable[[Figure], Any]:
    return lambda figure: what(figure.axes[0]).set(**changed)


def _inset(ax: Axes) -> Any:
    return ax.child_axes[0].lines[0]


CHANGES: dict[str, Callable[[Figure], Any]] = {
    **{
        f"line: {name}": _set(lambda ax: ax.lines[0], **{name: value})
        for name, value in {
            "color": "#123456", "alpha": 0.4, "linestyle": "--", "linewidth": 2.5, "drawstyle": "steps-post",
            "marker": "s", "markersize": 5.0, "markeredgewidth": 0.3, "markerfacecolor": "white", "zorder": 4,
            "label": "b", "xdata": [1, 2.1], "visible": False,
        }.items()
    },
    "inset: a line": _set(_inset, zorder=7),
    "band": _set(lambda ax: ax.collections[0], facecolor="#123456"),
    "band's opacity": _set(lambda ax: ax.collections[0], alpha=0.4),
    "scatter": lambda figure: figure.axes[0].collections[1].set_offsets([[1, 3], [2, 1.1]]),
    "bar": _set(lambda ax: ax.patches[0], height=2.1),
    "bar's edge": _set(lambda ax: ax.patches[0], edgecolor="red"),
    "bar's hatch": _set(lambda ax: ax.patches[0], hatch="/"),
    "interval": lambda figure: figure.axes[0].collections[2].remove(),
    "text": _set(lambda ax: ax.texts[0], text="another"),
    "text's place": _set(lambda ax: ax.texts[0], position=(1, 2.1)),
    "text's coordinates": lambda figure: figure.axes[0].texts[0].set_transform(figure.axes[0].transAxes),
    "text's side": _set(lambda ax: ax.texts[0], va="center"),
    "text's size": _set(lambda ax: ax.texts[0], fontsize=7),
    "text's weight": _set(lambda ax: ax.texts[0], fontweight="bold"),
    "text's turn": _set(lambda ax: ax.texts[0], rotation=90),
    "note's offset": lambda figure: figure.axes[0].texts[1].set_position((7, 4)),
    "note's box": lambda figure: figure.axes[0].texts[1].set_bbox({"pad": 2.0}),
    "title": lambda figure: figure.axes[0].set_title("title", loc="right"),
    "axis label": lambda figure: figure.axes[0].set_xlabel("label"),
    "scale": lambda figure: figure.axes[0].set_yscale("symlog"),
    "limits": lambda figure: figure.axes[0].set_xlim(0, 7),
    "ticks": lambda figure: figure.axes[0].set_xticks([1, 2]),
    "tick's name": lambda figure: figure.axes[0].set_xticks([1, 2], ["one", "two"]),
    "tick's length": lambda figure: figure.axes[0].tick_params(length=0),
    "tick's look": lambda figure: figure.axes[0].tick_params(axis="x", labelrotation=35),
    "one tick's look": lambda figure: figure.axes[0].get_yticklabels()[3].set_fontweight("bold"),
    "grid": lambda figure: figure.axes[0].grid(True),
    "spine": lambda figure: figure.axes[0].spines["top"].set_visible(False),
    "axes switched off": lambda figure: figure.axes[0].set_axis_off(),
    "legend's place": lambda figure: figure.axes[0].legend(loc="upper right"),
    "legend's font": lambda figure: figure.axes[0].legend(loc="upper left", fontsize=7),
    "legend's title": lambda figure: figure.axes[0].legend(loc="upper left", title="title"),
    "legend's anchor": lambda figure: figure.axes[0].legend(loc="upper left", bbox_to_anchor=(0.4, 0)),
    "legend's columns": lambda figure: figure.axes[0].legend(loc="upper left", ncols=2),
    "legend's entry": lambda figure: figure.axes[0].get_legend().legend_handles[0].set_linewidth(9),
    "no legend": lambda figure: figure.axes[0].get_legend().remove(),
    "figure's legend": lambda figure: figure.legend(handles=[Rectangle((0, 0), 1, 1, label="b")]),
    "figure's text": lambda figure: figure.suptitle("all"),
    "figure's size": lambda figure: figure.set_figheight(3.2),
}  # fmt: skip


@pytest.fixture(scope="module")
def kept() -> list[Entry]:
    return described(_figure())


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_look_changes_the_description(change: str, kept: list[Entry]) -> None:
    figure = _figure()
    CHANGES[change](figure)
    assert differences(kept, described(figure))


def test_the_same_figure_has_the_same_description_also_from_its_file(kept: list[Entry]) -> None:
    assert not differences(kept, described(_figure()))
    assert not differences([json.loads(line) for line in lines_of(kept).splitlines()], kept)


def test_a_difference_names_the_artist_and_its_line(kept: list[Entry]) -> None:
    figure = _figure()
    figure.axes[0].lines[0].set(color="#123456", xdata=[1, 2.001])  # the latter is within the tolerance
    figure.axes[0].texts[0].remove()
    figure.axes[0].legend().remove()
    figure.text(0, 0, "all")
    assert differences(kept, described(figure))[:3] == [
        "after line 1: figure, Text, 'all' is new",
        "line 5: axes 0, Line2D, 'a line': line[2] was '#1f77b4', is '#123456'",
        "line 12: axes 0, Text, 'a text' is missing",
    ]
