"""LOSS: members have a lower loss.

Source: Yeom et al. 2018 (arXiv 1709.01604), attack 1, on token-normalised losses as OpenUnlearning does.
Formula: score = -NLL / tokens. Range: -inf to 0. Direction: higher = more likely a member.
Traps: easy texts have a low loss without having been learned; compare with `retrained`.
"""

from __future__ import annotations

from pipeline_lib.metrics.membership.attack import Attack, metrics_of
from pipeline_lib.metrics.rows import answer_of


def loss_score(nll: float, tokens: int) -> float:
    """Score from the answer's summed NLL in nats and its number of tokens."""
    return -nll / tokens


METRICS = metrics_of(
    Attack(
        name="loss",
        score=lambda row, _: loss_score(*answer_of(row)),
        label="LOSS",
        source="Yeom et al. 2018, arXiv 1709.01604",
        formula="-NLL / tokens",
    ),
    tables={"auc": {"membership": 10}, "tpr_at_1_fpr": {"membership": 70}},
    order=311,
)
