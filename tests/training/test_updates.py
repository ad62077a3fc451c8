"""The protocol of updates, by two that the library does not have: sharpness-aware, and without a gradient."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from pipeline_lib.core import stopping
from pipeline_lib.core.meter import Meter
from pipeline_lib.distributed.group import ALONE, Group
from pipeline_lib.objectives import Objective
from pipeline_lib.objectives.base import Losses, share_of_step
from pipeline_lib.optimizers import OPTIMIZERS
from pipeline_lib.optimizers.offload import OnHost
from pipeline_lib.training import checkpoint
from pipeline_lib.training.batches import MiniBatches
from pipeline_lib.training.checkpoint import Keeper, Kept
from pipeline_lib.training.loop import train
from pipeline_lib.training.sampling import derived_seed
from pipeline_lib.training.updates import Diverged, Step, Update, gradient_update
from tests.methods import make_objective
from tests.tiny import tiny_model
from tests.training.runs import Stopped, data, settings, stop_before, timeless

SLOPES = torch.tensor([2.0, 0.5])
START = torch.tensor([1.0, -2.0])


class Point(torch.nn.Module):
    """Two weights, and no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.at = torch.nn.Parameter(START.clone())


class Bowl(Objective):
    """L = (2 x^2 + 0.5 y^2) / 2, whatever the batches; the gradient is (2 x, 0.5 y)."""

    kind: str = "Bowl"
    uses_retain: ClassVar[bool] = False

    def __call__(self, model: Any, forget: Any, retain: Any) -> Losses:
        loss = (SLOPES * model.at.square()).sum() / 2 * share_of_step(forget)
        return Losses(loss, None, None)


@dataclass
class Plain:
    """What both toys have in common: plain steps of SGD, and nothing that they adapt."""

    optimizer: torch.optim.Optimizer

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        pass


@dataclass
class SharpnessAware(Plain):
    """SAM (arXiv 2010.01412, eq. 3): the gradient at w + rho g / |g| is applied at w."""

    rho: float = 0.1

    def take(self, step: Step) -> dict[str, Any]:
        losses = step.gradients(untouched=True)
        length = step.group.norm(step.parameters)
        moves = [self.rho / length * p.grad for p in step.parameters]
        with torch.no_grad():
            for parameter, move in zip(step.parameters, moves, strict=True):
                parameter.add_(move)
            step.gradients()
            for parameter, move in zip(step.parameters, moves, strict=True):
                parameter.sub_(move)
        step.apply(self.optimizer)
        return {**losses, "grad_norm": float(length), "rho": self.rho}


@dataclass
class TwoPoint(Plain):
    """SPSA (Spall 1992): (L(w + e z) - L(w - e z)) / (2 e) z, from losses alone."""

    width: float = 1e-2

    def take(self, step: Step) -> dict[str, Any]:
        places = [self._moved(step, side) for side in (1.0, -2.0, 1.0)]
        assert all(parameter.grad is None for parameter in step.parameters)
        slope = (places[0]["loss"] - places[1]["loss"]) / (2 * self.width)
        for parameter, probe in zip(step.parameters, probes(step), strict=True):
            parameter.grad = slope * probe
        step.apply(self.optimizer)
        return places[2]

    @torch.no_grad()
    def _moved(self, step: Step, by: float) -> dict[str, float]:
        for parameter, probe in zip(step.parameters, probes(step), strict=True):
            parameter.add_(probe, alpha=by * self.width)
        return step.losses()


def probes(step: Step) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(derived_seed(step.seed, "probe", step.number))
    return [torch.randn(p.shape, generator=generator) for p in step.parameters]


def go(kind: type[Any], folder: Path, steps: int) -> tuple[torch.Tensor, list[dict[str, Any]]]:
    """Steps of 4 examples in micro-batches of 2, of which there are 10: the last of three has one."""
    model = Point()
    update: Update = kind(torch.optim.SGD(model.parameters(), lr=0.1))
    cut = settings(epochs=steps / 3, warmup=0.0, checkpoint_seconds=0)
    outcome = train(model, Bowl(), update, MiniBatches(data(), cut, 3), Kept(folder, "toy"))
    assert (outcome.status, outcome.steps, len(outcome.log)) == ("ok", steps, steps)
    return model.at.detach(), outcome.log


def test_a_sharpness_aware_step_by_hand(tmp_path):
    """g = (2, -1), |g| = sqrt(5), so the second gradient is at (1 + 0.2 / sqrt(5), -2 - 0.1 / sqrt(5))."""
    weights, (row,) = go(SharpnessAware, tmp_path, 1)
    x, y = 1 + 0.2 / 5**0.5, -2 - 0.1 / 5**0.5
    assert weights.tolist() == pytest.approx([1 - 0.1 * 2 * x, -2 - 0.1 * 0.5 * y])
    assert row["loss"] == pytest.approx(2.0) and row["grad_norm"] == pytest.approx(5**0.5)
    assert (row["rho"], row["learning_rate"], row["epoch"], row["curvature_s"]) == (0.1, 0.1, 1 / 3, None)


