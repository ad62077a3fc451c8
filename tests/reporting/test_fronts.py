"""Fronts: paths of judged runs in the figure, and the comparison at one utility."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline_lib.metrics import declared
from pipeline_lib.reporting.catalog import FIGURES, TABLES
from pipeline_lib.reporting.figures import build_figure
from pipeline_lib.reporting.headline import FRONT
from pipeline_lib.reporting.inputs import Inputs
from pipeline_lib.reporting.summary import Summary
from pipeline_lib.reporting.tables import build_table
from pipeline_lib.reporting.tables.comparisons import family
from tests.reporting.study import Study


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Study:
    root = tmp_path_factory.mktemp("judged") / "demo"
    few = {"methods": {"NPO": 1.0}, "optimizers": ("adamw", "sophia", "sophia_published"), "diverged": {}}
    return Study(root, scored=True, judged=True, retrained_seeds=(4, 5), **few).write()


def test_every_run_is_a_line_from_original_on(judged: Study) -> None:
    (ax,) = build_figure("fronts", Inputs(judged.paths(*FIGURES["fronts"].needs))).axes
    paths = [line for line in ax.lines if len(line.get_xdata()) == 6]  # original and five points
    assert len(paths) == 9
    assert {line.get_ydata()[0] for line in paths} == {1.0}
    level = [line for line in ax.lines if list(line.get_ydata()) == [0.95, 0.95]]
    assert len(level) == 1


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
    fewer = replace(told, fronts=(entry.fronts[0], entry.fronts[1] - 1))
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
    assert entry.difference is not None and entry.fronts == (3, 3)
    (adamw,) = [row for row in summary.inputs.rows if row.key.optimizer == "adamw"]
    assert set(summary.by_seed(adamw, "run", "front_step").values()) == {50}
    assert set(summary.by_seed(adamw, "run", "front_interpolated").values()) == {0}
