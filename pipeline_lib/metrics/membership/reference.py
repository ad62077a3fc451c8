"""Reference: how much likelier the text is than to a model that never saw it.

Source: Carlini et al. 2021 (arXiv 2012.07805, section 5.2) and, as calibration by difficulty, Watson et al.
2022 (arXiv 2111.08440). The reference model is `retrained`: same recipe, without the forget set.
Formula: score = NLL / tokens under the reference minus NLL / tokens.
Range: any number. Direction: higher = more likely a member.
Traps: `retrained` is not at an attacker's disposal, so this is an upper limit. For `retrained` itself every
score is 0 and the AUC 0.5 by construction. Both models must have the same tokenizer.
"""

from __future__ import annotations

from pipeline_lib.metrics.membership.attack import Attack, metrics_of
from pipeline_lib.metrics.rows import answer_of


def reference_score(nll: float, tokens: int, reference_nll: float, reference_tokens: int) -> float:
    """Score from summed NLLs in nats and numbers of tokens under the model and the reference."""
    return reference_nll / reference_tokens - nll / tokens


METRICS = metrics_of(
    Attack(
        name="reference",
        score=lambda row, other: reference_score(*answer_of(row), *answer_of(other)),
        compares=True,
        label="reference",
        short_label="Reference",
        source="Carlini et al. 2021, arXiv 2012.07805, section 5.2; calibration of arXiv 2111.08440",
        formula="NLL / tokens under `retrained` minus NLL / tokens",
        trap="needs `retrained`, which an attacker would not have: an upper limit",
    ),
    tables={"auc": {"membership": 50}},
    order=371,
)
