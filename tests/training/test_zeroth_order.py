"""Zeroth-order steps, by hand on a quadratic, and what their estimate is on the average."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline_lib.core.errors import UserError
from pipeline_lib.distributed.group import ALONE, Group
from pipeline_lib.objectives.base import Losses
from pipeline_lib.optimizers import OPTIMIZERS
from pipeline_lib.optimizers.elementwise import CHUNK
from pipeline_lib.training.batches import MiniBatches
from pipeline_lib.training.checkpoint import Kept
from pipeline_lib.training.loop import train
from pipeline_lib.training.make import make_update
from pipeline_lib.training.sampling import derived_seed
from pipeline_lib.training.settings import Unlearn
from pipeline_lib.training.updates import Diverged
from tests.methods import make_objective
from tests.tiny import in_float64, tiny_model
from tests.training.runs import Stopped, data, settings, stop_before, timeless
from tests.training.test_updates import Bowl, Point, step_of

KINDS = ["zo_sgd", "zo_adamm", "r_adazo", "hizoo"]
LR = 0.1


def update_of(model: Any, kind: str, **given: Any) -> Any:
    changes = {"max_grad_norm": 1e9, **{k: given.pop(k) for k in ("max_grad_norm",) if k in given}}
    training = Unlearn(**{**settings().model_dump(), **changes})
    method = OPTIMIZERS.parse({"kind": kind, "learning_rate": LR, **given})
    return make_update(method, model, MiniBatches(data(), training, 3), training, ALONE)


def after(
    kind: str, steps: int, decay: float = 0.0, **given: Any
) -> tuple[list[float], list[dict[str, Any]]]:
    """Where the point of the bowl is after so many steps, and the log's facts of each."""
    with in_float64():
        model = Point().double()
        update = update_of(model, kind, **given)
        for held in update.optimizer.param_groups:
            held["weight_decay"] = decay  # which vectors do not have
        facts = []
        for number in range(steps):
            facts.append(update.take(replace(step_of(model), objective=Bowl(kind="Bowl"), number=number)))
        return model.at.tolist(), facts


def drawn(step: int, query: int = 0) -> torch.Tensor:
    """The direction of a step of seed 3."""
    generator = torch.Generator().manual_seed(derived_seed(3, "direction", step, query))
    return torch.empty(2, dtype=torch.float64).normal_(generator=generator)


def slope(at: list[float], u: torch.Tensor) -> float:
    """On a quadratic the difference is exact, whatever mu: the gradient (2 x, 0.5 y) times u."""
    return 2 * at[0] * u[0].item() + 0.5 * at[1] * u[1].item()


def test_a_step_of_two_queries_by_hand() -> None:
    one, two = drawn(0), drawn(0, 1)
    c = [slope([1.0, -2.0], one), slope([1.0, -2.0], two)]
    g = [(c[0] * one[i].item() + c[1] * two[i].item()) / 2 for i in range(2)]
    expected = [1.0 - LR * 0.5 * 1.0 - LR * g[0], -2.0 - LR * 0.5 * -2.0 - LR * g[1]]
    found, (facts,) = after("zo_sgd", 1, queries=2, mu=0.3)
    assert found == pytest.approx([1.0 - LR * g[0], -2.0 - LR * g[1]], abs=1e-12)
    assert facts["grad_norm"] == pytest.approx(math.sqrt((c[0] ** 2 + c[1] ** 2) / 2))
    assert facts["update_norm"] == pytest.approx(LR * math.hypot(*g))
    # f is 2 at the weights and its bend along u is (2 u_x^2 + 0.5 u_y^2) mu^2 / 2 on each side.
    bends = [(2 * u[0] ** 2 + 0.5 * u[1] ** 2).item() * 0.3**2 / 2 for u in (one, two)]
    assert facts["loss"] == pytest.approx(2.0 + sum(bends) / 2)
    found, _ = after("zo_sgd", 1, queries=2, mu=0.3, decay=0.5)
    assert found == pytest.approx(expected, abs=1e-12)


def test_slopes_are_scaled_to_the_largest_norm() -> None:
    u = drawn(0)
    c = slope([1.0, -2.0], u)
    limit = abs(c) / 4
    found, (facts,) = after("zo_sgd", 1, max_grad_norm=limit)
    assert found == pytest.approx([1.0 - LR * c / 4 * u[0].item(), -2.0 - LR * c / 4 * u[1].item()], abs=1e-9)
    assert facts["grad_norm"] == pytest.approx(abs(c), rel=1e-6)


def by_hand(kind: str) -> list[float]:
    """Two steps from (1, -2), each coordinate with its own averages."""
    at, m, v, w = [1.0, -2.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]
    for step in range(2):
        u = drawn(step)
        c = slope(at, u)
        for i in range(2):
            g = c * u[i].item()
            m[i] = 0.9 * m[i] + 0.1 * g
            squared = m[i] ** 2 if kind == "r_adazo" else g**2
            v[i] = 0.8 * v[i] + 0.2 * squared
            w[i] = max(w[i], v[i])
            eps = 1e-3
            at[i] -= LR * m[i] / (math.sqrt(v[i] + eps) if kind == "r_adazo" else math.sqrt(w[i]) + eps)
    return at


@pytest.mark.parametrize("kind", ["zo_adamm", "r_adazo"])
def test_two_adaptive_steps_by_hand(kind: str) -> None:
    found, _ = after(kind, 2, beta1=0.9, beta2=0.8, eps=1e-3)
    assert found == pytest.approx(by_hand(kind), rel=1e-8)


