"""What each optimiser keeps, as far as memory and time depend on it.

The objectives themselves say the same in their class attributes, but importing them imports torch; a test
holds the two against each other.
"""

from __future__ import annotations

from typing import Any

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
