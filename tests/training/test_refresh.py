"""When curvature is estimated, what drift is, and what becomes of an estimate that is not finite."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from typing import ClassVar

import pytest
import torch
from pydantic import PrivateAttr

from pipeline_lib.curvature import ESTIMATORS, Estimator
from pipeline_lib.training.refresh import Refresher
from pipeline_lib.training.sampling import derived_seed
from pipeline_lib.training.updates import STATISTICS
from tests.methods import estimator, make_objective, stepper
from tests.tiny import flat, tiny_model
from tests.training.runs import (
    OPTIMIZER_SETTINGS,
    Stopped,
    curvature_of,
    data,
    optimizer_of,
    run,
    stop_before,
    timeless,
)


class Told(Estimator):
    """Estimate number i is `levels[i]` everywhere, then the last one; records the steps' batches."""

    kind: str = "told"
    levels: tuple[float, ...] = ()
    at_hand: ClassVar[bool] = True
    _calls: list = PrivateAttr(default_factory=list)

    def estimate(self, model, objective, step, parameters, generator, gradient=None, group=None):
        level = self.levels[min(len(self._calls), len(self.levels) - 1)]
        self._calls.append((step.forget, step.retain, [g.clone() for g in gradient]))
        return [torch.full_like(parameter, level) for parameter in parameters]


def told(*levels, **changes):
    return curvature_of("sophia", estimator=Told(levels=levels), **changes)


def column(outcome, name):
    return [row[name] for row in outcome.log]


def estimated_at(outcome):
    """Steps, from 1, with an estimate."""
    return [row["step"] for row in outcome.log if row["curvature_s"] is not None]


# --- fixed numbers of steps -----------------------------------------------------------------------


@pytest.mark.parametrize("k, steps", [(1, [1, 2, 3, 4, 5, 6]), (2, [1, 3, 5]), (4, [1, 5]), (99, [1])])
def test_every_kth_step_the_first_included(k, steps, tmp_path):
    outcome = run(tiny_model(), tmp_path / "c", "sophia", curvature=told(1.0, update_every=k))
    assert estimated_at(outcome) == steps
    assert column(outcome, "update_every") == [k] * 6
    assert column(outcome, "curvature_skipped") == [0] * 6
    for name in ("curvature_mean", "curvature_drift", "curvature_s"):
        empty = [row["step"] for row in outcome.log if row[name] is None]
        known = steps if name != "curvature_drift" else steps[1:]  # from nothing there is no drift
        assert empty == [step for step in range(1, 7) if step not in known]


def test_mean_and_drift_by_hand(tmp_path):
    """beta2 = 0.99: h = 0.01 a, then 0.99 * 0.01 a + 0.01 b, and so on; drift is the change over h before."""
    levels = [2.0, 4.0, -1.0]
    outcome = run(tiny_model(), tmp_path / "c", "sophia", curvature=told(*levels, update_every=2))
    h = [0.0]
    for level in levels:
        h.append(0.99 * h[-1] + 0.01 * level)
    found = [row for row in outcome.log if row["curvature_mean"] is not None]
    assert [row["curvature_mean"] for row in found] == pytest.approx(h[1:], rel=1e-4)
    assert [row["curvature_drift"] for row in found[1:]] == pytest.approx(
        [abs(h[2] - h[1]) / h[1], abs(h[3] - h[2]) / h[2]], rel=1e-4
    )


@pytest.mark.parametrize("name", ESTIMATORS.kinds())
def test_drift_is_that_of_the_optimisers_own_averages(name, tmp_path, monkeypatch):
    model = tiny_model()
    optimizer = optimizer_of("sophia", model)
    averages, update = [], optimizer.update_curvature

    def watched(estimate):
        update(estimate)
        averages.append(flat([optimizer.state[p]["curvature"] for p in model.parameters()]))

    monkeypatch.setattr(optimizer, "update_curvature", watched)
    curvature = curvature_of("sophia", estimator=estimator(name), update_every=2)
    outcome = run(model, tmp_path / "c", "sophia", optimizer=optimizer, curvature=curvature)
    found = [row for row in outcome.log if row["curvature_mean"] is not None]
    assert len(averages) == len(found) == 3
    assert [row["curvature_mean"] for row in found] == pytest.approx(
        [float(h.double().mean()) for h in averages], rel=1e-4, abs=1e-9
    )
    for row, (old, new) in zip(found[1:], pairwise(averages), strict=True):
        assert row["curvature_drift"] == pytest.approx(
            float((new - old).abs().sum() / old.abs().sum()), rel=1e-3
        )


