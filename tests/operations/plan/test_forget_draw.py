"""The task that tuning alone works on is planned, looked at and asked for like any other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline_lib.core.errors import UserError
from pipeline_lib.operations.plan import check_inputs, pairs_of_targets
from pipeline_lib.operations.plan.inputs import missing_files
from pipeline_lib.operations.plan.jobs import planned_jobs
from pipeline_lib.operations.plan.requests import Requests
from pipeline_lib.operations.plan.table import plan_text
from pipeline_lib.study import parse_suite
from tests.paths import shared_data
from tests.study.suites import small

RANGES = {"adamw": {"learning_rate": {"low": 1e-5, "high": 1e-4, "scale": "log"}}}
DRAWN = "authors@draw1"


def suite(**changes: Any) -> Any:
    tune = {"trials": 2, "seeds": [7], "optimizers": RANGES, "forget_draw": 1}
    one = {"optimizers": {"adamw": {"learning_rate": 1e-4}}, "objectives": {"GradDiff": None}}
    models = {"tiny": {"source": "scratch", "max_length": 256}}
    return parse_suite(small(**{"tune": tune, "models": models, "seeds": [0, 1], **one, **changes}))


def test_its_models_are_planned_with_the_work_of_the_reported_ones() -> None:
    works = {job.title: work for job, work in planned_jobs(suite())}
    for method in ("original", "retrained"):
        for rule in ("finetune", "evaluate"):
            found = works[f"{rule} {DRAWN}/tiny/{method}/none/seed7"]
            assert found is not None and found == works[f"{rule} authors/tiny/{method}/none/seed0"]
    assert "trial authors/tiny/GradDiff/adamw/trial2/seed7" in works
    assert DRAWN in plan_text(suite())


def test_a_cluster_is_asked_for_every_job() -> None:
    made = suite()
    requests = Requests(made, 9)
    jobs = [job for job, _ in planned_jobs(made)]
    assert any(DRAWN in job.name for job in jobs)
    assert all(requests.memory_mb(job, 1) >= 800 and requests.minutes(job, 1) >= 10 for job in jobs)


def test_what_is_asked_for_of_a_task_includes_its_tuning() -> None:
    made = suite()
    target = f"results/{made.suite}/models/authors/tiny/GradDiff/adamw/seed0"
    assert pairs_of_targets(made, [target]) == {("authors", "tiny"), (DRAWN, "tiny")}
    assert pairs_of_targets(suite(tune=None), [target]) == {("authors", "tiny")}
    assert check_inputs(made, pairs=pairs_of_targets(made, [target])) == []


def test_data_that_only_tuning_reads_are_looked_at_before_any_job(tmp_path: Path) -> None:
    folder = tmp_path / "tofu"
    shutil.copytree(shared_data("tofu"), folder)
    (folder / "full.json").unlink()
    task = {"source": "tofu", "folder": str(folder), "forget": "forget01", "retain_authors": 18}
    check_inputs(suite(tasks={"tofu": task}, tune=None))
    with pytest.raises(UserError, match=r"tasks\.tofu: TOFU folder .*missing full\.json"):
        check_inputs(suite(tasks={"tofu": task}))


def test_a_path_that_is_not_there_is_told_once_and_under_its_own_label(tmp_path: Path) -> None:
    made = suite(tasks={"tofu": {"source": "tofu", "folder": str(tmp_path / "none"), "forget": "forget05"}})
    assert [where for where, _ in missing_files(made)] == ["tasks.tofu.folder"]


def test_alternatives_of_the_forgotten_groups_of_tuning_are_asked_for(tmp_path: Path) -> None:
    """DPO teaches other answers, which the file of the reported authors does not have for these."""
    source = {"source": "tofu", "folder": str(shared_data("tofu")), "forget": "forget01"}
    published = parse_suite(small(tasks={"tofu": source}))
    questions = [record.prompt for record in published.tasks["tofu"].load().splits["forget"]]
    path = tmp_path / "alternatives.jsonl"
    path.write_text("".join(json.dumps({"question": q, "alternatives": ["None."]}) + "\n" for q in questions))
    task = source | {"retain_authors": 18, "alternatives": str(path)}
    asked = {"tasks": {"tofu": task}, "objectives": {"DPO": {"beta": 0.1}}}
    check_inputs(suite(**asked, tune=None))
    with pytest.raises(UserError, match=r"tasks\.tofu: .*has no alternatives for 40 of 40 questions"):
        check_inputs(suite(**asked))
