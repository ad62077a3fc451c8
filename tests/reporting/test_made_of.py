"""Runs that were not made of the same are refused by name, with the command that makes them alike."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.runs import RunKey
from pipeline_lib.reporting.collect import collect_costs, collect_metrics
from pipeline_lib.reporting.made_of import Made, check_alike, made_of

SETTINGS = {
    "objective": {"kind": "GradDiff", "gamma": 1.0},
    "optimizer_settings": {"kind": "adamw", "learning_rate": 1e-4},
    "training": {"epochs": 5},
}
METRIC = {"split": "forget", "metric": "probability", "value": 0.2, "ci_low": None, "ci_high": None, "n": 9}


def run_of(method: str, seed: int) -> dict[str, Any]:
    """A run.json as the steps write it."""
    anchor = method in ("original", "retrained")
    run = {
        "status": "ok",
        "diverged_step": None,
        "task": "t",
        "model": "m",
        "method": method,
        "optimizer": "none" if anchor else "adamw",
        "seed": seed,
        **SETTINGS,
        "origin": {"kind": "folder", "path": "$HERE/base", "sha256": {"model.safetensors": "5" * 64}},
        "inputs": {"path": "11112222"},
        "data": {"retain": "a" * 64} | ({} if method == "retrained" else {"forget": "b" * 64}),
        "code": "c0de" if anchor else "c0de2",
        "parent": None if anchor else f"weights of original {seed}",
        "weights_sha256": f"weights of {method} {seed}",
        "made_at": f"2026-01-0{seed + 1}T00:00:00+00:00",
        "steps": 5,
        "train_time_s": 1.0,
        "peak_memory_mb": 3,
    }
    return copy.deepcopy(run)


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Three rows of two seeds."""
    monkeypatch.chdir(tmp_path)
    return {(m, s): run_of(m, s) for m in ("original", "retrained", "GradDiff") for s in (0, 1)}


def collect(runs: dict[tuple[str, int], dict[str, Any]], scored_by: dict[int, str] | None = None) -> None:
    """Both tables, from the files as a study lays them."""
    scores, folders = [], []
    for (method, seed), run in runs.items():
        place = f"t/m/{method}/{run['optimizer']}/seed{seed}"
        evaluation, training = Path("results/s/evaluations", place), Path("results/s/training", place)
        for folder in (evaluation, training):
            folder.mkdir(parents=True, exist_ok=True)
        (training / "run.json").write_text(json.dumps(run))
        (training / "steps.jsonl").write_text("")
        metrics = [METRIC | {"higher_is_better": False}]
        facts = {**made_of(run), "scored_by": (scored_by or {}).get(seed, "5c0e")}
        own = {name: run[name] for name in ("task", "model", "method", "optimizer", "seed", "status")}
        content = {"suite": "s", **own, "diverged_step": None, "made_of": facts, "metrics": metrics}
        (evaluation / "metrics.json").write_text(json.dumps(content))
        scores.append(evaluation / "metrics.json")
        folders.append(training)
    collect_metrics(scores, "metrics.csv", {})
    collect_costs(folders, "costs.csv")


def refused(runs, **options) -> tuple[list[str], list[str]]:
    """The differences that the message names, and the files that its command makes again."""
    with pytest.raises(UserError) as caught:
        collect(runs, **options)
    assert not Path("metrics.csv").exists()
    head, *lines, cure, command = str(caught.value).splitlines()
    assert head == "runs that were not made of the same cannot stand in one table:"
    assert cure == "Make the older ones again, with the study's own --configfile:"
    assert command.startswith("  snakemake --forcerun results/s/")
    return [line.strip() for line in lines], command.split()[2:]


def training(method: str, seed: int) -> str:
    optimizer = "adamw" if method == "GradDiff" else "none"
    return f"results/s/training/t/m/{method}/{optimizer}/seed{seed}/run.json"


def test_seeds_and_their_own_parents_may_differ(runs):
    collect(runs)
    assert Path("metrics.csv").is_file() and Path("costs.csv").is_file()


def test_a_base_model_that_was_edited_between_two_seeds(runs):
    """A folder was edited in place before a seed was added: everything of seed 0 is the old model's."""
    for (_, seed), run in runs.items():
        if seed == 1:
            run["origin"]["sha256"]["model.safetensors"] = "6" * 64
    lines, files = refused(runs)
    assert [line.split(":")[0] for line in lines] == [
        "t/m/GradDiff/adamw/seed0", "t/m/original/none/seed0", "t/m/retrained/none/seed0",
    ]  # fmt: skip
    assert all("base model" in line and "in t/m/" in line for line in lines)
    assert files == [training("original", 0), training("retrained", 0)], "the rest follows from these"


def test_a_tokenizer_that_was_edited_counts_as_another_base(runs):
    for run in runs.values():
        run["inputs"] = {"path": f"{run['seed']}33334444"}
    lines, files = refused(runs)
    assert {line.split(": ")[1].split()[0] for line in lines} == {"base"}
    assert training("retrained", 0) in files


def test_the_same_weights_from_another_place_are_the_same(runs):
    for run in runs.values():
        run["inputs"] = {}
    runs["original", 1]["origin"] = {"kind": "hub", "id": "a/b", "sha256": {"model.safetensors": "5" * 64}}
    collect(runs)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"code": "0ther"}, "code c0de2, but 0ther in t/m/GradDiff/adamw/seed1"),
        ({"optimizer_settings": {"kind": "adamw", "learning_rate": 2e-4}}, "optimizer settings"),
        ({"objective": {"kind": "GradDiff", "gamma": 2.0}}, "objective"),
        ({"training": {"epochs": 6}}, "training"),
        ({"data": {"retain": "a" * 64, "forget": "d" * 64}}, "data of forget bbbbbbbbbbbb, but dddddddddddd"),
    ],
)
def test_each_difference_is_named_and_the_older_run_is_made_again(runs, change, words):
    for method in ("GradDiff", "original") if "data" in change else ("GradDiff",):
        runs[method, 1] |= change
    lines, files = refused(runs)
    assert any(line.startswith("t/m/GradDiff/adamw/seed0: ") and words in line for line in lines)
    assert (training("GradDiff", 0) in files) != (training("original", 0) in files)
    assert training("GradDiff", 1) not in files


