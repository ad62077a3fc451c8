"""Methods of one step or of two phases on the simulated device: influence, WHP, task vectors, small bases."""

from __future__ import annotations

import pytest
import torch

from pipeline_lib.models import adapters
from pipeline_lib.models.reduced import hold_reduced, reduce_model
from pipeline_lib.models.settings import Int8Base, PrunedBase
from pipeline_lib.training.checkpoint import Kept
from pipeline_lib.training.data import TrainingData
from pipeline_lib.training.generic_labels import generic_labels
from pipeline_lib.training.settings import LoRA
from tests.device.accelerator import Generator, SimulatedTensor
from tests.device.both import assert_close, on_both, weights_of
from tests.device.test_training import LENGTH, model_on, trained
from tests.tiny import in_float64, random_examples
from tests.training.every import TRAINED, data_for, freeze, objective_of
from tests.training.runs import data, one_shot, settings, timeless

INFLUENCE = {
    "learning_rate": 1e-2,
    "solver": "conjugate_gradient",
    "damping": 1.0,
    "max_iterations": 3,
    "tolerance": 1e-2,
    "curvature_data": "both",
    "curvature_examples": 3,
}


def stepped(device, kind, compute="fp32", dtype=torch.float64, **changes):
    model = model_on(device, dtype=dtype)
    objective = objective_of(kind, model_on(device, 1, dtype=dtype))
    freeze(objective, model)
    sets = data_for(objective, model_on(device, 1, dtype=dtype), data(3, 2))
    outcome = one_shot(model, objective, sets, 2, compute, 3, {**INFLUENCE, **changes})
    return weights_of(model, device), timeless(outcome.log), outcome.status


@in_float64()
@pytest.mark.parametrize("solver", ["conjugate_gradient", "lissa", "diagonal"])
def test_every_solver(solver, tmp_path):
    on_cpu, on_device = on_both(lambda device, _: stepped(device, "GradDiff", solver=solver), tmp_path)
    assert_close(on_cpu, on_device)
    assert on_device[2] == "ok"


@in_float64()
def test_ekfac(tmp_path, monkeypatch):
    pytest.importorskip("curvlinops", reason="the optional extra `ekfac` is not installed")
    monkeypatch.setattr("curvlinops.kfac.Generator", Generator)  # taken from torch before these tests began
    monkeypatch.setattr(SimulatedTensor, "data_ptr", lambda self: self.held.data_ptr())  # names a parameter
    on_cpu, on_device = on_both(lambda device, _: stepped(device, "GradDiff", solver="ekfac"), tmp_path)
    assert_close(on_cpu, on_device, 1e-5)
    assert on_device[2] == "ok"


@in_float64()
@pytest.mark.parametrize("kind", TRAINED)
def test_influence_with_every_objective(kind, tmp_path):
    def work(device, _):
        return stepped(device, kind, solver="diagonal", curvature_examples=1)

    on_cpu, on_device = on_both(work, tmp_path)
    assert_close(on_cpu, on_device)


def test_influence_under_autocast(tmp_path):
    def work(device, _):
        return stepped(device, "NPO", "bf16", torch.float32)

    (_, log, _), (_, on_device, status) = on_both(work, tmp_path)
    assert status == "ok"
    assert on_device[0]["grad_norm"] == pytest.approx(log[0]["grad_norm"], rel=0.1)


@in_float64()
@pytest.mark.parametrize("lora", [None, {"rank": 2, "alpha": 4.0, "dropout": 0.0, "target": "all-linear"}])
def test_labels_of_whp(lora, tmp_path):
    """The reinforced model is a copy, or the same one with adapters; the original stays where it is."""

    def work(device, folder):
        model = model_on(device, tie_word_embeddings=False)
        sets = TrainingData(forget=random_examples(4, 1), retain=[], pad_id=0)
        schedule = settings(**LENGTH)
        labels, outcome = generic_labels(
            model, objective_of("WHP"), sets, schedule, lora and LoRA(**lora), 3, Kept(folder, "here")
        )
        return labels, outcome.steps, weights_of(model, device)

    on_cpu, on_device = on_both(work, tmp_path)
    assert_close(on_cpu, on_device)
    assert len(on_device[0]) == 4


@in_float64()
@pytest.mark.parametrize(
    "base", [PrunedBase(kind="pruned", sparsity=0.5), Int8Base(kind="int8")], ids=["pruned", "int8"]
)
def test_a_reduced_base(base, tmp_path):
    """8 bits go to the device as a job moves them, and learn adapters.

    Pruned weights are hooked there: on a GPU a weight that is moved keeps its hooks, here it does not.
    """
    lora = {"rank": 2, "alpha": 4.0, "dropout": 0.0, "target": "all-linear"} if base.kind == "int8" else None

    def work(device, folder):
        model = model_on(torch.device("cpu"), tie_word_embeddings=False)
        facts = reduce_model(model, base)
        if base.kind == "pruned":
            hold_reduced(model.to(device), facts["base"], bool(lora), "fp32", "adamw", moves_zeros=False)
        else:
            hold_reduced(model, facts["base"], bool(lora), "fp32", "adamw", moves_zeros=False)
            model.to(device)
        if lora:
            adapters.attach(model, **lora, seed=3)
        _, log, status = trained(device, folder, "NPO", "adamw", model=model)
        if lora:
            adapters.detach(model, merge=True)
        return weights_of(model, device), log, status, facts["base"]["zeros"]

    on_cpu, on_device = on_both(work, tmp_path)
    assert_close(on_cpu, on_device)
