"""PrivLeak: how much more, or less, the forget set stands out than in a model that never saw it.

Source: MUSE (Shi et al. 2024, arXiv 2407.06460), its third criterion, "no privacy leakage", with Min-40 %.
Formula: 100 (A - A_retrained) / A_retrained, A = 1 - AUC with AUC as in roc.py (higher score = member).
MUSE's own AUC takes the forget records as the non-members, hence 1 - AUC; OpenUnlearning turns it round in
the same way. So with a = AUC: PrivLeak = 100 (a_retrained - a) / (1 - a_retrained).
Range: -100 (members are told apart without error) upwards without limit. Direction: 0 is ideal. Below 0:
forget records still look like members. Above 0: they look less like members than never-seen records do.
Traps: not symmetric, and huge where `retrained` itself tells the sets apart (A_retrained near 0); then the
two sets are not of one kind, and the number says nothing. It is not measured where A_retrained is 0. In
resamples A_retrained is held at half of one pair's weight (the smallest AUC above 0) or more, so that the
result is a number. MUSE uses 0.5 or stored constants where no retrained model is at hand; here there must be
one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from pipeline_lib.metrics.definition import INF, Metric
from pipeline_lib.metrics.membership.attack import FAMILY, HOLDOUT, found_by
from pipeline_lib.metrics.membership.min_k import MIN_K
from pipeline_lib.metrics.needs import RETRAINED_ERRS
from pipeline_lib.metrics.statistics import Interval, interval
from pipeline_lib.metrics.subjects import Run


def privleak(auc: ArrayLike, auc_retrained: ArrayLike, pairs: int) -> np.ndarray:
    """PrivLeak in percent from AUCs with higher score = member, elementwise; `pairs` = M N."""
    unlearned, retrained = 1 - np.asarray(auc, dtype=float), 1 - np.asarray(auc_retrained, dtype=float)
    return 100 * (unlearned - retrained) / np.maximum(retrained, 0.5 / pairs)


def _privleak(run: Run) -> Interval | None:
    found = run.once(found_by, MIN_K[40])
    other = found and found.retrained
    if found is None or other is None:
        return None
    RETRAINED_ERRS.demand(other.auc, found.n)
    members, nonmembers = map(len, found.scores)
    value = float(privleak(found.auc, other.auc, members * nonmembers))
    draws = privleak(found.draws, other.draws, members * nonmembers)
    return interval(value, draws, found.n, shifts=True)


METRICS = [
    Metric(
        name="privleak",
        label="PrivLeak",
        higher_is_better=None,
        higher_is_better_on_forget=None,
        range=(-100, INF),
        source="MUSE, arXiv 2407.06460, its third criterion (no privacy leakage)",
        formula="100 (A - A_retrained) / A_retrained with A = 1 - AUC of Min-40 %",
        trap="0 is ideal, below it members still show, above they hide too well; huge for small A_retrained",
        family=FAMILY,
        tables={"membership": 90},
        decimals=1,
        needs=(RETRAINED_ERRS,),
        on="run",
        compute=_privleak,
        order=340,
        only_with=(HOLDOUT,),
    )
]
