"""Cells, names and notes of the paper's tables, from studies made for one number each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline_lib.reporting import style
from pipeline_lib.reporting.catalog import PAPER_TABLES
from pipeline_lib.reporting.headline import Measure
from pipeline_lib.reporting.inputs import Inputs
from pipeline_lib.reporting.paper.rows import Wanted, wanted
from pipeline_lib.reporting.tables import build_table
from pipeline_lib.reporting.tables.layout import Table
from tests.reporting.study import Study, without_lines, write_json
from tests.reporting.tasks import Answers, write_all


def paper_table(name: str, study: Study) -> Table:
    (table,) = build_table(name, Inputs(study.paper_paths(*PAPER_TABLES[name].needs), tasks=[study.task]))
    return table


def column(table: Table, head: str) -> dict[str, str]:
    """Row -> text of the cell below the head that begins so."""
    (place,) = [i for i, text in enumerate(table.columns) if text.replace("\u00a0", " ").startswith(head)]
    return {line.row.display: line.cells[place].text for line in table.lines}


def test_minutes_and_gibibytes_by_hand_over_first_order_of_the_same_method(root: Path) -> None:
    optimizers = ("sophia", "signum")
    study = Study(root, seeds=(1,), optimizers=optimizers, diverged={}).write()
    # (seconds, MiB) of each method: second order, first order
    made = {"GradDiff": ((600, 204800), (60, 102400)), "NPO": ((600, 204800), (300, 51200))}
    for method, rows in made.items():
        for optimizer, (seconds, mebibytes) in zip(optimizers, rows, strict=True):
            path = study.place("training", method, optimizer, 1) / "run.json"
            run = json.loads(path.read_text()) | {"train_time_s": seconds, "peak_memory_mb": mebibytes}
            path.write_text(json.dumps(run))
    study.collect()
    table = paper_table("table_time", study)
    found = {line.row.display: [cell.text for cell in line.cells] for line in table.lines}
    assert found["GradDiff + Sophia"] == ["10.00", "200.00", "10.00", "2.00"]
    assert found["NPO + Sophia"] == ["10.00", "200.00", "2.00", "4.00"]
    assert found["NPO + Signum"] == ["5.00", "50.00", "–", "–"]


def test_a_quantity_is_named_after_what_it_is_the_mean_of() -> None:
    assert wanted("forget", "bleu", label="Seen").quantity == "forget.bleu"
    assert Wanted("Toxicity", ()).quantity == "Toxicity"
    several = Measure("arc_easy", "benchmark_accuracy"), Measure("piqa", "benchmark_accuracy")
    assert Wanted("Zero-shot", several).quantity == "mean of arc_easy and piqa.benchmark_accuracy"


def test_a_dash_has_its_note_where_there_is_one(root: Path) -> None:
    """`retrained` has no forget quality against itself."""
    study = Study(root, seeds=(1,), diverged={}).write()
    assert not any(note.startswith("–") for note in paper_table("table_tofu", study).notes)
    metrics = root / "collected" / study.task / "metrics.csv"
    without_lines(metrics, ",retrained,none,1,forget,forget_quality")
    table = paper_table("table_tofu", study)
    assert column(table, "Forget quality")["retrained"] == "–"
    assert [note for note in table.notes if note.startswith("–")] == [
        "–: a row that has no such number, as `retrained` none against itself."
    ]


def test_what_one_model_alone_was_asked_is_shown(root: Path) -> None:
    few: dict[str, Any] = {"root": root, "seeds": (1,), "diverged": {}}
    released = Study(**few, more={("forget", "forget_quality_as_released"): 0.375})
    write_all([released, Study(**few, model="large")])
    table = paper_table("table_tofu", released)
    (place,) = [i for i, head in enumerate(table.columns) if "as released" in head]
    texts = {(line.group, line.row.display): line.cells[place].text for line in table.lines}
    assert texts["tiny", "original"] == "0.375" and texts["large", "original"] == "not measured"


def test_time_is_held_against_the_reference_or_else_the_first_of_first_order(root: Path) -> None:
    optimizers = {"signum": 30, "adamw": 60, "sophia": 120}
    few: dict[str, Any] = {"seeds": (1,), "methods": {"NPO": 1.0}, "diverged": {}}
    study = Study(root, optimizers=tuple(optimizers), **few).write()
    for optimizer, seconds in optimizers.items():
        path = study.place("training", "NPO", optimizer, 1) / "run.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"train_time_s": seconds}))
    study.collect()
    assert column(paper_table("table_time", study), "Time, second")["NPO + Sophia"] == "2.00"
    write_json(root / "runs.json", [run | {"reference": False} for run in study.runs()])
    assert column(paper_table("table_time", study), "Time, second")["NPO + Sophia"] == "4.00"


def test_columns_as_released_are_called_so(root: Path) -> None:
    names = ("forget_quality_as_released", "accuracy_as_released", "mia_min_k_20_as_released")
    study = Study(
        root / "a", seeds=(1,), diverged={}, more={("forget", name): 0.25 for name in names}
    ).write()
    table = paper_table("table_tofu", study)
    for name in names:
        assert column(table, style.metric_label(name))["original"] == "0.250"
    more = {("toxicity", "mean_toxicity_as_released"): 0.125}
    answers = Answers(root / "b", seeds=(1,), toxicity="hub", diverged={}, more=more).write()
    table = paper_table("table_detox", answers)
    assert column(table, "RealToxicityPrompts: toxicity (as released)")["original"] == "0.125"
