"""PrivLeak: how much more, or less, the forget set stands out than in a model that never saw it.

Source: MUSE (Shi et al. 2024, arXiv 2407.06460), its third criterion, "no privacy leakage", with Min-40 %.
Formula: 100 (A - A_retrained) / A_retrained, A = 1 - AUC with AUC as in roc.py (higher score = member).
MUSE's own AUC takes the forget records as the non-members, hence 1 - AUC; OpenUnlearning turns it round in
the same way. So with a = AUC: PrivLeak = 100 (a_retrained - a) / (1 - a_retrained).
Range: -100 (members are told apart without error) upwards without limit. Direction: 0 is ideal. Below 0:
forget records still look like members. Above 0: they look less like members than never-seen records do.
Traps: not symmetric, and huge where `retrained` tells the sets apart itself (A_retrained near 0); that means
the two sets are not of one kind, and the number says nothing then. It is not measured where A_retrained is 0;
in resamples it is held at half of one pair's weight or more (the smallest AUC above 0), so that the result is
a number. MUSE uses 0.5 or stored constants
where no retrained model is at hand; here it must be.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def privleak(auc: ArrayLike, auc_retrained: ArrayLike, pairs: int) -> np.ndarray:
    """PrivLeak in percent from AUCs with higher score = member, elementwise; `pairs` = M N."""
    unlearned, retrained = 1 - np.asarray(auc, dtype=float), 1 - np.asarray(auc_retrained, dtype=float)
    return 100 * (unlearned - retrained) / np.maximum(retrained, 0.5 / pairs)
