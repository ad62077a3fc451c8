"""Min-K%++: Min-K% with each token held against what else the model could have said there.

Source: Zhang et al. 2024 (arXiv 2404.02936), section 4.
Formula: z = (log p(token) - mu) / sigma, with mu and sigma the mean and standard deviation of the
log-probability under the next-token distribution itself; score = mean of the K % lowest z.
Range: any number. Direction: higher = more likely a member.
Traps: sigma is near 0 where the model is certain; it is held at 0.001 or more (a variance of 1e-6, as in
OpenUnlearning), so that such tokens do not become infinite. A memorised token has z near 0, not far above.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from pipeline_lib.core.errors import UserError
from pipeline_lib.metrics.membership.attack import Attack, metrics_of
from pipeline_lib.metrics.membership.min_k import min_k_score
from pipeline_lib.metrics.rows import Row, where

SMALLEST_SD = 1e-3


def min_k_plus_plus_score(
    log_probabilities: Sequence[float], mean: Sequence[float], std: Sequence[float], percent: float
) -> float:
    """Score from (T,) log-probabilities and the mean and SD of the log-probability at each token, in nats."""
    if not len(log_probabilities) == len(mean) == len(std):
        raise ValueError(
            f"expected one mean and SD a token, {len(log_probabilities)}, got {len(mean)} and {len(std)}"
        )
    centred = np.asarray(log_probabilities, dtype=float) - np.asarray(mean, dtype=float)
    return min_k_score(list(centred / np.maximum(np.asarray(std, dtype=float), SMALLEST_SD)), percent)


def _score(row: Row, _: Row, percent: int) -> float:
    if not len(row["token_nll"]) == len(row["token_mean"]) == len(row["token_std"]):
        raise UserError(
            f"{where(row)} has not one `token_mean` and `token_std` for each token of its "
            "answer: run the evaluation of this model again."
        )
    return min_k_plus_plus_score(
        [-nll for nll in row["token_nll"]], row["token_mean"], row["token_std"], percent
    )


METRICS = [
    metric
    for percent, order, tables in ((20, 351, {}), (40, 361, {"auc": {"membership": 40}}))
    for metric in metrics_of(
        Attack(
            name=f"min_k_plus_plus_{percent}",
            score=partial(_score, percent=percent),
            fields=("token_mean", "token_std"),
            label=f"Min-{percent} %++",
            source="Min-K%++, arXiv 2404.02936, section 4",
            formula=f"mean of the {percent} % lowest (log p - mean) / SD of the next-token distribution",
            trap="where the model is certain SD is near 0: it is held at 0.001 or more",
        ),
        tables=tables,
        order=order,
    )
]
