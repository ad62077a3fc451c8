"""What each objective and optimiser keeps and runs, as far as memory and time depend on it.

The objectives themselves say the same in their class attributes, but importing them imports torch; a test
holds the two against each other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class ObjectiveTraits:
    """What happens in a step, and what is held for it.

    `forget`: forward passes over forget batches whose graphs live at once (a pair's two are two).
    `retain`: whether a retain batch has a graph too. `reference`: the set on which the model before
    unlearning runs at every step, "both" sets, or None = never. `cached`: whether its likelihoods are
    computed once, before training. `distributions`: tensors of answer tokens x vocabulary, in fp32, that it
    holds beyond a cross-entropy's. `original`: whether the weights before training are read again at the end.
    `alternatives`: where the other answers that it teaches come from, None where it teaches none or where
    its settings say.
    """

    forget: int
    retain: bool
    reference: str | None
    cached: bool
    distributions: int
    original: bool
    alternatives: str | None = None


_PLAIN = ObjectiveTraits(1, True, None, False, 0, False)
_PAIR = ObjectiveTraits(2, True, None, True, 0, False)
OBJECTIVES: dict[str, ObjectiveTraits] = {
    "GradAscent": ObjectiveTraits(1, False, None, False, 0, False),
    "GradDiff": _PLAIN,
    "KL": ObjectiveTraits(1, True, "retain", False, 3, False),
    "PO": replace(_PLAIN, alternatives="refusals"),
    "RandomLabels": replace(_PLAIN, alternatives="random_labels"),
    "DPO": _PAIR,
    "IdkDPO": replace(_PAIR, alternatives="refusals"),
    "AltPO": replace(_PAIR, alternatives="records"),
    "NPO": ObjectiveTraits(1, True, None, True, 0, False),
    "SimNPO": _PLAIN,
    "WGA": _PLAIN,
    "SatImp": _PLAIN,
    "UNDIAL": ObjectiveTraits(1, True, "forget", False, 3, False),
    "CEU": ObjectiveTraits(1, False, None, False, 1, False),
    "PDU": _PLAIN,
    "RMU": ObjectiveTraits(1, True, "retain", False, 0, False),
    "L1Sparse": ObjectiveTraits(0, True, None, False, 0, False),
    "TaskVector": ObjectiveTraits(1, False, None, False, 0, True),
    "WHP": _PLAIN,
    "InContext": ObjectiveTraits(0, False, None, False, 0, False),
    "FineTuning": ObjectiveTraits(0, True, None, False, 0, False),
}


def traits_of(objective: dict[str, Any]) -> ObjectiveTraits:
    """Those of an objective with these settings, of which the retain term may be another than usual."""
    traits = OBJECTIVES[objective["kind"]]
    term = objective.get("retain_loss_type")
    if term == "KL":  # RMU's hidden states of the retain set are not compared then
        forget = traits.reference == "forget"
        return replace(traits, reference="both" if forget else "retain", distributions=3)
    return replace(traits, reference=None) if term == "NLL" and objective["kind"] == "RMU" else traits


# Tensors of the size of the weights, and in their precision, that an optimiser keeps.
STATES: dict[str, float] = {
    "adamw": 2.0,
    "adamw_8bit": 2.0,  # one byte an element: see `state_bytes`
    "sgd": 1.0,
    "signum": 1.0,
    "lion": 1.0,
    "muon": 1.0,  # and AdamW's second one for embeddings
    "sophia": 2.0,
    "sophia_as_released": 2.0,
    "influence": 0.0,
    "none": 0.0,
}
EIGHT_BIT = frozenset({"adamw_8bit"})

# Vectors of the size of all weights, in fp32, beside the gradient: see training/one_shot.py.
SOLVER_VECTORS = {"conjugate_gradient": 4.0, "lissa": 3.0, "diagonal": 4.0, "ekfac": 5.0}


def state_bytes(kind: str, trained: float, embedding: float, width: int) -> float:
    """Bytes of an optimiser's state for so many trained parameters of `width` bytes each."""
    if kind in EIGHT_BIT:
        return 2.0 * trained * (1 + 4 / 256)  # one scale for 256 values
    kept = STATES[kind] * trained
    if kind == "muon":
        kept += min(embedding, trained)
    return kept * width


def curvature_of(settings: dict[str, Any]) -> tuple[str, float] | None:
    """(estimator, steps between two estimates) of a run's optimiser; None where it estimates none.

    With `update_every: auto` every tenth step is assumed.
    """
    if "estimator" not in settings:
        return None
    every = settings["update_every"]
    return settings["estimator"], 10.0 if every == "auto" else float(every)
