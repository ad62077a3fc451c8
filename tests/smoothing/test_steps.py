"""A smoothed run from folder to folder: what it saves, and what it says of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pipeline_lib.core.files import read_json, read_jsonl
from pipeline_lib.optimizers import OPTIMIZERS
from pipeline_lib.steps import unlearn
from pipeline_lib.steps.prepare_data import prepare_task
from tests.smoothing.kinds import SETTINGS
from tests.steps import study

STEPS = 3  # four questions to forget, two a step, one epoch and a half
LORA = {"rank": 2, "alpha": 4.0, "dropout": 0.0, "target": "all-linear"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Data, the model before unlearning, and a place for runs."""
    root = tmp_path_factory.mktemp("steps")
    prepare_task(study.TASK, root / "data")
    return root / "data", study.run_finetune(root / "original", root / "data"), root


def weights(
    made: tuple[Path, Path, Path], name: str, smoothing: dict[str, Any] | None, **changes: Any
) -> dict[str, torch.Tensor]:
    data, parent, root = made
    given = {"kind": "adamw", "learning_rate": 1e-3, "smoothing": smoothing}
    method = OPTIMIZERS.parse(given).model_dump()
    who, objective = study.identity("NPO", "soft"), study.OBJECTIVES["NPO"]
    settings = {"batch_size": 2, "epochs": 1.5, **changes}
    unlearn.run(study.unlearning_job(root / name, data, parent, who, objective, method, **settings))
    assert len(read_jsonl(root / name / "training" / "steps.jsonl")) == STEPS
    assert read_json(root / name / "model" / "run.json")["optimizer_settings"] == method
    return load_file(root / name / "model" / "model.safetensors")


@pytest.mark.parametrize("adapters", [False, True])
def test_the_model_that_is_saved_is_the_mean(adapters: bool, made: tuple[Path, Path, Path]) -> None:
    """A mean of the last weights alone is the plain run; one of all steps lies nearer to the start."""
    changes = {"lora": LORA} if adapters else {}
    plain = weights(made, f"plain {adapters}", None, **changes)
    last = weights(made, f"last {adapters}", {"kind": "weight_averaging", "start": STEPS}, **changes)
    every = {"kind": "weight_averaging", "start": 1, "every": 1}
    mean = weights(made, f"mean {adapters}", every, **changes)
    start = load_file(made[1] / "model.safetensors")
    assert all(torch.equal(last[name], tensor) for name, tensor in plain.items())
    moved = [
        sum(float((found[name] - tensor).square().sum()) for name, tensor in start.items()) ** 0.5
        for found in (plain, mean)
    ]
    assert 0.1 * moved[0] < moved[1] < 0.9 * moved[0]


@pytest.mark.parametrize("kind", [kind for kind in SETTINGS if kind != "weight_averaging"])
def test_a_smoothed_run_goes_from_folder_to_folder(kind: str, made: tuple[Path, Path, Path]) -> None:
    smooth = weights(made, kind, {"kind": kind, **SETTINGS[kind]}, checkpointing=True)
    start = load_file(made[1] / "model.safetensors")
    assert all(torch.isfinite(tensor).all() for tensor in smooth.values())
    assert any(not torch.equal(smooth[name], tensor) for name, tensor in start.items())
