"""Model Utility: one number for what must not be lost.

Source: TOFU (arXiv 2401.06121, section 2.2.2), as its `aggregate_eval_stat.py` computes it.
Formula: harmonic mean of Probability, ROUGE-L recall and Truth Ratio on every utility split (for TOFU nine
numbers: retain, real authors, world facts). Geometric truth ratio by default; `model_utility_arithmetic`
takes the arithmetic one.
Range: 0 to 1. Direction: higher is better.
Traps: the harmonic mean follows the worst part, and one part of 0 makes the whole 0. Its value depends on
which splits enter; do not compare tasks with different utility splits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def harmonic_mean(parts: ArrayLike) -> np.ndarray:
    """Harmonic mean over the last axis, (..., K) -> (...); 0 where any part is 0."""
    values = np.asarray(parts, dtype=float)
    if values.shape[-1] == 0 or (values < 0).any():
        raise ValueError("a harmonic mean needs at least one part, none of them negative")
    with np.errstate(divide="ignore"):
        return values.shape[-1] / (1 / values).sum(axis=-1)  # 1/0 = inf, n/inf = 0
