"""Every objective with every optimiser, on all weights and on adapters: it moves, and moves alike again."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch

from pipeline_lib.data.records import read_records
from pipeline_lib.models.folder import load_model_folder
from pipeline_lib.steps.unlearning import unlearn_model
from tests.prepared import put_split
from tests.steps.study import OPTIMIZERS, identity, unlearning_job
from tests.tiny import flat
from tests.training.every import TRAINED, settings_of

LORA = {"rank": 2, "alpha": 4.0, "dropout": 0.1, "target": "all-linear"}
# One of each kind of preparation: none, numbers, a reference model, pairs, labels, frozen layers, a state,
# the retain set alone, a last change of the weights.
WITH_ADAPTERS = ["GradDiff", "NPO", "KL", "DPO", "WHP", "RMU", "PDU", "L1Sparse", "TaskVector"]
STEPS = 2


@pytest.fixture(scope="module")
def task(tmp_path_factory, data):
    """The prepared task with alternative answers to the forget set, two or three each."""
    folder = tmp_path_factory.mktemp("grid") / "data"
    shutil.copytree(data, folder)
    records = read_records(folder / "forget.jsonl")
    told = [
        replace(r, alternatives=("Nobody knows.", f"It was {i}.", "Perhaps.")[: 2 + i % 2])
        for i, r in enumerate(records)
    ]
    put_split(folder, "forget", told)
    return folder


def unlearned(kind, optimizer, task, original, root, seed=0, **changes):
    """(all weights (P,), what the run left)."""
    stepper = {**OPTIMIZERS[optimizer], "learning_rate": 1e-2}
    if optimizer != "influence":
        stepper["weight_decay"] = 0.1
    training = {"epochs": 1, "batch_size": 2, "checkpoint_seconds": 1e9}
    who = {**identity(kind, optimizer), "seed": seed}
    place = root / f"{kind}-{optimizer}"
    done = unlearn_model(
        unlearning_job(place, task, original, who, settings_of(kind), stepper, **training, **changes)
    )
    return flat(list(done.model.parameters())), done


@pytest.fixture(scope="module")
def before(original):
    return load_model_folder(original)[0]


def check(kind, optimizer, before, *arguments, **changes):
    weights, done = unlearned(kind, optimizer, *arguments, **changes)
    assert done.outcome.status == "ok"
    assert done.outcome.steps == len(done.outcome.log) == (1 if optimizer == "influence" else STEPS)
    assert torch.isfinite(weights).all()
    assert not torch.equal(weights, flat(list(before.parameters())))
    assert [name for name, _ in done.model.named_parameters()] == [n for n, _ in before.named_parameters()]
    again, _ = unlearned(kind, optimizer, *arguments, **changes)
    assert torch.equal(weights, again)
    return weights, done


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("kind", TRAINED)
def test_all_weights(kind, optimizer, task, original, before, tmp_path):
    check(kind, optimizer, before, task, original, tmp_path)


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "sophia", "influence"])
@pytest.mark.parametrize("kind", WITH_ADAPTERS)
def test_adapters(kind, optimizer, task, original, before, tmp_path):
    weights, done = check(kind, optimizer, before, task, original, tmp_path, lora=LORA)
    moved = {
        name
        for (name, now), then in zip(done.model.named_parameters(), before.parameters(), strict=True)
        if not torch.equal(now, then)
    }
    # At the start only B has a gradient, so that one Newton step moves what is linear in B: all layers.
    wanted = "down_proj" if kind == "RMU" else "proj"
    assert moved == {name for name, _ in before.named_parameters() if wanted in name}
    assert done.facts["training"]["lora"] == LORA
    assert done.facts["trained_parameters"] < len(weights) / 2
