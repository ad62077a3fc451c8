"""What cannot be trained with a part of each parameter in each process, and why."""

from __future__ import annotations

_WHY = {
    "L1Sparse": "its penalty reads all weights at once, outside the layers that gather them",
    "adamw_8bit": "its 8-bit states share a scale among 256 neighbours, and these are cut apart",
    "influence": "its solvers work with vectors over all parameters and with forward-mode derivatives, which "
    "sharded layers do not have",
    "hutchinson_rademacher": "it differentiates twice, which sharded layers do not support",
    "hutchinson_gaussian": "it differentiates twice, which sharded layers do not support",
}


def refusal(objective: str, optimizer: str, estimator: str | None) -> str | None:
    """Why a run of these kinds cannot be sharded, for the person who asked for it; None if it can be."""
    for name in (objective, optimizer, estimator):
        if name in _WHY:
            return f"{name} cannot be trained with resources.sharding full: {_WHY[name]}; use sharding none"
    return None
