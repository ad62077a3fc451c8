"""Forget Quality as released: the forget set against the retain set of one and the same model.

Source: SOUL's released evaluation of TOFU; the paper's Figure 1 shows this number.
Formula: p and D of the two-sample KS test (scipy.stats.ks_2samp) between the released truth ratios of the
forget rows and those of the retain rows.
Range: 0 to 1. Direction: the paper reads higher p as better.
Why it is not what its name says: TOFU's Forget Quality holds the unlearned model against `retrained` on the
forget questions. This one needs no retrained model and says whether forget and retain questions look alike to
one model. They do before any unlearning (p is high for the model that learned both), and a model that forgot
the forget set well, as `retrained` did, makes them differ.
Traps: the two samples hold different questions, and p shrinks with their number.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline_lib.evaluation.metrics.forget_quality import forget_quality


def released_forget_quality(forget: Sequence[float], retain: Sequence[float]) -> tuple[float, float]:
    """(p, D) from the released truth ratios of both splits."""
    result = forget_quality(forget, retain)
    return result.p_value, result.ks_statistic
