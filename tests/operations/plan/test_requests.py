"""What jobs ask a cluster for: from the plan or from the suite, more at every try."""

from __future__ import annotations

import math
from typing import Any

import pytest

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.runs import RunKey
from pipeline_lib.operations.plan.jobs import memory_of, planned_jobs, seconds_of
from pipeline_lib.operations.plan.requests import Requests, machine_memory
from pipeline_lib.study import parse_suite
from pipeline_lib.study.jobs import Job
from pipeline_lib.study.table import models_of
from tests.study.suites import COMMIT, small

KEY = RunKey("authors", "tiny", "GradDiff", "adamw", 0)
UNLEARN = Job("unlearn", KEY.folder, {}, (), needs="training", run=KEY)
EVALUATE = Job("evaluate", KEY.folder, {}, (), needs="model", run=KEY)
SHAPE = {"parameters": 1_000_000_000, "hidden_size": 2048, "layers": 16, "vocab_size": 32000}
SHAPE |= {"intermediate_size": 8192, "heads": 16, "context": 2048}


def hub(parameters: int | None) -> dict[str, Any]:
    settings = {"source": "hub", "id": "lab/model", "revision": COMMIT}
    return settings if parameters is None else {**settings, "shape": {**SHAPE, "parameters": parameters}}


def requests(resources: dict[str, Any], **changes: Any) -> Requests:
    suite = study(resources, **changes)
    return Requests(suite, len(models_of(suite)))


def works_of(suite: Any) -> dict[str, Any]:
    """What the first job of each rule does: of the rule unlearn that of KEY."""
    return {job.rule: work for job, work in reversed(list(planned_jobs(suite)))}


def study(resources: dict[str, Any], **changes: Any) -> Any:
    return parse_suite(small(resources=resources, **changes))


@pytest.fixture(autouse=True)
def _nothing_at_hand(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.delenv("PIPELINE_MODELS", raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))


def test_a_job_asks_for_what_the_plan_says_with_a_margin() -> None:
    suite = study({"device": "cpu"}, models={"tiny": hub(1_000_000_000)})
    work = {job.run: work for job, work in planned_jobs(suite) if job.rule == "unlearn"}[KEY]
    asked = Requests(suite, 5)
    whole = 1.25 * memory_of(work).total / 2**20 + 400 + 5 * 0.005
    assert asked.memory_mb(UNLEARN, 1) == math.ceil(whole) > 16_000
    assert asked.minutes(UNLEARN, 1) == math.ceil(3 * seconds_of(work) / 60)


def test_larger_models_ask_for_more() -> None:
    sizes = [requests({}, models={"tiny": hub(count * 10**9)}) for count in (1, 3)]
    for job in (UNLEARN, EVALUATE):
        memory = [asked.memory_mb(job, 1) for asked in sizes]
        assert 2 < memory[1] / memory[0] < 4
    assert sizes[1].minutes(UNLEARN, 1) > sizes[0].minutes(UNLEARN, 1)


def test_tiny_models_ask_for_the_floor() -> None:
    asked = requests({})
    assert 900 <= asked.memory_mb(EVALUATE, 1) < 1100
    assert asked.minutes(EVALUATE, 1) == 10


def test_every_try_asks_for_more_up_to_the_limits() -> None:
    free = requests({"memory_mb": 1000, "minutes": 30, "retry_factor": 2})
    assert [free.memory_mb(UNLEARN, attempt) for attempt in (1, 2, 3)] == [1000, 2000, 4000]
    assert [free.minutes(UNLEARN, attempt) for attempt in (1, 2, 3)] == [30, 60, 120]
    limited = requests({"memory_mb": 1000, "minutes": 30, "memory_limit_mb": 1600, "minutes_limit": 40})
    assert [limited.memory_mb(UNLEARN, attempt) for attempt in (1, 2, 3)] == [1000, 1500, 1600]
    assert [limited.minutes(UNLEARN, attempt) for attempt in (1, 2, 3)] == [30, 40, 40]


