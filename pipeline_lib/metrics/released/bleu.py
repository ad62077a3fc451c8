"""BLEU as released: the corpus BLEU of one answer alone, averaged.

Source: SOUL's released evaluation of the book. Formula: `released_bleu` of metrics/bleu.py.
Range: 0 to 100. Direction: higher is better, except on the forget split.
Needs: true answers in a script with spaces between words; the code parts every text by spaces.
Traps: 0 for an answer of fewer than four words, even the right one.
"""

from __future__ import annotations

from pipeline_lib.metrics.bleu import released_bleu
from pipeline_lib.metrics.needs import SPACED_WORDS
from pipeline_lib.metrics.released import released, told

METRICS = [
    released(
        name="bleu_as_released",
        label="BLEU (as released)",
        higher_is_better=True,
        higher_is_better_on_forget=False,
        range=(0, 100),
        formula="mean over answers of the corpus BLEU of that one answer",
        trap="0 for an answer of fewer than four words, even the right one",
        by_words=True,
        needs=(SPACED_WORDS,),
        fields=("as_released", "generation"),
        compute=lambda row: released_bleu(told(row), row["answer"]),
        order=403,
    )
]
