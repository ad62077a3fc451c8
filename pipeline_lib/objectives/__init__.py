"""What is minimised. A new objective is one module here with a subclass of `Objective`; it is found."""

from __future__ import annotations

from pipeline_lib.core.families import Family
from pipeline_lib.objectives.base import Losses, Objective

OBJECTIVES = Family(__name__, Objective)

__all__ = ["OBJECTIVES", "Losses", "Objective"]
