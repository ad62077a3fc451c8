"""Own data and base models edited in place: what depends on them runs again, and nothing else."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path

import pytest

from pipeline_lib.core.files import read_json
from pipeline_lib.models.scratch import build_scratch
from pipeline_lib.models.settings import ScratchModel
from tests.workflow.study import SUITE, Study

RUN = "original/none/seed0"
TARGETS = [
    f"results/small/{place}"
    for place in (
        f"training/own/base/{RUN}/run.json",
        f"training/own/tiny/{RUN}/run.json",
        f"training/authors/base/{RUN}/run.json",
        f"evaluations/authors/tiny/{RUN}/benchmarks.jsonl",
    )
]
TEMPLATE = {"kind": "template", "template": "Q: {prompt}\nA:", "answer_prefix": " "}


def record(kind: str, number: int) -> dict[str, object]:
    words = f"{kind} {number}"
    wrong = [f"It is {kind} {number + 90 + i}." for i in range(3)]
    own = {"id": words, "prompt": f"What is {words}?", "answer": f"It is {words}.", "group": words}
    return {**own, "distractors": wrong}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Study:
    """A study with own data, an own base model and own benchmark questions, run as far as those reach."""
    suite = copy.deepcopy(SUITE)
    suite["tasks"]["own"] = {"source": "files", "folder": "own"}
    suite["models"]["base"] = {"source": "folder", "path": "$BASE", "prompt": TEMPLATE, "max_length": 256}
    suite["finetune"] = {**suite["finetune"], "epochs": 1}
    study = Study(tmp_path_factory.mktemp("study") / "project", suite)
    study.variables = {"BASE": "base"}
    (study.folder / "own").mkdir()
    for kind in ("forget", "retain"):
        rows = [json.dumps(record(kind, number)) for number in range(6)]
        (study.folder / "own" / f"{kind}.jsonl").write_text("\n".join(rows))
    sizes = ScratchModel(**suite["models"]["tiny"], max_length=256)
    model, tokenizer = build_scratch(sizes, ["What is it? A tree."], 0)
    model.save_pretrained(study.folder / "base")
    tokenizer.save_pretrained(study.folder / "base")
    done = study.snakemake(*TARGETS)
    assert done.returncode == 0, done.stdout[-6000:]
    return study


@pytest.fixture
def study(made, tmp_path) -> Study:
    return made.copy(tmp_path / "project")


def jobs(study: Study) -> set[str]:
    """Rule, task and model of every job that the same call would run."""
    return {log.removesuffix(f"/{RUN}.log").removesuffix(".log") for _, log in study.planned(*TARGETS)}


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text and len(old) == len(new)
    path.write_text(text.replace(old, new))


def test_nothing_runs_again_by_itself_and_what_made_a_model_is_noted(study):
    assert jobs(study) == set()
    run = read_json(study.results / f"training/own/base/{RUN}/run.json")
    assert set(run["inputs"]) == {"path"} and len(run["code"]) == 16


def test_own_records_edited_in_place_run_their_task_again(study):
    edit(study.folder / "own/retain.jsonl", "retain 3", "retain 7")
    assert jobs(study) == {"prepare_data/own", "finetune/own/base", "finetune/own/tiny"}
    before = read_json(study.results / f"training/own/tiny/{RUN}/run.json")["data"]
    done = study.snakemake(*TARGETS)
    assert done.returncode == 0, done.stdout[-6000:]
    after = read_json(study.results / f"training/own/tiny/{RUN}/run.json")["data"]
    assert after["forget"] == before["forget"] and after["retain"] != before["retain"]
    assert jobs(study) == set()


def test_a_base_model_edited_in_place_is_trained_again_on_every_task(study):
    weights = study.folder / "base/model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert jobs(study) == {"finetune/own/base", "finetune/authors/base"}


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_the_files_beside_the_weights_count(study, name):
    path = study.folder / "base" / name
    path.write_text(path.read_text() + "\n")
    assert jobs(study) == {"finetune/own/base", "finetune/authors/base"}


def test_the_cure_of_a_mixed_report_makes_a_run_again(study):
    """Reports name the run.json of what they cannot average (tests/study/test_made_of.py)."""
    named = f"results/small/training/own/base/{RUN}/run.json"
    planned = {log for _, log in study.planned(*TARGETS, "--forcerun", named)}
    assert planned == {f"finetune/own/base/{RUN}.log"}


def test_benchmark_questions_edited_in_place_are_asked_again_and_train_nothing(study):
    edit(study.folder / "questions/commonsense/arc_easy_test.jsonl", "number 2", "number 5")
    assert jobs(study) == {"standard_benchmarks/authors/tiny"}


def test_other_times_other_files_and_another_place_run_nothing(study):
    os.utime(study.folder / "own/forget.jsonl")
    (study.folder / "own/notes.txt").write_text("not read")
    (study.folder / "base/README.md").write_text("not read")
    (study.folder / "base").rename(study.folder / "elsewhere")
    study.variables["BASE"] = "elsewhere"
    assert jobs(study) == set()
