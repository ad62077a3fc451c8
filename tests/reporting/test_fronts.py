"""Fronts: paths of judged runs in the figure, and the comparison at one utility."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any, Self

import pytest
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from pipeline_lib.metrics import declared
from pipeline_lib.reporting.catalog import FIGURES, TABLES
from pipeline_lib.reporting.figures import build_figure
from pipeline_lib.reporting.headline import FRONT
from pipeline_lib.reporting.inputs import Inputs
from pipeline_lib.reporting.likeness import scale_of
from pipeline_lib.reporting.summary import Summary
from pipeline_lib.reporting.tables import build_table
from pipeline_lib.reporting.tables.comparisons import family
from tests.reporting.study import Study, write_json


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Study:
    root = tmp_path_factory.mktemp("judged") / "demo"
    few = {"methods": {"NPO": 1.0}, "optimizers": ("adamw", "sophia", "sophia_published"), "diverged": {}}
    return Study(root, scored=True, judged=True, retrained_seeds=(4, 5), **few).write()


class Controlled(Study):
    """Sophia as published is a control of Sophia, whose runs were made again to a third judged model.

    Seeds differ in how far their runs come.
    """

    def runs(self) -> list[dict[str, Any]]:
        runs = [
            run | ({"controls": ["sophia"]} if run["optimizer"] == "sophia_published" else {})
            for run in super().runs()
        ]
        again = {"after": "matched", "display": "NPO + Sophia, matched"}
        return [*runs, *(run | again for run in runs if run["optimizer"] == "sophia")]

    def _training(self, method: str, optimizer: str, seed: int) -> None:
        self.reach = 0.7 + 0.1 * seed
        super()._training(method, optimizer, seed)

    def _judged(self, forgetting: float, damage: float) -> dict[str, Any]:
        return super()._judged(self.reach * forgetting, damage)

    def write(self) -> Self:
        super().write()
        for seed in self.seeds:
            for kind, name in (("training", "run.json"), ("evaluations", "metrics.json")):
                made = self.place(kind, "NPO", "sophia", seed)
                again = made.with_name(f"{made.name}.matched")
                shutil.copytree(made, again)
                write_json(again / name, json.loads((again / name).read_text()) | {"after": "matched"})
            scores = again / "scores.csv"
            scores.write_text(scores.read_text().replace(f",sophia,{seed},0,,", f",sophia,{seed},0,matched,"))
            steps = self.place("training", "NPO", "sophia", seed).with_name(again.name) / "steps.jsonl"
            steps.write_text("".join(steps.read_text().splitlines(keepends=True)[:30]))
        self.collect()
        return self


@pytest.fixture(scope="module")
def controlled(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A control, models made again, and a run that diverged."""
    root = tmp_path_factory.mktemp("controlled") / "demo"
    few = {"methods": {"NPO": 1.0}, "optimizers": ("adamw", "sophia", "sophia_published")}
    few |= {"diverged": {("NPO", "adamw", 2): 23}, "retrained_seeds": (4, 5)}
    return Controlled(root, scored=True, judged=True, **few).write()


def axes_of(study: Study) -> list[Axes]:
    return build_figure("fronts", Inputs(study.paths(*FIGURES["fronts"].needs))).axes


def lines_with(ax: Axes, marker: str) -> list[Line2D]:
    return [line for line in ax.lines if line.get_marker() == marker]


def named(ax: Axes) -> list[str]:
    return [label.get_text() for label in ax.get_yticklabels()]


def test_every_run_is_a_line_from_original_on(judged: Study) -> None:
    upper, _ = axes_of(judged)
    paths = [line for line in upper.lines if len(line.get_xdata()) == 6]  # original and five points
    assert len(paths) == 9
    assert {line.get_ydata()[0] for line in paths} == {1.0}
    level = [line for line in upper.lines if list(line.get_ydata()) == [0.95, 0.95]]
    assert len(level) == 1