def test_a_two_point_step_by_hand(tmp_path):
    """On a quadratic the difference quotient is exact: z . g, whatever the width."""
    weights, (row,) = go(TwoPoint, tmp_path, 1)
    generator = torch.Generator().manual_seed(derived_seed(3, "probe", 0))
    z = torch.randn(2, generator=generator)
    slope = 2.0 * z[0] - 1.0 * z[1]
    assert weights.tolist() == pytest.approx((START - 0.1 * slope * z).tolist(), rel=1e-3)
    assert row["loss"] == pytest.approx(2.0, rel=1e-5) and row["grad_norm"] is None


@pytest.mark.parametrize("kind", [SharpnessAware, TwoPoint])
def test_both_end_and_go_on_to_the_same_bits(kind, tmp_path, monkeypatch):
    whole, log = go(kind, tmp_path / "a", 6)
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        stop_before(4, patch)
        go(kind, tmp_path / "b", 6)
    weights, continued = go(kind, tmp_path / "b", 6)
    assert torch.equal(weights, whole) and timeless(continued) == timeless(log)


def step_of(model: Any, stop: Any = None) -> Step:
    objective = make_objective("GradDiff", gamma=1.0)
    forget, retain = MiniBatches(data(), settings(), 3).batches(0)
    parameters = list(model.parameters())
    return Step(0, 3, model, parameters, objective, forget, retain, 0, "fp32", ALONE, stop)


def test_every_call_of_a_step_sees_the_same_dropout():
    step = step_of(tiny_model(attention_dropout=0.5).train())
    first, one = step.gradients(), [p.grad.clone() for p in step.parameters]
    torch.rand(7)  # what is drawn between them has no say
    assert step.losses() == first
    assert all(torch.equal(p.grad, g) for p, g in zip(step.parameters, one, strict=True))
    assert step.gradients() == first
    assert all(torch.equal(p.grad, g) for p, g in zip(step.parameters, one, strict=True))


def test_a_step_is_left_only_while_nothing_is_changed():
    asked: list[int] = []
    step = step_of(tiny_model(), lambda: asked.append(1))
    step.gradients()
    step.losses()
    assert not asked
    step.gradients(untouched=True)
    assert len(asked) == 2  # before each of two micro-batches


def test_an_update_that_diverges_ends_the_run_before_its_step(tmp_path):
    class Broken(SharpnessAware):
        def take(self, step: Step) -> dict[str, Any]:
            if step.number == 1:
                raise Diverged
            return super().take(step)

    model = Point()
    update = Broken(torch.optim.SGD(model.parameters(), lr=0.1))
    outcome = train(model, Bowl(), update, MiniBatches(data(), settings(), 3), Kept(tmp_path, "toy"))
    assert (outcome.status, outcome.diverged_step, outcome.steps, len(outcome.log)) == ("diverged", 2, 1, 1)


def test_states_stay_on_the_device_and_weights_are_rounded_to_nearest_unless_asked():
    method = OPTIMIZERS.parse({"kind": "adamw", "learning_rate": 1e-3})
    update = gradient_update(method, tiny_model(), 1.0, ALONE)
    assert type(update.optimizer) is torch.optim.AdamW
    held = gradient_update(method, tiny_model(), 1.0, ALONE, offload=True)
    assert type(held.optimizer) is OnHost


class Two(Group):
    """One of two processes, which notes what it is told."""

    size = 2

    def __init__(self, rank: int, sharded: bool) -> None:
        self.rank, self.sharded, self.steps = rank, sharded, 0

    def stepped(self) -> None:
        self.steps += 1


def test_replicas_round_alike_and_parts_do_not():
    """Rounding is random: replicas must not drift apart, and parts must not repeat each other."""
    seeds = {}
    for rank, sharded in ((0, False), (1, False), (0, True), (1, True)):
        group = Two(rank, sharded)
        step = replace(step_of(tiny_model()), group=group)
        optimizer = torch.optim.SGD(step.parameters, lr=0.1)
        torch.manual_seed(99 + rank)
        step.apply(optimizer)
        seeds[rank, sharded] = torch.initial_seed()
        assert group.steps == 1
    assert seeds[0, False] == seeds[1, False] and seeds[0, True] != seeds[1, True]


def test_the_losses_of_the_last_step_stand_in_the_progress(tmp_path, monkeypatch):
    facts: list[str] = []
    monkeypatch.setattr(Meter, "update", lambda meter, facts="", kept=facts: kept.append(facts))
    _, log = go(SharpnessAware, tmp_path, 2)
    assert facts == [f"loss={row['loss']:.3f}" for row in log]


def test_a_process_alone_leaves_the_random_numbers_to_the_optimiser():
    step = step_of(tiny_model())
    step.gradients()
    torch.rand(1)  # so that the state is not that of the step's own seed
    before = torch.get_rng_state()
    step.apply(torch.optim.SGD(step.parameters, lr=0.1))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("steps", [0, 2])
def test_a_run_that_is_asked_to_end_writes_what_it_has(steps, monkeypatch):
    saved = []
    keeper = Keeper(lambda: saved.append(steps), 1e9, 5, ALONE)
    keeper.stop(steps)
    assert not saved
    monkeypatch.setattr(checkpoint, "asked", lambda: True)
    told = "a checkpoint of step 2 of 5 is written" if steps else "no step was taken yet"
    with pytest.raises(stopping.Stopped, match=told):
        keeper.stop(steps)
    assert saved == [steps] * bool(steps)
