"""What is minimised. A new objective is one file and one line in `OBJECTIVES`."""

from __future__ import annotations

from typing import Any

from pipeline_lib.objectives.base import Losses, Objective
from pipeline_lib.objectives.finetuning import FineTuning
from pipeline_lib.objectives.gradient import GradAscent, GradDiff
from pipeline_lib.objectives.kl import KL
from pipeline_lib.objectives.npo import NPO
from pipeline_lib.objectives.po import PO

OBJECTIVES: dict[str, type[Objective]] = {
    "GradAscent": GradAscent,
    "GradDiff": GradDiff,
    "KL": KL,
    "PO": PO,
    "NPO": NPO,
}


def make_objective(kind: str, **settings: Any) -> Objective:
    """The objective of this kind; settings are its dataclass fields."""
    return OBJECTIVES[kind](**settings)


__all__ = ["OBJECTIVES", "FineTuning", "Losses", "Objective", "make_objective"]
