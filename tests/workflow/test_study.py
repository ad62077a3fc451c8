"""The DAG run for real, from a suite file to the report, and what a second call does."""

from __future__ import annotations

import copy
import csv
import re
from collections import Counter

from pipeline_lib.core.files import read_json, read_jsonl, sha256
from tests.workflow.study import SUITE

HEADER = (
    "suite,task,model,method,optimizer,seed,split,metric,value,ci_low,ci_high,n,higher_is_better,"
    "request,after"
)


ROWS = (
    "original",
    "retrained",
    "GradDiff + AdamW",
    "GradDiff + AdamW, then other",
    "GradDiff + AdamW, then asked",
    "GradDiff + Sophia",
    "GradDiff + Wild",
    "GradDiff + Wild, then asked",
    "PO + Sophia",
    "KL + AdamW",
    "soup",
)


def rows(study) -> list[dict[str, str]]:
    with open(study.results / "metrics.csv", newline="") as handle:
        return list(csv.DictReader(handle))


def names_in(markdown: str) -> Counter[str]:
    """First cells of the rows of a table for people, its head left out."""
    cells = re.findall(r"^\| ([^|]*[^| *:-]) \|", markdown, re.MULTILINE)
    return Counter(cells)


def test_every_table_has_every_row_in_its_three_forms(finished):
    tables = finished.results / "tables"
    for table in ("main", "utility", "collapse", "membership", "samples", "benchmarks", "cost", "settings"):
        # A benchmark does not depend on how the task's questions are asked.
        named = [row for row in ROWS if table != "benchmarks" or not row.endswith("then asked")]
        with open(tables / f"{table}.csv", newline="") as handle:
            numbers = list(csv.DictReader(handle))
        assert {line["row"] for line in numbers} == set(named), table
        assert len({line["quantity"] for line in numbers} - {""}) >= 1, table
        shown = names_in((tables / f"{table}.md").read_text())
        (times,) = {shown.pop(row) for row in named}
        assert times >= 1 and (times == 1 or table not in ("main", "cost", "settings")), table
        assert not [name for name in shown if "+" in name], f"{table}: rows of no model"
        tex = (tables / f"{table}.tex").read_text()
        assert [len(re.findall(rf"^{re.escape(row)} & ", tex, re.MULTILINE)) for row in named] == [
            times
        ] * len(named)
    assert not (tables / "toxicity.csv").exists(), "the study does not measure it"


def test_the_table_of_comparisons_answers_the_declared_question(finished):
    text = (finished.results / "tables/comparisons.md").read_text()
    assert "| **Does curvature help?** |" in text
    pairs = set(re.findall(r"^\| (\w+ \+ [^|]*) \| (\w+ \+ [^|]*) \|", text, re.MULTILINE))
    assert pairs == {("GradDiff + Sophia", "GradDiff + AdamW")}, "PO and KL have no pair, nor has the stage"


def test_every_figure_has_its_panels(finished):
    methods = len({"GradDiff", "PO", "KL"})  # whose models are trained; the averaged one has no panel
    figures = finished.results / "figures"
    for figure, least, most in (
        ("tradeoff", methods, methods),
        ("truth_ratio", methods, methods),
        ("trajectory", 2 * methods, 5 * methods),  # losses of both sets, and what an optimiser logs
        ("cost", 3, 3),
        ("distance", methods, methods),
        ("power", 1, 9),
        ("forest", 1, 1),
    ):
        svg = (figures / f"{figure}.svg").read_text()
        assert least <= len(re.findall(r'<g id="axes_\d+">', svg)) <= most, figure
        assert (figures / f"{figure}.png").read_bytes().startswith(b"\x89PNG"), figure


def test_the_report_names_every_row_and_links_what_holds_something(finished):
    page = (finished.results / "report/index.html").read_text()
    for row in ROWS:
        assert row in page
    for form, folder in (("csv", "tables"), ("svg", "figures")):
        for path in (finished.results / folder).glob(f"*.{form}"):
            text = path.read_text()
            holds = len(text.splitlines()) > 1 if form == "csv" else 'id="axes_' in text
            assert (f"{folder}/{path.name}" in page) == holds, path.name
    left = (finished.results / "checkpoints").rglob("*")
    assert not [path for path in left if path.is_file()], "of work that is done"


def test_metrics_hold_anchors_and_every_run(finished):
    assert (finished.results / "metrics.csv").read_text().splitlines()[0] == HEADER
    models = {(row["method"], row["optimizer"], row["after"]) for row in rows(finished)}
    assert models == {
        ("original", "none", ""),
        ("retrained", "none", ""),
        ("GradDiff", "adamw", ""),
        ("GradDiff", "adamw", "other"),
        ("GradDiff", "adamw", "asked"),
        ("GradDiff", "sophia", ""),
        ("GradDiff", "wild", ""),
        ("GradDiff", "wild", "asked"),
        ("PO", "sophia", ""),
        ("KL", "adamw", ""),
        ("soup", "none", ""),
    }
    assert {row["request"] for row in rows(finished)} == {"0"}
    names = {(row["split"], row["metric"]) for row in rows(finished) if row["method"] == "PO"}
    for wanted in (
        ("forget", "probability"),
        ("forget", "rouge_l_recall"),
        ("forget", "truth_ratio"),
        ("forget", "truth_ratio_arithmetic"),
        ("forget", "extraction_strength"),
        ("forget", "forget_quality"),
        ("forget", "ks_statistic"),
        ("retain", "probability"),
        ("facts", "multiple_choice_accuracy"),
        ("utility", "model_utility"),
        ("forget", "ks_statistic_at_equal_retain"),
        ("retain", "probability_at_equal_retain"),
        ("run", "equal_retain_mix"),
        ("forget", "mia_loss_auc"),
        ("forget", "mia_reference_auc"),
        ("forget", "privleak"),
        ("forget", "sampled_leakage_max"),
        ("forget", "repetition_4"),
        ("holdout", "probability"),
        ("arc_easy", "benchmark_accuracy"),
    ):
        assert wanted in names
    for row in rows(finished):
        assert row["value"] and int(row["n"]) >= 1
        if row["ci_low"]:
            assert float(row["ci_low"]) <= float(row["ci_high"])


