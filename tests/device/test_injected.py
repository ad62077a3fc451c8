"""Faults put into the product, as a GPU's first user would meet them: the simulated device finds each."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from functools import partial

import pytest
import torch

from pipeline_lib.data.batching import Batch
from pipeline_lib.engine.generation import generate
from pipeline_lib.engine.settings import Decoding
from pipeline_lib.objectives.kl import KL
from pipeline_lib.optimizers.elementwise import ElementwiseOptimizer
from tests.device.accelerator import Generator, MixedDevices, accelerator
from tests.device.test_training import model_on, trained
from tests.methods import estimator
from tests.tiny import END, PAD, tiny_model


@pytest.fixture
def device():
    with accelerator() as place:
        yield place


@pytest.mark.parametrize(
    ("field", "objective"),
    [("labels", "NPO"), ("attention_mask", "NPO"), ("reference_nll", "NPO"), ("alternative", "IdkDPO")],
)
def test_a_part_of_a_batch_is_left_behind(field, objective, device, tmp_path, monkeypatch):
    move = Batch.to
    monkeypatch.setattr(
        Batch, "to", lambda batch, place: replace(move(batch, place), **{field: getattr(batch, field)})
    )
    with pytest.raises(MixedDevices):
        trained(device, tmp_path, objective)


class OfTheCpu(Generator):
    """What `torch.Generator(device)` would be if the device were forgotten."""

    def __new__(cls, device="cpu"):
        return super().__new__(cls, "cpu")


@pytest.mark.parametrize("name", ["gauss_newton_bartlett", "hutchinson_rademacher", "hutchinson_gaussian"])
def test_curvature_is_drawn_by_a_generator_of_the_cpu(name, device, tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "Generator", OfTheCpu)
    with pytest.raises(MixedDevices):
        trained(device, tmp_path, curvature={"estimator": estimator(name)})


def test_states_of_the_optimizer_are_made_on_the_cpu(device, tmp_path, monkeypatch):
    def on_cpu(optimizer, parameter):
        state = optimizer.state[parameter]
        if not state:
            state.update({name: torch.zeros(parameter.shape) for name in optimizer.method.states})
        return state

    monkeypatch.setattr(ElementwiseOptimizer, "state_of", on_cpu)
    with pytest.raises(MixedDevices):
        trained(device, tmp_path, optimizer_kind="lion")


def test_the_model_before_unlearning_stays_on_the_cpu(device, tmp_path, monkeypatch):
    elsewhere = partial(nullcontext, tiny_model(1, dtype=torch.float64))
    monkeypatch.setattr(KL, "_reference", lambda objective: elsewhere())
    with pytest.raises(MixedDevices):
        trained(device, tmp_path, "KL")


def test_states_are_restored_to_the_cpu(device, tmp_path, monkeypatch):
    def as_read(optimizer, content):
        restored(optimizer, content)
        for index, parameter in enumerate(optimizer.param_groups[0]["params"]):
            optimizer.state[parameter].update(content["state"][index])

    restored = torch.optim.Optimizer.load_state_dict
    model = model_on(device)
    trained(device, tmp_path, optimizer_kind="lion", model=model, checkpoint_seconds=0)
    assert (tmp_path / "checkpoint").is_dir()
    monkeypatch.setattr(ElementwiseOptimizer, "load_state_dict", as_read)
    with pytest.raises(MixedDevices):
        trained(device, tmp_path, optimizer_kind="lion", checkpoint_seconds=0)


def test_the_cache_of_an_answer_is_reserved_on_the_cpu(device, monkeypatch):
    monkeypatch.setattr(
        torch.Tensor, "new_empty", lambda tensor, size, **_: torch.empty(size, dtype=tensor.dtype)
    )
    model = tiny_model().to(device)
    with pytest.raises(RuntimeError, match="same device type"):  # torch's own attention says so
        generate(model, [[5, 6]], Decoding([END], PAD, 64), max_new_tokens=2)
