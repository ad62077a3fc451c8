"""The table of robustness: what a stage brings back, beside `retrained` after the same stage."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from pipeline_lib.reporting.catalog import TABLES
from pipeline_lib.reporting.inputs import Inputs
from pipeline_lib.reporting.tables import build_table
from pipeline_lib.reporting.tables.layout import Table
from tests.reporting.staged import MORE, write_staged
from tests.reporting.study import Study, write_json


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    study = write_staged(tmp_path_factory.mktemp("staged") / "demo", scored=True)
    (found,) = build_table("robustness", Inputs(study.paths(*TABLES["robustness"].needs)))
    return found


def numbers(table: Table) -> dict[tuple[str, str], float]:
    return {
        (
            line.row.display if line.row.key.optimizer != "none" else line.row.key.method,
            number.quantity,
        ): float(number.value)
        for line in table.lines
        for cell in line.cells
        for number in cell.numbers
    }


def test_what_the_stage_teaches_every_model_is_no_recovery(table: Table) -> None:
    found = numbers(table)
    assert table.columns[0] == "Before\u00a0(signed gap)" and table.columns[1] == "other\u00a0↓"
    for row, more in (("NPO + AdamW", 0.0), ("NPO + Sophia", MORE), ("original", 0.0)):
        before = found[row, "forget.gap_signed"]
        assert found[row, "other: forget.recovery"] == pytest.approx(before + more, abs=1e-6), row
    assert found["original", "other: forget.recovery_p below 0.05"] == 3
    assert found["retrained", "other: forget.recovery"] == pytest.approx(0, abs=1e-6)
    assert ("NPO + Sophia", "other: utility.joint_utility") in found


def test_drawing_changes_no_likelihood_so_its_best_answers_stand_in_its_column(tmp_path: Path) -> None:
    """The levels of `retrained` are 0.2 and the seeds' spread: a row at 0.9 is beyond, one at 0.2 is not."""
    study = write_staged(tmp_path / "demo", scored=True)
    runs = json.loads((study.root / "runs.json").read_text())
    for run in runs:
        run |= {"asked": True, "draws_only": True} if run.get("after") == "other" else {}
    write_json(study.root / "runs.json", runs)
    inputs = Inputs(study.paths(*TABLES["robustness"].needs))
    metrics = inputs.metrics
    drawn = metrics[(metrics["after"] == "other") & (metrics["metric"] == "recovery")].copy()
    best = {"NPO": 0.2, "original": 0.9, "retrained": 0.2}
    drawn["metric"] = "sampled_leakage_max"
    drawn["value"] = [
        best.get(m, 0.2) + 0.01 * s for m, s in zip(drawn["method"], drawn["seed"], strict=True)
    ]
    inputs.__dict__["metrics"] = pd.concat([metrics, drawn], ignore_index=True)
    (table,) = build_table("robustness", inputs)
    found = numbers(table)
    assert found["original", "other: forget.sampled_leakage_max"] == pytest.approx(0.92)
    for row, beyond in (("original", 3), ("NPO + Sophia", 0), ("retrained", 0)):
        assert found[row, "other: forget.sampled_leakage_max beyond"] == beyond, row
        assert (row, "other: forget.recovery") not in found
    assert any(note.startswith("other: ROUGE-L recall of the best") for note in table.notes)


def test_rows_without_the_stage_have_no_line_and_stages_without_retrained_are_named(table: Table) -> None:
    assert not {line.row.key.optimizer for line in table.lines} & {"signum"}
    assert any("Not held against `retrained`" in note and "later" in note for note in table.notes)


def test_without_stages_on_retrained_there_are_notes_alone(tmp_path: Path) -> None:
    study = Study(tmp_path / "demo", scored=True, diverged={}).write()
    (found,) = build_table("robustness", Inputs(study.paths(*TABLES["robustness"].needs)))
    assert not found.lines and not found.columns


def test_figures_of_unlearning_leave_out_what_is_held_against_an_attacked_retrained(tmp_path: Path) -> None:
    """A stage that `retrained` did not go through is no attack: its models stay."""
    inputs = Inputs(write_staged(tmp_path / "demo", scored=True).paths(*TABLES["robustness"].needs))
    shown = inputs.before_attacks()
    assert {row.key.after for row in inputs.rows} == {"", "other", "later"}
    assert shown.rows == [row for row in inputs.rows if row.key.after != "other"]
    assert len(shown.metrics) == len(inputs.metrics)
