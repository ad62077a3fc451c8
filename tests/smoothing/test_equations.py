"""Each smoothing by hand, with numbers that can be checked on paper, and against exact second derivatives."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from tests.methods import make_objective
from tests.smoothing.kinds import Point, Toy, smoothing_of, step_of, trained, update_of
from tests.tiny import flat, in_float64, tiny_model

# Forget term (2 x^2 + 0.5 y^2) / 2, gradient (2 x, 0.5 y); retain term 3 x, gradient (3, 0).
BOWL = Toy(lambda at: at[0] ** 2 + at[1] ** 2 / 4, lambda at: 3 * at[0])
# Forget term x^3 / 3: gradient x^2, second derivative 2 x.
CUBE = Toy(lambda at: at[0] ** 3 / 3)
ROOT = 5**0.5  # length of BOWL's forget gradient (2, -1) at (1, -2)


def stepped(
    toy: Toy, at: tuple[float, ...], kind: str, **settings: Any
) -> tuple[list[float], dict[str, Any]]:
    """The gradient of one step of SGD with the rate 0.1, from how far it moved, and the row of the log."""
    model = Point(*at)
    row = update_of(model, smoothing_of(kind, **settings)).take(step_of(model, toy.objective()))
    moved = torch.tensor(at, dtype=torch.float64) - model.at.detach()
    return (moved / 0.1).tolist(), row


def test_sam_takes_the_forget_gradient_further_up_and_the_retain_gradient_where_it_is() -> None:
    gradient, row = stepped(BOWL, (1.0, -2.0), "sam", rho=0.1)
    x, y = 1 + 0.1 * 2 / ROOT, -2 - 0.1 * 1 / ROOT
    assert gradient == pytest.approx([2 * x + 3, 0.5 * y])
    assert row["loss"] == pytest.approx(2 + 3) and row["grad_norm"] == pytest.approx(
        ((2 * x + 3) ** 2 + (0.5 * y) ** 2) ** 0.5
    )


def test_the_retain_term_has_no_say_in_where_sam_looks() -> None:
    """A retain gradient a thousand times as long would turn the move, were it in it."""
    steep = Toy(BOWL.forget, lambda at: 3000 * at[0])
    assert stepped(steep, (1.0, -2.0), "sam")[0][1] == stepped(BOWL, (1.0, -2.0), "sam")[0][1]


def test_the_gradient_penalty_adds_the_hessian_times_the_direction() -> None:
    """H = diag(2, 0.5), v = (2, -1) / sqrt(5): g + 0.2 H v, exact on a quadratic whatever the distance."""
    for distance in (0.01, 3.0):
        gradient, row = stepped(BOWL, (1.0, -2.0), "gradient_penalty", strength=0.2, distance=distance)
        assert gradient == pytest.approx([2 + 0.2 * 2 * 2 / ROOT + 3, -1 - 0.2 * 0.5 * 1 / ROOT])
        assert row["penalty"] == pytest.approx(0.2 * ROOT)
        assert row["loss"] == pytest.approx(5 + 0.2 * ROOT)


def test_as_released_the_gradient_penalty_is_in_the_loss_alone() -> None:
    gradient, row = stepped(BOWL, (1.0, -2.0), "gradient_penalty", strength=0.2, form="as_released")
    assert gradient == pytest.approx([2 + 3, -1])
    assert row["penalty"] == pytest.approx(0.2 * ROOT)
    assert row["loss"] == pytest.approx(5 + 0.2 * ROOT)


def test_curvature_is_penalised_where_it_changes() -> None:
    """g(2) = 4, so v = 1; d = g(2.5) - g(2) = 2.25; the slope of |d| is H(2.5) - H(2) = 5 - 4."""
    gradient, row = stepped(CUBE, (2.0,), "curvature_regularisation", strength=0.2, distance=0.5)
    assert gradient == pytest.approx([4 + 0.2 * 1])
    assert row["penalty"] == pytest.approx(0.2 * 2.25)
    assert row["loss"] == pytest.approx(8 / 3 + 0.2 * 2.25)


def test_a_quadratic_has_curvature_that_does_not_change() -> None:
    """d = h H v = h (4, -0.5) / sqrt(5), and its length does not depend on where it is measured."""
    gradient, row = stepped(BOWL, (1.0, -2.0), "curvature_regularisation", strength=0.2, distance=0.5)
    assert gradient == pytest.approx([5, -1])
    assert row["penalty"] == pytest.approx(0.2 * 0.5 * (4**2 + 0.5**2) ** 0.5 / ROOT)


def test_as_released_curvature_regularisation_counts_the_forget_term_twice() -> None:
    gradient, row = stepped(BOWL, (1.0, -2.0), "curvature_regularisation", form="as_released", distance=0.5)
    assert gradient == pytest.approx([2 * 2 + 3, 2 * -1])
    assert row["penalty"] == pytest.approx(0.2 * 0.5 * (4**2 + 0.5**2) ** 0.5 / ROOT)


def noise(sigma: float, draws: int, numbers: range = range(1)) -> torch.Tensor:
    """What the noise of these steps adds to the place at which the gradient is taken, on average (n, 2)."""
    smoothing, model = smoothing_of("random_smoothing", sigma=sigma, draws=draws), Point(1.0, -2.0)
    step, found = step_of(model, BOWL.objective()), []
    for number in numbers:
        smoothing.gradients(replace(step, number=number), False)
        assert model.at.grad is not None
        found.append((model.at.grad - torch.tensor([5, -1])) / torch.tensor([2, 0.5]))
    return torch.stack(found)


def test_random_smoothing_averages_over_a_cloud_of_that_width() -> None:
    """On a quadratic the mean gradient is that at the mean place, theta + sigma z / sqrt(draws)."""
    places = noise(0.5, 4, range(200))
    assert float(places.std()) == pytest.approx(0.5 / 4**0.5, rel=0.1)  # 400 numbers: 3.5 % of noise
    assert abs(float(places.mean())) < 0.04  # 0.25 / sqrt(400) is 0.0125
    assert abs(float((places[:, 0] * places[:, 1]).mean())) < 0.015


def test_the_noise_follows_from_seed_step_and_draw() -> None:
    one = noise(0.5, 1)
    assert torch.equal(noise(0.5, 1), one)
    assert torch.allclose(noise(0.25, 1), one / 2)  # the same z
    assert not torch.allclose(noise(0.5, 2), one)  # another second draw, or the mean would be the first
    assert not torch.allclose(noise(0.5, 1, range(1, 2)), one)


@pytest.mark.parametrize(("start", "counted"), [(2, [2, 4, 6]), (0.5, [3, 5]), (6, [6])])
def test_the_mean_of_the_weights_comes_out(start: float, counted: list[int], tmp_path: Any) -> None:
    """f = 3 x: SGD with the rate 0.1 walks from 1 to 0.7, 0.4, ...; after step t it is at 1 - 0.3 t."""
    model, line = Point(1.0), Toy(lambda at: 3 * at[0])
    seen: list[float] = []

    def judge(step: int) -> dict[str, Any]:
        seen.append(float(model.at.detach()))
        return {"step": step}

    averaging = smoothing_of("weight_averaging", start=start)
    outcome, _ = trained(model, line.objective(), averaging, tmp_path, judge)
    assert float(model.at.detach()) == pytest.approx(1 - 0.3 * sum(counted) / len(counted))
    so_far = [[t for t in counted if t <= step] or [step] for step in range(1, 7)]
    assert seen == pytest.approx([1 - 0.3 * sum(steps) / len(steps) for steps in so_far])
    assert [row["judged"]["step"] for row in outcome.log] == [1, 2, 3, 4, 5, 6]
    assert [row["loss"] for row in outcome.log] == pytest.approx([3 * (1 - 0.3 * t) for t in range(6)])


def exact(model: Any, forget: Any, strength: float, distance: float | None) -> torch.Tensor:
    """Gradient of forget term + strength times |g|, or |g(theta + distance v) - g|, by autograd (P,)."""
    weights = list(model.parameters())
    gradient = torch.autograd.grad(forget(model), weights, create_graph=True)
    length = torch.stack([g.square().sum() for g in gradient]).sum().sqrt()
    if distance is None:
        penalty = length
    else:
        names = [name for name, _ in model.named_parameters()]
        moved = {
            name: w + distance * (g / length).detach()
            for name, w, g in zip(names, weights, gradient, strict=True)
        }
        there = torch.autograd.grad(
            forget(lambda **given: torch.func.functional_call(model, moved, kwargs=given)),
            list(moved.values()),
            create_graph=True,
        )
        penalty = torch.stack([(a - b).square().sum() for a, b in zip(there, gradient, strict=True)])
        penalty = penalty.sum().sqrt()
    slopes = torch.autograd.grad(penalty, weights)
    return flat([g.detach() + strength * s for g, s in zip(gradient, slopes, strict=True)])


@pytest.mark.parametrize("kind", ["gradient_penalty", "curvature_regularisation"])
def test_the_corrected_gradient_is_that_of_autograd(kind: str) -> None:
    """On a Llama of two layers in fp64. The smoothing runs the usual attention, which goes back once."""
    distance, strength = 1e-4, 0.3
    with in_float64():
        model = tiny_model(0, torch.float64, hidden_size=16, intermediate_size=16, tie_word_embeddings=False)
        step = step_of(model, make_objective("GradAscent"))

        def forget(run: Any) -> torch.Tensor:
            sums = []
            for batch in step.forget:
                places = (batch.attention_mask.cumsum(-1) - 1).clamp(min=0)
                out = run(
                    input_ids=batch.input_ids, attention_mask=batch.attention_mask, position_ids=places
                ).logits[:, :-1]
                nll = torch.nn.functional.cross_entropy(
                    out.flatten(0, 1), batch.labels[:, 1:].flatten(), reduction="sum"
                )
                sums.append(-nll / batch.tokens_in_step)
            return torch.stack(sums).sum()

        curvature = kind == "curvature_regularisation"
        with sdpa_kernel(SDPBackend.MATH):  # the one that can be differentiated twice
            expected = exact(model, forget, strength, distance if curvature else None)
            plain = exact(model, forget, 0.0, None)
        smoothing_of(kind, strength=strength, distance=distance).gradients(step, False)
        found = flat([p.grad for p in step.parameters])
    assert (expected - plain).norm() > (1e-5 if curvature else 1e-2) * plain.norm()
    assert (found - expected).norm() < 1e-2 * (expected - plain).norm()