def test_a_first_order_run_says_nothing_about_curvature(tmp_path):
    outcome = run(tiny_model(), tmp_path / "c", "adamw")
    names = ("curvature_mean", "curvature_drift", "curvature_s", "update_every", "curvature_skipped")
    for name in (*names, *STATISTICS):
        assert column(outcome, name) == [None] * 6


# --- what it is estimated on ----------------------------------------------------------------------


class Watched(Told):
    """Notes the chance that each estimate is given: the seeds of its labels and of dropout's masks."""

    def estimate(self, model, objective, step, parameters, generator, **rest):
        self._calls.append((generator.initial_seed(), torch.initial_seed()))
        return [torch.ones_like(parameter) for parameter in parameters]


@pytest.mark.parametrize("of_gradient", [True, False])
def test_each_estimate_has_chance_of_its_own_that_follows_from_seed_and_step(of_gradient, tmp_path):
    """The same labels at every step would average nothing out."""
    seeds = []
    for name in ("one", "again"):
        watched = type("Now", (Watched,), {"at_hand": of_gradient})()
        curvature = curvature_of("sophia", estimator=watched, update_every=2)
        run(tiny_model(), tmp_path / name, "sophia", curvature=curvature, seed=5)
        seeds.append(watched._calls)
    steps = (0, 2, 4)
    expected = [(derived_seed(5, "labels", s), derived_seed(5, "curvature", s, 0)) for s in steps]
    assert seeds == [expected, expected]
    assert len({seed for pair in expected for seed in pair}) == 6


def test_the_estimator_is_given_the_batches_and_the_gradient_of_the_step(tmp_path):
    """Both sets, also where the objective looks at one; the gradient before it is clipped."""
    curvature = told(1.0, update_every=5)
    objective = make_objective("GradAscent")
    outcome = run(
        tiny_model(),
        tmp_path / "c",
        "sophia",
        curvature=curvature,
        objective=objective,
        max_grad_norm=0.01,
    )
    forget, retain, gradient = curvature.estimator._calls[0]
    assert sum(len(b.index) for b in forget) == sum(len(b.index) for b in retain) == 4
    assert float(flat(gradient).norm()) == pytest.approx(outcome.log[0]["grad_norm"], rel=1e-4)
    assert outcome.log[0]["retain_loss"] is None


@pytest.mark.parametrize("of_gradient", [True, False])
def test_an_estimate_is_made_while_no_gradient_is_held_unless_it_is_made_of_it(of_gradient, tmp_path):
    """Then the two lists never are in memory together; the run is the same."""
    held = []

    class Watched(Told):
        at_hand: ClassVar[bool] = of_gradient

        def estimate(self, model, objective, step, parameters, *others, **options):
            held.append([parameter.grad is not None for parameter in parameters])
            assert (options["gradient"] is not None) == of_gradient
            return [torch.full_like(parameter, 2.0) for parameter in parameters]

    curvature = curvature_of("sophia", estimator=Watched(), update_every=2)
    outcome = run(tiny_model(), tmp_path / "c", "sophia", curvature=curvature)
    assert len(held) == 3 and all(all(found) if of_gradient else not any(found) for found in held)
    plain = run(tiny_model(), tmp_path / "p", "sophia", curvature=told(2.0, update_every=2))
    assert timeless(outcome.log) == timeless(plain.log)


@pytest.mark.parametrize("where", ["forget", "retain", "both"])
def test_the_data_of_the_suite_are_used(where, tmp_path):
    """Means of h on each choice of data differ, also for an objective without retain loss."""
    outcome = run(
        tiny_model(),
        tmp_path / where,
        "sophia",
        curvature=curvature_of("sophia", data=where, update_every=9),
        objective=make_objective("GradAscent"),
    )
    other = run(tiny_model(), tmp_path / "o", "sophia", curvature=curvature_of("sophia", update_every=9))
    same = outcome.log[0]["curvature_mean"] == other.log[0]["curvature_mean"]
    assert same == (where == "both")


