"""Min-K%: a text that was not learned holds a few very unlikely tokens.

Source: Shi et al. 2024 (arXiv 2310.16789), equation 1.
Formula: score = mean of the log-probabilities of the K % least likely tokens; max(1, floor(T K / 100)) of T.
Range: -inf to 0. Direction: higher = more likely a member. K = 100 is LOSS.
Traps: K is chosen by the user and never by looking at the AUC. Answers of a few tokens use one token only.
The end token counts as a token here; OpenUnlearning leaves it out. SOUL's code takes no token at all
(and gets NaN) where K % of T is below one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from pipeline_lib.metrics.membership.attack import Attack, metrics_of
from pipeline_lib.metrics.rows import Row


def min_k_score(log_probabilities: Sequence[float], percent: float) -> float:
    """Score from the log-probabilities (T,) of the answer's tokens, in nats; `percent` in (0, 100]."""
    if not 0 < percent <= 100:
        raise ValueError(f"percent must be above 0 and at most 100, got {percent}")
    if not len(log_probabilities):
        raise ValueError("Min-K% needs at least one token")
    kept = max(1, int(len(log_probabilities) * percent / 100))
    return float(np.sort(np.asarray(log_probabilities, dtype=float))[:kept].mean())


def _score(row: Row, _: Row, percent: int) -> float:
    return min_k_score([-nll for nll in row["token_nll"]], percent)


MIN_K = {
    percent: Attack(
        name=f"min_k_{percent}",
        score=partial(_score, percent=percent),
        label=f"Min-{percent} %",
        source="Min-K% Prob, arXiv 2310.16789, eq. 1",
        formula=f"mean of the {percent} % lowest token log-probabilities",
    )
    for percent in (20, 40)
}
METRICS = [
    metric
    for percent, order, tables in (
        (20, 331, {}),
        (40, 341, {"auc": {"membership": 30}, "auc_gap": {"membership": 80}}),
    )
    for metric in metrics_of(MIN_K[percent], order, tables)
]
