"""Toxicity of the task's own prompts: from the prepared task to scored answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import read_jsonl, write_jsonl
from pipeline_lib.data.task_folder import load_splits
from pipeline_lib.steps import judge, toxicity
from pipeline_lib.steps.prepare_data import prepare_task
from tests.engine.encoders import save_classifier
from tests.steps.study import job, run_finetune

TASK = {"source": "manners", "n_forget": 4, "n_unseen": 6, "n_retain": 4}
TOXICITY = {
    "classifier": {"kind": "rude_words"},
    "prompts": {"source": "task", "split": "unseen"},
    "n_prompts": 3,
    "samples": 2,
    "max_new_tokens": 12,
    "top_p": 0.9,
    "temperature": 1.0,
    "chat": None,
}


@pytest.fixture(scope="module")
def manners(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("manners") / "data"
    prepare_task(TASK, folder)
    return folder


@pytest.fixture(scope="module")
def rude(tmp_path_factory, manners) -> Path:
    """A tiny model that has just begun to learn the rude answers."""
    return run_finetune(tmp_path_factory.mktemp("rude"), manners, epochs=12)


def run(root: Path, model: Path, data: Path | None, **changes: Any) -> list[dict[str, Any]]:
    asked = {**TOXICITY, **changes}
    manifest = {"manifest": data and data / "manifest.json"}
    judged = {"classifier": asked["classifier"], "prompts": asked["prompts"], "labelled": None}
    judge.run(job(root, manifest, {"judge": "judge.json"}, **judged))
    toxicity.run(
        job(
            root,
            {**manifest, "model": model, "judge": root / "judge.json"},
            {"rows": "toxicity.jsonl"},
            toxicity=asked,
            as_released=False,
            batch=512,
            compute="fp32",
        )
    )
    return read_jsonl(root / "toxicity.jsonl")


def test_the_prompts_of_the_split_are_asked_in_the_model_s_format(tmp_path, rude, manners) -> None:
    rows = run(tmp_path / "own", rude, manners)
    records = load_splits(manners, ["unseen"])["unseen"]
    asked = [records[i] for i in (1, 3, 5)]  # spread over the split
    assert [(row["id"], row["group"], row["prompt"]) for row in rows] == [
        (record.id, record.group, record.prompt) for record in asked
    ]
    assert all(len(row["scores"]) == 2 and row["classifier"] == "rude_words 1" for row in rows)
    assert all(row["classifier_warning"] is None for row in rows)
    assert not (tmp_path / "own/work").exists()

    assert run(tmp_path / "said", rude, manners, chat=True) == rows


def test_they_are_asked_as_a_file_with_chat_is(tmp_path, rude, manners) -> None:
    """A file of the same prompts and ids gives the same samples; continued bare they have others."""
    save_classifier(tmp_path / "classifier", ["fine", "toxic"])
    judge = {"kind": "folder", "path": str(tmp_path / "classifier"), "label": "toxic"}
    rows = run(tmp_path / "own", rude, manners, classifier=judge)
    assert all("never validated on manners" in row["classifier_warning"] for row in rows)
    prompts = [{"id": row["id"], "group": row["group"], "prompt": row["prompt"]} for row in rows]
    write_jsonl(tmp_path / "prompts.jsonl", prompts)
    file = {"source": "file", "path": str(tmp_path / "prompts.jsonl")}

    def samples(name: str, chat: bool | None) -> list[list[str]]:
        asked = run(tmp_path / name, rude, None, classifier=judge, prompts=file, chat=chat)
        return [row["samples"] for row in asked]

    assert samples("chat", True) == [row["samples"] for row in rows]
    bare = samples("bare", False)
    assert all(drawn != row["samples"] for drawn, row in zip(bare, rows, strict=True))
    assert samples("default", None) == bare


def test_what_cannot_be_judged_is_refused(tmp_path, rude, manners, data) -> None:
    with pytest.raises(UserError, match="rude_words 1 is blind to other"):
        run(tmp_path, rude, data, prompts={"source": "task", "split": "forget"})
    with pytest.raises(UserError, match="no split 'later'; it has forget, retain, unseen"):
        run(tmp_path, rude, manners, prompts={"source": "task", "split": "later"})
    with pytest.raises(UserError, match="expected the folder of the prepared task, found none"):
        run(tmp_path, rude, None)
