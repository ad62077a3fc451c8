"""Adapters in the loop: they alone move, a stopped run goes on to the same bits, curvature is theirs."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch

from pipeline_lib.curvature.base import StepData
from pipeline_lib.data.batching import collate
from pipeline_lib.models.adapters import adapters_off, attach
from pipeline_lib.models.forward import answer_logits
from pipeline_lib.training.checkpoint import load_file
from tests.curvature.cases import agrees
from tests.curvature.exact import gauss_newton_diagonal, hessian
from tests.influence.cases import dense_gauss_newton, small_examples, small_model
from tests.methods import estimator, make_objective
from tests.tiny import PAD, flat, in_float64, tiny_model
from tests.training.runs import (
    OPTIMIZER_SETTINGS,
    Stopped,
    data,
    one_shot,
    optimizer_of,
    run,
    stop_before,
    timeless,
)

SETTINGS = {"rank": 1, "alpha": 2.0, "dropout": 0.0, "target": "all-linear", "seed": 5}


def with_adapters(dropout=0.2):
    model = tiny_model(attention_dropout=0.2)
    attach(model, **{**SETTINGS, "rank": 2, "dropout": dropout})
    return model


def split(model):
    """Weights that learn and weights that do not, as vectors."""
    return [flat([p for p in model.parameters() if p.requires_grad is learns]) for learns in (True, False)]


@pytest.mark.parametrize("kind", OPTIMIZER_SETTINGS)
def test_stopped_and_continued_equals_undisturbed(kind, tmp_path, monkeypatch):
    """With the reference model of KL being the same model; the checkpoint holds adapters only."""
    found = []
    for folder, stop in (("a", None), ("b", 3), ("b", None)):
        model = with_adapters()
        objective = make_objective("KL", gamma=1.0, reference_model=partial(adapters_off, model))
        optimizer = optimizer_of(kind, model)
        with monkeypatch.context() as patch:
            if stop:
                stop_before(3, patch)
                with pytest.raises(Stopped):
                    run(model, tmp_path / folder, kind, optimizer=optimizer, objective=objective,
                        checkpoint_seconds=0)  # fmt: skip
                kept = load_file(tmp_path / folder / "tensors.safetensors")
                assert all(".lora_" in name for name in kept if name.startswith("model."))
                continue
            outcome = run(model, tmp_path / folder, kind, optimizer=optimizer, objective=objective,
                          checkpoint_seconds=0)  # fmt: skip
        found.append((split(model), outcome))
    (one, first), (other, second) = found
    assert torch.equal(one[0], other[0]) and timeless(first.log) == timeless(second.log)
    start = split(with_adapters())
    assert torch.equal(one[1], start[1]) and not torch.equal(one[0], start[0])
    # The divergence from the reference is 0 before the first step, and not after it.
    divergence = [row["loss"] + row["forget_loss"] for row in first.log]
    assert abs(divergence[-1]) > 1e-4


def test_the_reference_stays_the_parent_while_adapters_are_trained(tmp_path):
    model, parent = with_adapters(), tiny_model(attention_dropout=0.2)
    batch = collate(data().forget, PAD)
    run(model, tmp_path / "c", objective=make_objective("GradDiff", gamma=1.0))
    with adapters_off(model) as reference, torch.no_grad():
        assert torch.equal(answer_logits(reference, batch)[0], answer_logits(parent, batch)[0])


# --- curvature ------------------------------------------------------------------------------------


@pytest.fixture
def study():
    """A model in fp64 whose adapters have moved, and what learns of it."""
    with in_float64():
        model = small_model()
        attach(model, **SETTINGS)
        parameters = [p for p in model.parameters() if p.requires_grad]
        generator = torch.Generator().manual_seed(1)
        for parameter in parameters:
            drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.data.add_(0.5 * drawn)
        yield model, parameters


def test_hutchinson_and_gauss_newton_are_those_of_the_adapters(study):
    model, parameters = study
    examples = small_examples(3)
    batches = [collate(examples, 0)]
    step = StepData(batches, [], "both")
    exact = hessian(model, batches, parameters)
    for name in ("hutchinson_rademacher", "hutchinson_gaussian"):
        made = estimator(name)
        draw = made.estimate(model, None, step, parameters, torch.Generator().manual_seed(5))
        generator = torch.Generator().manual_seed(5)
        probe = flat([made._probe(parameter, generator) for parameter in parameters])
        assert torch.allclose(flat(draw), probe * (exact @ probe), rtol=1e-9, atol=1e-12)
    generator, made = torch.Generator().manual_seed(1), estimator("gauss_newton_bartlett")
    rows = torch.stack([flat(made.estimate(model, None, step, parameters, generator)) for _ in range(500)])
    wanted = flat(gauss_newton_diagonal(model, batches, parameters))
    assert agrees(rows, wanted) and not agrees(rows, 1.5 * wanted)


def test_the_empirical_fisher_is_that_of_the_adapters(study):
    model, parameters = study
    forget, retain = collate(small_examples(3, 1), 0), collate(small_examples(3, 2), 0)
    objective = make_objective("GradDiff", gamma=0.7)
    draw = estimator("empirical_fisher").estimate(
        model, objective, StepData([forget], [retain], "both"), parameters, torch.Generator()
    )
    gradient = flat(torch.autograd.grad(objective(model, forget, retain).total, parameters))
    tokens = forget.answer_tokens + retain.answer_tokens
    assert torch.allclose(flat(draw), tokens * gradient.square(), rtol=1e-9)


def test_the_influence_step_solves_the_system_of_the_adapters(study):
    model, parameters = study
    forget, retain = small_examples(3, 1), small_examples(4, 2)
    objective = make_objective("GradDiff", gamma=0.7)
    before, frozen = split(model)
    loss = objective(model, collate(forget, 0), collate(retain, 0)).total
    gradient = flat(torch.autograd.grad(loss, parameters))
    dense = dense_gauss_newton(model, [*forget, *retain], parameters)
    exact = torch.linalg.solve(dense + 0.5 * torch.eye(len(dense)), gradient)
    settings = {
        "learning_rate": 0.1,
        "solver": "conjugate_gradient",
        "damping": 0.5,
        "max_iterations": 300,
        "tolerance": 1e-9,
        "curvature_data": "both",
        "curvature_examples": 99,
    }
    sets = replace(data(1, 1), forget=forget, retain=retain)
    outcome = one_shot(model, objective, sets, 2, "fp32", 0, settings)
    after, still = split(model)
    assert outcome.status == "ok" and torch.equal(still, frozen)
    assert torch.allclose(after, before - 0.1 * exact, rtol=0, atol=1e-9)
