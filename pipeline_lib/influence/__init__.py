"""Influence unlearning: the linear systems behind one damped Newton step. See docs/influence.md.

A new solver is one module here with a subclass of `Solver`; it is found.
"""

from __future__ import annotations

from pipeline_lib.core.families import Family
from pipeline_lib.influence.solvers import Report, Solver

SOLVERS = Family(__name__, Solver)

__all__ = ["SOLVERS", "Report", "Solver"]
