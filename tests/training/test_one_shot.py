"""The one-shot influence step: what it solves, what it logs, and that it is the same every time."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from pipeline_lib.core.errors import UserError
from pipeline_lib.data.batching import collate, micro_batches
from pipeline_lib.influence.gauss_newton import GaussNewton
from pipeline_lib.training import loop, newton
from pipeline_lib.training.updates import Step
from tests.influence.cases import dense_gauss_newton, small_examples, small_model
from tests.methods import make_objective
from tests.tiny import PAD, flat, in_float64, make_examples, tiny_model
from tests.training.every import DETACHED, TRAINED, data_for, freeze, objective_of
from tests.training.runs import TIMED, data, one_shot, run

SOLVER_KEYS = {"solver_iterations", "solver_residual", "solver_converged"}


def settings(**changes):
    plain = {
        "learning_rate": 1e-3,
        "solver": "conjugate_gradient",
        "damping": 1.0,
        "max_iterations": 8,
        "tolerance": 1e-2,
        "curvature_data": "retain",
        "curvature_examples": 5,
    }
    return {**plain, **changes}


def step(model, kind="GradDiff", training_data=None, batch_size=3, seed=3, compute="fp32", **changes):
    objective = objective_of(kind)
    freeze(objective, model)
    return one_shot(model, objective, training_data or data(), batch_size, compute, seed, settings(**changes))


def prepared(kind, model, **changes):
    """Ten forget rows with what the objective wants of them, seven retain rows."""
    return data_for(objective_of(kind), model, data(**changes))


def of(forget, retain):
    return replace(data(1, 1), forget=forget, retain=retain)


def weights(model):
    return flat([parameter for parameter in model.parameters() if parameter.requires_grad])


@in_float64()
@pytest.mark.parametrize("lengths", [(2, 5), (4, 2)])
def test_the_step_solves_the_dense_system_of_the_whole_sets(lengths):
    """Whatever the micro-batches, and though the sets differ in length."""
    forget, retain = small_examples(lengths[0], 1), small_examples(lengths[1], 2)
    start, objective = small_model(), make_objective("GradDiff", gamma=0.7)
    parameters = list(start.parameters())
    losses = objective(start, collate(forget, PAD), collate(retain, PAD))
    gradient = flat(torch.autograd.grad(losses.total, parameters))
    dense = dense_gauss_newton(start, [*forget, *retain], parameters)
    exact = torch.linalg.solve(dense + 0.5 * torch.eye(len(dense)), gradient)
    for batch_size in (1, 50):
        model = small_model()
        outcome = one_shot(
            model,
            objective,
            of(forget, retain),
            batch_size,
            "fp32",
            0,
            settings(
                learning_rate=0.1,
                damping=0.5,
                max_iterations=300,
                tolerance=1e-9,
                curvature_data="both",
                curvature_examples=99,
            ),
        )
        assert torch.allclose(weights(model), weights(start) - 0.1 * exact, rtol=0, atol=1e-9)
        (row,) = outcome.log
        assert math.isclose(row["loss"], losses.total.item(), rel_tol=1e-12)
        assert math.isclose(row["forget_loss"], float(losses.forget), rel_tol=1e-12)
        assert math.isclose(row["retain_loss"], float(losses.retain), rel_tol=1e-12)
        assert math.isclose(row["grad_norm"], float(gradient.norm()), rel_tol=1e-12)
        assert math.isclose(row["update_norm"], 0.1 * float(exact.norm()), rel_tol=1e-7)
        assert row["solver_converged"] is True


@pytest.mark.parametrize(
    ("kind", "solver"),
    [(kind, "conjugate_gradient") for kind in TRAINED] + [("GradDiff", "lissa"), ("GradDiff", "diagonal")],
)
def test_the_objective_falls_along_the_step(kind, solver, monkeypatch):
    """To first order, and as predicted: the step is short."""
    model = tiny_model()
    training_data = prepared(kind, model)
    freeze(objective_of(kind), model)
    before, gradients = weights(model), []
    original = newton.newton_direction

    def watched(model, batches, parameters, gradient, *rest):
        gradients.append(gradient.clone())
        return original(model, batches, parameters, gradient, *rest)

    monkeypatch.setattr(newton, "newton_direction", watched)
    first = step(model, kind, training_data, solver=solver, learning_rate=1e-4)
    moved = weights(model) - before
    predicted = float(gradients[0] @ moved)
    assert first.status == "ok"
    assert predicted < 0
    if kind in DETACHED:
        return
    again = step(model, kind, training_data, solver=solver, learning_rate=1e-4)
    change = again.log[0]["loss"] - first.log[0]["loss"]
    assert 0.5 * predicted > change > 1.5 * predicted


def test_the_row_has_the_keys_of_the_training_loop(tmp_path):
    model = tiny_model()
    (row,) = step(model).log
    loop = run(tiny_model(), tmp_path, epochs=0.2).log[0]
    assert set(row) == set(loop) | SOLVER_KEYS
    assert list(row)[: len(loop)] == list(loop)
    assert (row["step"], row["epoch"], row["learning_rate"]) == (1, 1.0, 1e-3)
    assert row["tokens_per_s"] > 0
    assert row["elapsed_s"] > 0
    assert row["memory_mb"] > 1
    assert {row[k] for k in ("clipped_share", "gamma", "update_every", "curvature_skipped")} == {None}


@pytest.mark.parametrize("solver", ["conjugate_gradient", "lissa", "diagonal"])
def test_equal_seeds_give_equal_bits(solver):
    outcomes = []
    for seed in (1, 1, 2):
        model = tiny_model()
        torch.rand(len(outcomes))  # the global generator has no say
        (row,) = step(model, "PO", prepared("PO", model), seed=seed, solver=solver).log
        outcomes.append((weights(model), {k: v for k, v in row.items() if k not in TIMED}))
    assert torch.equal(outcomes[0][0], outcomes[1][0])
    assert outcomes[0][1] == outcomes[1][1]
    assert not torch.equal(outcomes[0][0], outcomes[2][0])


@in_float64()
@pytest.mark.parametrize(("name", "rows"), [("forget", 4), ("retain", 6), ("both", 10)])
def test_the_curvature_is_measured_on_the_data_that_is_named(name, rows, monkeypatch):
    seen = []
    original = GaussNewton.__init__

    def spy(self, model, batches, parameters, group):
        seen.extend(int(i) for batch in batches for i in batch.index)
        original(self, model, batches, parameters, group)

    monkeypatch.setattr(GaussNewton, "__init__", spy)
    forget = small_examples(4, 1)
    retain = [replace(e, index=e.index + 100) for e in small_examples(6, 2)]
    chosen = []
    for wanted, seed in ((3, 0), (3, 1), (99, 0)):
        seen.clear()
        step(
            small_model(),
            "GradAscent",  # does not look at the retain set itself
            of(forget, retain),
            curvature_data=name,
            curvature_examples=wanted,
            seed=seed,
        )
        assert len(seen) == len(set(seen)) == min(wanted, rows)
        chosen.append(list(seen))
        allowed = {
            e.index for e in [*forget, *retain] if name in ("both", "retain" if e.index > 99 else "forget")
        }
        assert set(seen) <= allowed
    assert chosen[0] != chosen[1]


@pytest.mark.parametrize("kind", TRAINED)
@pytest.mark.parametrize("retain", [3, 14])
def test_micro_batches_change_nothing_for_any_objective(kind, retain):
    """Of ten forget rows and fewer or more retain rows, one by one and all at once."""
    rows = []
    for batch_size in (1, 50):
        model = tiny_model()
        sets = prepared(kind, model, retain=retain)
        rows += step(model, kind, sets, batch_size, solver="diagonal", curvature_examples=1).log
    for key in ("loss", "forget_loss", "retain_loss", "grad_norm"):
        if rows[0][key] is None:
            assert rows[1][key] is None
        else:
            assert math.isclose(rows[0][key], rows[1][key], rel_tol=1e-4), key


def test_not_converging_is_said_and_logged(capsys):
    (row,) = step(tiny_model(), damping=1e-3, max_iterations=2, tolerance=1e-6).log
    assert row["solver_converged"] is False
    assert row["solver_iterations"] == 2
    assert row["solver_residual"] > 1e-6
    said = capsys.readouterr().err
    assert "influence: conjugate_gradient did not converge: relative residual" in said
    assert f"{row['solver_residual']:.3g}" in said
    assert "max_iterations = 2" in said


def test_converging_is_not_complained_about(capsys):
    (row,) = step(tiny_model(), damping=50.0).log
    assert row["solver_converged"] is True
    assert "did not converge" not in capsys.readouterr().err


@pytest.mark.parametrize("solver", ["conjugate_gradient", "lissa", "diagonal"])
def test_nonfinite_curvature_diverges_and_leaves_the_weights(solver, monkeypatch):
    model = tiny_model()
    before = weights(model)
    monkeypatch.setattr(GaussNewton, "__call__", lambda self, v: v * math.nan)
    outcome = step(model, solver=solver)
    assert (outcome.status, outcome.diverged_step, outcome.steps) == ("diverged", 1, 0)
    assert torch.equal(weights(model), before)


def test_a_nonfinite_loss_diverges():
    model = tiny_model()
    with torch.no_grad():
        model.lm_head.weight[5] = math.inf
    outcome = step(model)
    assert (outcome.log, outcome.status, outcome.diverged_step) == ([], "diverged", 1)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="damping must be a positive number, found -1"):
        step(tiny_model(), damping=-1.0)
    with pytest.raises(UserError, match=r"fp32 weights and found torch.bfloat16; set `unlearn.weights"):
        step(tiny_model(dtype=torch.bfloat16))
    with pytest.raises(UserError, match="curvature_data is retain, but that set is empty"):
        step(tiny_model(), "GradAscent", data(retain=0))


def test_the_mode_and_the_gradients_of_the_model_stay():
    model = tiny_model().train()
    step(model)
    assert model.training
    assert all(p.grad is None for p in model.parameters())


def test_bf16_is_for_the_gradient_alone(monkeypatch):
    lowered, original = [], GaussNewton.__call__

    def watched(self, vector):
        lowered.append(torch.is_autocast_enabled("cpu"))
        return original(self, vector)

    monkeypatch.setattr(GaussNewton, "__call__", watched)
    exact, rounded = tiny_model(), tiny_model()
    before = weights(exact)
    first, second = step(exact).log[0], step(rounded, compute="bf16").log[0]
    assert first["loss"] != second["loss"]
    assert math.isclose(first["loss"], second["loss"], rel_tol=0.05)
    assert len(lowered) > 2
    assert not any(lowered)
    moves = weights(exact) - before, weights(rounded) - before
    assert torch.nn.functional.cosine_similarity(*moves, dim=0) > 0.95


def test_micro_batches_of_the_curvature_hold_the_whole_count():
    """The matrix of two micro-batches is the mean over all their tokens, not a mean of means."""
    examples = make_examples([(2, 1), (3, 6)])
    model = tiny_model()
    parameters = list(model.parameters())
    vector = torch.randn(len(weights(model)), generator=torch.Generator().manual_seed(0))
    parts = [GaussNewton(model, [collate([e], PAD)], parameters)(vector) for e in examples]
    whole = GaussNewton(model, micro_batches(examples, 1, PAD), parameters)(vector)
    expected = (1 * parts[0] + 6 * parts[1]) / 7
    assert (whole - expected).norm() < 1e-5 * whole.norm()


@pytest.mark.parametrize(
    "kind, sets",
    [("GradAscent", ("forget",)), ("GradDiff", ("forget", "retain")), ("L1Sparse", ("retain",))],
)
def test_tokens_a_second_count_the_sets_that_are_used(kind, sets, monkeypatch):
    """A clock that stands still but for a second in the objective's one forward pass."""
    now = [0.0]
    monkeypatch.setattr(loop.time, "monotonic", lambda: now[0])
    cls, training_data = type(objective_of(kind)), data()
    original = cls.__call__

    def timed(self, *arguments):
        now[0] += 1.0
        return original(self, *arguments)

    monkeypatch.setattr(cls, "__call__", timed)
    row = step(tiny_model(), kind, training_data, batch_size=10).log[0]
    read = sum(len(example.tokens) for name in sets for example in getattr(training_data, name))
    assert row["tokens_per_s"] == pytest.approx(read)


def test_dropout_is_off_in_the_step_and_as_before_afterwards():
    models = [tiny_model(attention_dropout=share) for share in (0.5, 0.0)]
    for model in models:
        step(model)
        assert model.training
    assert torch.equal(weights(models[0]), weights(models[1]))


def test_the_gradient_of_whole_sets_can_be_left_between_micro_batches(monkeypatch):
    asked = []
    gradients = Step.gradients
    monkeypatch.setattr(
        Step, "gradients", lambda self, untouched=False: asked.append(untouched) or gradients(self, untouched)
    )
    step(tiny_model())
    assert asked == [True]
