"""One split: the metrics that are a mean over its rows, and those of all its rows together."""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass

import numpy as np

from pipeline_lib.data.refusals import refusals
from pipeline_lib.errors import UserError
from pipeline_lib.evaluation.metrics import FORGET_SPLIT
from pipeline_lib.evaluation.metrics.answer_accuracy import most_similar
from pipeline_lib.evaluation.metrics.bleu import (
    bleu_statistics,
    corpus_bleu,
    corpus_bleu_draws,
    sentence_bleu,
)
from pipeline_lib.evaluation.metrics.exact_memorization import exact_memorization
from pipeline_lib.evaluation.metrics.extraction_rate import is_extracted
from pipeline_lib.evaluation.metrics.extraction_strength import extraction_strength
from pipeline_lib.evaluation.metrics.longest_match import longest_match
from pipeline_lib.evaluation.metrics.multiple_choice import chooses_answer
from pipeline_lib.evaluation.metrics.perplexity import bits, nll_per_unit, perplexity, words_of
from pipeline_lib.evaluation.metrics.probability import normalised_probability, probability
from pipeline_lib.evaluation.metrics.refusal import is_refusal
from pipeline_lib.evaluation.metrics.repetition import seq_rep
from pipeline_lib.evaluation.metrics.rouge import rouge_recall_and_f1
from pipeline_lib.evaluation.metrics.safe_preference import prefers_safe
from pipeline_lib.evaluation.metrics.truth_ratio import (
    Variant,
    forget_score,
    log_truth_ratio,
    truth_probability,
    truth_score,
)
from pipeline_lib.evaluation.metrics.unknown_words import unknown_share
from pipeline_lib.evaluation.metrics.words import words
from pipeline_lib.evaluation.scores.rows import (
    Row,
    answer_of,
    distractors_of,
    has_distractors,
    in_all,
    metric_row,
    reference_of,
)
from pipeline_lib.evaluation.scores.sampled import sampled_values
from pipeline_lib.evaluation.statistics import interval, resample_counts, split_seed, weighted_mean

# the truth ratio's variants and the suffix their metrics carry
VARIANTS: tuple[tuple[Variant, str], ...] = (("geometric", ""), ("arithmetic", "_arithmetic"))


@dataclass(frozen=True)
class Split:
    """The rows of one split, each metric's value for each row, and the shared resamples."""

    name: str
    rows: list[Row]
    values: dict[str, np.ndarray]  # metric -> (N,)
    counts: np.ndarray  # (R, N)

    def mean_row(self, metric: str) -> Row:
        values = self.values[metric]
        draws = weighted_mean(self.counts, values)
        return metric_row(self.name, metric, interval(values.mean(), draws, len(values)))


def vocabulary_of(rows: list[Row]) -> set[str]:
    """Every word of every prompt and answer."""
    return {word for row in rows for text in (row["prompt"], row["answer"]) for word in words(text)}


def score_split(
    name: str,
    rows: list[Row],
    multiple_choice: bool,
    vocabulary: Set[str] = frozenset(),
    preference: bool = False,
) -> Split:
    """Rows without an answer of the model's own (at equal retention, non-members) have no metric of it.

    `preference`: the wrong answers are those that the model should prefer to `answer`.
    """
    lists: dict[str, list[float]] = {}

    def add(metric: str, value: Callable[[Row], float]) -> None:
        lists[metric] = [value(row) for row in rows]

    if multiple_choice:
        _need_distractors(name, rows, "multiple_choice", "wrong option")
        add("probability", lambda row: normalised_probability(*answer_of(row), *distractors_of(row)))
        add("multiple_choice_accuracy", lambda row: chooses_answer(*answer_of(row), *distractors_of(row)))
    else:
        add("probability", lambda row: probability(*answer_of(row)))
    if preference:
        _need_distractors(name, rows, "preference", "answer to prefer")
        add("safe_preference", lambda row: prefers_safe(*answer_of(row), *distractors_of(row)))
    answered = in_all(rows, "generation")
    if answered:
        pairs = [rouge_recall_and_f1(row["generation"], reference_of(row)) for row in rows]
        lists["rouge_l_recall"], lists["rouge_l_f1"] = (list(column) for column in zip(*pairs, strict=True))
    if has_distractors(rows):
        aggregate = forget_score if name == FORGET_SPLIT else truth_score
        for variant, suffix in VARIANTS:
            ratios = log_ratios(rows, variant)
            lists[f"truth_ratio{suffix}"] = [aggregate(x) for x in ratios]
            if variant == "geometric":
                lists["truth_ratio_probability"] = [truth_probability(x) for x in ratios]
    add("extraction_strength", lambda row: extraction_strength(row["argmax_correct"]))
    add("exact_memorization", lambda row: exact_memorization(row["argmax_correct"]))
    if answered:
        lists |= _wording(rows) | _collapse(rows, vocabulary)
    if has_distractors(rows) and in_all(rows, "similarity"):
        add("answer_accuracy", lambda row: most_similar(row["similarity"]))
    if in_all(rows, "samples"):
        lists |= sampled_values(rows)
    counts = resample_counts([row["group"] for row in rows], split_seed(name))
    return Split(name, rows, {metric: np.array(values) for metric, values in lists.items()}, counts)


