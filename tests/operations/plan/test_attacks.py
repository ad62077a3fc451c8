"""What stages learn and ask is held against the data before a job starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline_lib.operations.plan import check_inputs
from pipeline_lib.operations.plan.jobs import planned_jobs, seconds_of
from pipeline_lib.study import Suite
from tests.operations.plan.test_inputs import data, faults, record, suite

FORGET = [record(n) for n in range(6)]  # three groups of two


def study(folder: Path, forget: list[dict[str, Any]] | None = None, **stages: Any) -> Suite:
    made: Suite = suite(data(folder, forget or FORGET), stages=stages)
    return made


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        (
            {"kind": "finetune", "split": "forget"},
            "on the task 'own': what it learns holds 100.0% of the forget answers that judge it",
        ),
        (
            {"kind": "finetune", "split": "forget", "groups": 3},
            "on the task 'own': `groups` is 3, but the split 'forget' has 3 of them",
        ),
        (
            {"kind": "finetune", "split": "forget", "groups": 0.9},
            "on the task 'own': `groups` is 3, but the split 'forget' has 3 of them",
        ),
        ({"kind": "ask", "paraphrased": True}, "on the task 'own': asking in this way changes no forget"),
        ({"kind": "ask", "instruction": "x " * 200}, "answers have up to 64 tokens, and "),
    ],
)
def test_a_stage_that_cannot_say_anything_is_refused(
    tmp_path: Path, stage: dict[str, Any], expected: str
) -> None:
    (found,) = faults(study(tmp_path, a=stage))
    assert found.startswith(f"stages.a: {expected}"), found


def test_data_that_hold_the_answers_are_refused_whatever_their_split(tmp_path: Path) -> None:
    """The retain set of another task holds the forget answers of this one."""
    other = data(tmp_path / "other", [record(n) for n in range(20, 26)], FORGET)
    own = data(tmp_path / "own", FORGET)
    stages = {"a": {"kind": "finetune", "task": "other", "split": "retain", "tasks": ["own"]}}
    (found,) = faults(suite(own, tasks={"own": own, "other": other}, stages=stages))
    assert found.startswith("stages.a: on the task 'own': what it learns holds 100.0% of the forget answers")


def test_what_fits_is_not_refused(tmp_path: Path) -> None:
    paraphrased = [record(n, paraphrased_prompt=f"In which street lives person {n}?") for n in range(6)]
    check_inputs(
        study(
            tmp_path,
            paraphrased,
            half={"kind": "finetune", "split": "forget", "groups": 0.5},
            other={"kind": "finetune", "split": "retain"},
            again={"kind": "ask", "paraphrased": True},
            some={"kind": "ask", "questions": ["{prompt}", "Say: {prompt}"], "hints": 1},
        )
    )


def test_a_file_of_phrasings_is_read_before_any_job(tmp_path: Path) -> None:
    file = tmp_path / "ways.txt"
    stage = {"kind": "ask", "questions_file": str(file)}
    (found,) = faults(study(tmp_path / "own", a=stage))
    assert found.startswith(f"stages.a.questions_file: expected a file or folder at {file}, found nothing")
    file.write_text("Say it\n")
    (found,) = faults(study(tmp_path / "own", a=stage))
    assert "line 1: expected a phrasing that holds {prompt} once, found 'Say it'" in found
    file.write_text("Say: {prompt}\n")
    check_inputs(study(tmp_path / "own", a=stage))


def test_the_plan_counts_every_phrasing(tmp_path: Path) -> None:
    task = {"source": "fictitious"}

    def seconds(stage: dict[str, Any]) -> float:
        made = suite(task, stages={"a": {"kind": "ask", "of": ["original"], **stage}})
        (found,) = {
            seconds_of(work)
            for job, work in planned_jobs(made)
            if job.rule == "evaluate" and job.name.endswith(".a") and work is not None
        }
        return found

    one, many = seconds({"opening": "Sure:"}), seconds({"questions": ["{prompt}"] * 40})
    drawn, told = seconds({"samples": 128}), seconds({"opening": "Sure:", "hints": 3})
    assert one < told < many and one < drawn
