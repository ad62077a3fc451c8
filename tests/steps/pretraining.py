"""A base of a few steps on a made-up story, for the tests of pretraining."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline_lib.steps import pretrain
from pipeline_lib.tasks.passages.story import story
from tests.steps.study import MODEL, TRAINED, job

STEPS = 12
PRETRAIN: dict[str, Any] = {
    "context": 32,
    "steps": STEPS,
    "batch_size": 4,
    "learning_rate": 1e-2,
    "held_out": 0.1,
    "compute": "fp32",
    "checkpoint_seconds": 0,
}


def write_story(path: Path, words: int = 2000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(story(3, "elsewhere", words), encoding="utf-8")
    return path


def model_with(path: Path, **changes: Any) -> dict[str, Any]:
    """The small model of the tests, pretrained on this text; `changes`: of the block `pretrain`."""
    return {**MODEL, "pretrain": {**PRETRAIN, "text": [{"path": str(path)}], **changes}}


def run_pretrain(root: Path, model: dict[str, Any], code: str = "") -> Path:
    """Pretrain into `root` and return the model folder."""
    given = {"label": "mini", "model": model, "inputs": {"text.0.path": "of the test"}}
    pretrain.run(job(root, {}, TRAINED, {"suite": "test"}, work="checkpoint", code=code, **given))
    return root / "model"
