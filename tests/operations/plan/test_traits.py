"""What the planner knows of optimisers' states and curvature."""

from __future__ import annotations

from pipeline_lib.operations.plan import traits
from pipeline_lib.study.methods import OPTIMIZER_KINDS


def test_every_kind_that_a_suite_may_name_is_known() -> None:
    assert set(OPTIMIZER_KINDS) <= set(traits.STATES)


def test_states_by_kind() -> None:
    assert traits.state_bytes("adamw", 1000, 100, 4) == 8000
    assert traits.state_bytes("signum", 1000, 100, 2) == 2000
    assert traits.state_bytes("muon", 1000, 100, 4) == 4400, "AdamW's second average for embeddings alone"
    assert traits.state_bytes("adamw_8bit", 1024, 0, 4) == 2 * 1024 + 2 * 4 * 4, "one scale for 256 bytes"


def test_curvature_of_an_optimizer() -> None:
    assert traits.curvature_of({"kind": "adamw"}) is None
    settings = {"kind": "sophia", "estimator": "hutchinson_gaussian", "update_every": 5}
    assert traits.curvature_of(settings) == ("hutchinson_gaussian", 5.0)