def test_two_steps_of_hizoo_by_hand() -> None:
    """d = mu^2 (2 p_x^2 + 0.5 p_y^2) along p = u / sqrt(h), so the estimate is half of that, times h u^2."""
    at, h = [1.0, -2.0], [1.0, 1.0]
    for step in range(2):
        u = drawn(step)
        p = [u[i].item() / math.sqrt(h[i]) for i in range(2)]
        c = 2 * at[0] * p[0] + 0.5 * at[1] * p[1]
        bend = (2 * p[0] ** 2 + 0.5 * p[1] ** 2) / 2
        at = [at[i] - LR * c * p[i] for i in range(2)]
        h = [0.7 * h[i] + 0.3 * bend * h[i] * u[i].item() ** 2 for i in range(2)]
    assert h[0] != pytest.approx(1.0, abs=0.05)
    found, _ = after("hizoo", 2, alpha=0.3)
    assert found == pytest.approx(at, rel=1e-6)


@pytest.mark.parametrize("directions", ["gaussian", "sphere"])
def test_the_estimate_is_the_gradient_on_the_average(directions: str) -> None:
    """Of a quadratic; over 4000 queries each coordinate lies within five standard errors."""
    queries = 4000
    (x, y), _ = after("zo_sgd", 1, queries=queries, directions=directions)
    g = [(1.0 - x) / LR, (-2.0 - y) / LR]
    # E u u^T = I for both; with two coordinates the variance of g_i is at most |grad|^2 + grad_i^2.
    bound = 5 * math.sqrt((5.0 + 4.0) / queries)
    assert abs(g[0] - 2.0) < bound and abs(g[1] + 1.0) < bound


def test_a_direction_on_the_sphere_has_its_length() -> None:
    """Drawn in pieces over tensors of several sizes, each time the same."""
    model = torch.nn.ParameterList([torch.zeros(CHUNK + 40), torch.zeros(7, 5), torch.zeros(3)])
    count = sum(p.numel() for p in model)
    update = update_of(model, "zo_sgd", directions="sphere")
    update.optimizer.move(update.optimizer.direction(11), 1.0)
    moved = torch.cat([p.detach().flatten() for p in model])
    assert moved.norm().item() == pytest.approx(math.sqrt(count), rel=1e-5)
    assert 0 < abs(moved.mean().item()) < 5 / math.sqrt(count)
    update.optimizer.move(update.optimizer.direction(11), -1.0)
    assert all(not p.any() for p in model)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_that_do_not_step_stay_within_rounding(kind: str) -> None:
    """And no gradient is made."""
    model = tiny_model()
    before = [p.detach().clone() for p in model.parameters()]
    update = update_of(model, kind, queries=2)
    for held in update.optimizer.param_groups:
        held["lr"] = 0.0
    update.take(step_of(model))
    assert all(p.grad is None for p in model.parameters())
    drift = max((p - q).abs().max().item() for p, q in zip(model.parameters(), before, strict=True))
    assert 0 < drift < 2e-6


def go(kind: str, folder: Path, steps: int) -> tuple[torch.Tensor, list[dict[str, Any]]]:
    model = tiny_model(attention_dropout=0.3).train()
    update = update_of(model, kind, queries=2, directions="sphere")
    course = MiniBatches(data(), settings(epochs=steps / 3, checkpoint_seconds=0), 3)
    outcome = train(model, make_objective("GradDiff", gamma=1.0), update, course, Kept(folder, "zo"))
    return torch.cat([p.detach().flatten() for p in model.parameters()]), outcome.log


@pytest.mark.parametrize("kind", KINDS)
def test_a_stopped_run_goes_on_to_the_same_bits(kind: str, tmp_path: Path, monkeypatch: Any) -> None:
    whole, log = go(kind, tmp_path / "a", 3)
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        stop_before(2, patch)
        go(kind, tmp_path / "b", 3)
    weights, continued = go(kind, tmp_path / "b", 3)
    assert torch.equal(weights, whole) and timeless(continued) == timeless(log)


def test_a_loss_that_is_not_finite_ends_the_run_with_the_weights_of_before() -> None:
    class Cliff(Bowl):
        def __call__(self, model: Any, forget: Any, retain: Any) -> Losses:
            losses = super().__call__(model, forget, retain)
            return replace(losses, total=losses.total * (math.nan if model.at[0] != 1.0 else 1.0))

    model = Point().double()
    update = update_of(model, "r_adazo")
    with pytest.raises(Diverged):
        update.take(replace(step_of(model), objective=Cliff(kind="Bowl")))
    assert model.at.tolist() == pytest.approx([1.0, -2.0], abs=1e-12)


def test_processes_that_would_draw_other_directions_are_told() -> None:
    class Other(Group):
        def check_same(self, value: int, what: str) -> None:
            raise UserError(f"the processes of this job do not agree on {what}: {value}, 7")

    model = Point()
    with pytest.raises(UserError, match="do not agree on the random directions of a zeroth-order step"):
        update_of(model, "zo_sgd").take(replace(step_of(model), objective=Bowl(kind="Bowl"), group=Other()))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mu": 0}, "mu: .*greater than 0"),
        ({"queries": 0}, "queries: .*greater than 0"),
        ({"directions": "cube"}, "directions: "),
        ({"smoothing": {"kind": "sam", "rho": 0.1}}, "smoothing: zo_sgd does not step along one gradient"),
    ],
)
def test_settings_that_measure_nothing_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        OPTIMIZERS.parse({"kind": "zo_sgd", "learning_rate": LR, **given})
