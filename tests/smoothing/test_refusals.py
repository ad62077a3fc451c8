"""What cannot be smoothed is refused where the suite is read, and once more where a run begins."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline_lib.core.errors import UserError
from pipeline_lib.objectives import OBJECTIVES
from pipeline_lib.operations.plan.device import Device
from pipeline_lib.operations.plan.shape import _of_config
from pipeline_lib.operations.plan.sizes import Lengths
from pipeline_lib.operations.plan.training import Training
from pipeline_lib.operations.plan.training_time import training_seconds
from pipeline_lib.optimizers import OPTIMIZERS
from pipeline_lib.steps import unlearn
from pipeline_lib.study import parse_suite
from pipeline_lib.study.table import models_of, run_labels
from pipeline_lib.training.settings import Unlearn
from tests.smoothing.kinds import SETTINGS, Point, smoothing_of, update_of
from tests.steps import study
from tests.study.suites import error, errors, small

NO_TERM = (
    "the smoothing sam takes the gradient of the forget term alone, and L1Sparse has no such term; choose "
    "another objective, or an optimiser without `smoothing`"
)


def smoothed(kind: str, optimizer: str = "adamw", **given: Any) -> dict[str, Any]:
    return {"soft": {"kind": optimizer, "learning_rate": 1e-3, "smoothing": {"kind": kind, **given}}}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"kind": "sam", "rho": 0}, "rho: found 0; must be greater than 0"),
        ({"kind": "sam", "rho": -1}, "rho: found -1; must be greater than 0"),
        ({"kind": "random_smoothing", "sigma": 0}, "sigma: found 0; must be greater than 0"),
        ({"kind": "random_smoothing", "draws": 0}, "draws: found 0; must be greater than 0"),
        ({"kind": "gradient_penalty", "strength": 0}, "strength: found 0; must be greater than 0"),
        ({"kind": "curvature_regularisation", "distance": 0}, "distance: found 0; must be greater than 0"),
        ({"kind": "weight_averaging", "every": 0}, "every: found 0; must be greater than 0"),
        ({"kind": "weight_averaging", "start": 0}, "found 0; must be greater than 0"),
        ({"kind": "weight_averaging", "start": 1.5}, "found 1.5; must be smaller than 1"),
        ({"kind": "sma"}, "kind: found 'sma'; did you mean 'sam'?"),
    ],
)
def test_a_setting_that_means_no_smoothing_is_refused(given: dict[str, Any], told: str) -> None:
    """A plain step is one without the block: strength 0 would pay the passes for nothing."""
    lines = errors(small(optimizers={"soft": {"kind": "sgd", "learning_rate": 1, "smoothing": given}}))
    assert all(line.startswith("optimizers.soft.smoothing") for line in lines)
    assert any(told in line for line in lines)


@pytest.mark.parametrize("kind", ["zo_sgd", "zo_adamm", "r_adazo", "hizoo"])
def test_steps_without_a_gradient_are_not_smoothed(kind: str) -> None:
    found = error(small(optimizers=smoothed("sam", kind)))
    assert found.endswith(f"{kind} does not step along one gradient, which nothing smooths; leave it out")


def test_a_hybrid_is_not_smoothed_nor_are_its_parts() -> None:
    parts = {"first": {"kind": "sgd", "learning_rate": 1}, "second": {"kind": "signum", "learning_rate": 1}}
    sam = {"smoothing": {"kind": "sam"}}
    for part in ("first", "second"):
        inner = {**parts, part: {**parts[part], **sam}}
        found = errors(small(optimizers={"both": {"kind": "hybrid", "learning_rate": 1, **inner}}))
        assert any("an optimiser that takes turns steps plainly; leave it out" in line for line in found)
    outer = errors(small(optimizers={"both": {"kind": "hybrid", "learning_rate": 1, **parts, **sam}}))
    assert any("hybrid does not step along one gradient" in line for line in outer)


def test_one_step_over_whole_sets_is_not_smoothed() -> None:
    found = error(small(optimizers={"influence": {"smoothing": {"kind": "sam"}}}))
    assert found.endswith("influence takes one step over the whole sets, which nothing smooths; leave it out")


@pytest.mark.parametrize("kind", SETTINGS)
def test_an_objective_without_a_forget_term_is_refused_where_one_is_needed(kind: str) -> None:
    raw = small(objectives={"L1Sparse": None, "InContext": None}, optimizers=smoothed(kind))
    if kind == "weight_averaging":
        parse_suite(raw)
    else:
        assert error(raw) == f"runs.0.optimizers: soft: {NO_TERM.replace('sam', kind)}"


def test_a_smoothing_that_a_block_of_runs_sets_is_checked_too() -> None:
    block = {"methods": ["L1Sparse"], "optimizers": ["sgd"], "optimizer": {"smoothing": {"kind": "sam"}}}
    raw = small(objectives={"L1Sparse": None}, optimizers={"sgd": {"learning_rate": 1}}, runs=[block])
    assert error(raw) == f"runs.0.optimizers: sgd: {NO_TERM}"


@pytest.mark.parametrize("kind", SETTINGS)
def test_bf16_weights_are_refused_with_the_reason(kind: str) -> None:
    found = error(small(optimizers=smoothed(kind), unlearn={"weights": "bf16_stochastic"}))
    reason = smoothing_of(kind).needs_fp32
    assert found == (
        f"runs.0.optimizers: soft: found `weights: bf16_stochastic`; {reason}, which needs `weights: fp32`"
    )


def test_noise_is_refused_with_sharding() -> None:
    raw = small(optimizers=smoothed("random_smoothing"), resources={"sharding": "full", "processes": 2})
    assert "random_smoothing cannot be trained with resources.sharding full: its noise" in error(raw)


@pytest.mark.parametrize(
    ("objective", "weights", "told"),
    [
        ("L1Sparse", "fp32", "and L1Sparse has no such term"),
        ("GradDiff", "bf16", "sam: moves of this length are lost"),
    ],
)
def test_the_step_refuses_too(objective: str, weights: str, told: str, tmp_path: Path) -> None:
    method = OPTIMIZERS.parse(smoothed("sam")["soft"]).model_dump()
    who, chosen = study.identity(objective, "soft"), OBJECTIVES.parse({"kind": objective}).model_dump()
    job = study.unlearning_job(tmp_path, tmp_path, tmp_path, who, chosen, method, weights=weights)
    with pytest.raises(UserError, match=told):
        unlearn.run(job)


def test_a_mean_that_never_begins_is_refused() -> None:
    with pytest.raises(UserError, match="starts at step 7, and the run has 6"):
        update_of(Point(1.0), smoothing_of("weight_averaging", start=7), steps=6)


def test_runs_without_smoothing_keep_their_identity() -> None:
    assert "smoothing" not in OPTIMIZERS.parse({"kind": "sgd", "learning_rate": 1}).model_dump()
    kept = OPTIMIZERS.parse(smoothed("sam", rho=0.5)["soft"])
    assert OPTIMIZERS.parse(kept.model_dump()) == kept


def test_a_smoothed_adamw_is_not_what_costs_are_relative_to() -> None:
    suite = parse_suite(small(optimizers={"adamw": {"learning_rate": 1}, **smoothed("sam")}))
    labels = run_labels(models_of(suite))
    found = {label["optimizer"]: label["reference"] for label in labels if label["unlearned"]}
    assert found == {"adamw": True, "soft": False}


def test_a_control_controls_what_is_smoothed_alike() -> None:
    noise = {f"noise_{label}": {**block, "kind": "adamw_noise"} for label, block in smoothed("sam").items()}
    raw = small(optimizers={"adamw": {"learning_rate": 1}, **smoothed("sam"), **noise})
    labels = run_labels(models_of(parse_suite(raw)))
    assert [label["controls"] for label in labels if "controls" in label] == [["soft"]] * len(
        {(label["method"], label["seed"]) for label in labels if label["unlearned"]}
    )


@pytest.mark.parametrize(
    ("given", "forward", "forget", "retain"),
    [
        (None, 1, 1, 1),
        ({"kind": "sam"}, 3, 2, 1),
        ({"kind": "random_smoothing", "draws": 5}, 6, 5, 1),
        ({"kind": "gradient_penalty"}, 3, 2, 1),
        ({"kind": "gradient_penalty", "form": "as_released"}, 2, 2, 1),
        ({"kind": "curvature_regularisation"}, 5, 4, 1),
        ({"kind": "curvature_regularisation", "form": "as_released"}, 3, 3, 1),
        ({"kind": "weight_averaging"}, 1, 1, 1),
    ],
)
def test_the_plan_counts_every_pass(
    given: dict[str, Any] | None, forward: int, forget: int, retain: int
) -> None:
    """`forward`: over both sets; `forget`, `retain`: backward through one. Compared with one of each."""
    shape = _of_config({"model_type": "llama", **LLAMA}, "test")
    assert shape is not None
    chosen = {} if given is None else {"smoothing": given}
    sets = {"forget": Lengths(400, 20, 30, 50, 1, "both"), "retain": Lengths(400, 40, 60, 100, 1, "both")}
    job = Training(
        shape,
        Device("cpu", None, 1, None),
        sets["forget"],
        sets["retain"],
        OBJECTIVES.parse({"kind": "GradDiff"}),
        OPTIMIZERS.parse({"kind": "sgd", "learning_rate": 1, **chosen}),
        Unlearn(compute="fp32"),
        None,
    )
    loading = training_seconds(replace(job, optimizer=None))
    plain = replace(job, optimizer=OPTIMIZERS.parse({"kind": "sgd", "learning_rate": 1}))
    alone = replace(plain, objective=OBJECTIVES.parse({"kind": "GradAscent"}))
    of_forget = (training_seconds(alone) - loading) / 3  # a forward pass; backward is twice that
    of_retain = (training_seconds(plain) - training_seconds(alone)) / 3
    expected = forward * (of_forget + of_retain) + 2 * forget * of_forget + 2 * retain * of_retain
    # The optimiser's step, which is taken once, is little.
    assert training_seconds(job) - loading == pytest.approx(expected, rel=0.03)


LLAMA = {
    "vocab_size": 4096,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
}
