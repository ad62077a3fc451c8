"""Longest verbatim match: how many words in a row a continuation shares with the true text.

Source: Karamolegkou et al. 2023 (arXiv 2310.13771), "Copyright Violations and Large Language Models", which
measures verbatim memorisation by the longest common run of words.
Formula: the largest L for which some L words in a row stand in both texts, anywhere in them. Words are those
of metrics/words.py: case, punctuation and line breaks do not matter; in scripts without spaces between
words each character counts as one.
Range: 0 to the number of words of the shorter text. Direction: lower is better on the forget split.
Traps: it grows with the length that was asked for, so compare at one limit of new tokens; any two English
texts share runs of two or three words, so `retrained` is the floor to compare with, not 0.
"""

from __future__ import annotations

from bisect import bisect_left

from pipeline_lib.metrics.definition import INF, Metric
from pipeline_lib.metrics.words import words


def longest_match(continuation: str, true: str) -> int:
    """Length in words of the longest run that both texts hold."""
    first, second = words(continuation), words(true)
    lengths = range(1, min(len(first), len(second)) + 1)  # a run of L words holds one of L - 1: bisect
    return bisect_left(
        lengths, True, key=lambda length: _runs(first, length).isdisjoint(_runs(second, length))
    )


def _runs(text: list[str], length: int) -> set[tuple[str, ...]]:
    return {tuple(text[i : i + length]) for i in range(len(text) - length + 1)}


METRICS = [
    Metric(
        name="longest_match",
        label="Longest verbatim match (words)",
        short_label="longest match (words)",
        higher_is_better=True,
        higher_is_better_on_forget=False,
        range=(0, INF),
        source="Karamolegkou et al. 2023, arXiv 2310.13771 (longest common run of words)",
        formula="mean over records of the longest run of words in both the continuation and the true one",
        trap="grows with the length asked for; running text only; a few common words always match",
        family="Wording and memorisation",
        tables={"extraction": 30},
        decimals=1,
        by_words=True,
        fields=("generation", "reference"),
        compute=lambda row: longest_match(row["generation"], row["reference"]),
        order=50,
    )
]
