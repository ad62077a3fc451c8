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


def unknown_share(words: Sequence[str], vocabulary: Collection[str]) -> float:
    """Share of `words` that are not in `vocabulary` (a set, in the form of pipeline_lib/words.py)."""
    if not words:
        return 0.0
    return sum(word not in vocabulary for word in words) / len(words)
