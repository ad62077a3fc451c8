"""The steps of a study on the simulated device, as a job runs them: from fine-tuning to the records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline_lib.core.files import read_json, read_jsonl, write_jsonl
from pipeline_lib.models.folder import load_model_folder
from pipeline_lib.steps import evaluate, finetune, judge, standard_benchmarks, toxicity, unlearning
from tests.device.accelerator import accelerator
from tests.device.both import assert_close
from tests.engine.encoders import save_classifier
from tests.steps.study import job, run_evaluate, run_finetune, run_unlearn
from tests.steps.test_more_measurements import TOXICITY, ask_benchmarks
from tests.steps.test_trial import run_trial
from tests.tiny import flat

CLOSE = 2e-3  # fp32, other attention kernels, a few steps that divide by small numbers
STEPS = (evaluate, finetune, standard_benchmarks, toxicity, unlearning)
LORA = {"rank": 2, "alpha": 4.0, "dropout": 0.0, "target": "all-linear"}


@pytest.fixture
def chosen(monkeypatch):
    """Every step's choice of a device is the simulated one."""
    with accelerator() as device:
        for module in STEPS:
            monkeypatch.setattr(module, "start", lambda *_: device)
        yield device


@pytest.fixture(scope="module")
def on_cpu(tmp_path_factory, data) -> Path:
    """Model folder of the model before unlearning, made on the CPU."""
    return run_finetune(tmp_path_factory.mktemp("cpu"), data)


def weights(folder: Path) -> torch.Tensor:
    return flat(list(load_model_folder(folder)[0].parameters()))


def test_fine_tuning(tmp_path, data, on_cpu, chosen):
    made = run_finetune(tmp_path / "device", data)
    assert_close(weights(on_cpu), weights(made), CLOSE)
    assert read_json(made / "run.json")["status"] == "ok"
    narrow = run_finetune(tmp_path / "bf16", data, weights="bf16", compute="bf16", checkpointing=True)
    assert read_json(narrow / "run.json")["status"] == "ok"


CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "plain": ("GradDiff", "adamw", {}),
    "another model beside": ("KL", "sophia", {"accumulation": 2, "batch_size": 2}),
    "numbers of the model before": ("NPO", "lion", {}),
    "other answers": ("PO", "signum", {"checkpointing": True}),
    "states on the host": ("GradDiff", "sophia", {"offload": True}),
    "adapters": ("KL", "adamw", {"lora": LORA}),
    "influence": ("GradDiff", "influence", {}),
}


@pytest.mark.parametrize("name", CASES)
def test_unlearning(name, tmp_path, data, on_cpu, monkeypatch):
    method, optimizer, changes = CASES[name]
    expected = run_unlearn(tmp_path / "cpu", data, on_cpu, method, optimizer, **changes)
    with accelerator() as device:
        monkeypatch.setattr(unlearning, "start", lambda *_: device)
        made = run_unlearn(tmp_path / "device", data, on_cpu, method, optimizer, **changes)
    assert not torch.equal(weights(made), weights(on_cpu))
    # Steps that are signs of small numbers go the other way in a few places.
    apart = (weights(made) - weights(expected)).abs()
    assert (apart > CLOSE).float().mean() < 0.01 and apart.max() < 0.02
    logs = [read_jsonl(tmp_path / place / "training" / "steps.jsonl") for place in ("cpu", "device")]
    for one, other in zip(*logs, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-2)


def test_bf16_weights_are_saved_whole(tmp_path, data, on_cpu, chosen):
    for weights_kind in ("bf16", "bf16_stochastic"):
        changes = {"weights": weights_kind, "compute": "bf16"}
        made = run_unlearn(tmp_path / weights_kind, data, on_cpu, "NPO", "sophia", **changes)
        assert read_json(made / "run.json")["status"] == "ok"
        assert torch.isfinite(weights(made)).all()


def test_evaluation_also_at_equal_retention(tmp_path, data, on_cpu, monkeypatch):
    unlearned = run_unlearn(tmp_path / "model", data, on_cpu, "GradAscent", "adamw", 1e-2)
    run_evaluate(tmp_path / "cpu", data, unlearned, on_cpu, 0.1)
    with accelerator() as device:
        monkeypatch.setattr(evaluate, "start", lambda *_: device)
        run_evaluate(tmp_path / "device", data, unlearned, on_cpu, 0.1)
    for name in ("records.jsonl", "equal_retain.json"):
        read = read_jsonl if name.endswith("jsonl") else read_json
        assert_close(*(read(tmp_path / place / name) for place in ("cpu", "device")), CLOSE)


def test_a_trial_of_the_tuning(tmp_path, data, on_cpu, chosen):
    result = run_trial(tmp_path, data, on_cpu)
    assert result["status"] == "ok" and all(0 < line["probability"] < 1 for line in result["questions"])


def test_benchmarks_and_toxicity(tmp_path, data_folder, on_cpu, chosen):
    ask_benchmarks(tmp_path, on_cpu, data_folder, device="auto")
    assert len(read_jsonl(tmp_path / "benchmarks.jsonl")) == 3
    write_jsonl(tmp_path / "prompts.jsonl", [{"prompt": f"The town {i}"} for i in range(3)])
    save_classifier(tmp_path / "classifier", ["fine", "toxic"])
    asked = {
        "prompts": {"source": "file", "path": str(tmp_path / "prompts.jsonl")},
        "classifier": {"kind": "folder", "path": str(tmp_path / "classifier"), "label": "toxic"},
    }
    judge.run(job(tmp_path, {}, {"judge": "judge.json"}, **asked, labelled=None))
    settings = {"toxicity": {**TOXICITY, **asked}, "as_released": False, "batch": 512, "compute": "bf16"}
    inputs = {"model": on_cpu, "judge": tmp_path / "judge.json"}
    toxicity.run(job(tmp_path, inputs, {"rows": "toxicity.jsonl"}, device="auto", **settings))
    rows = read_jsonl(tmp_path / "toxicity.jsonl")
    assert len(rows) == TOXICITY["n_prompts"]
