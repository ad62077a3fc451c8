"""The planner's own list of what objectives and optimisers keep, held against the objectives themselves."""

from __future__ import annotations

import pytest

from pipeline_lib.config.methods import OBJECTIVE_KINDS, OPTIMIZER_KINDS
from pipeline_lib.objectives import OBJECTIVES, make_objective
from pipeline_lib.planning import traits
from tests.objectives.test_settings import OBJECTIVE_SETTINGS

WITH_RETAIN_TERM = [k for k, s in OBJECTIVE_SETTINGS.items() if "retain_loss_type" in s.model_fields]


def test_every_kind_that_a_suite_may_name_is_known() -> None:
    assert set(OBJECTIVE_KINDS) <= set(traits.OBJECTIVES)
    assert set(OPTIMIZER_KINDS) <= set(traits.STATES)
    assert set(OBJECTIVES) == set(OBJECTIVE_KINDS)


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_traits_are_those_of_the_objective(kind: str) -> None:
    objective, known = OBJECTIVES[kind], traits.OBJECTIVES[kind]
    assert known.retain == objective.uses_retain
    assert bool(known.forget) == objective.uses_forget
    assert (known.forget == 2) == (objective.forget_answers == "both")
    assert (known.reference is not None) == objective.needs_reference_model
    assert known.cached == objective.needs_reference_nll
    assert known.original == objective.needs_original_weights
    own = getattr(objective, "alternatives", None)
    assert known.alternatives == (own if isinstance(own, str) else None)


@pytest.mark.parametrize("kind", WITH_RETAIN_TERM)
@pytest.mark.parametrize("term", ["NLL", "KL"])
def test_traits_follow_the_retain_term(kind: str, term: str) -> None:
    """What is built with these settings, and what the planner says of them, need the same second model."""
    settings = OBJECTIVE_SETTINGS[kind](kind=kind, retain_loss_type=term).model_dump()
    known, objective = traits.traits_of({**settings, "retain_loss_type": term}), make_objective(**settings)
    assert (known.reference is not None) == objective.needs_reference_model
    assert (known.reference == "both") == (kind == "UNDIAL" and term == "KL")


def test_states_by_kind() -> None:
    assert traits.state_bytes("adamw", 1000, 100, 4) == 8000
    assert traits.state_bytes("signum", 1000, 100, 2) == 2000
    assert traits.state_bytes("muon", 1000, 100, 4) == 4400, "AdamW's second average for embeddings alone"
    assert traits.state_bytes("adamw_8bit", 1024, 0, 4) == 2 * 1024 + 2 * 4 * 4, "one scale for 256 bytes"


def test_curvature_of_an_optimizer() -> None:
    assert traits.curvature_of({"kind": "adamw"}) is None
    settings = {"kind": "sophia", "estimator": "hutchinson_gaussian", "update_every": 5}
    assert traits.curvature_of(settings) == ("hutchinson_gaussian", 5.0)
