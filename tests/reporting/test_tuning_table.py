"""The tuning table says the budget, the choice and what to doubt; without tuning it says that too."""

from __future__ import annotations

import copy
import csv
import json
from pathlib import Path
from typing import Any

import pytest

from pipeline_lib.core.errors import UserError
from pipeline_lib.reporting.catalog import TABLES
from pipeline_lib.reporting.inputs import Inputs
from pipeline_lib.reporting.tables import build_table, write_table
from pipeline_lib.reporting.tables.layout import Table
from tests.reporting.study import Study

TUNED: dict[str, Any] = {
    "optimizer": {"learning_rate": 3e-4, "update_every": 5},
    "objective": {"gamma": 2.0},
    "trial": 3,
    "status": "ok",
    "bound_met": True,
    "least": 0.9,
    "forget": 0.125,
    "joint_utility": 0.94,
    "diverged": 2,
    "select": {"forget": "gap", "utility_within": 0.1},
    "forget_draw": 1,
    "budget": {"trials": 8, "rounds": 1, "seeds": [100, 101]},
    "ranges": {
        "optimizer": {
            "learning_rate": {"low": 1e-5, "high": 1e-3, "scale": "log"},
            "update_every": [1, 5],
        },
        "objective": {"gamma": [0.5, 2.0]},
    },
    "at_edge": {"optimizer": {"update_every": "highest"}, "objective": {}},
}
LOST: dict[str, Any] = {
    **TUNED,
    "trial": 1,
    "status": "every trial diverged",
    "bound_met": False,
    "forget": None,
    "joint_utility": None,
    "diverged": 8,
    "at_edge": {"optimizer": {}, "objective": {}},
}


def tune(study: Study, **by_optimizer: dict[str, Any]) -> Study:
    """The study as if these optimisers had been tuned so, and all others as in TUNED."""
    for method in study.methods:
        for path in (study.root / "training" / study.task / study.model / method).rglob("run.json"):
            run = json.loads(path.read_text())
            run["tuned"] = copy.deepcopy(by_optimizer.get(run["optimizer"], TUNED))
            path.write_text(json.dumps(run))
    return study


def build(name: str, study: Study) -> Table:
    (table,) = build_table(name, Inputs(study.paths(*TABLES[name].needs)))
    return table


def cells(table: Table, display: str) -> list[str]:
    (line,) = [line for line in table.lines if line.row.display == display]
    return [cell.text for cell in line.cells]


def test_a_study_without_tuning_says_so(study: Study) -> None:
    table = build("tuning", study)
    assert table.columns == ("Budget",)
    assert {cell.text for line in table.lines for cell in line.cells} == {"set by hand"}
    assert len(table.lines) == 10  # every row but the anchors
    assert table.notes[0].startswith("This study has no block `tune`: all settings were set by hand")
    assert "Budget" not in build("settings", study).columns


def test_a_tuned_row(root: Path) -> None:
    table = build("tuning", tune(Study(root).write()))
    assert cells(table, "NPO + Sophia") == [
        "8 trials on each of the seeds 100, 101",
        "learning_rate 1e-05 to 0.001 (log); update_every (1, 5); objective gamma (0.5, 2)",
        "trial 3: learning_rate 0.0003, update_every 5, objective gamma 2",
        "Gap 0.125",
        "0.940, bound 0.900 kept",
        "draw 1, not reported",
        "update_every is the highest tried: the best may lie beyond; 2 of 8 trials diverged",
    ]
    assert table.notes == (
        "Chosen: the smallest gap to the `retrained` models of the tuning seeds, with at most 10 % less "
        "joint utility of likelihoods than `original` on every tuning seed; if no trial kept that, the one "
        "with the most.",
    )


