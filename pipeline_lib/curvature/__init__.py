"""Diagonal curvature for second-order optimisers. A new estimator is one module here; it is found."""

from __future__ import annotations

from pipeline_lib.core.families import Family
from pipeline_lib.curvature.base import Estimator

ESTIMATORS = Family(__name__, Estimator)

__all__ = ["ESTIMATORS", "Estimator"]