def test_an_unlearned_model_of_an_original_that_is_no_more(runs):
    runs["original", 1]["weights_sha256"] = "other weights"
    lines, files = refused(runs)
    (line,) = lines
    assert line.startswith("t/m/GradDiff/adamw/seed1: made from weights")
    assert files == [training("GradDiff", 1)]


def test_scores_by_other_code_are_made_again_and_train_nothing(runs):
    lines, files = refused(runs, scored_by={0: "01d", 1: "5c0e"})
    assert len(lines) == 3 and all("code that scored it 01d" in line for line in lines)
    assert len(files) == 3 and all(file.startswith("results/s/evaluations/") for file in files)


def test_a_row_that_is_asked_in_another_way_may_have_other_metrics() -> None:
    """Drawn answers have metrics of their own; the seeds of one row have the same."""

    def made(after: str, seed: int, scored_by: str) -> Made:
        key = RunKey("t", "m", "NPO", "adamw", seed, after=after)
        return Made(key, {"scored_by": scored_by}, Path("run.json"), Path("metrics.json"))

    plain = [made("", seed, "5c0e") for seed in (0, 1)]
    check_alike([*plain, made("drawn", 0, "d4a3"), made("drawn", 1, "d4a3")])
    with pytest.raises(UserError, match=r"NPO/adamw/seed0\.drawn: code that scored it 01d, but d4a3 in"):
        check_alike([*plain, made("drawn", 0, "01d"), made("drawn", 1, "d4a3")])


def test_what_no_run_knows_is_not_compared_and_what_some_know_is(runs):
    for run in runs.values():
        for name in ("code", "inputs", "made_at", "origin"):
            del run[name]
    collect(runs)
    Path("metrics.csv").unlink()
    runs["original", 1]["code"] = "c0de"
    lines, files = refused(runs)
    assert lines == ["t/m/original/none/seed0: code not noted, but c0de in t/m/original/none/seed1"]
    assert files == [training("original", 0)]


def test_rows_of_other_tasks_and_models_may_differ(runs):
    changes = ({}, {"model": "n"}, {"task": "u"})
    made = []
    for number, change in enumerate(changes):
        for (_, seed), run in copy.deepcopy(runs).items():
            facts = made_of({**run, "code": f"{number}", "origin": {"sha256": {"w": f"{number}"}}})
            if "task" in change:
                facts["data"] = {"retain": "other", "forget": "other"}
            key = RunKey(
                change.get("task", "t"), change.get("model", "m"), run["method"], run["optimizer"], seed
            )
            made.append(Made(key, facts, Path("run.json")))
    check_alike(made)


def test_costs_alone_are_held_to_the_same(runs, tmp_path):
    collect(runs)
    path = Path(training("GradDiff", 0))
    path.write_text(json.dumps({**json.loads(path.read_text()), "code": "0ther"}))
    with pytest.raises(UserError, match="code 0ther, but c0de2"):
        collect_costs([path.parent for path in Path("results/s/training").rglob("run.json")], "again.csv")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"data": {"retain": "f" * 64, "forget": "b" * 64}},
            "data of retain ffffffffffff, but aaaaaaaaaaaa in",
        ),
        ({"inputs": {"path": "33334444"}}, "base model"),
    ],
)
def test_a_whole_row_of_other_data_or_base_model_stands_in_no_table_with_the_rest(runs, change, said):
    """Its seeds are alike; it is the other rows of the task that it may not be held against."""
    for seed in (0, 1):
        runs["GradDiff", seed] |= change | {"made_at": "2025-01-01T00:00:00+00:00"}
    with pytest.raises(UserError) as caught:
        collect(runs)
    assert f"t/m/GradDiff/adamw/seed0: {said}" in str(caught.value)
    assert "t/m/GradDiff/adamw/seed1: " in str(caught.value)
    assert "t/m/original/none/seed0: " not in str(caught.value)


def test_seeds_of_a_row_in_two_precisions(runs):
    for (method, seed), run in runs.items():
        run["training"]["compute"] = "bf16" if (method, seed) == ("GradDiff", 0) else "fp32"
    lines, files = refused(runs)
    assert files == [training("GradDiff", 0)]
    assert len(lines) == 1 and lines[0].startswith("t/m/GradDiff/adamw/seed0: training ")


def test_rows_in_two_precisions_because_auto_met_two_machines(runs):
    """The suite asked for no difference: it would count for the method."""
    for (method, _), run in runs.items():
        run["training"]["compute"] = run["auto"] = "fp32" if method == "retrained" else "bf16"
        run["made_at"] = f"2026-01-0{2 if method == 'retrained' else 1}T00:00:00+00:00"
    lines, files = refused(runs)
    assert "t/m/GradDiff/adamw/seed0: `compute: auto` is bf16, but fp32 in t/m/retrained/none/seed1" in lines
    assert len(lines) == 4
    assert files == [training("original", seed) for seed in (0, 1)], "their descendants follow"


def test_rows_in_two_precisions_that_the_suite_chose(runs):
    for (method, _), run in runs.items():
        run["training"]["compute"] = "fp32" if method == "retrained" else "bf16"
        run["auto"] = None if method == "retrained" else "bf16"
    collect(runs)
    assert Path("metrics.csv").is_file()
