"""What a suite may ask of several processes, and what is refused before any job."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import ValidationError

from pipeline_lib.objectives import OBJECTIVES
from pipeline_lib.optimizers import OPTIMIZERS
from pipeline_lib.study.resources import Resources
from pipeline_lib.study.runs import Run, sharding_faults
from pipeline_lib.training.settings import Unlearn

SHARDED = Resources(gpus=2, sharding="full")


def run_of(objective: str, optimizer: str, **settings: str) -> Run:
    stepper = OPTIMIZERS.parse({"kind": optimizer, "learning_rate": 1.0, **settings})
    loss = OBJECTIVES.parse({"kind": objective})
    return Run("task", "model", objective, optimizer, 0, loss, stepper, Unlearn())


@pytest.mark.parametrize(
    "settings, processes",
    [({}, 1), ({"gpus": 4}, 4), ({"gpus": 4, "processes": 2}, 2), ({"processes": 3}, 3)],
)
def test_a_job_has_a_process_for_each_gpu_or_as_many_as_it_says(settings, processes):
    assert Resources(**settings).per_node == processes


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"gpus": 1, "processes": 2}, "every process needs a GPU of its own, and `gpus` is 1"),
        ({"sharding": "full"}, "needs more than one process"),
        ({"gpus": 1, "sharding": "full"}, "needs more than one process"),
    ],
)
def test_what_does_not_fit_together_is_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        Resources(**settings)


def test_two_nodes_are_enough_for_sharding_and_a_cpu_needs_no_gpus():
    assert Resources(nodes=2, sharding="full").per_node == 1
    assert Resources(gpus=1, processes=2, device="cpu").per_node == 2


@pytest.mark.parametrize(
    "run, reason",
    [
        (run_of("L1Sparse", "adamw"), "all weights at once"),
        (run_of("GradDiff", "influence"), "vectors over all parameters"),
        (run_of("GradDiff", "adamw_8bit"), "256 neighbours"),
        (run_of("GradDiff", "adamw_4bit"), "128 neighbours"),
        (run_of("GradDiff", "quantised_sgd"), "largest momentum of a whole tensor"),
        (run_of("GradDiff", "soap"), "products of whole matrices"),
        (run_of("GradDiff", "adamw_noise"), "its noise is drawn for whole tensors"),
        (run_of("GradDiff", "sophia", estimator="hutchinson_gaussian"), "differentiates twice"),
    ],
)
def test_runs_that_cannot_be_sharded_are_named_with_the_reason(run, reason):
    ((field, message),) = sharding_faults(SHARDED, [run_of("KL", "muon"), run])
    assert field == "resources.sharding" and reason in message
    assert not list(sharding_faults(Resources(gpus=2), [run]))


def test_states_are_either_offloaded_or_divided():
    run = replace(run_of("GradDiff", "adamw"), unlearn=Unlearn(offload=True))
    ((field, message),) = sharding_faults(SHARDED, [run])
    assert field == "resources.sharding" and "offload" in message


def test_the_others_are_not():
    runs = [run_of(o, "sophia", estimator="gauss_newton_bartlett") for o in ("RMU", "WHP", "PDU", "NPO")]
    assert not list(sharding_faults(SHARDED, [*runs, run_of("GradDiff", "muon")]))
