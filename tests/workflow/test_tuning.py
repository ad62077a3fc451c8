"""A tuned study: its jobs, what they depend on, and one run for real."""

from __future__ import annotations

import copy
import csv
import re
from typing import Any

import pytest

from pipeline_lib.core.files import read_json, read_jsonl
from tests.workflow.study import SUITE, Study

SPLITS = {"forget", "retain", "facts"}
RANGE = {"low": 1e-4, "high": 1e-2, "scale": "log"}


def tuned(**tune: Any) -> dict[str, Any]:
    """The small suite with one row, whose anchors are those of the small study."""
    suite = copy.deepcopy(SUITE)
    suite["runs"] = [{"methods": ["GradDiff"], "optimizers": ["adamw"]}]
    for of_other_rows in ("comparisons", "stages"):
        del suite[of_other_rows]
    ranges = {"optimizers": {"adamw": {"learning_rate": RANGE}}}
    suite["tune"] = {"seeds": [100], "trials": 2, **ranges, "forget_draw": 1, **tune}
    return suite


@pytest.fixture(scope="module")
def run(finished, tmp_path_factory) -> Study:
    """The tuned study, run to its report on top of the small one's anchors."""
    study = finished.copy(tmp_path_factory.mktemp("tuned") / "project")
    study.write(tuned())
    done = study.snakemake()
    assert done.returncode == 0, done.stdout[-6000:]
    return study


def test_every_row_has_its_trials_and_its_choice(tmp_path):
    suite = tuned(
        seeds=[100, 101],
        trials=3,
        optimizers={"adamw": {"learning_rate": RANGE}, "sophia": {"learning_rate": RANGE}},
        objectives={"KL": {"gamma": [0.5, 1.0, 2.0]}},
    )
    suite["runs"] = [{"methods": ["GradDiff", "KL"], "optimizers": ["adamw", "sophia"]}]
    study = Study(tmp_path / "project", suite)
    jobs = study.planned()
    pairs = ("GradDiff/adamw", "GradDiff/sophia", "KL/adamw", "KL/sophia")
    rows = [f"authors/tiny/{pair}" for pair in pairs]
    assert {log for rule, log in jobs if rule == "trial"} == {
        f"trial/{row}/trial{trial}/seed{seed}.log"
        for row in rows
        for trial in (1, 2, 3)
        for seed in (100, 101)
    }
    assert {log for rule, log in jobs if rule == "choose"} == {f"choose/{row}.log" for row in rows}
    # Fresh seeds only: on the tuning seeds there are anchors, but nothing is unlearned, scored or reported.
    seeds = {rule: {log[-8:] for r, log in jobs if r == rule and "seed" in log} for rule, _ in jobs}
    assert seeds["unlearn"] == seeds["score"] == {"eed0.log"}
    assert seeds["finetune"] == seeds["evaluate"] == {"eed0.log", "d100.log", "d101.log"}


def test_a_run_depends_on_the_choice(tmp_path):
    study = Study(tmp_path / "project", tuned())
    target = "results/small/models/authors/tiny/GradDiff/adamw/seed0"
    done = study.snakemake("--dry-run", target)
    assert done.returncode == 0, done.stdout
    (unlearn,) = re.findall(r"^rule unlearn:\n((?:    .*\n)*)", done.stdout, re.MULTILINE)
    assert "results/small/tuning/authors/tiny/GradDiff/adamw/chosen.json" in unlearn
    (choose,) = re.findall(r"^(?:local)?rule choose:\n((?:    .*\n)*)", done.stdout, re.MULTILINE)
    assert set(re.findall(r"/(trial\d+/seed\d+)\.json", choose)) == {"trial1/seed100", "trial2/seed100"}
    for method in ("original", "retrained"):
        assert f"evaluations/authors@draw1/tiny/{method}/none/seed100/records.jsonl" in choose


def test_a_suite_without_tuning_has_no_such_job(finished):
    assert not (finished.results / "tuning").exists()
    table = (finished.results / "tables/tuning.md").read_text()
    assert "| GradDiff + AdamW | set by hand | 1 |" in table
    assert "This study has no block" in (finished.results / "report/index.html").read_text()


