"""ROUGE recall: how much of the true answer's wording the greedy answer repeats.

Source: Lin 2004, computed by the `rouge-score` package with Porter stemming, as TOFU does.
Formula: ROUGE-L recall = longest common subsequence of words / words of the true answer;
ROUGE-1 recall = common words (clipped counts) / words of the true answer.
Range: 0 to 1. Direction: higher is better, except on the forget split.
Traps: recall does not punish length, so a model that rambles until the limit scores higher; it depends on
`max_new_tokens`, so compare only at one limit. The package drops everything but a-z and 0-9: a reference in
another script has no words and scores 0.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

from rouge_score.rouge_scorer import RougeScorer


@cache
def _scorer(kind: str) -> RougeScorer:
    return RougeScorer([kind], use_stemmer=True)


def rouge_recall(generation: str, reference: str, kind: Literal["rouge1", "rougeL"] = "rougeL") -> float:
    """Recall of `reference` in `generation`."""
    return _scorer(kind).score(reference, generation)[kind].recall
