"""Whole steps, from folder to folder, as the processes of a job run them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import read_json, write_json
from pipeline_lib.distributed import group
from pipeline_lib.steps import trial, unlearn
from tests.steps import study
from tests.training.every import settings_of

RUNS: dict[str, dict[str, Any]] = {
    "KL with adapters": {"kind": "KL", "optimizer": "sophia", "lora": {"rank": 2, "alpha": 4.0}},
    "WHP": {"kind": "WHP", "optimizer": "adamw"},
    "TaskVector": {"kind": "TaskVector", "optimizer": "adamw", "scale": 1.0},
    "NPO in bf16": {"kind": "NPO", "optimizer": "sgd", "weights": "bf16_stochastic"},
    "activations again": {"kind": "GradDiff", "optimizer": "sophia", "checkpointing": True},
    "L1Sparse": {"kind": "L1Sparse", "optimizer": "adamw"},
}
SHARDED = ("KL with adapters", "WHP", "activations again")
WHOLE = (*SHARDED, "TaskVector", "NPO in bf16")
TRAINING = {"batch_size": 2, "epochs": 2}


def run(root: Path, data: Path, parent: Path, name: str) -> None:
    """One of `RUNS` into `root`."""
    given = dict(RUNS[name])
    label, weights, lora = given.pop("optimizer"), given.pop("weights", "fp32"), given.pop("lora", None)
    saving = {"checkpointing": True} if given.pop("checkpointing", False) else {}
    optimizer = {**study.OPTIMIZERS[label], "learning_rate": 1e-3, "weight_decay": 0.1}
    adapters = lora and {"dropout": 0.0, "target": "all-linear", **lora}
    who, objective = study.identity(given["kind"], label), settings_of(given.pop("kind"), **given)
    changes = {**TRAINING, "weights": weights, "lora": adapters, **saving}
    unlearn.run(study.unlearning_job(root, data, parent, who, objective, optimizer, **changes))


def run_trial(root: Path, data: Path, parent: Path) -> None:
    """A trial of the tuning, which the first process judges."""
    optimizer = {**study.OPTIMIZERS["adamw"], "learning_rate": 1e-3, "weight_decay": 0.1}
    who = {**study.identity("NPO", "adamw"), "trial": 0}
    run = study.unlearning_job(root, data, parent, who, study.OBJECTIVES["NPO"], optimizer, **TRAINING)
    asked = {"tuned": {}, "evaluation": {"max_records": {}, "max_tokens_per_batch": 512}}
    trial.run(replace(run, settings={**run.settings, **asked}, outputs={"trial": root / "trial.json"}))


def all_of(root: Path, data: Path, parent: Path, device: str) -> None:
    """Fine-tuning, every run, and a trial, by this process and its fellows."""
    for sharded in (False, True):
        group.set_sharding(sharded)
        place = root / ("parts" if sharded else "whole")
        study.run_finetune(place / "finetune", data, **TRAINING)
        for name in SHARDED if sharded else WHOLE:
            run(place / name, data, parent, name)
    try:
        run(root / "refused", data, parent, "L1Sparse")
    except UserError as error:
        if group.current().writes:
            write_json(root / "refused.json", str(error))
    group.set_sharding(False)
    run_trial(root / "trial", data, parent)


def facts(root: Path) -> dict[str, Any]:
    """run.json without what the clock or the number of processes decides."""
    changing = {"train_time_s", "wall_time_s", "peak_memory_mb", "processes", "weights_sha256"}
    changing |= {"git_commit", "made_at"}
    return {
        key: value for key, value in read_json(root / "model" / "run.json").items() if key not in changing
    }


def weights(root: Path) -> dict[str, torch.Tensor]:
    return load_file(root / "model" / "model.safetensors")
