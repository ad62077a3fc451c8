"""The forest plot of the comparisons: marks, bars and words are those of the table."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline_lib.reporting.catalog import FIGURES, TABLES
from pipeline_lib.reporting.figures import build_figure, draw_figure
from pipeline_lib.reporting.inputs import Inputs
from pipeline_lib.reporting.summary import Summary
from pipeline_lib.reporting.tables.comparisons import family
from tests.reporting.staged import write_staged
from tests.reporting.study import Study
from tests.reporting.test_comparisons import distances
from tests.reporting.test_html import HOSTILE

QUESTION = "Does curvature help, and by $x_1$?"
PAIRS = [
    {"first": "sophia", "second": "adamw", "question": QUESTION},
    {"first": "signum", "second": "adamw", "question": "Are sign steps enough?"},
]


def forest(study: Study) -> Figure:
    return build_figure("forest", Inputs(study.paths(*FIGURES["forest"].needs)))


def marks(ax: Axes) -> list[tuple[float, bool]]:
    """Mean and whether it is filled, from the top."""
    found = [line for line in ax.lines if line.get_marker() == "o"]
    found.sort(key=lambda line: -float(line.get_ydata()[0]))
    return [(float(line.get_xdata()[0]), line.get_markerfacecolor() != "white") for line in found]


def bars(ax: Axes) -> list[list[float]]:
    found = [line for line in ax.lines if line.get_marker() == "None" and line.get_linestyle() == "-"]
    return [np.asarray(line.get_xdata()).tolist() for line in found]


def made(root: Path, **more: Any) -> Study:
    """D of Sophia lies 0.2 below AdamW's (by hand in test_comparisons.py), that of Signum beside it."""
    numbers = distances(
        {"adamw": (0.60, 0.62, 0.61), "sophia": (0.40, 0.41, 0.42), "signum": (0.61, 0.60, 0.63)}
    )
    settings: dict[str, Any] = {
        "methods": {"NPO": 0.8},
        "diverged": {},
        "comparisons": PAIRS,
        "numbers": numbers,
    }
    return Study(root, **settings | more).write()


def test_each_pair_has_its_difference_interval_and_words(root: Path) -> None:
    study = made(root)
    (ax,) = forest(study).axes
    # Sophia's p is 8.323e-4, times 2 pairs; Signum's differences are 0.01, -0.02 and 0.02.
    assert marks(ax) == [(pytest.approx(-0.2), True), (pytest.approx(0.01 / 3), False)]
    entries = family(Summary(Inputs(study.paths(*FIGURES["forest"].needs))), study.task, study.model)
    ends = [[e.difference.low, e.difference.high] for e in entries if e.quantity.metric == "ks_statistic"]
    assert bars(ax) == [pytest.approx(end) for end in ends]
    texts = [text.get_text() for text in ax.texts]
    assert texts == [
        QUESTION,
        "NPO + Sophia against NPO + AdamW:\ncloser to retrained (Holm's p = 0.002)",
        PAIRS[1]["question"],
        "NPO + Signum against NPO + AdamW:\nno difference can be claimed (Holm's p = 0.808)",
    ]
    assert not any(text.get_parse_math() for text in ax.texts), "a question may hold a dollar sign"
    zero = [line for line in ax.lines if list(line.get_xdata()) == [0, 0]]
    assert len(zero) == 1
    assert ax.get_xlabel() == "Difference in KS D\n← closer to retrained | farther from retrained →"


def test_the_gap_decides_where_it_was_measured(root: Path) -> None:
    (ax,) = forest(made(root, scored=True)).axes
    assert ax.get_xlabel().startswith("Difference in gap")
    assert len(marks(ax)) == 2


def test_declared_recovery_stands_below_the_gap_of_its_question(root: Path) -> None:
    pairs: list[dict[str, Any]] = [{**PAIRS[0], "after": ["other"]}, PAIRS[1]]
    study = write_staged(
        root,
        scored=True,
        retrained_seeds=(4, 5),
        comparisons=pairs,
        methods={"NPO": 0.8},
        optimizers=("adamw", "signum", "sophia"),
    )
    (ax,) = forest(study).axes
    assert ax.get_xlabel() == (
        "Difference in gap or recovery\n"
        "← closer to retrained or recovers less | farther from retrained or recovers more →"
    )
    wanted = [e for e in family(Summary(Inputs(study.paths(*TABLES["comparisons"].needs))),
                                study.task, study.model) if e.quantity.decides]  # fmt: skip
    in_order = [wanted[0], wanted[2], wanted[1]]  # gap and recovery of the first question, then the other
    assert [value for value, _ in marks(ax)] == pytest.approx(
        [e.difference.value for e in in_order if e.difference]
    )


def test_one_seed_has_marks_without_bars(root: Path) -> None:
    (ax,) = forest(made(root, seeds=(1,))).axes
    assert [filled for _, filled in marks(ax)] == [False, False] and bars(ax) == []
    assert "no test over seeds: no difference can be claimed" in ax.texts[1].get_text()


def test_without_a_pair_there_is_no_panel(root: Path) -> None:
    figure = forest(made(root, optimizers=("adamw",)))
    assert not figure.axes
    assert figure.get_suptitle() == (
        "Not shown: fictitious, tiny (no method runs with both rows of a comparison)"
    )


def test_two_lines_of_text_and_a_bar_do_not_meet(root: Path) -> None:
    figure = forest(made(root))
    figure.draw_without_rendering()
    (ax,) = figure.axes
    boxes = [text.get_window_extent() for text in ax.texts]
    heights = [
        ax.transData.transform((0, float(line.get_ydata()[0])))[1]
        for line in ax.lines
        if line.get_marker() == "o"
    ]
    for box in boxes:
        assert all(not box.y0 < height < box.y1 for height in heights)
        assert box.x1 <= figure.bbox.x1
    for upper, lower in pairwise(boxes):
        assert upper.y0 >= lower.y1


def test_a_hostile_question_is_drawn_as_text(root: Path, tmp_path: Path) -> None:
    pairs = [{"first": "sophia", "second": "adamw", "question": f"{HOSTILE} $\\frac{{"}]
    study = made(root, comparisons=pairs)
    (ax,) = forest(study).axes
    drawn = ax.texts[0].get_text()
    assert "\u202e" not in drawn and "\u0000" not in drawn and "⟨U+202E⟩" in drawn.replace("\n", "")
    paths = study.paths(*FIGURES["forest"].needs)
    draw_figure("forest", paths, tmp_path / "a.svg", tmp_path / "a.png")
    assert b"<script" not in (tmp_path / "a.svg").read_bytes()
