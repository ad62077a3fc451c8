"""What is minimised. A new objective is one file and one line in `OBJECTIVES`."""

from __future__ import annotations

from typing import Any

from pipeline_lib.objectives.base import Losses, Objective
from pipeline_lib.objectives.distributions import CEU, UNDIAL
from pipeline_lib.objectives.finetuning import FineTuning, L1Sparse
from pipeline_lib.objectives.gradient import GradAscent, GradDiff
from pipeline_lib.objectives.in_context import InContext
from pipeline_lib.objectives.kl import KL
from pipeline_lib.objectives.npo import NPO, SimNPO
from pipeline_lib.objectives.pdu import PDU
from pipeline_lib.objectives.po import PO, RandomLabels
from pipeline_lib.objectives.preference import DPO, AltPO, IdkDPO
from pipeline_lib.objectives.rmu import RMU
from pipeline_lib.objectives.task_vector import TaskVector
from pipeline_lib.objectives.token_weights import WGA, SatImp
from pipeline_lib.objectives.whp import WHP

OBJECTIVES: dict[str, type[Objective]] = {
    "GradAscent": GradAscent,
    "GradDiff": GradDiff,
    "KL": KL,
    "PO": PO,
    "RandomLabels": RandomLabels,
    "DPO": DPO,
    "IdkDPO": IdkDPO,
    "AltPO": AltPO,
    "NPO": NPO,
    "SimNPO": SimNPO,
    "WGA": WGA,
    "SatImp": SatImp,
    "UNDIAL": UNDIAL,
    "CEU": CEU,
    "PDU": PDU,
    "RMU": RMU,
    "L1Sparse": L1Sparse,
    "TaskVector": TaskVector,
    "WHP": WHP,
    "InContext": InContext,
}


def make_objective(kind: str, **settings: Any) -> Objective:
    """The objective of this kind; settings are its dataclass fields."""
    return OBJECTIVES[kind](**settings)


__all__ = ["OBJECTIVES", "FineTuning", "Losses", "Objective", "make_objective"]
