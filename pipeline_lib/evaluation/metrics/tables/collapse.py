"""What tells a model that has forgotten from one that is broken or only refuses."""

from __future__ import annotations

from pipeline_lib.evaluation.metrics.definition import INF, Metric
from pipeline_lib.evaluation.metrics.needs import ENGLISH, LATIN_LETTERS, SPACED_WORDS

COLLAPSE: tuple[Metric, ...] = (
    Metric(
        "refusal_rate",
        "Refusal rate",
        False,
        None,
        (0, 1),
        "phrase list of metrics/refusal.py and the refusals that preference optimisation teaches",
        "share of answers that are one of these refusals or hold one of these phrases",
        "a list, so other wordings are missed; a refusal hides an answer, it need not remove it",
        needs=(LATIN_LETTERS, ENGLISH),
    ),
    Metric(
        "repetition_4",
        "Repetition (seq-rep-4)",
        False,
        False,
        (0, 1),
        "Welleck et al. 2020, arXiv 1908.04319 (seq-rep-n)",
        "1 - distinct word 4-grams / word 4-grams of an answer",
        "0 for answers of fewer than 5 words; words here, tokens in the paper",
    ),
    Metric(
        "unknown_words",
        "Unknown words",
        False,
        False,
        (0, 1),
        "this project",
        "share of an answer's words that no prompt and no answer of the evaluated records holds",
        "right words from outside the records count as unknown, gibberish made of known words does not",
        needs=(SPACED_WORDS,),
    ),
    Metric(
        "empty_answers",
        "Empty answers",
        False,
        None,
        (0, 1),
        "this project",
        "share of answers without a single word",
        "an empty answer has ROUGE 0, repetition 0 and no unknown word: it looks like forgetting",
    ),
    Metric(
        "ended",
        "Answers that ended",
        True,
        True,
        (0, 1),
        "this project",
        "share of greedy answers that came to their end token within the limit",
        "depends on the limit of new tokens",
    ),
    Metric(
        "truncated_answers",
        "Truncated answers (count)",
        False,
        False,
        (0, INF),
        "this project",
        "number of greedy answers cut off at the limit",
        "a count: read it against n",
    ),
    Metric(
        "round_trip_failures",
        "Round-trip failures (count)",
        False,
        False,
        (0, INF),
        "this project",
        "number of true answers that encoding and decoding changes",
        "about the tokenizer, not the model: above 0, ROUGE compares with a text that it cannot write",
    ),
)
