"""Figures, each saved as svg and as png. The same numbers give the same svg, bit for bit."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from pipeline_lib.core.files import atomic_path
from pipeline_lib.reporting import catalog, style
from pipeline_lib.reporting.inputs import Inputs


def build_figure(name: str, inputs: Inputs) -> Figure:
    """Draw the figure `name`; the caller sets the style."""
    item = catalog.find(catalog.ALL_FIGURES, name)
    inputs.require(item.needs, f"figure {name}")
    return item.load().draw(inputs)


def draw_figure(
    name: str,
    paths: Iterable[Path | str],
    out_svg: Path | str,
    out_png: Path | str,
    tasks: Collection[str] | None = None,
) -> None:
    """Make the figure `name` from `paths`: the files that `catalog.ALL_FIGURES[name].needs` lists.

    `tasks`: where `paths` hold the files of these tasks only.
    """
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a matplotlibrc of the user must not change a figure
        matplotlib.rcParams.update(style.RC)
        figure = build_figure(name, Inputs(paths, tasks))
        with atomic_path(out_svg) as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None, "Creator": None})
        with atomic_path(out_png) as temporary:
            figure.savefig(temporary, format="png", metadata={"Software": None})