def test_every_run_is_marked_where_it_is_compared(judged: Study) -> None:
    """By a mark of its row at its least gap, on its line and again in the line of its row."""
    upper, lower = axes_of(judged)
    summary = Summary(Inputs(judged.paths(*FIGURES["fronts"].needs)))
    rows = [row for row in summary.inputs.rows if not row.anchor]
    assert named(lower) == ["AdamW", "Sophia", "Sophia (published)"]
    for place, (row, form) in enumerate(zip(rows, "o^D", strict=True)):
        gaps = list(summary.by_seed(row, *FRONT).values())
        above = [(line.get_xdata()[0], line.get_ydata()[0]) for line in lines_with(upper, form)]
        assert sorted(gap for gap, _ in above) == pytest.approx(sorted(gaps))
        assert all(utility >= 0.95 - 1e-12 for _, utility in above)
        (below,) = lines_with(lower, form)
        assert sorted(below.get_xdata()) == pytest.approx(sorted(gaps))
        assert set(below.get_ydata()) == {place}


def test_the_mean_of_a_row_is_a_stroke_with_its_interval(controlled: Study) -> None:
    *_, lower = axes_of(controlled)
    summary = Summary(Inputs(controlled.paths(*FIGURES["fronts"].needs)))
    strokes = {line.get_ydata()[0]: line.get_xdata()[0] for line in lines_with(lower, "|")}
    spans = [line.get_xydata() for line in lower.lines if len(line.get_xdata()) == 2]
    for place, name in enumerate(("sophia", "sophia_published")):
        (row,) = [r for r in summary.inputs.rows if r.key.optimizer == name and not r.key.after]
        mean = summary.estimate(row, *FRONT)
        assert mean is not None and mean.low is not None and mean.high is not None
        assert strokes[place] == pytest.approx(fmean(summary.by_seed(row, *FRONT).values()))
        assert spans[place].tolist() == [[mean.low, place], [mean.high, place]]


def test_the_band_goes_from_the_edge_to_the_limit_of_one_further_seed(judged: Study) -> None:
    """A gap has no lower end but 0, so that the band has none either; every part has the same axis."""
    inputs = Inputs(judged.paths(*FIGURES["fronts"].needs))
    figure = build_figure("fronts", inputs)
    figure.draw_without_rendering()
    scale = scale_of(inputs, judged.task, judged.model)
    assert scale is not None
    for ax in figure.axes:
        (band,) = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
        assert band.get_x() == ax.get_xlim()[0]
        assert band.get_x() + band.get_width() == pytest.approx(scale.limit())
    assert len({ax.get_xlim() for ax in figure.axes}) == 1


def test_controls_stand_apart_with_what_they_control(controlled: Study) -> None:
    above, rows, below, controls = axes_of(controlled)
    assert named(rows) == ["AdamW", "Sophia"]
    assert named(controls) == ["Sophia", "Sophia (published)"]
    assert [ax.get_title(loc="left").strip() for ax in (above, below)] == [
        "NPO",
        "NPO: controls, with what they control",
    ]
    runs = [sum(len(line.get_xdata()) == 6 for line in ax.lines) for ax in (above, below)]
    assert runs == [5, 6]


def test_a_study_of_controls_alone_has_one_panel(tmp_path: Path) -> None:
    few = {"methods": {"NPO": 1.0}, "optimizers": ("sophia", "sophia_published"), "diverged": {}}
    upper, lower = axes_of(
        Controlled(tmp_path / "demo", scored=True, judged=True, retrained_seeds=(4,), **few).write()
    )
    assert upper.get_title(loc="left") == "NPO" and named(lower) == ["Sophia", "Sophia (published)"]


def test_a_ring_is_the_model_that_was_made_there(controlled: Study) -> None:
    """Those of Sophia end with the third of five judged models; a ring is no row and no path of its own."""
    above, _, below, _ = axes_of(controlled)
    for ax in (above, below):
        rings = [line for line in lines_with(ax, "o") if line.get_markerfacecolor() == "none"]
        paths = [line for line in ax.lines if len(line.get_xdata()) == 6 and line.get_color() == "#D55E00"]
        assert len(rings) == len(paths) == 3
        for ring, path in zip(rings, paths, strict=True):
            assert ring.get_xydata()[0] == pytest.approx(path.get_xydata()[3])


def test_a_row_that_lost_a_run_has_no_mean_and_says_so(controlled: Study) -> None:
    upper, lower, *_ = axes_of(controlled)
    assert [line.get_ydata()[0] for line in lines_with(lower, "|")] == [1]  # Sophia's alone
    (runs,) = lines_with(lower, "o")
    assert len(runs.get_xdata()) == 2
    assert upper.get_title(loc="right") == "AdamW: 1 of 3 diverged"