def test_only_unlearned_models_are_mixed(finished):
    evaluations = finished.results / "evaluations/authors/tiny"
    status = {
        f"{path.parts[-4]} {path.parts[-3]} {path.parts[-2]}": read_json(path)["status"]
        for path in evaluations.rglob("equal_retain.json")
    }
    assert status.pop("GradDiff wild seed0") == "diverged"
    assert status.pop("GradDiff adamw seed0.other") == "off", "it is judged by likelihood alone"
    assert status.pop("GradDiff adamw seed0.asked") == status.pop("GradDiff wild seed0.asked") == "off"
    assert status.pop("original none seed0") == status.pop("retrained none seed0") == "off"
    assert len(status) == 5 and set(status.values()) == {"ok"}, "those of stages are unlearned models too"


def test_a_changed_bound_evaluates_unlearned_models_again_and_trains_none(finished, tmp_path):
    study = finished.copy(tmp_path / "project")
    suite = copy.deepcopy(SUITE)
    suite["evaluation"]["equal_retain"] = 0.1
    study.write(suite)
    jobs = study.planned()
    changed = {log.split("/")[3] for rule, log in jobs if rule == "evaluate"}
    assert changed == {"GradDiff", "PO", "KL", "soup"}
    assert not {rule for rule, _ in jobs} & {"finetune", "unlearn", "stage"}


def test_a_diverged_run_is_recorded_and_stops_nothing(finished):
    wild = [row for row in rows(finished) if row["optimizer"] == "wild"]
    assert [(row["split"], row["metric"]) for row in wild] == [("run", "diverged")] * 2  # and asked in vain
    folder = finished.results / "models/authors/tiny/GradDiff/wild/seed0"
    assert read_json(folder / "run.json")["status"] == "diverged"
    assert not list(folder.glob("*.safetensors"))


def test_run_json_says_what_made_the_model(finished):
    run = read_json(finished.results / "training/authors/tiny/GradDiff/sophia/seed0/run.json")
    data = finished.results / "data/authors"
    assert run["data"]["forget"] == sha256(data / "forget.jsonl")
    parent = read_json(finished.results / "models/authors/tiny/original/none/seed0/run.json")
    assert run["parent"] == parent["weights_sha256"]
    assert run["optimizer_settings"]["update_every"] == 2
    assert run["versions"]["torch"]
    assert run["steps"] == 8  # 4 epochs of 6 forget records in batches of 3
    steps = read_jsonl(finished.results / "training/authors/tiny/GradDiff/sophia/seed0/steps.jsonl")
    assert [row["step"] for row in steps] == list(range(1, 9))
    assert all(0 <= row["clipped_share"] <= 1 for row in steps)


def test_the_retrained_model_never_saw_the_forget_set(finished):
    run = read_json(finished.results / "training/authors/tiny/retrained/none/seed0/run.json")
    assert set(run["data"]) == {"retain", "facts"}


def test_a_second_call_does_nothing(finished):
    done = finished.snakemake()
    assert done.returncode == 0
    assert "Nothing to be done" in done.stdout


def test_a_changed_learning_rate_reruns_its_method_alone(finished, tmp_path):
    study = finished.copy(tmp_path / "project")
    suite = copy.deepcopy(SUITE)
    suite["runs"][0]["optimizers"].remove("sophia")
    suite["runs"].append(
        {"methods": ["GradDiff"], "optimizers": ["sophia"], "optimizer": {"learning_rate": 2e-3}}
    )
    study.write(suite)
    jobs = study.planned()
    changed = {log for rule, log in jobs if rule in ("finetune", "unlearn", "evaluate", "score")}
    assert changed == {
        f"{rule}/authors/tiny/GradDiff/sophia/seed0.log" for rule in ("unlearn", "evaluate", "score")
    }
    assert "prepare_data" not in {rule for rule, _ in jobs}
    assert {"collect", "table", "figure", "html_report"} <= {rule for rule, _ in jobs}


def test_one_figure_is_regenerated_alone(finished, tmp_path):
    study = finished.copy(tmp_path / "project")
    figure = study.results / "figures/tradeoff.svg"
    before = figure.read_bytes()
    figure.unlink()
    assert study.planned("results/small/figures/tradeoff.svg") == {("figure", "figure/tradeoff.log")}
    assert study.snakemake("results/small/figures/tradeoff.svg").returncode == 0
    assert figure.read_bytes() == before
