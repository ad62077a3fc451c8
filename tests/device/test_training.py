"""Training on the simulated device: every objective and optimiser moves the weights as on the CPU.

In fp64, so that a difference is one of devices and not of rounding.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline_lib.curvature import ESTIMATORS
from pipeline_lib.models import adapters
from pipeline_lib.models.recompute import activations_again
from tests.device.accelerator import BACKEND
from tests.device.both import assert_close, on_both, weights_of
from tests.methods import estimator, make_optimizer
from tests.optimizers.kinds import PACKAGED, SETTINGS
from tests.tiny import in_float64, tiny_model
from tests.training.every import TRAINED, data_for, freeze, objective_of
from tests.training.runs import Stopped, curvature_of, data, run, settings, stop_before, timeless

KINDS = [kind for kind in SETTINGS if kind not in PACKAGED]  # packages have kernels of their own
LENGTH = {"batch_size": 1, "accumulation": 2, "epochs": 1}  # two steps


def model_on(device: torch.device, seed: int = 0, **changes: Any) -> Any:
    changes = {"dtype": torch.float64, **changes}
    return tiny_model(seed, attn_implementation="eager", **changes).to(device)


def trained(
    device: torch.device,
    folder: Path,
    objective_kind: str = "GradDiff",
    optimizer_kind: str = "sophia",
    curvature: dict[str, Any] | None = None,
    optimizer: dict[str, Any] | None = None,
    model: Any = None,
    **changes: Any,
) -> tuple[torch.Tensor, list[dict[str, Any]], str]:
    """Weights, log and status of two steps of two micro-batches."""
    model = model_on(device) if model is None else model
    objective = objective_of(objective_kind, model_on(device, 1))
    if not any(".lora_" in name for name, _ in model.named_parameters()):
        freeze(objective, model)
    sets = data_for(objective, model_on(device, 1), data(4, 3), settings(**LENGTH))
    given = {**SETTINGS[optimizer_kind], **(optimizer or {})}
    stepper = make_optimizer(optimizer_kind, model, learning_rate=1e-2, weight_decay=0.1, **given)
    outcome = run(
        model,
        folder / "checkpoint",
        optimizer_kind,
        optimizer=stepper,
        objective=objective,
        training_data=sets,
        curvature=curvature_of(optimizer_kind, **{"update_every": 1, **(curvature or {})}),
        **{**LENGTH, **changes},
    )
    objective.finish(model, dict(model_on(torch.device("cpu"), 1).named_parameters()))
    return weights_of(model, device), timeless(outcome.log), outcome.status


@in_float64()
@pytest.mark.parametrize("kind", TRAINED)
def test_every_objective(kind, tmp_path):
    on_cpu, on_device = on_both(lambda *place: trained(*place, kind), tmp_path)
    assert_close(on_cpu, on_device)
    assert on_device[2] == "ok" and len(on_device[1]) == 2


@in_float64()
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "adamw_noise"])  # draws on the device
def test_every_optimizer(kind, tmp_path):
    on_cpu, on_device = on_both(lambda *place: trained(*place, "NPO", kind), tmp_path)
    # Muon rounds to bf16 on its way, where a last bit of fp64 can decide.
    assert_close(on_cpu, on_device, 1e-2 if kind == "muon" else 1e-6)


@in_float64()
@pytest.mark.parametrize("name", sorted(ESTIMATORS.kinds()))
def test_every_estimator_at_its_own_pace(name, tmp_path):
    """`update_every: auto` and `gamma: auto`; labels, probes and examples are the device's own draws."""
    chosen = {"estimator": estimator(name), "update_every": "auto", "drift_target": 9.0}
    chosen["examples"] = None if estimator(name).at_hand else 1
    on_cpu, on_device = on_both(lambda *place: trained(*place, "NPO", curvature=chosen), tmp_path)
    assert_close(on_cpu, on_device)
    assert on_device[1][1]["curvature_mean"] is not None and on_device[1][1]["update_every"] == 2


@in_float64()
@pytest.mark.parametrize("kind", ["adamw", "sophia"])
def test_states_in_the_memory_of_the_machine(kind, tmp_path):
    """`offload`: the same step; the states lie on the CPU and the weights stay where they are."""

    def work(device, folder):
        model = model_on(device)
        before = trained(device, folder / "plain", "NPO", kind)
        after = trained(device, folder / "offload", "NPO", kind, {}, {"offload": True}, model)
        return before, after

    on_cpu, on_device = on_both(work, tmp_path)
    assert_close(on_cpu, on_device)
    assert_close(*on_device)


