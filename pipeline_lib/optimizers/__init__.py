"""How it is minimised. A new optimiser is one module here with a subclass of `Optimizer`; it is found."""

from __future__ import annotations

from pipeline_lib.core.families import Family
from pipeline_lib.optimizers.base import Optimizer

OPTIMIZERS = Family(__name__, Optimizer)

__all__ = ["OPTIMIZERS", "Optimizer"]