def test_the_curvature_is_that_of_the_drawn_examples(tmp_path):
    """Some of each set, drawn anew; the estimator gets whole small steps of them, and the step keeps all."""
    curvature = told(1.0, update_every=1, examples=3)
    outcome = run(tiny_model(), tmp_path / "c", "sophia", curvature=curvature)
    plain = run(tiny_model(), tmp_path / "p", "sophia", curvature=told(1.0, update_every=1))
    assert timeless(outcome.log) == timeless(plain.log), "the same estimate: the same run"
    whole = told(1.0, update_every=1)
    run(tiny_model(), tmp_path / "w", "sophia", curvature=whole)
    for (forget, retain, _), (all_forget, all_retain, _) in zip(
        curvature.estimator._calls, whole.estimator._calls, strict=True
    ):
        for some, all_of_them in ((forget, all_forget), (retain, all_retain)):
            drawn = {int(i) for batch in some for i in batch.index}
            there = {int(i) for batch in all_of_them for i in batch.index}
            assert drawn <= there and len(drawn) == min(3, len(there))
            tokens = sum(batch.answer_tokens for batch in some)
            assert {(b.tokens_in_step, b.examples_in_step) for b in some} == {(tokens, len(drawn))}
    places = [tuple(int(i) for b in forget for i in b.index) for forget, _, _ in curvature.estimator._calls]
    assert len(set(places)) > 2


@pytest.mark.parametrize("name", ["gauss_newton_bartlett", "hutchinson_rademacher"])
def test_more_examples_than_the_step_has_are_the_whole_step(name, tmp_path):
    logs = [
        timeless(
            run(
                tiny_model(),
                tmp_path / str(number),
                "sophia",
                curvature=curvature_of("sophia", estimator=estimator(name), examples=number),
            ).log
        )
        for number in (None, 99, 1)
    ]
    assert logs[0] == logs[1] != logs[2]


# --- auto -----------------------------------------------------------------------------------------


def decisions(levels, target, steps):
    """(step from 1, k decided, drift) of each estimate, for one parameter without a model; beta2 = 0.9."""
    theta = torch.nn.Parameter(torch.ones(4, dtype=torch.float64))
    settings = OPTIMIZER_SETTINGS["sophia"] | {"beta2": 0.9}
    optimizer = stepper("sophia", [theta], lr=0.1, weight_decay=0.0, **settings)
    refresher = Refresher(told(*levels, update_every="auto", drift_target=target), optimizer)
    found = []
    for step in range(steps):
        theta.grad = torch.ones_like(theta)
        if refresher.due(step):
            facts = refresher.refresh(None, None, [], [], step, None)
            found.append((step + 1, refresher.every, facts["curvature_drift"]))
        optimizer.step()
    return [list(column) for column in zip(*found, strict=True)]


def test_auto_by_hand():
    """h of a constant 1 is 1 - 0.9^n, so that estimate n + 1 drifts by 0.1 * 0.9^n / (1 - 0.9^n).

    That is 0.9, 0.43, 0.27, 0.19, 0.14, 0.11 for n = 1 to 6: above the target of 0.3 twice (k stays 1), then
    below: k = 2, 4, 8, 16.
    """
    steps, every, drifts = decisions([1.0], 0.3, 24)
    assert every == [1, 1, 1, 2, 4, 8, 16]
    assert steps == [1, 2, 3, 4, 6, 10, 18]
    assert drifts[0] is None
    assert drifts[1:] == pytest.approx([0.1 * 0.9**n / (1 - 0.9**n) for n in range(1, 7)])


def test_auto_comes_back_when_curvature_changes():
    """From h = 0.65 to an estimate of 100: a drift of 15, then 0.9, 0.43 as from nothing, and calm again."""
    steps, every, drifts = decisions([*[1.0] * 10, *[100.0] * 9], 0.3, 600)
    assert every[:10] == [1, 1, 1, 2, 4, 8, 16, 32, 64, 100]
    assert every[10:16] == [50, 25, 12, 24, 48, 96]
    assert drifts[10] > 10 and drifts[12] > 0.3 > drifts[13]
    assert [after - before for before, after in pairwise(steps)] == every[:-1]


def test_auto_stays_within_its_bounds():
    assert max(decisions([1.0], 0.99, 400)[1]) == 100
    steps, every, drifts = decisions([10.0**i for i in range(20)], 0.01, 20)
    assert every == [1] * 20 and steps == list(range(1, 21))
    assert min(drifts[1:]) > 0.01


def test_noise_alone_keeps_auto_at_every_step():
    """Estimates that differ by about h: no target below 1 - beta2 is met, as the docstring says."""
    noise = torch.rand(60, generator=torch.Generator().manual_seed(0)) * 2
    for target, k in ((0.002, 1), (0.3, 50)):
        every = decisions(noise.tolist(), target, 60)[1]
        assert (max(every) <= 2) == (k == 1)


