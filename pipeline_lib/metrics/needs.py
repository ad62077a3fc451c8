"""What must be true of the records before a metric says anything, as checks that its declaration names.

A number whose precondition fails would be wrong in silence (a list of English phrases finds no refusal in
Chinese; a false positive rate of 1 % does not exist with 40 non-members). Then the metric is not measured:
metrics.json says of which split and why, tables print the `text`.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline_lib.metrics.definition import Need
from pipeline_lib.metrics.rows import Row
from pipeline_lib.metrics.words import has_spaces_between_words, is_latin, words

# Frequent words of English that the other languages written in Latin letters do not share.
_ENGLISH = frozenset(
    [
        "the",
        "and",
        "that",
        "with",
        "from",
        "which",
        "what",
        "where",
        "when",
        "who",
        "why",
        "how",
        "this",
        "these",
        "his",
        "their",
        "its",
        "it",
        "they",
        "she",
        "to",
        "does",
        "did",
    ]
)
_LEAST_SHARE = 0.03  # of all words; 15 to 40 % in English questions and prose, below 2 % in other languages
_ENOUGH_WORDS = 50  # fewer do not tell a language
_ORDER = 4  # longest word sequence that corpus BLEU looks at
LEAST_NONMEMBERS = 100  # one false positive of 100 is 1 %
EQUAL_N = 40  # questions of TOFU's smallest forget set


def _asked_and_answered(row: Row) -> str:
    return f"{row['prompt']} {row['answer']}"


def _english(rows: Sequence[Row]) -> bool:
    """Not where it is plainly another language; a few words, or numbers alone, are taken to be English."""
    said = (word for row in rows if LATIN_LETTERS.holds(row) for word in words(_asked_and_answered(row)))
    found = [word for word in said if not word.isdigit()]
    known = sum(word in _ENGLISH for word in found)
    return len(found) < _ENOUGH_WORDS or known >= _LEAST_SHARE * len(found)


LATIN_LETTERS = Need(
    "questions and answers in Latin letters, as its phrases are",
    "record",
    lambda row: is_latin(_asked_and_answered(row)),
)
ENGLISH = Need("questions and answers in English, as its phrases are", "split", _english)
SPACED_WORDS = Need(
    "answers in a script with spaces between words (not Chinese, Japanese, Thai, Lao, Khmer, Burmese)",
    "record",
    lambda row: has_spaces_between_words(row["answer"]),
)
FOUR_WORDS = Need(f"a true answer of {_ORDER} words or more", "number", lambda longest: longest >= _ORDER)
TWO_TOKENS = Need(
    "answers of two tokens or more, the end token included",
    "record",
    lambda row: len(row["argmax_correct"]) > 1,
)
WRONG_ANSWERS = Need(
    "wrong answers to every record of the split",
    "split",
    lambda rows: all(row["distractor_nll"] for row in rows),
)
TOLD_APART = Need(
    "an embedder that tells the true answer from the wrong ones (it may not know their language)",
    "record",
    lambda row: max(row["similarity"]) - min(row["similarity"]) > 1e-6,
)
NONMEMBERS = Need(
    f"{LEAST_NONMEMBERS} non-members or more", "number", lambda nonmembers: nonmembers >= LEAST_NONMEMBERS
)
RETRAINED_ERRS = Need(
    "a `retrained` model that does not tell the two sets apart without error itself",
    "number",
    lambda auc_of_retrained: auc_of_retrained < 1,
    of_retrained=True,
)
TWO_UNITS = Need("two forget groups or questions", "number", lambda units: units >= 2)
FORTY_QUESTIONS = Need(f"{EQUAL_N} forget questions or more", "number", lambda n: n >= EQUAL_N)
OTHER_RETRAINED = Need(
    "a `retrained` model besides the one that is judged", "number", lambda seeds: seeds >= 1, True
)
TWO_RETRAINED = Need(
    "two seeds of `retrained` besides the model that is judged: one does not say how seeds differ",
    "number",
    lambda seeds: seeds >= 2,
    True,
)
STAGED_RETRAINED = Need(
    "another `retrained` model after the same stage: name it in the stage's `of`",
    "number",
    lambda seeds: seeds >= 1,
    True,
)
TWO_STAGED_RETRAINED = Need(
    "two other seeds of `retrained` after the same stage: one does not say how seeds differ",
    "number",
    lambda seeds: seeds >= 2,
    True,
)
THREE_STAGED_RETRAINED = Need(
    "three other seeds of `retrained` that went through all of its stages: fewer do not say how their maxima "
    "differ",
    "number",
    lambda seeds: seeds >= 3,
    True,
)
STAGED_ORIGINAL = Need(
    "an `original` that still answers something after the same stage: name it in the stage's `of`",
    "number",
    lambda answered: answered > 0,
)
CARRIED = Need(
    "a forget question that some layer of `original` carries: with the state of `retrained` there it loses "
    "more than 0.05 nats per token",
    "number",
    lambda questions: questions >= 1,
    True,
)
SIGHTED_PART = Need(
    "a part of utility that `original` has enough of to lose", "number", lambda parts: parts >= 1
)
