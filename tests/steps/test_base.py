"""The row `base`: the pretrained weights, evaluated where they lie, to the last bit."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import read_json, read_jsonl, sha256
from pipeline_lib.models.folder import load_model_folder, weights_sha256
from pipeline_lib.steps import base as step
from tests.steps.pretraining import model_with, run_pretrain, write_story
from tests.steps.study import MODEL, TRAINED, identity, job, run_evaluate


def run_base(root: Path, model: dict[str, Any], pretrained: Path | None) -> Path:
    """Make the folder of the row into `root` and return it."""
    who = identity("base", "none")
    step.run(job(root, {"base": pretrained}, TRAINED, who, model=model, inputs={}))
    return root / "model"


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_story(tmp_path_factory.mktemp("text") / "story.txt")


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory, text: Path) -> Path:
    return run_pretrain(tmp_path_factory.mktemp("pretrained"), model_with(text))


def folder_model(path: Path) -> dict[str, Any]:
    return {"source": "folder", "path": str(path), "max_length": 160, "prompt": MODEL["prompt"]}


def test_a_base_is_evaluated_as_its_pretrained_weights_are(
    tmp_path: Path, data: Path, text: Path, pretrained: Path
) -> None:
    """From the folder of the study's own base, from a folder of the user, and directly: the same bytes."""
    run_evaluate(tmp_path / "direct", data, pretrained, None, None)
    expected = (tmp_path / "direct" / "records.jsonl").read_bytes()
    shutil.copytree(pretrained, tmp_path / "own", ignore=shutil.ignore_patterns("run.json", "prompt.json"))
    for name, model, source in (
        ("study", model_with(text), pretrained),
        ("folder", folder_model(tmp_path / "own"), None),
    ):
        made = run_base(tmp_path / name, model, source)
        assert {file.name for file in made.iterdir()} == {"run.json", "prompt.json"}, "weights are not copied"
        run_evaluate(tmp_path / name, data, made, None, None)
        assert (tmp_path / name / "records.jsonl").read_bytes() == expected


def test_run_json_says_where_the_weights_lie_and_that_nothing_was_trained(
    tmp_path: Path, text: Path, pretrained: Path
) -> None:
    made = run_base(tmp_path, model_with(text), pretrained)
    run = read_json(made / "run.json")
    assert (made / run["weights_in"]["base"]).resolve() == pretrained.resolve()
    assert run["weights_sha256"] == weights_sha256(pretrained)
    assert run["origin"]["sha256"] == {"model.safetensors": sha256(pretrained / "model.safetensors")}
    assert (run["status"], run["steps"], run["trained_parameters"]) == ("ok", 0, 0)
    assert run["parameters"] == read_json(pretrained / "run.json")["parameters"]
    assert read_jsonl(tmp_path / "training" / "steps.jsonl") == []
    assert read_json(tmp_path / "training" / "run.json") == run


def test_weights_that_were_changed_since_are_refused(tmp_path: Path, text: Path, pretrained: Path) -> None:
    own = tmp_path / "own"
    shutil.copytree(pretrained, own, ignore=shutil.ignore_patterns("run.json", "prompt.json"))
    made = run_base(tmp_path, folder_model(own), None)
    other = run_pretrain(tmp_path / "other", model_with(text, seed=1))
    shutil.copyfile(other / "model.safetensors", own / "model.safetensors")
    with pytest.raises(UserError, match="the pretrained weights are not those that it names"):
        load_model_folder(made)
