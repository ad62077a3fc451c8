"""Extraction Strength: how short a beginning of the answer makes the model produce the rest word for word.

Source: Carlini et al. 2021 (arXiv 2012.07805) as used by OpenUnlearning (arXiv 2506.12618).
Formula: 1 - k / T, k = the smallest number of answer tokens after which every further teacher-forced argmax
token is right, T = answer tokens.
Range: 0 (the last token is wrong: nothing is extractable) to 1 (everything is right from the prompt alone).
Direction: higher is better, except on the forget split.
Needs: two tokens or more; of one token there is no beginning and no rest.
Traps: the end token counts as a token, so a model that only knows where to stop scores 1/T. OpenUnlearning's
loop never reaches k = T and gives 1/T where nothing is extractable; here that is 0.
"""

from __future__ import annotations

from collections.abc import Sequence


def extraction_strength(argmax_correct: Sequence[int]) -> float:
    """Share of the answer in its longest all-correct ending."""
    ending = 0
    for correct in reversed(argmax_correct):
        if not correct:
            break
        ending += 1
    return ending / len(argmax_correct)