def test_a_choice_on_the_groups_that_are_reported_says_so(root: Path) -> None:
    same = {**TUNED, "forget_draw": None, "select": {"forget": "probability", "utility_within": 0.05}}
    optimizers = dict.fromkeys(("adamw", "signum", "sophia"), same)
    table = build("tuning", tune(Study(root).write(), **optimizers))
    assert cells(table, "NPO + Sophia")[3] == "Probability 0.125"
    assert cells(table, "NPO + Sophia")[5] == "those that are reported"
    *rules, warning = table.notes  # one for each rule of the rows
    wanted = "Chosen: the lowest probability of the forget answers, with at most 5 % less joint"
    assert any(rule.startswith(wanted) for rule in rules)
    assert warning.startswith(
        "The settings were chosen on the forget groups that are reported, so that every"
    )


def test_a_choice_at_the_utility_of_comparison_says_so(root: Path) -> None:
    select = {"forget": "front_gap", "utility_within": 0.05, "level": 0.9}
    table = build("tuning", tune(Study(root).write(), adamw={**TUNED, "select": select}))
    assert cells(table, "NPO + AdamW")[3:5] == ["Gap on the front 0.125", "0.940, chosen at 0.900"]
    assert any("trial at a joint utility of likelihoods of 0.9." in note for note in table.notes)


def test_a_bound_that_none_kept_and_trials_that_were_all_lost(root: Path) -> None:
    missed = {**TUNED, "bound_met": False, "diverged": 0, "at_edge": {"optimizer": {}, "objective": {}}}
    table = build("tuning", tune(Study(root).write(), adamw=missed, signum=LOST))
    assert cells(table, "NPO + AdamW")[4:] == [
        "0.940, bound 0.900 kept by no trial",
        "draw 1, not reported",
        "–",
    ]
    assert cells(table, "NPO + Signum")[2].startswith("trial 1: ")
    assert cells(table, "NPO + Signum")[3:] == [
        "–",
        "–",
        "draw 1, not reported",
        "every trial diverged, so the first was run",
    ]


def test_numbers_of_the_csv(root: Path) -> None:
    study = tune(Study(root).write())
    paths = {form: root / f"tuning.{form}" for form in ("csv", "md", "tex")}
    write_table("tuning", study.paths(*TABLES["tuning"].needs), *paths.values())
    rows = [row for row in csv.DictReader(paths["csv"].open()) if row["row"] == "GradDiff + Signum"]
    assert {row["quantity"].removeprefix("tuning."): row["value"] for row in rows} == {
        "trials": "8",
        "rounds": "1",
        "seeds": "100 101",
        "trial": "3",
        "learning_rate": "0.0003",
        "update_every": "5",
        "objective gamma": "2.0",
        "forget.gap": "0.125",
        "joint_utility": "0.94",
        "bound": "0.9",
        "bound_met": "1",
        "forget_draw": "1",
        "at_edge.update_every": "highest",
        "diverged": "2",
    }
    assert {row["seeds_diverged"] for row in rows} == {"1"}


def test_the_settings_table_says_the_budget(root: Path) -> None:
    table = build("settings", tune(Study(root).write()))
    assert table.columns[-1] == "Budget"
    assert cells(table, "NPO + Sophia")[-1] == "8 trials on each of the seeds 100, 101"
    assert cells(table, "original")[-1] == "–"
    one = {**TUNED, "budget": {"trials": 1, "rounds": 1, "seeds": [7]}}
    table = build("settings", tune(Study(root).write(), sophia=one))
    assert cells(table, "NPO + Sophia")[-1] == "1 trial on seed 7"
    two = {**TUNED, "budget": {"trials": 16, "rounds": 2, "seeds": [7]}}
    table = build("settings", tune(Study(root).write(), sophia=two))
    assert cells(table, "NPO + Sophia")[-1] == "16 trials in 2 rounds on seed 7"


def test_seeds_of_one_row_were_tuned_alike(root: Path) -> None:
    study = tune(Study(root).write())
    path = study.place("training", "NPO", "adamw", 2) / "run.json"
    path.write_text(path.read_text().replace('"trial": 3', '"trial": 4'))
    with pytest.raises(UserError, match="its seeds were run with different settings of `tuned`"):
        build("tuning", study)
