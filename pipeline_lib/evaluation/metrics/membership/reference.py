"""Reference: how much likelier the text is than to a model that never saw it.

Source: Carlini et al. 2021 (arXiv 2012.07805, section 5.2) and, as calibration by difficulty, Watson et al.
2022 (arXiv 2111.08440). The reference model is `retrained`: same recipe, without the forget set.
Formula: score = NLL / tokens under the reference minus NLL / tokens.
Range: any number. Direction: higher = more likely a member.
Traps: `retrained` is not at an attacker's disposal, so this is an upper limit. For `retrained` itself every
score is 0 and the AUC 0.5 by construction. Both models must have the same tokenizer.
"""

from __future__ import annotations


def reference_score(nll: float, tokens: int, reference_nll: float, reference_tokens: int) -> float:
    """Score from summed NLLs in nats and numbers of tokens under the model and the reference."""
    return reference_nll / reference_tokens - nll / tokens
