"""Which other answers an objective may teach for each forget record."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline_lib.data.alternatives import alternatives_of
from pipeline_lib.data.records import Record
from pipeline_lib.objectives.base import Objective


def alternative_answers(
    objective: Objective, records: Sequence[Record], refusals: Sequence[str], seed: int
) -> list[tuple[str, ...]]:
    """For each forget record the answers of which every step draws one; see `alternatives_of`."""
    return alternatives_of(
        objective.teaches, objective.kind, objective.forget_answers == "both", records, refusals, seed
    )