def _need_distractors(name: str, rows: list[Row], key: str, what: str) -> None:
    for row in rows:
        if not row["distractor_nll"]:
            raise UserError(
                f"record {row['id']!r} of split {name!r}, which the task has under `{key}`, has no {what}: "
                "give it `distractors` or take the split out there"
            )


def _wording(rows: list[Row]) -> dict[str, list[float]]:
    """ROUGE-1 and BLEU of each greedy answer; of running text what it repeats word for word."""
    pairs = [rouge_recall_and_f1(row["generation"], reference_of(row), "rouge1") for row in rows]
    recall, f1 = zip(*pairs, strict=True)
    bleu = [sentence_bleu(row["generation"], reference_of(row)) for row in rows]
    values = {"rouge_1_recall": list(recall), "rouge_1_f1": list(f1), "bleu": bleu}
    if in_all(rows, "reference"):  # running text
        values |= {
            "longest_match": [float(longest_match(row["generation"], row["reference"])) for row in rows],
            "extraction_rate": [is_extracted(row["generation"], row["reference"]) for row in rows],
        }
    return values


def _collapse(rows: list[Row], vocabulary: Set[str]) -> dict[str, list[float]]:
    """Signs that a greedy answer is a refusal, a loop, gibberish or nothing at all."""
    spoken = [words(row["generation"]) for row in rows]
    taught = refusals()
    values = {
        "refusal_rate": [is_refusal(row["generation"], taught) for row in rows],
        "repetition_4": [seq_rep(said, 4) for said in spoken],
        "unknown_words": [unknown_share(said, vocabulary) for said in spoken],
        "empty_answers": [float(not said) for said in spoken],
    }
    if in_all(rows, "generation_ended"):
        values["ended"] = [float(row["generation_ended"]) for row in rows]
    return values


def log_ratios(rows: list[Row], variant: Variant) -> list[float]:
    """log R of each row."""
    return [
        log_truth_ratio(row["paraphrase_nll"], row["paraphrase_tokens"], *distractors_of(row), variant)
        for row in rows
    ]


def corpus_rows(split: Split) -> list[Row]:
    """Metrics of all rows together: corpus BLEU, perplexities, counts of what went wrong."""
    rows, counts, n = split.rows, split.counts, len(split.rows)
    results = []
    if in_all(rows, "generation"):
        said, true = [row["generation"] for row in rows], [reference_of(row) for row in rows]
        draws = corpus_bleu_draws(counts, bleu_statistics(said, true))
        results.append(metric_row(split.name, "bleu_corpus", interval(corpus_bleu(said, true), draws, n)))
    results += perplexity_rows(
        split.name,
        [row["answer_nll"] for row in rows],
        [row["answer_tokens"] for row in rows],
        [words_of(row["answer"]) for row in rows],
        [len(row["answer"].encode()) for row in rows],
        counts,
    )
    if "ended" in split.values:
        results.append(_count_row(split, "truncated_answers", 1 - split.values["ended"]))
    if in_all(rows, "round_trips"):
        failed = np.array([not row["round_trips"] for row in rows], dtype=float)
        results.append(_count_row(split, "round_trip_failures", failed))
    return results


def _count_row(split: Split, metric: str, happened: np.ndarray) -> Row:
    """How many of the split's N rows, with the interval of the share times N."""
    draws = weighted_mean(split.counts, happened) * len(happened)
    return metric_row(split.name, metric, interval(happened.sum(), draws, len(happened)))


def perplexity_rows(
    split: str, nll: list[float], tokens: list[int], words: list[int], bytes_: list[int], counts: np.ndarray
) -> list[Row]:
    """Corpus perplexities from each text's summed NLL and sizes; counts (R, N) are the resamples."""
    results = []
    for metric, units, form in (
        ("token_perplexity", tokens, perplexity),
        ("word_perplexity", words, perplexity),
        ("byte_perplexity", bytes_, perplexity),
        ("bits_per_byte", bytes_, bits),
    ):
        value, draws = form(nll_per_unit(nll, units)), form(nll_per_unit(nll, units, counts))
        results.append(metric_row(split, metric, interval(float(value), draws, len(nll))))
    return results
