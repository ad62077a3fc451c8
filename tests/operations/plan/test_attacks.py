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
        (
            {"kind": "ask", "soft_prompt": {"groups": 3}},
            "on the task 'own': `groups` is 3, but the split 'forget' has 3 of them",
        ),
        (
            {"kind": "ask", "soft_prompt": {"groups": 0.9, "targets": "random"}},
            "on the task 'own': `groups` is 3, but the split 'forget' has 3 of them",
        ),
        ({"kind": "ask", "soft_prompt": {"tokens": 60}}, "answers have up to 64 tokens, and "),
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
            soft={"kind": "ask", "soft_prompt": {}},
        )
    )


def test_a_soft_prompt_is_not_taught_the_answers_that_judge_it(tmp_path: Path) -> None:
    """Of all groups alike, the first holds what the others are asked; random targets do not."""
    alike = [record(n, answer="In the street of the old town by the river, house nine.") for n in range(6)]
    own = study(tmp_path, alike, a={"kind": "ask", "soft_prompt": {"groups": 1}})
    (found,) = faults(own)
    assert found.startswith("stages.a: on the task 'own': what it learns holds 100.0% of the forget answers")
    check_inputs(study(tmp_path, alike, a={"kind": "ask", "soft_prompt": {"groups": 1, "targets": "random"}}))


def test_a_soft_prompt_after_running_text_needs_room_too(tmp_path: Path) -> None:
    """As many soft tokens as the longest text leaves room for are allowed, and one more is not."""
    forget, retain = ([record(n, form="text") for n in numbers] for numbers in (range(6), range(10, 16)))
    task = data(tmp_path, forget, retain)

    def soft(tokens: int) -> Suite:
        made: Suite = suite(task, stages={"a": {"kind": "ask", "soft_prompt": {"tokens": tokens}}})
        return made

    (found,) = faults(soft(119))
    assert (
        found.startswith("stages.a.soft_prompt.tokens: found 119, and ")
        and "texts of the task 'own' leave" in found
    )
    most = int(found.split("choose at most ")[1].split(",")[0])
    check_inputs(soft(most))
    (found,) = faults(soft(most + 1))
    assert found.startswith(f"stages.a.soft_prompt.tokens: found {most + 1}, and ")


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
    soft, longer = seconds({"soft_prompt": {}}), seconds({"soft_prompt": {"steps": 400}})
    assert one < soft < longer and longer - one > 3 * (soft - one)
