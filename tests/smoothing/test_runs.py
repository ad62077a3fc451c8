"""Smoothed runs: bits before, between and after, restarts, and what a step that cannot be taken leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline_lib.models import adapters
from pipeline_lib.objectives import OBJECTIVES
from pipeline_lib.smoothing.averaging import MEAN, Averaging
from pipeline_lib.training import checkpoint
from pipeline_lib.training.checkpoint import Kept, Progress
from pipeline_lib.training.updates import Diverged
from tests.methods import make_objective
from tests.smoothing.kinds import (
    EVERY,
    RELEASED,
    SETTINGS,
    Point,
    Toy,
    smoothing_of,
    step_of,
    trained,
    update_of,
)
from tests.tiny import flat, in_float64, tiny_model
from tests.training.every import TRAINED, data_for, freeze, objective_of
from tests.training.runs import Stopped, data, settings, stop_before, timeless

GRADIENTS = [(kind, given) for kind, given in EVERY if kind != "weight_averaging"]
NAMES = [f"{kind} {given.get('form', '')}".strip() for kind, given in EVERY]


def weights(model: torch.nn.Module) -> torch.Tensor:
    return flat([p.detach() for p in model.parameters()])


def grad_diff() -> Any:
    return make_objective("GradDiff", gamma=1.0)


def test_every_kind_is_tried() -> None:
    assert {kind for kind, _ in EVERY} == set(SETTINGS)


@pytest.mark.parametrize("kind", TRAINED)
def test_both_terms_add_up_and_are_what_is_smoothed(kind: str) -> None:
    """An objective that says it holds its terms apart does; their gradients add up to that of the whole."""
    with in_float64():
        model, objective = tiny_model(0, torch.float64), objective_of(kind)
        freeze(objective, model)
        step = step_of(model, objective, sets=data_for(objective, model, data(), settings()))
        whole, total = step.gradients(), gradient_of(step)
        if not objective.terms_apart:
            assert kind in ("L1Sparse", "TaskVector")
            with pytest.raises(ValueError, match="forget term is asked for"):
                step.gradients(part="forget")
            return
        assert step.gradients(part="forget") == whole
        forget = gradient_of(step)
        assert step.gradients(part="retain") == whole
        retain = gradient_of(step)
    assert torch.allclose(forget + retain, total, rtol=0, atol=1e-12 * float(total.norm()))
    assert (forget.norm() > 0) and (retain.norm() > 0) == (objective.uses_retain and kind != "UNDIAL")


def gradient_of(step: Any) -> torch.Tensor:
    return flat([torch.zeros_like(p) if p.grad is None else p.grad for p in step.parameters])


@pytest.mark.parametrize(("kind", "given"), GRADIENTS, ids=NAMES[: len(GRADIENTS)] or None)
def test_weights_are_the_same_bits_after_the_passes(kind: str, given: dict[str, Any]) -> None:
    model = tiny_model(attention_dropout=0.3).train()
    before, step = weights(model).clone(), step_of(model, grad_diff())
    smoothing_of(kind, **given).gradients(step, True)
    assert torch.equal(weights(model), before)
    first = gradient_of(step)
    torch.rand(5)  # what is drawn between them has no say
    smoothing_of(kind, **given).gradients(step, True)
    assert torch.equal(gradient_of(step), first)


@pytest.mark.parametrize("kind", SETTINGS)
def test_a_smoothing_changes_the_run_and_its_released_form_does_not(kind: str, tmp_path: Path) -> None:
    plain, smooth = tiny_model(), tiny_model()
    trained(plain, grad_diff(), None, tmp_path / "plain")
    trained(smooth, grad_diff(), smoothing_of(kind), tmp_path / "smooth")
    assert not torch.allclose(weights(smooth), weights(plain), atol=1e-6)
    if kind == "gradient_penalty":
        released = tiny_model()
        outcome, _ = trained(
            released, grad_diff(), smoothing_of(kind, form="as_released"), tmp_path / "released"
        )
        assert torch.equal(weights(released), weights(plain))
        assert all(row["penalty"] > 0 for row in outcome.log)


def test_a_penalty_as_strong_as_its_distance_is_sam_to_the_bit(tmp_path: Path) -> None:
    found = []
    for kind, given in (("sam", {"rho": 0.25}), ("gradient_penalty", {"strength": 0.25, "distance": 0.25})):
        model = tiny_model()
        trained(model, grad_diff(), smoothing_of(kind, **given), tmp_path / kind)
        found.append(weights(model))
    assert torch.equal(*found)


@pytest.mark.parametrize(("kind", "given"), GRADIENTS)
def test_micro_batches_are_the_whole_step(kind: str, given: dict[str, Any]) -> None:
    found = []
    with in_float64():
        for batch_size in (1, 4):
            sizes = {"batch_size": batch_size, "accumulation": 4 // batch_size}
            step = step_of(tiny_model(0, torch.float64), grad_diff(), **sizes)
            smoothing_of(kind, **given).gradients(step, True)
            found.append(gradient_of(step))
    assert torch.allclose(*found, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("kind", "given"), GRADIENTS)
def test_adapters_alone_are_moved(kind: str, given: dict[str, Any], tmp_path: Path) -> None:
    model = tiny_model()
    adapters.attach(model, 2, 4.0, 0.0, "all-linear", seed=1)
    frozen = {n: p.detach().clone() for n, p in model.named_parameters() if not p.requires_grad}
    outcome, _ = trained(model, grad_diff(), smoothing_of(kind, **given), tmp_path)
    assert outcome.status == "ok" and outcome.steps == 6
    assert all(torch.equal(p, frozen[n]) for n, p in model.named_parameters() if n in frozen)


@pytest.mark.parametrize("optimizer", ["adamw", "signum", "sophia", "muon"])
@pytest.mark.parametrize("kind", SETTINGS)
def test_a_stopped_run_goes_on_to_the_same_bits(
    kind: str, optimizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With dropout, and stopped between two weights of the mean."""
    found: list[tuple[torch.Tensor, Any, Any]] = []
    for folder, stop in (("a", None), ("b", 3), ("b", None)):
        model = tiny_model(attention_dropout=0.2)
        with monkeypatch.context() as patch:
            if stop:
                stop_before(stop, patch)
                with pytest.raises(Stopped):
                    trained(model, grad_diff(), smoothing_of(kind), tmp_path / folder, optimizer=optimizer)
                continue
            outcome, update = trained(
                model, grad_diff(), smoothing_of(kind), tmp_path / folder, optimizer=optimizer
            )
        found.append((weights(model), timeless(outcome.log), update.optimizer.state_dict()["state"]))
    assert torch.equal(found[0][0], found[1][0]) and found[0][1] == found[1][1]
    for index, state in found[0][2].items():
        for key, value in state.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(found[1][2][index][key]))


