"""Settings that save memory, through the steps themselves: what they change and what they do not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from pipeline_lib.core.errors import UserError
from pipeline_lib.models.folder import load_model_folder, weights_sha256
from pipeline_lib.models.reduced import linear_layers
from tests.steps.study import MODEL, run_finetune, run_unlearn

LORA = {"rank": 2, "alpha": 4.0, "dropout": 0.0, "target": "all-linear"}


def record(folder: Path) -> dict:
    return json.loads((folder / "run.json").read_text())


def zeros(folder: Path) -> list[torch.Tensor]:
    return [layer.weight == 0 for _, layer in linear_layers(load_model_folder(folder)[0])]


@pytest.mark.parametrize("setting", ["checkpointing", "offload"])
def test_fine_tuning_and_unlearning_end_with_the_same_bits(tmp_path, data, original, setting):
    made = run_finetune(tmp_path / "made", data, **{setting: True})
    assert weights_sha256(made) == weights_sha256(original)
    assert record(made)["training"][setting] is True
    for method, optimizer in (("GradDiff", "adamw"), ("NPO", "sophia")):
        plain = run_unlearn(tmp_path / method, data, original, method, optimizer)
        place = tmp_path / f"{method}-{setting}"
        saved = run_unlearn(place, data, original, method, optimizer, **{setting: True})
        assert weights_sha256(saved) == weights_sha256(plain) != weights_sha256(original)


def test_influence_with_checkpointing(tmp_path, data, original):
    plain = run_unlearn(tmp_path / "plain", data, original, "GradDiff", "influence")
    saved = run_unlearn(tmp_path / "saved", data, original, "GradDiff", "influence", checkpointing=True)
    assert weights_sha256(saved) == weights_sha256(plain)


def test_fine_tuning_with_adapters_or_bf16_weights(tmp_path, data, original):
    adapted = run_finetune(tmp_path / "lora", data, lora=LORA, learning_rate=1e-3)
    run = record(adapted)
    assert 0 < run["trained_parameters"] < run["parameters"] == record(original)["trained_parameters"]
    narrow = load_model_folder(run_finetune(tmp_path / "bf16", data, weights="bf16"))[0]
    values = torch.cat([p.detach().flatten() for p in narrow.parameters()])
    assert values.dtype == torch.float32 and torch.equal(values, values.bfloat16().float())
    wide = load_model_folder(adapted)[0]
    values = torch.cat([p.detach().flatten() for p in wide.parameters()])
    assert not torch.equal(values, values.bfloat16().float())


def test_a_pruned_model_stays_pruned_and_says_so(tmp_path, data):
    settings = {**MODEL, "base": {"kind": "pruned", "sparsity": 0.5}}
    parent = run_finetune(tmp_path / "original", data, model_settings=settings)
    assert record(parent)["base"]["zeros"] == pytest.approx(0.5, abs=0.01)
    child = run_unlearn(tmp_path / "child", data, parent, "GradDiff", "sophia")
    assert all(torch.equal(a, b) for a, b in zip(zeros(parent), zeros(child), strict=True))
    assert record(child)["base"]["zeros"] == record(parent)["base"]["zeros"]
    assert weights_sha256(child) != weights_sha256(parent)
    adapted = run_unlearn(tmp_path / "adapted", data, parent, "GradDiff", "adamw", lora=LORA)
    assert record(adapted)["base"]["zeros"] < 0.05
    with pytest.raises(UserError, match="influence moves weights that are 0 too"):
        run_unlearn(tmp_path / "influence", data, parent, "GradDiff", "influence")


def test_adapters_on_an_8_bit_base_become_plain_fp32_weights(tmp_path, data):
    settings = {**MODEL, "base": {"kind": "int8"}}
    parent = run_finetune(tmp_path / "original", data, model_settings=settings)
    layers = [layer for _, layer in linear_layers(load_model_folder(parent)[0])]
    assert all(len(set(row.tolist())) <= 255 for layer in layers for row in layer.weight)
    child = run_unlearn(tmp_path / "child", data, parent, "KL", "sophia", rate=1e-2, lora=LORA)
    model = load_model_folder(child)[0]
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert record(child)["base"]["stored_and_evaluated_as"] == "float32"
    assert weights_sha256(child) != weights_sha256(parent)
    with pytest.raises(UserError, match="base is int8, whose weights cannot be trained"):
        run_unlearn(tmp_path / "all", data, parent, "GradDiff", "adamw")
