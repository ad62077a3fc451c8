"""Unknown words: the share of an answer's words that the evaluated records never use.

Source: this project; a cheap sign of gibberish that needs no classifier (OpenUnlearning asks one from the
hub).
Formula: words of the answer outside the vocabulary / words of the answer; the vocabulary is every word of
every prompt and answer of the evaluated records. 0 for an answer without words.
Needs: true answers in a script with spaces between words. Elsewhere words cannot be told from characters,
and nearly every character is known.
Range: 0 to 1. Direction: lower is better.
Limits: right and wrong words from outside the records both count as unknown, so a fluent model that knows
more than the records is not at 0: read it against `original` and `retrained`. Gibberish made of known words,
or one known word for ever, is not seen: read it beside repetition. The vocabulary grows with the records, so
compare only runs of one task.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from pipeline_lib.metrics.definition import Metric
from pipeline_lib.metrics.needs import SPACED_WORDS
from pipeline_lib.metrics.words import words


def unknown_share(said: Sequence[str], vocabulary: Collection[str]) -> float:
    """Share of the words `said` that are not in `vocabulary` (a set); both in the form of words.py."""
    return sum(word not in vocabulary for word in said) / len(said) if said else 0.0


METRICS = [
    Metric(
        name="unknown_words",
        label="Unknown words",
        short_label="unknown words",
        higher_is_better=False,
        higher_is_better_on_forget=False,
        range=(0, 1),
        source="this project",
        formula="share of an answer's words that no prompt and no answer of the evaluated records holds",
        trap="right words from outside the records count as unknown, gibberish made of known words does not",
        family="Signs of collapse",
        tables={"collapse": 20},
        needs=(SPACED_WORDS,),
        fields=("generation",),
        of="column",
        compute=lambda split: [
            unknown_share(words(row["generation"]), split.vocabulary) for row in split.rows
        ],
        order=62,
    )
]
