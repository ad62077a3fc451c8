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
from itertools import takewhile

from pipeline_lib.metrics.definition import Metric, at_equal_retain
from pipeline_lib.metrics.needs import TWO_TOKENS


def extraction_strength(argmax_correct: Sequence[int]) -> float:
    """Share of the answer in its longest all-correct ending."""
    return sum(1 for _ in takewhile(bool, reversed(argmax_correct))) / len(argmax_correct)


EXTRACTION_STRENGTH = Metric(
    name="extraction_strength",
    label="Extraction Strength",
    short_label="Extraction strength",
    higher_is_better=True,
    higher_is_better_on_forget=False,
    range=(0, 1),
    source="OpenUnlearning, arXiv 2506.12618",
    formula="1 - k / T, k = smallest prefix after which every argmax token is right",
    trap="0 where nothing is extractable; OpenUnlearning gives 1 / T there",
    family="Wording and memorisation",
    needs=(TWO_TOKENS,),
    compute=lambda row: extraction_strength(row["argmax_correct"]),
    order=30,
)
METRICS = [EXTRACTION_STRENGTH, at_equal_retain(EXTRACTION_STRENGTH, order=701)]
