"""Tables show the numbers of metrics.csv, and their three forms say the same."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from pipeline_lib.core.errors import UserError
from pipeline_lib.reporting.catalog import REPORT_NEEDS, TABLES
from pipeline_lib.reporting.claims import findings
from pipeline_lib.reporting.figures import tradeoff
from pipeline_lib.reporting.inputs import Inputs
from pipeline_lib.reporting.tables import build_table, write_table
from pipeline_lib.reporting.tables.layout import Table
from tests.reporting.study import Study, without_lines


def _build(name: str, study: Study) -> Table:
    (table,) = build_table(name, Inputs(study.paths(*TABLES[name].needs)))
    return table


def _write(name: str, study: Study, folder: Path) -> dict[str, str]:
    paths = {form: folder / f"{name}.{form}" for form in ("csv", "md", "tex")}
    write_table(name, study.paths(*TABLES[name].needs), *paths.values())
    return {form: path.read_text() for form, path in paths.items()}


def _numbers(text: str) -> dict[tuple[str, str, str], dict[str, str]]:
    rows = csv.DictReader(text.splitlines())
    return {(row["method"], row["optimizer"], row["quantity"]): row for row in rows}


def test_main_table_has_the_hand_made_numbers(root: Path) -> None:
    values = {1: 0.4, 2: 0.5, 3: 0.6}
    numbers = {("NPO", "sophia", seed, "forget", "rouge_l_recall"): v for seed, v in values.items()}
    numbers |= {
        ("GradDiff", "signum", seed, "utility", "model_utility"): v for seed, v in {1: 0.3, 3: 0.5}.items()
    }
    forms = _write("main", Study(root, numbers=numbers).write(), root)
    rows = _numbers(forms["csv"])
    line = rows["NPO", "sophia", "forget.rouge_l_recall"]
    assert float(line["value"]) == pytest.approx(0.5)
    # Half width 0.248414, on the logit scale 0.248414 / (0.5 * 0.5) = 0.993656: 1 / (1 + exp(0.993656)).
    assert float(line["low"]) == pytest.approx(0.270191, abs=1e-6)
    assert float(line["high"]) == pytest.approx(0.729809, abs=1e-6)
    assert (line["seeds"], line["seeds_diverged"], line["n"], line["interval"]) == ("3", "0", "40", "t")
    assert "0.500 [0.270, 0.730]" in forms["md"]
    assert r"\shortstack{0.500\\{\scriptsize [0.270, 0.730]}}" in forms["tex"]
    # Two seeds: 0.3 and 0.5, half width 12.7062 * 0.141421 / sqrt(2) = 1.27062, 5.29425 on the logit
    # scale around log(0.4 / 0.6) = -0.405465: 1 / (1 + exp(5.69972)) and 1 / (1 + exp(-4.88879)).
    line = rows["GradDiff", "signum", "utility.model_utility"]
    assert (line["seeds"], line["seeds_diverged"]) == ("2", "1")
    assert "0.400 [0.003, 0.993]" in forms["md"]
    assert "2, diverged (1 of 3 seeds)" in forms["md"]


def test_main_table_rows_and_columns(study: Study) -> None:
    table = _build("main", study)
    labels = [line.row.display for line in table.lines]
    assert labels[:4] == ["original", "retrained", "GradDiff + AdamW", "GradDiff + Signum"]
    assert len(labels) == 2 + 2 * 5
    heads = [head.replace("\u00a0", " ") for head in table.columns]
    assert heads == [
        "KS D ↓ (n = 40)",
        "Forget quality log10 p ↑ (n = 40)",
        "Forget truth ratio ↑ (n = 40)",
        "Forget probability ↓ (n = 40)",
        "Forget ROUGE-L ↓ (n = 40)",
        "Forget extraction strength ↓ (n = 40)",
        "Model utility ↑ (n = 80)",
        "Retain ROUGE-L ↑ (n = 40)",
    ]
    assert table.notes[0].startswith("95 % intervals: for two seeds or more the mean and the t-interval")


def test_why_a_run_has_no_model_is_read_and_not_guessed(root: Path) -> None:
    """One seed broke, the other stayed above the level: tables, figure and sentence name each."""
    study = Study(root, diverged={("NPO", "signum", seed): 4 + seed for seed in (1, 2)}).write()
    for kind, file in (("evaluations", "metrics.json"), ("training", "run.json")):
        path = study.place(kind, "NPO", "signum", 2) / file
        path.write_text(path.read_text().replace('"diverged"', '"unmatched"'))
    study.collect()
    said = "1, diverged or no model nearer than `original` (2 of 3 seeds)"
    for name in ("main", "cost"):
        (seeds,) = [line.seeds for line in _build(name, study).lines if line.row.display == "NPO + Signum"]
        assert seeds == said
    inputs = Inputs(study.paths(*REPORT_NEEDS))
    titles = [ax.get_title(loc="right") for ax in tradeoff.draw(inputs).axes]
    assert "Signum: 2 of 3 diverged or no model nearer than `original`" in titles
    text = " ".join(finding.text for finding in findings(inputs, study.task, study.model))
    assert "Diverged, and left out of the means: NPO + Signum (1 of 3 seeds, step 5)." in text
    assert (
        "No model nearer than `original`, and left out of the means: NPO + Signum (1 of 3 seeds, step 6)."
        in text
    )


def test_a_row_that_always_diverged_stays_in_the_table(root: Path) -> None:
    lost = {("NPO", "signum", seed): 4 for seed in (1, 2, 3)}
    forms = _write("main", Study(root, diverged=lost).write(), root)
    assert "| NPO + Signum | – | – | – | – | – | – | – | – | diverged (3 of 3 seeds) |" in forms["md"]
    assert _numbers(forms["csv"])["NPO", "signum", ""]["seeds_diverged"] == "3"


def test_single_seed_says_that_its_interval_is_another_one(root: Path) -> None:
    forms = _write("main", Study(root, seeds=(1,), diverged={}).write(), root)
    assert "bootstrap interval over groups of questions, which says nothing about other seeds" in forms["md"]
    assert _numbers(forms["csv"])["NPO", "adamw", "utility.model_utility"]["interval"] == "bootstrap"


def test_a_metric_that_a_task_does_not_have_is_named(root: Path) -> None:
    study = Study(root).write()
    absent = (",forget,ks_statistic,", ",forget,forget_quality", ",forget,truth_ratio,")
    without_lines(root / "metrics.csv", *absent)
    table = _build("main", study)
    assert len(table.columns) == 5
    assert table.notes[-1] == (
        "Not measured for this task: KS D, Forget quality log10 p, Forget truth ratio (need wrong answers to "
        "every record of the split)."
    )
    compared = {line.cells[1].text for line in _build("comparisons", study).lines}
    assert compared == {"Forget probability", "Model utility"}


def test_retain_questions_may_be_a_part_of_the_retain_set(root: Path) -> None:
    study = Study(root).write()
    text = (root / "metrics.csv").read_text().replace(",retain,", ",retain_eval,")
    (root / "metrics.csv").write_text(text)
    assert _build("main", study).columns[-1].startswith("Retain ROUGE-L")


def test_utility_table_has_the_parts_of_the_manifest(study: Study, root: Path) -> None:
    names = [cell.numbers[0].quantity for cell in _build("utility", study).lines[0].cells]
    parts = ["probability", "rouge_l_recall", "truth_ratio"]
    assert names == ["utility.model_utility", *(f"{s}.{p}" for s in ("retain", "facts") for p in parts)]
    other = Study(root, seeds=(1,), diverged={}).write()
    other.paths("manifest.json")[0].write_text(json.dumps({"splits": {}}))
    with pytest.raises(UserError, match=r"needs data/fictitious/manifest.json with `utility`"):
        _build("utility", other)


def test_cost_table(study: Study) -> None:
    cells = {line.row.display: line for line in _build("cost", study).lines}
    sophia = cells["NPO + Sophia"]
    # Steps of 52 ms x (1 + 0.02 seed), seeds 1, 2, 3: mean 54.08 ms, 1.30 times AdamW's 40 ms x (...).
    assert sophia.cells[2].text == "1.30"
    assert sophia.cells[3].text == "0.0541"
    assert sophia.cells[0].text == "50" and sophia.cells[0].small == ""
    assert cells["NPO + AdamW"].cells[5].text == "–"
    assert cells["GradDiff + Signum"].seeds == "2, diverged (1 of 3 seeds)"
    assert cells["original"].cells[2].text == "–"


def test_settings_table(study: Study, root: Path) -> None:
    table = _build("settings", study)
    row = next(line for line in table.lines if line.row.display == "NPO + Sophia")
    assert row.cells[0].text == "kind NPO, gamma 1, beta 0.1"
    assert row.cells[1].text == "kind sophia, lr 0.0001, betas (0.9, 0.95)"
    assert table.lines[0].cells[0].text == "–"
    assert table.columns == ("Objective", "Optimiser", "Training")
    other = Study(root, diverged={}).write()
    path = other.place("training", "NPO", "sophia", 2) / "run.json"
    path.write_text(path.read_text().replace('"lr": 0.0001', '"lr": 0.0002'))
    with pytest.raises(UserError, match="its seeds were run with different settings of `optimizer_settings`"):
        _build("settings", other)


def test_labels_are_escaped(root: Path) -> None:
    study = Study(root, seeds=(1,), diverged={}).write()
    runs = json.loads((root / "runs.json").read_text())
    for run in runs:
        if run["method"] == "NPO":
            run["display"] = "NPO | 50% & a_b <x> $1"
    (root / "runs.json").write_text(json.dumps(runs))
    forms = _write("main", study, root)
    assert r"NPO \textbar{} 50\% \& a\_b \textless{}x\textgreater{} \$1 &" in forms["tex"]
    assert r"| NPO \| 50% & a_b &lt;x> \$1 |" in forms["md"]
    assert "NPO | 50% & a_b <x> $1" in forms["csv"]


def test_two_models_are_two_tables(study: Study, root: Path) -> None:
    first = Study(root, seeds=(1,), diverged={}, model="tiny").write()
    runs = json.loads((root / "runs.json").read_text())
    second = Study(root, seeds=(1,), diverged={}, model="large").write()
    runs += json.loads((root / "runs.json").read_text())
    (root / "runs.json").write_text(json.dumps(runs))
    forms = _write("main", second, root)
    assert "## fictitious, tiny" in forms["md"] and "## fictitious, large" in forms["md"]
    assert forms["tex"].count(r"\begin{tabular}") == 2
    assert {row["model"] for row in csv.DictReader(forms["csv"].splitlines())} == {first.model, second.model}


def test_unknown_names_and_missing_inputs_are_refused(study: Study) -> None:
    with pytest.raises(UserError, match=r"called 'mian'; there are: main, likeness, comparisons"):
        write_table("mian", [], "a", "b", "c")
    with pytest.raises(UserError, match=r"not given: metrics.csv"):
        build_table("main", Inputs(study.paths("runs.json")))
