"""The table of likeness: verdicts, the scale below it, and what is said without one."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline_lib.reporting.catalog import TABLES
from pipeline_lib.reporting.inputs import Inputs
from pipeline_lib.reporting.likeness import AVOIDS, KNOWS, LIKE, UNCALIBRATED, likeness
from pipeline_lib.reporting.summary import Summary
from pipeline_lib.reporting.tables import build_table
from tests.reporting.study import Study
from tests.reporting.test_findings import SIDES


@pytest.fixture(autouse=True)
def sides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.reporting.study.OPTIMIZERS", SIDES)


def made(root: Path, **more) -> Inputs:
    more = {"retrained_seeds": (4, 5, 6, 7, 8, 9), "methods": {"NPO": 1.0}} | more
    return Inputs(Study(root, diverged={}, scored=True, **more).write().paths(*TABLES["likeness"].needs))


def test_verdicts_of_rows(root: Path) -> None:
    summary = Summary(made(root))
    found = {row.key.optimizer: likeness(summary, row) for row in summary.inputs.rows if not row.anchor}
    assert {name: of.verdict for name, of in found.items()} == {
        "adamw": LIKE,
        "signum": KNOWS,
        "sophia": AVOIDS,
    }
    assert found["adamw"].inside == found["adamw"].seeds == 3
    assert found["signum"].inside == 0
    original = likeness(summary, summary.inputs.original("fictitious", "tiny"))
    assert original.verdict == KNOWS


def test_the_row_of_a_mean_of_seeds_is_held_to_a_mean_of_further_seeds(root: Path) -> None:
    summary = Summary(made(root))
    found = {row.key.optimizer: likeness(summary, row) for row in summary.inputs.rows if not row.anchor}
    assert found["adamw"].limit == found["adamw"].scale.limit(runs=3)
    assert found["adamw"].p == found["adamw"].scale.p_value(found["adamw"].gap, runs=3)


def test_the_table_prints_its_scale(root: Path) -> None:
    (table,) = build_table("likeness", made(root))
    cells = {line.row.key.optimizer: [cell.text for cell in line.cells] for line in table.lines}
    assert cells["adamw"][5] == "like retrained"
    assert cells["signum"][5] == "still knows"
    assert (
        "9 `retrained` seeds and 4 forget groups: 8 degrees of freedom of seeds, 24 of what"
        in table.notes[-1]
    )
    assert "Joint utility ↑" in table.columns


def test_with_one_retrained_no_row_is_like_it(root: Path) -> None:
    (table,) = build_table("likeness", made(root, seeds=(1,), retrained_seeds=()))
    verdicts = {line.cells[5].text for line in table.lines if not line.row.anchor}
    assert verdicts == {UNCALIBRATED.replace("`", "")}
    assert "Add `retrained_seeds`" in table.notes[-1]