def test_a_row_that_lost_every_run_keeps_its_line(tmp_path: Path) -> None:
    lost = {("NPO", "sophia", seed): 23 for seed in (1, 2)}
    few = {"methods": {"NPO": 1.0}, "optimizers": ("adamw", "sophia"), "diverged": lost}
    seeds = {"seeds": (1, 2), "retrained_seeds": (4,)}
    upper, lower = axes_of(Study(tmp_path / "demo", scored=True, judged=True, **seeds, **few).write())
    assert named(lower) == ["AdamW", "Sophia"]
    assert upper.get_title(loc="right") == "Sophia: 2 of 2 diverged"


def test_the_figure_of_power_is_about_what_decides(judged: Study) -> None:
    *_, seeds = build_figure("power", Inputs(judged.paths(*FIGURES["power"].needs))).axes
    first, *_ = (text.get_text() for text in seeds.get_legend().get_texts())
    assert first == declared()[FRONT.metric].short_label


def test_rows_are_compared_by_the_least_gap_at_one_utility(judged: Study) -> None:
    """The paths go steadily: damage 0.06 of 0.8 crosses 0.95 in the last fifth, 0.28 of it in the first."""
    summary = Summary(Inputs(judged.paths(*TABLES["comparisons"].needs)))
    rows = {row.key.optimizer: row for row in summary.inputs.rows if not row.anchor}
    steps = {name: summary.by_seed(row, "run", "front_step") for name, row in rows.items()}
    assert steps["sophia"][1] == pytest.approx(50 * (0.05 * 0.8 / 0.06))
    assert steps["sophia_published"][1] == pytest.approx(50 * (0.05 * 0.8 / 0.28))
    decided = {
        entry.quantity.metric
        for entry in family(summary, judged.task, judged.model)
        if entry.quantity.decides
    }
    assert decided == {"front_gap"}


def test_a_table_says_where_no_model_stands(judged: Study) -> None:
    for name in ("main", "comparisons"):
        (table,) = build_table(name, Inputs(judged.paths(*TABLES[name].needs)))
        (note,) = [note for note in table.notes if "lies between two judged models, interpolated: " in note]
        assert note.endswith(": NPO + Sophia (3 of 3), NPO + Sophia (published) (3 of 3).")
        assert not any("no model nearer" in note for note in table.notes)


def test_of_survivors_nothing_is_claimed(judged: Study) -> None:
    summary = Summary(Inputs(judged.paths(*TABLES["comparisons"].needs)))
    entry = next(e for e in family(summary, judged.task, judged.model) if e.quantity.decides)
    assert entry.difference is not None and not entry.survivors
    told = replace(entry, difference=replace(entry.difference, p_holm=1e-6))
    assert told.claimed and told.verdict.endswith("at one utility of likelihoods alone")
    fewer = replace(told, measured=(entry.measured[0], entry.measured[1] - 1))
    assert fewer.survivors and not fewer.claimed
    assert fewer.verdict == "not compared: 3 of 3 against 2 of 3 runs have a path"


def test_a_row_that_stays_above_the_utility_is_compared_by_its_nearest_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gentle = {"adamw": ("adamw", "FO", 0.5, 0.01, None), "sophia": ("sophia", "SO", 0.8, 0.1, 0.7)}
    monkeypatch.setattr("tests.reporting.study.OPTIMIZERS", gentle)
    few = {"methods": {"NPO": 1.0}, "optimizers": tuple(gentle), "diverged": {}}
    study = Study(tmp_path / "demo", scored=True, judged=True, retrained_seeds=(4,), **few).write()
    summary = Summary(Inputs(study.paths(*TABLES["comparisons"].needs)))
    (entry,) = [e for e in family(summary, study.task, study.model) if e.quantity.decides]
    assert entry.difference is not None and entry.measured == (3, 3)
    (adamw,) = [row for row in summary.inputs.rows if row.key.optimizer == "adamw"]
    assert set(summary.by_seed(adamw, "run", "front_step").values()) == {50}
    assert set(summary.by_seed(adamw, "run", "front_interpolated").values()) == {0}
