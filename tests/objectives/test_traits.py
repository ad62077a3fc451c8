"""What training prepares for each objective, and what the planner counts, read from the equations by hand."""

from __future__ import annotations

import pytest

from pipeline_lib.objectives import OBJECTIVES
from pipeline_lib.objectives.finetuning import FineTuning

# forget batch, retain batch, weights before training, generic labels, reference model;
# graphs of forget batches that live at once, distributions over the vocabulary beside the model's own
TRAITS = {
    "AltPO": (True, True, False, False, False, 2, 0),
    "CEU": (True, False, False, False, False, 1, 1),
    "DPO": (True, True, False, False, False, 2, 0),
    "GradAscent": (True, False, False, False, False, 1, 0),
    "GradDiff": (True, True, False, False, False, 1, 0),
    "IdkDPO": (True, True, False, False, False, 2, 0),
    "InContext": (False, False, False, False, False, 0, 0),
    "KL": (True, True, False, False, True, 1, 3),
    "L1Sparse": (False, True, False, False, False, 0, 0),
    "NPO": (True, True, False, False, False, 1, 0),
    "PDU": (True, True, False, False, False, 1, 0),
    "PO": (True, True, False, False, False, 1, 0),
    "RMU": (True, True, False, False, True, 1, 0),
    "RandomLabels": (True, True, False, False, False, 1, 0),
    "SatImp": (True, True, False, False, False, 1, 0),
    "SimNPO": (True, True, False, False, False, 1, 0),
    "TaskVector": (True, False, True, False, False, 1, 0),
    "UNDIAL": (True, True, False, False, True, 1, 3),
    "WGA": (True, True, False, False, False, 1, 0),
    "WHP": (True, True, False, True, False, 1, 0),
}


def traits(objective: object) -> tuple[bool | int, ...]:
    needs = ("original_weights", "generic_labels", "reference_model")
    names = (
        "uses_forget",
        "uses_retain",
        *(f"needs_{name}" for name in needs),
        "forget_graphs",
        "distributions",
    )
    return tuple(getattr(objective, name) for name in names)


def test_all_objectives_are_listed() -> None:
    assert set(TRAITS) == set(OBJECTIVES.kinds())


@pytest.mark.parametrize("kind", TRAITS)
def test_traits(kind: str) -> None:
    assert traits(OBJECTIVES.parse({"kind": kind})) == TRAITS[kind]


def test_fine_tuning_has_one_set() -> None:
    assert traits(FineTuning()) == (False, True, False, False, False, 0, 0)
