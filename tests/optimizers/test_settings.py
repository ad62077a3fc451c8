"""What a suite sets of an optimiser arrives in torch's, and what the planner counts follows from it."""

from __future__ import annotations

import pytest
import torch

from pipeline_lib.curvature import ESTIMATORS
from pipeline_lib.optimizers import OPTIMIZERS
from pipeline_lib.optimizers.base import ASSUMED_STEPS, Curvature
from pipeline_lib.optimizers.make import make_optimizer

# kind -> order, and those of the traits below that hold for it
TRAITS = {
    "adamw": ("FO", {"reference"}),
    "adamw_4bit": ("FO", set()),
    "adamw_8bit": ("FO", set()),
    "adamw_noise": ("FO", {"moves_zeros"}),
    "hizoo": ("ZO", {"moves_zeros"}),
    "influence": ("SO", {"one_shot", "moves_zeros"}),
    "lion": ("FO", {"elementwise"}),
    "muon": ("FO", {"layers_apart", "moves_zeros"}),
    "quantised_sgd": ("FO", set()),
    "r_adazo": ("ZO", {"moves_zeros"}),
    "sgd": ("FO", {"elementwise"}),
    "signum": ("FO", {"elementwise"}),
    "soap": ("FO", {"moves_zeros"}),
    "sophia": ("SO", {"elementwise"}),
    "sophia_as_released": ("SO", {"elementwise"}),
    "zo_adamm": ("ZO", {"moves_zeros"}),
    "zo_sgd": ("ZO", {"moves_zeros"}),
}


def test_what_training_planning_and_reports_know_of_each_kind() -> None:
    names = ("reference", "one_shot", "elementwise", "moves_zeros", "layers_apart")
    found = {
        kind: (method.order, {name for name in names if getattr(method, name)})
        for kind, method in OPTIMIZERS.kinds().items()
        if kind != "hybrid"  # its traits are those of its two
    }
    assert found == TRAITS


def test_a_control_says_what_it_controls() -> None:
    """A kind of its own names another one; Sophia's controls are settings of the Sophia that they control."""
    controls = {
        kind: method.control_of for kind, method in OPTIMIZERS.kinds().items() if "sophia" not in kind
    }
    assert {kind: of for kind, of in controls.items() if of is not None} == {"adamw_noise": "adamw"}
    for kind in ("sophia", "sophia_as_released"):
        plain = {"kind": kind, "learning_rate": 1e-4}
        assert OPTIMIZERS.parse(plain).control_of is None
        assert OPTIMIZERS.parse({**plain, "control": "mean_curvature"}).control_of == kind


def test_muon_and_its_adamw_get_the_settings() -> None:
    settings = {"momentum": 0.87, "beta1": 0.81, "beta2": 0.91, "eps": 1e-7, "weight_decay": 0.03}
    method = OPTIMIZERS.parse({"kind": "muon", "learning_rate": 3e-3, **settings})
    model = torch.nn.Sequential(torch.nn.Embedding(5, 4), torch.nn.Linear(4, 4), torch.nn.Linear(4, 5))
    matrices, *rest = make_optimizer(method, model).param_groups
    assert (matrices["momentum"], matrices["lr"], matrices["weight_decay"]) == (0.87, 3e-3, 0.03)
    assert {(group["betas"], group["eps"], group["lr"]) for group in rest} == {((0.81, 0.91), 1e-7, 3e-3)}


def test_weights_are_rounded_at_random_only_where_that_is_asked_for() -> None:
    model, method = torch.nn.Linear(3, 2), OPTIMIZERS.parse({"kind": "adamw", "learning_rate": 1e-3})
    plain = type(make_optimizer(method, model))
    assert type(make_optimizer(method, model.bfloat16(), stochastic_rounding=True)) is not plain


@pytest.mark.parametrize(("every", "steps"), [("auto", ASSUMED_STEPS), (7, 7.0)])
def test_the_planner_counts_steps_between_estimates(every: int | str, steps: float) -> None:
    estimator = next(iter(ESTIMATORS.kinds().values()))
    assert Curvature(estimator, every, None, "both", None).steps_between == steps


def test_the_planner_counts_the_examples_of_every_product_of_the_solver() -> None:
    settings = {"kind": "influence", "max_iterations": 6, "curvature_examples": 10}
    assert OPTIMIZERS.parse(settings).solver_examples == 60
