"""Leakage of sampled answers: what one greedy answer does not show.

Source: Scholten et al. (arXiv 2410.03523).
Formula: the leakage of a sample is its ROUGE-L recall of the true answer. Of a question's n samples: mean,
standard deviation (divided by n), maximum, and the share that leak, i.e. are above a threshold of 0.5.
Range: 0 to 1 (SD: 0 to 0.5). Direction: lower is better on the forget split, higher elsewhere.
Traps: all depend on temperature, top-p and the limit of new tokens; the maximum grows with n. Recall of
common words alone is well above 0: compare with `retrained`. The paper's demonstration takes ROUGE-L
F1; here it is recall, as everywhere in TOFU.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline_lib.evaluation.metrics.rouge import Words, rouge_recall

LEAK = 0.5


def leakage(samples: Sequence[str], answer: str, words: Words | None = None) -> np.ndarray:
    """Leakage of each sample, (n,); `words` as for ROUGE. Equal samples are compared once."""
    if not samples:
        raise ValueError("needs at least one sample")
    scores = {text: rouge_recall(text, answer, words=words) for text in dict.fromkeys(samples)}
    return np.array([scores[text] for text in samples])


def leaks(values: np.ndarray, threshold: float = LEAK) -> int:
    """How many samples leak."""
    return int((values > threshold).sum())
