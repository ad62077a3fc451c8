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

from dataclasses import replace

from pipeline_lib.metrics.definition import FORGET_SPLIT
from pipeline_lib.metrics.forget_quality import forget_quality
from pipeline_lib.metrics.released import released
from pipeline_lib.metrics.statistics import Interval, without_interval
from pipeline_lib.metrics.subjects import Run


def _test(run: Run) -> tuple[Interval, Interval] | None:
    """p and D. Retain questions are those of `retain_eval`, or of `retain` where there is no such split."""
    ratios = {name: split.values.get("truth_ratio_as_released") for name, split in run.splits.items()}
    forget, retain = ratios.get(FORGET_SPLIT), ratios.get("retain_eval")
    retain = ratios.get("retain") if retain is None else retain
    if forget is None or retain is None:
        return None
    n = len(forget) + len(retain)
    found = forget_quality(forget, retain)
    return without_interval(found.p_value, n), without_interval(found.ks_statistic, n)


_P_VALUE = released(
    name="forget_quality_as_released",
    label="Forget Quality (as released)",
    short_label="Forget quality p (as released)",
    higher_is_better=True,
    higher_is_better_on_forget=True,
    range=(0, 1),
    formula="p of the KS test between the forget and the retain truth ratios of the same model",
    trap="no comparison with `retrained`: high where forget and retain look alike, as before unlearning",
    no_interval="not resampled: its two samples are of different questions",
    tables={"as_released": 10},
    on="run",
    compute=lambda run: found[0] if (found := run.once(_test)) else None,
    order=410,
)
METRICS = [
    _P_VALUE,
    replace(
        _P_VALUE,
        name="ks_statistic_as_released",
        label="KS statistic D (as released)",
        short_label="KS D (as released)",
        higher_is_better=False,
        higher_is_better_on_forget=False,
        formula="D of that test",
        trap="as above",
        tables={"as_released": 20},
        compute=lambda run: found[1] if (found := run.once(_test)) else None,
        order=411,
    ),
]