@in_float64()
@pytest.mark.parametrize("kind", ["KL", "RMU", "WGA"])
def test_adapters(kind, tmp_path):
    """Drawn on the CPU, so that they begin alike everywhere; merged where the model lies."""

    def work(device, folder):
        model = model_on(device, tie_word_embeddings=False)
        names = objective_of(kind).trainable(model)
        adapters.attach(model, 2, 4.0, 0.3, "all-linear", 7, names)  # with dropout
        drawn = [p.detach().cpu().clone() for name, p in model.named_parameters() if "lora_A" in name]
        _, log, status = trained(device, folder, kind, model=model)
        adapters.detach(model, merge=True)
        return drawn, weights_of(model, device), log, status

    on_cpu, on_device = on_both(work, tmp_path)
    assert all(torch.equal(*pair) for pair in zip(on_cpu[0], on_device[0], strict=True))
    assert_close(on_cpu, on_device)


@in_float64()
@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_continues_to_the_same_bits(kind, tmp_path, monkeypatch):
    """Written from the device and read back to it, with dropout that must be drawn anew the same."""

    def work(device, folder):
        def run_once(name):
            model = model_on(device, attention_dropout=0.2).train()
            return trained(device, folder / name, "NPO", kind, model=model, checkpoint_seconds=0)

        whole = run_once("whole")
        with monkeypatch.context() as patch, pytest.raises(Stopped):
            stop_before(1, patch)
            run_once("stopped")
        return whole, run_once("stopped")

    _, (whole, continued) = on_both(work, tmp_path)
    assert torch.equal(whole[0], continued[0])
    assert whole[1:] == continued[1:]


@in_float64()
def test_activation_checkpointing(tmp_path):
    """The second forward pass runs on the device's own thread, and draws the same dropout there."""

    def work(device, folder):
        def once(again):
            model = model_on(device, attention_dropout=0.2)
            with activations_again(model, again):
                return trained(device, folder / str(again), "NPO", model=model)

        return once(False), once(True)

    on_cpu, on_device = on_both(work, tmp_path)
    assert_close(on_cpu, on_device)
    assert torch.equal(on_device[0][0], on_device[1][0])


@pytest.mark.parametrize("offload", [False, True])
def test_weights_in_bf16_with_stochastic_rounding(offload, tmp_path):
    """Rounded by numbers of the device's own stream; nearly all weights fall the same way."""

    def work(device, folder):
        model = model_on(device, dtype=torch.bfloat16)
        more = {"stochastic_rounding": True, "offload": offload}
        return trained(device, folder, "NPO", "signum", optimizer=more, model=model)

    on_cpu, on_device = on_both(work, tmp_path)
    assert on_device[0].dtype == torch.bfloat16
    assert (on_cpu[0] == on_device[0]).float().mean() > 0.9
    assert (on_cpu[0].float() - on_device[0].float()).abs().max() < 0.05  # two steps of 0.01 the other way


@pytest.mark.parametrize("kind", TRAINED)
def test_every_objective_under_autocast(kind, tmp_path):
    """With CUDA's lists of what runs in half precision, which are not those of the CPU."""

    def work(device, folder):
        model = model_on(device, dtype=torch.float32)
        return trained(device, folder, kind, "sgd", model=model, compute="bf16")

    (_, log, _), (_, log_on_device, status) = on_both(work, tmp_path)
    assert status == "ok"
    assert log_on_device[0]["grad_norm"] == pytest.approx(log[0]["grad_norm"], rel=0.2)
    if log[0]["retain_loss"] is not None:
        assert log_on_device[0]["retain_loss"] == pytest.approx(log[0]["retain_loss"], rel=0.02)


def test_a_micro_batch_waits_for_the_device_once_or_twice(tmp_path):
    """Where its answers are, and whether transformers must mask; losses are read once a step."""

    def work(device, folder):
        counts = []
        for accumulation in (1, 4):
            model = model_on(device, dtype=torch.float32)
            before = BACKEND.synchronisations
            sets, size = data(accumulation, accumulation), {"batch_size": 1, "accumulation": accumulation}
            run(model, folder / str(accumulation), "adamw", training_data=sets, epochs=1, **size)
            counts.append(BACKEND.synchronisations - before)
        return (counts[1] - counts[0]) / 3

    _, more = on_both(work, tmp_path)
    assert more <= 2 * 2  # a forget and a retain batch
