"""Diagonal curvature for second-order optimisers. A new estimator is one class and one line here."""

from __future__ import annotations

from pipeline_lib.curvature.base import Estimator
from pipeline_lib.curvature.empirical_fisher import EmpiricalFisher
from pipeline_lib.curvature.gauss_newton import GaussNewtonBartlett
from pipeline_lib.curvature.hutchinson import HutchinsonGaussian, HutchinsonRademacher

ESTIMATORS: dict[str, Estimator] = {
    estimator.name: estimator
    for estimator in (
        GaussNewtonBartlett(),
        HutchinsonRademacher(),
        HutchinsonGaussian(),
        EmpiricalFisher(),
    )
}

__all__ = ["ESTIMATORS", "Estimator"]