def test_a_bad_range_fails_before_any_job(tmp_path):
    suite = tuned(optimizers={"adamw": {"lerning_rate": [1e-3]}})
    study = Study(tmp_path / "project", suite)
    done = study.snakemake("--dry-run")
    assert done.returncode != 0
    assert (
        "tune.optimizers.adamw: unknown setting 'lerning_rate'; did you mean 'learning_rate'?" in done.stdout
    )
    assert "Traceback" not in done.stdout and not (study.folder / "results").exists()


# --- one run for real -------------------------------------------------------------------------------


def test_the_chosen_settings_are_run_and_recorded(run):
    place = run.results / "tuning/authors/tiny/GradDiff/adamw"
    chosen = read_json(place / "chosen.json")
    trials = {n: read_json(place / f"trial{n}/seed100.json") for n in (1, 2)}
    assert chosen["budget"] == {"trials": 2, "seeds": [100], "rounds": 1}
    best = trials[chosen["trial"]]
    assert chosen["optimizer"] == best["tuned"]["optimizer"]
    assert (chosen["select"]["forget"], chosen["forget_draw"]) == ("gap", 1)
    (judged,) = [one for one in chosen["trials"] if one["trial"] == chosen["trial"]]
    assert chosen["forget"] == judged["runs"][0]["gap"]
    for trial in trials.values():
        assert trial["seed"] == 100 and {line["split"] for line in trial["questions"]} == SPLITS
        assert 1e-4 <= trial["tuned"]["optimizer"]["learning_rate"] <= 1e-2
    parent = read_json(run.results / "training/authors/tiny/original/none/seed0/run.json")
    made = read_json(run.results / "training/authors/tiny/GradDiff/adamw/seed0/run.json")
    assert made["optimizer_settings"]["learning_rate"] == chosen["optimizer"]["learning_rate"]
    assert made["tuned"]["trial"] == chosen["trial"] and made["tuned"]["budget"] == chosen["budget"]
    assert made["parent"] == parent["weights_sha256"]


def test_tuning_seeds_are_in_no_report(run):
    with open(run.results / "metrics.csv", newline="") as handle:
        assert {row["seed"] for row in csv.DictReader(handle)} == {"0"}
    with open(run.results / "costs.csv", newline="") as handle:
        assert {row["seed"] for row in csv.DictReader(handle)} == {"0"}
    assert (run.results / "evaluations/authors@draw1/tiny/original/none/seed100/records.jsonl").is_file()
    assert not any((run.results / "models").glob("authors*/tiny/GradDiff/*/seed100"))
    reported, drawn = (
        {row["group"] for row in read_jsonl(run.results / f"data/{task}/forget.jsonl")}
        for task in ("authors", "authors@draw1")
    )
    assert reported and drawn and not reported & drawn
    assert {line["group"] for line in _questions(run) if line["split"] == "forget"} == drawn


def _questions(run: Study) -> list[dict[str, Any]]:
    return read_json(run.results / "tuning/authors/tiny/GradDiff/adamw/trial1/seed100.json")["questions"]


def test_tables_and_report_say_the_budget(run):
    for table in ("tuning", "settings"):
        assert "2 trials on seed 100" in (run.results / f"tables/{table}.md").read_text()
    page = (run.results / "report/index.html").read_text()
    assert page.count("2 trials on seed 100") == 2 and "draw 1, not reported" in page


def test_nothing_is_run_again_and_more_trials_keep_the_earlier_ones(run, tmp_path):
    assert run.planned() == set()
    study = run.copy(tmp_path / "project")
    study.write(tuned(trials=3))
    jobs = study.planned()
    assert {log for rule, log in jobs if rule == "trial"} == {
        "trial/authors/tiny/GradDiff/adamw/trial3/seed100.log"
    }
    assert {"choose", "unlearn"} <= {rule for rule, _ in jobs} and "finetune" not in {r for r, _ in jobs}
    study.write(tuned(select={"utility_within": 0.5}))
    jobs = study.planned()
    assert "choose" in {rule for rule, _ in jobs} and "trial" not in {rule for rule, _ in jobs}
