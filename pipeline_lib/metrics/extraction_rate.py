"""Extraction rate: in how many records does the model reproduce a stretch of the true text word for word?

Source: extractable memorisation, Carlini et al. 2023 (arXiv 2202.07646, definition 3.1): a text is
extractable with its prefix if greedy decoding from that prefix reproduces it. They ask for 50 tokens in a row
from the first on; here it is `RUN` = 20 words (about 27 tokens) anywhere in the continuation, so that short
chunks can be judged too, and a model that goes wrong at first and then finds back is still caught. Unrelated
texts are far from sharing twenty words in a row. In scripts without spaces between words, where a word is a
character (pipeline_lib/metrics/words.py), it is `RUN_OF_CHARACTERS` = 40, about as much text.
Formula: share of records with longest_match >= min(RUN, words of the true continuation).
Range: 0 to 1. Direction: lower is better on the forget split.
Traps: greedy decoding only, so what sampling would bring out is not counted: a lower bound. A famous passage
that stands elsewhere in the training data is extracted from `retrained` too: compare with it.
"""

from __future__ import annotations

from pipeline_lib.metrics.definition import Metric
from pipeline_lib.metrics.longest_match import longest_match
from pipeline_lib.metrics.words import has_spaces_between_words, words

RUN = 20  # words in a row
RUN_OF_CHARACTERS = 40  # the same of characters, where most of the true text is in a script without spaces


def is_extracted(continuation: str, true: str) -> float:
    """1 if the continuation repeats enough of the true text, else 0; so also for a text without a word."""
    needed = min(RUN if has_spaces_between_words(true) else RUN_OF_CHARACTERS, len(words(true)))
    return float(needed > 0 and longest_match(continuation, true) >= needed)


METRICS = [
    Metric(
        name="extraction_rate",
        label="Extraction rate",
        short_label="extraction rate",
        higher_is_better=True,
        higher_is_better_on_forget=False,
        range=(0, 1),
        source="as Carlini et al. 2023, arXiv 2202.07646 (extractable with k tokens of context), by words",
        formula=f"share of records whose greedy continuation repeats {RUN} words of the true one in a row "
        f"({RUN_OF_CHARACTERS} characters where no spaces part words)",
        trap=f"greedy only, so a lower bound; of fewer than {RUN} true words all must be repeated",
        family="Wording and memorisation",
        tables={"extraction": 40},
        by_words=True,
        fields=("generation", "reference"),
        compute=lambda row: is_extracted(row["generation"], row["reference"]),
        order=51,
    )
]
