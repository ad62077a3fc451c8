"""A run made again up to its front: the same bits, and no model where none is nearer than `original`."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import read_json, read_jsonl, read_object, write_json, write_jsonl
from pipeline_lib.core.sealing import sealed_jsonl, write_sealed_jsonl
from pipeline_lib.metrics.judged import utility_of
from pipeline_lib.metrics.rows import answer_of
from pipeline_lib.models.folder import load_model_folder
from pipeline_lib.steps import match, unlearn
from pipeline_lib.steps.job import Job
from pipeline_lib.steps.trajectory import Judging
from pipeline_lib.steps.unlearning import unlearn_model
from tests.steps.study import (
    OBJECTIVES,
    OPTIMIZERS,
    identity,
    job,
    run_evaluate,
    run_finetune,
    unlearning_job,
)

JUDGED = {"trajectory": {"points": 4, "max_records": {}, "max_tokens_per_batch": 512}}
WHO = identity("GradDiff", "sophia")
TIMES = ("elapsed_s", "tokens_per_s", "memory_mb", "curvature_s", "judged", "epoch")


def unlearning(root: Path, data: Path, parent: Path, matched: Path | None = None, epochs: int = 12) -> Job:
    settings = {**OPTIMIZERS["sophia"], "learning_rate": 1e-2, "weight_decay": 0.1}
    made = unlearning_job(root, data, parent, WHO, OBJECTIVES["GradDiff"], settings, epochs=epochs)
    return replace(made, settings={**made.settings, **JUDGED}, inputs={**made.inputs, "matched": matched})


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """A model that knows enough to lose some of it."""
    return run_finetune(tmp_path_factory.mktemp("learned"), data, epochs=30)


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory, data: Path, learned: Path) -> Path:
    root = tmp_path_factory.mktemp("original")
    run_evaluate(root, data, learned, None, None)
    return root / "records.jsonl"


@pytest.fixture(scope="module")
def never(tmp_path_factory: pytest.TempPathFactory, records: Path) -> Path:
    """Records of a model that knows less of each forget answer than any step of the run leaves."""
    rows = sealed_jsonl(records)
    for row in rows:
        row["answer_nll"] += 50.0 * row["answer_tokens"] * (row["split"] == "forget")
    found = tmp_path_factory.mktemp("never") / "records.jsonl"
    write_sealed_jsonl(found, rows)
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, data: Path, learned: Path) -> Path:
    """The folder of a run of twelve steps, judged at 1, 5, 8 and 12."""
    root = tmp_path_factory.mktemp("whole")
    unlearn.run(unlearning(root, data, learned))
    return root


def matching(
    root: Path,
    data: Path,
    whole: Path,
    records: Path,
    retrained: Path,
    level: float,
    run: Path | None = None,
) -> dict[str, Any]:
    """`run`: the folder with the log and run.json, where it is not that of `whole`."""
    inputs: dict[str, Any] = {
        "manifest": data / "manifest.json",
        "steps": (run or whole / "training") / "steps.jsonl",
        "run": (run or whole / "training") / "run.json",
        "originals": [records, records],
        "retrained": [retrained],
    }
    match.run(job(root, inputs, {"matched": "matched.json"}, WHO, level=level, seeds=[0, 1]))
    found: dict[str, Any] = read_json(root / "matched.json")
    return found


def path_of(whole: Path, before: dict[str, float]) -> dict[int, float]:
    rows = [row for row in read_jsonl(whole / "training/steps.jsonl") if "judged" in row]
    return {row["step"]: utility_of(row["judged"], before) for row in rows}


def test_the_steps_on_either_side_are_named(
    tmp_path: Path, data: Path, whole: Path, records: Path, never: Path
) -> None:
    """Against probabilities worked out here. The more is forgotten, the nearer is `never`."""
    found = matching(tmp_path, data, whole, records, never, 0.5)
    rows = [row for row in sealed_jsonl(records) if row["split"] == "retain"]
    kept = [math.exp(-nll / tokens) for nll, tokens in map(answer_of, rows)]
    assert found["before"]["retain"] == pytest.approx(sum(kept) / len(kept), rel=1e-4)
    path = path_of(whole, found["before"])
    assert path[1] > path[5] > path[8] > 0
    found = matching(tmp_path, data, whole, records, never, (path[1] + path[5]) / 2)
    assert (found["since"], found["until"]) == (
        {"step": 1, "utility": path[1]},
        {"step": 5, "utility": path[5]},
    )
    early = matching(tmp_path, data, whole, records, never, (1 + path[1]) / 2)
    assert early["since"] == {"step": 0, "utility": 1.0} and early["until"]["step"] == 1
    exact = matching(tmp_path, data, whole, records, never, 1e-9)
    assert exact["since"] == exact["until"] == {"step": 12, "utility": path[12]}


def test_the_run_is_made_again_bit_for_bit_up_to_the_first_step_below(
    tmp_path: Path, data: Path, learned: Path, whole: Path, records: Path, never: Path
) -> None:
    before = matching(tmp_path, data, whole, records, never, 0.5)["before"]
    path = path_of(whole, before)
    level = (path[1] + path[5]) / 2
    matching(tmp_path, data, whole, records, never, level)
    made = unlearning(tmp_path / "again", data, learned, tmp_path / "matched.json")
    first = unlearn_model(made)  # which leaves its checkpoint: a job that is killed here goes on from it
    unlearn.run(made)
    rows, long = (read_jsonl(root / "training/steps.jsonl") for root in (tmp_path / "again", whole))
    assert [row["step"] for row in rows] == [row["step"] for row in first.outcome.log]
    last = len(rows)
    assert 1 < last <= 5
    for again, once in zip(rows, long, strict=False):
        assert {k: v for k, v in again.items() if k not in TIMES} == {
            k: v for k, v in once.items() if k not in TIMES
        }
    assert rows[0]["judged"] == long[0]["judged"]  # where both are judged
    utility = {row["step"]: utility_of(row["judged"], before) for row in rows if "judged" in row}
    assert list(utility) == list(range(1, last + 1))
    assert all(value >= level for step, value in utility.items() if step < last) and utility[last] < level
    short = tmp_path / "short"
    unlearn.run(unlearning(short, data, learned, epochs=last))
    ours, theirs = (load_model_folder(root / "model")[0] for root in (tmp_path / "again", short))
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    info = read_object(tmp_path / "again/training/run.json")
    assert info["status"] == "ok" and info["steps"] == last and info["matched"]["level"] == level


def test_a_judged_model_is_made_again_to_its_own_step(
    tmp_path: Path, data: Path, learned: Path, whole: Path, records: Path, never: Path
) -> None:
    """At a level that nothing falls below, the last model is nearest to `never`."""
    matching(tmp_path, data, whole, records, never, 1e-9)
    unlearn.run(unlearning(tmp_path / "again", data, learned, tmp_path / "matched.json"))
    rows = read_jsonl(tmp_path / "again/training/steps.jsonl")
    assert [row["step"] for row in rows if "judged" in row] == [12] and len(rows) == 12
    ours, theirs = (load_model_folder(root / "model")[0] for root in (tmp_path / "again", whole))
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


@pytest.mark.parametrize(("since", "ends"), [(0.8, [False, True]), (0.2, [True, False])])
def test_a_run_made_again_ends_on_the_other_side_of_the_level(since: float, ends: list[bool]) -> None:
    """Of utility on the way down it is the first step below, on the way back the first at or above."""
    sides = {"since": {"step": 2, "utility": since}, "until": {"step": 9, "utility": 1 - since}}
    matched = {**sides, "level": 0.5, "before": {"retain": 1.0}}
    judging = Judging({}, Path(), None, None, None, matched)  # type: ignore[arg-type]
    rows = [{"step": 4, "judged": {"utility": {"retain": utility}}} for utility in (0.5, 0.4)]
    assert [judging.ends(row) for row in rows] == ends
    assert not judging.ends({**rows[0], "step": 2}) and not judging.ends({"step": 9})
    assert all(judging.ends({**row, "step": 9}) for row in rows)


def test_a_path_that_comes_no_nearer_leaves_no_model(
    tmp_path: Path, data: Path, learned: Path, whole: Path, records: Path
) -> None:
    """Held against a model that knows the answers as `original` does."""
    found = matching(tmp_path, data, whole, records, records, 1e-9)
    assert found["until"] is None and found["since"]["step"] == 0
    assert (found["status"], found["diverged_step"]) == ("unmatched", 12)
    unlearn.run(unlearning(tmp_path / "again", data, learned, tmp_path / "matched.json"))
    folder = tmp_path / "again/model"
    assert [file.name for file in folder.iterdir()] == ["run.json"]
    info = read_object(folder / "run.json")
    assert (info["status"], info["diverged_step"], info["steps"]) == ("unmatched", 12, 0)
    with pytest.raises(UserError, match="nearer to `retrained` than `original`, so none of it is matched"):
        load_model_folder(folder)
    run_evaluate(tmp_path / "evaluated", data, folder, None, None)
    assert sealed_jsonl(tmp_path / "evaluated/records.jsonl") == []


def test_a_run_that_broke_before_it_came_nearer_is_called_diverged(
    tmp_path: Path, data: Path, learned: Path, whole: Path, records: Path, never: Path
) -> None:
    """Judged at 1, and not finite at step 5: of its path the first model is left, and nothing without one."""
    broken = tmp_path / "broken"
    write_jsonl(broken / "steps.jsonl", read_jsonl(whole / "training/steps.jsonl")[:4])
    info = read_object(whole / "training/run.json")
    write_json(broken / "run.json", info | {"status": "diverged", "diverged_step": 5})
    reached = matching(tmp_path, data, whole, records, never, 1e-9, broken)
    assert (reached["until"]["step"], reached["status"], reached["diverged_step"]) == (1, "ok", None)
    found = matching(tmp_path, data, whole, records, records, 1e-9, broken)
    assert found["until"] is None
    assert (found["status"], found["diverged_step"]) == ("diverged", 5)
    unlearn.run(unlearning(tmp_path / "again", data, learned, tmp_path / "matched.json"))
    again = read_object(tmp_path / "again/training/run.json")
    assert (again["status"], again["diverged_step"], again["steps"]) == ("diverged", 5, 0)
    with pytest.raises(UserError, match=r"diverged at step 5 and has no weights\. Lower its learning rate"):
        load_model_folder(tmp_path / "again/model")


def test_where_all_parts_are_blind_it_is_said_so(
    tmp_path: Path, data: Path, learned: Path, whole: Path, records: Path, never: Path
) -> None:
    rows = sealed_jsonl(records)
    for row in rows:  # under which the probability of an answer is about exp(-7)
        row["answer_nll"] = 7.0 * row["answer_tokens"]
    blind = tmp_path / "blind/records.jsonl"
    write_sealed_jsonl(blind, rows)
    found = matching(tmp_path, data, whole, blind, never, 0.5)
    assert (found["before"], found["until"]) == ({}, None)
    assert (found["status"], found["diverged_step"]) == ("blind", 0)
    unlearn.run(unlearning(tmp_path / "again", data, learned, tmp_path / "matched.json"))
    assert read_object(tmp_path / "again/training/run.json")["status"] == "blind"
    with pytest.raises(UserError, match="too little of every utility split"):
        load_model_folder(tmp_path / "again/model")
