"""The training loop: it learns, cuts a step as it likes, keeps fp32, stops when a number is not finite."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest
import torch

from pipeline_lib.data.batching import collate
from pipeline_lib.objectives import Losses, Objective
from pipeline_lib.objectives.finetuning import FineTuning
from pipeline_lib.training import loop
from pipeline_lib.training.loop import tokens_of
from tests.methods import make_objective
from tests.tiny import flat, in_float64, labels_without_chance, random_examples, tiny_model
from tests.training.every import TRAINED, data_for, freeze, objective_of
from tests.training.runs import OPTIMIZER_SETTINGS, data, optimizer_of, run, settings

every_kind = pytest.mark.parametrize("kind", OPTIMIZER_SETTINGS)


def weights(model) -> torch.Tensor:
    return flat(list(model.parameters()))


@every_kind
def test_fine_tuning_lowers_the_loss(kind, tmp_path):
    outcome = run(
        tiny_model(),
        tmp_path / "c",
        kind,
        objective=FineTuning(),
        training_data=data(forget=0, retain=8),
        epochs=15,
        decay="linear",
    )
    losses = [row["loss"] for row in outcome.log]
    assert outcome.status == "ok" and outcome.diverged_step is None
    assert outcome.steps == len(losses) == 30
    assert losses[-1] < 0.5 * losses[0]
    assert all(row["forget_loss"] is None and row["retain_loss"] == row["loss"] for row in outcome.log)


def test_the_log_by_hand(tmp_path):
    outcome = run(tiny_model(), tmp_path / "c", "sophia", warmup=0.5)
    log = outcome.log
    assert [row["step"] for row in log] == [1, 2, 3, 4, 5, 6]
    assert [row["epoch"] for row in log] == pytest.approx([1 / 3, 2 / 3, 1, 4 / 3, 5 / 3, 2])
    assert [row["learning_rate"] for row in log] == pytest.approx(
        [1e-2 * f for f in (1 / 3, 2 / 3, 1, 1, 1, 1)]
    )
    for row in log:
        assert row["loss"] == pytest.approx(row["retain_loss"] - row["forget_loss"], rel=1e-4)  # GradDiff
        assert 0 < row["clipped_share"] <= 1 and 0 < row["clipped_norm_share"] <= 1
        assert row["cosine_signum"] is None and row["cosine_adamw"] is None  # without `diagnostics`
        assert row["update_norm"] > 0 and row["gamma"] == 0.05  # the optimiser's own statistics
        assert row["grad_norm"] > 0 and row["tokens_per_s"] > 0 and row["memory_mb"] > 0
    times = [row["elapsed_s"] for row in log]
    assert times == sorted(times) and outcome.train_time_s >= times[-1]


@every_kind
@in_float64()
def test_accumulation_equals_one_large_batch(kind, tmp_path, monkeypatch):
    labels_without_chance(monkeypatch)  # drawn ones depend on how a step is cut
    found = []
    for i, (size, accumulation) in enumerate([(4, 2), (8, 1), (1, 8)]):
        model = tiny_model(0, torch.float64)
        outcome = run(model, tmp_path / str(i), kind, batch_size=size, accumulation=accumulation)
        found.append(([row["loss"] for row in outcome.log], weights(model)))
    assert not torch.allclose(found[0][1], weights(tiny_model(0, torch.float64)))
    for losses, values in found[1:]:
        assert losses == pytest.approx(found[0][0], rel=1e-9)
        assert torch.allclose(values, found[0][1], rtol=1e-9, atol=1e-9)


@every_kind
def test_bf16_compute_keeps_fp32_parameters_and_states(kind, tmp_path):
    losses = {}
    for compute in ("fp32", "bf16"):
        model = tiny_model()
        optimizer = optimizer_of(kind, model, learning_rate=1e-3)
        outcome = run(model, tmp_path / compute, kind, optimizer=optimizer, compute=compute)
        losses[compute] = torch.tensor([[row["forget_loss"], row["retain_loss"]] for row in outcome.log])
        assert {p.dtype for p in model.parameters()} == {torch.float32}
        assert {v.dtype for s in optimizer.state.values() for v in s.values()} == {torch.float32}
    assert not torch.equal(losses["fp32"], losses["bf16"])  # the option is not ignored
    assert torch.allclose(losses["fp32"], losses["bf16"], rtol=0.03)


def test_a_step_is_bounded_by_the_gradient_norm(tmp_path):
    """The norm in the log is the one before clipping; plain descent then moves by exactly lr * max norm."""
    model = tiny_model()
    before = weights(model)
    sgd = torch.optim.SGD(model.parameters(), lr=0.5)
    outcome = run(model, tmp_path / "c", optimizer=sgd, epochs=1 / 3, max_grad_norm=0.1)
    assert outcome.steps == 1 and outcome.log[0]["grad_norm"] > 1
    assert float((weights(model) - before).norm()) == pytest.approx(0.05, rel=1e-3)


# --- divergence -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Broken(Objective):
    """Plain NLL, spoiled at the given call by a factor on the loss, or on the gradient alone."""

    calls: list
    at: int
    factor: float
    gradient_only: bool

    def __call__(self, model, forget, retain):
        self.calls.append(1)
        losses = FineTuning()(model, None, retain)
        if len(self.calls) < self.at:
            return losses
        if self.gradient_only:
            next(model.parameters()).register_hook(lambda g: g * self.factor)
            return FineTuning()(model, None, retain)
        return Losses(losses.total * self.factor, None, losses.retain)


@pytest.mark.parametrize("factor", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("gradient_only", [False, True])
def test_a_number_that_is_not_finite_ends_the_run_before_the_step(factor, gradient_only, tmp_path):
    model, sound = tiny_model(), tiny_model()
    objective = Broken([], 5, factor, gradient_only)  # 2 micro-batches a step: call 5 is in step 3
    outcome = run(model, tmp_path / "c", objective=objective, epochs=3)
    assert (outcome.status, outcome.diverged_step, outcome.steps) == ("diverged", 3, 2)
    assert [row["step"] for row in outcome.log] == [1, 2]
    run(sound, tmp_path / "d", objective=Broken([], 99, factor, gradient_only), epochs=2 / 3)
    assert torch.equal(weights(model), weights(sound))  # as after step 2


def test_a_last_step_that_breaks_the_parameters_is_a_divergence(tmp_path):
    model = tiny_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=math.inf)
    outcome = run(model, tmp_path / "c", optimizer=optimizer, epochs=1 / 3)
    assert (outcome.status, outcome.diverged_step, outcome.steps) == ("diverged", 1, 1)


# --- objectives in the loop -------------------------------------------------------------------------


def test_ascent_alone_needs_no_retain_loss(tmp_path):
    outcome = run(tiny_model(), tmp_path / "c", objective=make_objective("GradAscent"))
    assert all(row["retain_loss"] is None and row["loss"] == -row["forget_loss"] for row in outcome.log)
    assert outcome.log[-1]["forget_loss"] > outcome.log[0]["forget_loss"]


def test_refusals_and_reference_nll_reach_the_objective(tmp_path):
    """The loss of step 1, worked out from the rows that step sees."""
    marked = [[replace(e, tokens=(*e.tokens[:-1], 5, 5, 2))] for e in random_examples(10, 1)]
    outcome = run(
        tiny_model(),
        tmp_path / "c",
        objective=make_objective("PO", gamma=1.0),
        training_data=data(forget_alternatives=marked),
    )
    answers = run(tiny_model(), tmp_path / "d", objective=make_objective("PO", gamma=1.0))
    assert outcome.log[0]["retain_loss"] == pytest.approx(answers.log[0]["retain_loss"])
    assert outcome.log[0]["forget_loss"] != answers.log[0]["forget_loss"]

    far = data(reference_nll=torch.full((10,), 1e6))  # beta (l - l_ref) = -1e5: L = (2 / beta) 1e5, linear
    outcome = run(
        tiny_model(), tmp_path / "e", objective=make_objective("NPO", beta=0.1, alpha=0.0), training_data=far
    )
    assert outcome.log[0]["loss"] == pytest.approx(2e6, rel=1e-3)


@pytest.mark.parametrize("kind", TRAINED)
def test_an_objective_sees_the_sets_that_it_uses(kind, tmp_path, monkeypatch):
    """The other is None, and the forget set still says how long the run is."""
    seen, objective, model = set(), objective_of(kind), tiny_model()
    original = type(objective).__call__

    def watched(self, model, forget, retain):
        seen.add((forget is None, retain is None))
        return original(self, model, forget, retain)

    freeze(objective, model)
    sets = data_for(objective, model, data(), settings())
    monkeypatch.setattr(type(objective), "__call__", watched)
    outcome = run(model, tmp_path / "c", objective=objective, training_data=sets)
    assert seen == {(not objective.uses_forget, not objective.uses_retain)}
    assert (outcome.status, outcome.steps) == ("ok", 6)
    assert outcome.log[0]["loss"] != outcome.log[-1]["loss"]
    for before, (name, after) in zip(tiny_model().parameters(), model.named_parameters(), strict=True):
        assert after.requires_grad or torch.equal(before, after), name


def test_tokens_of_pairs_are_all_counted():
    batch = collate(random_examples(3, 1), 0)
    other = collate(random_examples(3, 2), 0)
    own, added = int(batch.attention_mask.sum()), int(other.attention_mask.sum())
    assert tokens_of(batch) == own and tokens_of(replace(batch, alternative=other)) == own + added


@pytest.mark.parametrize("kind", ["GradDiff", "GradAscent", "FineTuning"])
def test_tokens_a_second_count_the_sets_that_are_used(kind, tmp_path, monkeypatch):
    """A clock that stands still but for a second in each forward pass: a step of one pass takes a second."""
    now = [0.0]
    monkeypatch.setattr(loop.time, "monotonic", lambda: now[0])
    objective = FineTuning() if kind == "FineTuning" else objective_of(kind)
    original, read = type(objective).__call__, []

    def timed(self, model, forget, retain):
        now[0] += 1.0
        read.append(sum(int(b.attention_mask.sum()) for b in (forget, retain) if b is not None))
        return original(self, model, forget, retain)

    monkeypatch.setattr(type(objective), "__call__", timed)
    outcome = run(tiny_model(), tmp_path / "c", objective=objective, accumulation=1)
    assert [row["tokens_per_s"] for row in outcome.log] == read
