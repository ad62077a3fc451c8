"""Influence unlearning: one damped Newton step, and the linear systems behind it. See docs/influence.md."""

from __future__ import annotations

from pipeline_lib.influence.gauss_newton import GaussNewton
from pipeline_lib.influence.newton import SOLVERS, newton_direction
from pipeline_lib.influence.solvers import Report

__all__ = ["SOLVERS", "GaussNewton", "Report", "newton_direction"]