def test_the_mean_is_a_tensor_of_the_checkpoint_in_fp32(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    model = Point(1.0)
    model.to(torch.bfloat16)
    update = update_of(model, smoothing_of("weight_averaging", start=1, every=1))
    for _ in range(3):
        model.at.grad = torch.ones_like(model.at)
        update.optimizer.step()
    checkpoint.save(Kept(tmp_path / "c", "here"), model, update.optimizer, Progress(3))
    kept = load_file(tmp_path / "c" / "tensors.safetensors")[f"optimizer.0.{MEAN}"]
    walked = torch.tensor([0.8984375, 0.796875, 0.6953125])  # 1, then a tenth less, each rounded to bf16
    assert kept.dtype == torch.float32 and kept.tolist() == pytest.approx([float(walked.mean())], rel=1e-6)
    assert [update.optimizer.param_groups[0][name] for name in ("taken", "averaged")] == [3, 3]


def test_weights_and_mean_change_places_without_a_trace() -> None:
    model = Point(1.0, 1 / 3)
    update = update_of(model, smoothing_of("weight_averaging", start=2, every=1))
    assert isinstance(update.optimizer, Averaging)
    for step in range(4):
        before = weights(model).clone()
        update.optimizer.exchange()
        assert torch.equal(weights(model), before) == (step < 3)  # the first mean is the weights themselves
        update.optimizer.exchange()
        assert torch.equal(weights(model), before)
        model.at.grad = torch.full_like(model.at, step + 1.0)
        update.optimizer.step()


@pytest.mark.parametrize(("kind", "given"), GRADIENTS)
def test_a_step_that_is_not_finite_is_not_taken(kind: str, given: dict[str, Any], tmp_path: Path) -> None:
    """At 0 the gradient of the root is infinite; its sum with the retain term's must not look fine."""
    broken = Toy(lambda at: (at[0] - at[0].detach()).abs().sqrt(), lambda at: at[0])
    model = Point(1.0)
    with pytest.raises(Diverged):
        update_of(model, smoothing_of(kind, **given)).take(step_of(model, broken.objective()))
    assert model.at.tolist() == [1.0]
    outcome, _ = trained(model, broken.objective(), smoothing_of(kind, **given), tmp_path)
    assert (outcome.status, outcome.diverged_step) == ("diverged", 1) and model.at.tolist() == [1.0]


@pytest.mark.parametrize("kind", ["sam", *RELEASED])
def test_where_the_forget_term_is_flat_the_step_is_the_plain_one(kind: str) -> None:
    """No direction: not a division of 0 by 0."""
    flat_term = Toy(lambda at: 0 * at[0], lambda at: 3 * at[0])
    model = Point(1.0)
    row = update_of(model, smoothing_of(kind)).take(step_of(model, flat_term.objective()))
    assert model.at.tolist() == [pytest.approx(0.7)] and row["loss"] == 3.0


@pytest.mark.parametrize(("kind", "given"), EVERY)
def test_the_plan_counts_the_passes_that_are_made(kind: str, given: dict[str, Any]) -> None:
    """Read from a step that counts: how often the forget term is differentiated, and what comes last."""
    model, parts = Point(1.0, -2.0), []

    class Counting:
        def __init__(self, step: Any) -> None:
            self.step = step

        def __getattr__(self, name: str) -> Any:
            return getattr(self.step, name)

        def gradients(self, untouched: bool = False, part: str = "total") -> Any:
            parts.append(part)
            return self.step.gradients(untouched, part)

    term = Toy(lambda at: at[0] ** 3 + at[1] ** 2, lambda at: 3 * at[0])
    smoothing = smoothing_of(kind, **given)
    smoothing.gradients(Counting(step_of(model, term.objective())), True)
    assert parts == ["forget"] * smoothing.forget_passes + [smoothing.last_part]


def test_elementwise_optimisers_keep_their_settings_apart() -> None:
    """What a parameter group holds goes into compiled kernels and checkpoints as plain numbers."""
    for optimizer in ("signum", "sophia", "lion"):
        plain = update_of(tiny_model(), None, optimizer).optimizer.param_groups[0]
        smooth = update_of(tiny_model(), smoothing_of("sam"), optimizer).optimizer.param_groups[0]
        assert plain.keys() == smooth.keys()


def test_every_objective_that_forgets_by_a_gradient_can_be_smoothed() -> None:
    apart = {kind for kind, method in OBJECTIVES.kinds().items() if method.terms_apart}
    assert set(OBJECTIVES.kinds()) - apart == {"InContext", "L1Sparse", "TaskVector"}
