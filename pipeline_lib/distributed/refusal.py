"""What cannot be trained with a part of each parameter in each process, and why."""

from __future__ import annotations

from typing import Protocol

_WHY = {
    "adamw_8bit": "its 8-bit states share a scale among 256 neighbours, and these are cut apart",
    "influence": "its solvers work with vectors over all parameters and with forward-mode derivatives, which "
    "sharded layers do not have",
    "hutchinson_rademacher": "it differentiates twice, which sharded layers do not support",
    "hutchinson_gaussian": "it differentiates twice, which sharded layers do not support",
}


class Method(Protocol):
    """An objective, as far as it matters here."""

    @property
    def kind(self) -> str: ...
    @property
    def in_parts(self) -> str | None: ...


def refusal(objective: Method, optimizer: str, estimator: str | None) -> str | None:
    """Why a run of these kinds cannot be sharded, for the person who asked for it; None if it can be."""
    reasons = {objective.kind: objective.in_parts, optimizer: _WHY.get(optimizer)}
    for name, why in (*reasons.items(), (estimator, _WHY.get(estimator or ""))):
        if why is not None:
            return f"{name} cannot be trained with resources.sharding full: {why}; use sharding none"
    return None