@pytest.mark.parametrize("stop", [2, 6, 9])
def test_a_stopped_run_goes_on_as_it_would_have(stop, tmp_path, monkeypatch):
    """The schedule, the counts and the optimiser's own adaptive values are in the checkpoint."""

    def whole(folder):
        model = tiny_model()
        optimizer = optimizer_of("sophia", model)
        levels = [*[1.0] * 4, math.nan, 1.0]
        curvature = told(*levels, update_every="auto", drift_target=0.4)
        if (folder / "state.json").exists():  # what comes is what is left
            before = json.loads((folder / "state.json").read_text())["log"]
            done = sum(row["curvature_s"] is not None for row in before)
            curvature = told(*levels[done:], 1.0, update_every="auto", drift_target=0.4)
        step = optimizer.step

        def adapting():
            step()
            for group in optimizer.param_groups:
                group["gamma"] *= 1.1

        monkeypatch.setattr(optimizer, "step", adapting)
        options = {"epochs": 4, "checkpoint_seconds": 0}
        return (
            model,
            optimizer,
            run(model, folder, "sophia", optimizer=optimizer, curvature=curvature, **options),
        )

    model, optimizer, outcome = whole(tmp_path / "a")
    assert estimated_at(outcome) == [1, 2, 3, 4, 6, 8, 12]  # the fifth was not finite
    assert outcome.log[-1]["update_every"] == 8 and outcome.log[-1]["curvature_skipped"] == 1

    with monkeypatch.context() as patch:
        stop_before(stop, patch)
        with pytest.raises(Stopped):
            whole(tmp_path / "b")
    again, again_optimizer, continued = whole(tmp_path / "b")
    assert timeless(continued.log) == timeless(outcome.log)
    assert [(row["curvature_s"] is None) for row in continued.log] == [
        (row["curvature_s"] is None) for row in outcome.log
    ]
    assert torch.equal(flat(list(again.parameters())), flat(list(model.parameters())))
    assert [g["gamma"] for g in again_optimizer.param_groups] == [g["gamma"] for g in optimizer.param_groups]


# --- not finite -----------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_an_estimate_that_is_not_finite_is_skipped_and_counted(bad, tmp_path):
    """The run goes on with h as it was: estimates 2 and 3 might as well not have been asked for."""
    model = tiny_model()
    optimizer = optimizer_of("sophia", model)
    curvature = told(3.0, bad, bad, 5.0, update_every=1)
    outcome = run(model, tmp_path / "c", "sophia", optimizer=optimizer, curvature=curvature, epochs=4 / 3)
    assert (outcome.status, outcome.steps) == ("ok", 4)
    assert column(outcome, "curvature_skipped") == [0, 1, 2, 2]
    assert [value is None for value in column(outcome, "curvature_mean")] == [False, True, True, False]
    h = 0.99 * 0.03 + 0.05
    assert outcome.log[3]["curvature_mean"] == pytest.approx(h, rel=1e-4)
    for state in optimizer.state.values():
        assert torch.allclose(state["curvature"], torch.tensor(h))


def test_one_bad_element_is_enough(tmp_path):
    class Spoiled(Told):
        def estimate(self, *arguments, **options):
            values = super().estimate(*arguments, **options)
            values[-1].view(-1)[-1] = math.nan
            return values

    curvature = curvature_of("sophia", estimator=Spoiled(levels=(1.0,)), update_every=3)
    outcome = run(tiny_model(), tmp_path / "c", "sophia", curvature=curvature)
    assert column(outcome, "curvature_skipped") == [1, 1, 1, 2, 2, 2]


def test_three_in_a_row_end_the_run_before_the_step(tmp_path):
    model, sound = tiny_model(), tiny_model()
    curvature = told(1.0, math.nan, 1.0, math.inf, math.nan, math.nan, update_every=1)
    outcome = run(model, tmp_path / "c", "sophia", curvature=curvature)
    assert (outcome.status, outcome.diverged_step, outcome.steps) == ("diverged", 6, 5)
    assert column(outcome, "curvature_skipped") == [0, 1, 1, 2, 3]
    curvature = told(1.0, math.nan, 1.0, math.inf, math.nan, 1.0, update_every=1)
    run(sound, tmp_path / "d", "sophia", curvature=curvature, epochs=5 / 3)
    assert torch.equal(flat(list(model.parameters())), flat(list(sound.parameters())))  # as after step 5


def test_data_of_the_loop_without_a_forget_set(tmp_path):
    outcome = run(
        tiny_model(),
        tmp_path / "c",
        "sophia",
        objective=make_objective("GradAscent"),
        training_data=data(retain=9),
        curvature=curvature_of("sophia", data="retain"),
    )
    assert outcome.status == "ok" and outcome.log[0]["curvature_mean"] > 0
