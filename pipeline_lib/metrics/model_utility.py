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

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from pipeline_lib.core.errors import UserError
from pipeline_lib.metrics.definition import UTILITY_SPLIT, Metric
from pipeline_lib.metrics.statistics import Interval, interval, varies, weighted_mean
from pipeline_lib.metrics.subjects import Run, Split


def harmonic_mean(parts: ArrayLike) -> np.ndarray:
    """Harmonic mean over the last axis, (..., K) -> (...); 0 where any part is 0."""
    values = np.asarray(parts, dtype=float)
    if values.shape[-1] == 0 or (values < 0).any():
        raise ValueError("a harmonic mean needs at least one part, none of them negative")
    with np.errstate(divide="ignore"):
        return values.shape[-1] / (1 / values).sum(axis=-1)  # 1/0 = inf, n/inf = 0


def _utility(run: Run, suffix: str) -> Interval | None:
    """Over all utility splits, each resampled independently of the others. None where nothing is answered."""
    if not any("rouge_l_recall" in split.values for split in run.splits.values()):
        return None
    if not (chosen := [_chosen(name, run.splits) for name in run.manifest["utility"]]):
        return None
    columns = [
        (split.counts, split.values[metric])
        for split in chosen
        for metric in ("probability", "rouge_l_recall", f"truth_ratio{suffix}")
    ]
    value = harmonic_mean([values.mean() for _, values in columns])
    draws = harmonic_mean(np.stack([weighted_mean(*column) for column in columns], axis=1))
    if not varies(*(counts for counts, _ in columns)):  # a split of one group: no whole error either
        draws = np.full_like(draws, value)
    return interval(float(value), draws, sum(len(split.rows) for split in chosen), shifts=True)


def _chosen(name: str, splits: dict[str, Split]) -> Split:
    if name not in splits:
        raise UserError(f"split {name!r} counts towards Model Utility but is not evaluated; evaluate it too")
    split = splits[name]
    if "rouge_l_recall" not in split.values:
        raise UserError(
            f"Model Utility needs answers to split {name!r}, but only likelihoods are measured on it. Take "
            "the split out of `utility`."
        )
    if "truth_ratio" not in split.values:
        without = next(row["id"] for row in split.rows if not row["distractor_nll"])
        raise UserError(
            f"Model Utility needs the truth ratio of split {name!r}, but its record {without!r} has no "
            "distractors. Add them, or take the split out of `utility`."
        )
    return split


_UTILITY = Metric(
    name="model_utility",
    label="Model Utility",
    short_label="Model utility",
    higher_is_better=True,
    higher_is_better_on_forget=None,
    range=(0, 1),
    source="TOFU, arXiv 2401.06121",
    formula="harmonic mean of Probability, ROUGE-L recall and Truth Ratio of every utility split",
    trap="one part of 0 makes it 0; depends on which splits enter",
    family="Likelihood and truth (TOFU)",
    by_words=True,
    on="run",
    split=UTILITY_SPLIT,
    compute=lambda run: _utility(run, ""),
    order=300,
)
METRICS = [
    _UTILITY,
    replace(
        _UTILITY,
        name="model_utility_arithmetic",
        label="Model Utility (arithmetic)",
        short_label="Model utility (arithmetic)",
        source="TOFU, arXiv 2401.06121 (its utils.py; also SOUL, arXiv 2404.18239)",
        formula="the same with the arithmetic truth ratio",
        trap="lower than the published form",
        compute=lambda run: _utility(run, "_arithmetic"),
        order=301,
    ),
]