def test_what_the_suite_says_counts_for_every_model() -> None:
    asked = requests({"memory_mb": 1234}, models={"tiny": hub(10**9)})
    assert asked.memory_mb(EVALUATE, 1) == asked.memory_mb(UNLEARN, 1) == 1234
    assert asked.minutes(UNLEARN, 1) > 10, "time is still the plan's"


def test_anchors_trials_and_other_seeds_are_known() -> None:
    ranges = {"learning_rate": {"low": 1e-5, "high": 1e-4, "scale": "log"}}
    suite = study(
        {},
        seeds=[0, 1],
        optimizers={"adamw": {"learning_rate": 1e-4}},
        tune={"trials": 2, "seeds": [7], "optimizers": {"adamw": ranges}},
    )
    asked = Requests(suite, 9)
    for job, _ in planned_jobs(suite):
        assert asked.memory_mb(job, 1) >= 800


def test_beside_a_gpu_the_machines_own_memory_is_asked_for() -> None:
    """fp32 weights of 4 GB: 8 GB to save them, 12 GB for a checkpoint with AdamW's states; 4 GB of CUDA."""
    suite = study({"gpus": 1}, models={"tiny": hub(10**9)})
    works = works_of(suite)
    assert machine_memory(works["unlearn"]) == 4e9 + 12e9
    assert machine_memory(works["evaluate"]) == 4e9 + 4e9 + 0.5e9
    adapters = study({"gpus": 1}, models={"tiny": hub(10**9)}, unlearn={"lora": {"rank": 8}})
    work = works_of(adapters)["unlearn"]
    assert machine_memory(work) == 4e9 + 8e9
    offloaded = study({"gpus": 1}, models={"tiny": hub(10**9)}, unlearn={"offload": True})
    work = works_of(offloaded)["unlearn"]
    assert machine_memory(work) == 4e9 + 12e9 + 16e9, "states, and copies of weights and gradients"


def test_processes_that_train_together_each_hold_a_copy() -> None:
    models = {"tiny": hub(10**9)}
    alone, four = requests({}, models=models), requests({"processes": 4}, models=models)
    assert four.memory_mb(UNLEARN, 1) > 3.5 * alone.memory_mb(UNLEARN, 1)
    assert four.memory_mb(EVALUATE, 1) == alone.memory_mb(EVALUATE, 1), "one process"
    assert four.minutes(UNLEARN, 1) == pytest.approx(alone.minutes(UNLEARN, 1) / 2, abs=1)
    work = works_of(study({"gpus": 4}, models=models))["unlearn"]
    assert machine_memory(work, 4) == 4 * 4e9 + 4 * 4e9


def test_a_model_of_unknown_size_asks_for_much() -> None:
    asked = requests({}, models={"tiny": hub(None)})
    assert asked.memory_mb(UNLEARN, 1) > 32_000
    assert asked.minutes(UNLEARN, 1) == 240


def test_jobs_that_read_the_whole_study_grow_with_it() -> None:
    suite = study({})
    few, many = Requests(suite, 10), Requests(suite, 10_000)
    one, whole = Job("score", KEY.folder, {}, (), run=KEY), Job("merge", "metrics", {}, (), needs="study")
    assert few.memory_mb(one, 1) < 510 and few.memory_mb(one, 2) > 1.4 * few.memory_mb(one, 1)
    assert few.memory_mb(whole, 1) < 520
    assert many.memory_mb(whole, 1) > 10_000
    assert many.minutes(whole, 1) > many.minutes(one, 1)


@pytest.mark.parametrize("factor", [0.5, 5, "much"])
def test_a_factor_that_takes_memory_away_is_refused(factor: Any) -> None:
    with pytest.raises(UserError, match=r"resources\.retry_factor"):
        study({"retry_factor": factor})


@pytest.mark.parametrize(("split", "records"), [("forget", 40), ("retain", 360), ("facts", 60)])
def test_a_stage_is_planned_with_the_records_of_its_split(split: str, records: int) -> None:
    work = works_of(study({}, stages={"other": {"kind": "finetune", "split": split}}))["stage"]
    assert work.retain.records == records
