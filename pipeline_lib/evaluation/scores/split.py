"""One split: the metrics that are a mean over its rows, and those of all its rows together."""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass

import numpy as np

from pipeline_lib.data.refusals import refusals
from pipeline_lib.errors import UserError
from pipeline_lib.evaluation.metrics import FORGET_SPLIT, METRICS
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
from pipeline_lib.evaluation.metrics.needs import SPACED_WORDS
from pipeline_lib.evaluation.metrics.perplexity import bits, nll_per_unit, perplexity, words_of
from pipeline_lib.evaluation.metrics.probability import normalised_probability, probability
from pipeline_lib.evaluation.metrics.refusal import is_refusal
from pipeline_lib.evaluation.metrics.repetition import seq_rep
from pipeline_lib.evaluation.metrics.rouge import Kind, rouge_recall_and_f1, tokenizers_of
from pipeline_lib.evaluation.metrics.safe_preference import prefers_safe
from pipeline_lib.evaluation.metrics.truth_ratio import (
    Variant,
    forget_score,
    log_truth_ratio,
    truth_probability,
    truth_score,
)
from pipeline_lib.evaluation.metrics.unknown_words import unknown_share
from pipeline_lib.evaluation.scores.rows import (
    Row,
    answer_of,
    distractors_of,
    has_distractors,
    in_all,
    metric_row,
    plain_row,
    reference_of,
    unmet,
    unmet_row,
)
from pipeline_lib.evaluation.scores.sampled import sampled_values
from pipeline_lib.evaluation.statistics import (
    Interval,
    interval,
    resample_counts,
    split_seed,
    weighted_mean,
)
from pipeline_lib.words import has_spaces_between_words, words

# the truth ratio's variants and the suffix their metrics carry
TRUTH_RATIOS = ("truth_ratio", "truth_ratio_arithmetic", "truth_ratio_probability")
VARIANTS: tuple[tuple[Variant, str], ...] = (("geometric", ""), ("arithmetic", "_arithmetic"))


@dataclass(frozen=True)
class Split:
    """The rows of one split, each metric's value for each row, and the shared resamples.

    A value is NaN where the record lacks what the metric needs; `unmet` says what (unmet_row).
    """

    name: str
    rows: list[Row]
    values: dict[str, np.ndarray]  # metric -> (N,)
    counts: np.ndarray  # (R, N)
    unmet: list[Row]

    def mean(self, metric: str) -> Interval:
        """Mean over the records that have a value, with the number of these."""
        values = self.values[metric]
        known = values[~np.isnan(values)]
        return interval(known.mean(), weighted_mean(self.counts, values), len(known))

    def mean_row(self, metric: str) -> Row:
        return metric_row(self.name, metric, self.mean(metric))


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
        pairs = _rouge(rows, "rougeL")
        lists["rouge_l_recall"], lists["rouge_l_f1"] = (list(column) for column in zip(*pairs, strict=True))
    if unmet("truth_ratio", "split", rows) is None:
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
    values = {metric: np.array(column) for metric, column in lists.items()}
    lacking = apply_needs(name, rows, values)
    lacking += [
        unmet_row(name, metric, need, len(rows), len(rows))
        for metric in TRUTH_RATIOS
        if (need := unmet(metric, "split", rows))
    ]
    counts = resample_counts([row["group"] for row in rows], split_seed(name))
    return Split(name, rows, values, counts, lacking)


def apply_needs(name: str, rows: list[Row], values: dict[str, np.ndarray]) -> list[Row]:
    """Put NaN where a record lacks what a metric needs, take out what no record has; say which and why."""
    lacking = []
    for metric in list(values):
        need = unmet(metric, "split", rows)
        if need is not None:
            lacking.append(unmet_row(name, metric, need, len(rows), len(rows)))
            del values[metric]
            continue
        for need in METRICS[metric].needs:
            without = [need.of == "record" and not need.holds(row) for row in rows]
            if any(without):
                lacking.append(unmet_row(name, metric, need, sum(without), len(rows)))
                values[metric] = np.where(without, np.nan, values[metric])
        if np.isnan(values[metric]).all():
            del values[metric]
    return lacking


def _need_distractors(name: str, rows: list[Row], key: str, what: str) -> None:
    for row in rows:
        if not row["distractor_nll"]:
            raise UserError(
                f"record {row['id']!r} of split {name!r}, which the task has under `{key}`, has no {what}: "
                "give it `distractors` or take the split out there"
            )


def _rouge(rows: list[Row], kind: Kind) -> list[tuple[float, float]]:
    """(recall, F1) of each greedy answer."""
    references = [reference_of(row) for row in rows]
    chosen = zip(rows, references, tokenizers_of(references), strict=True)
    return [rouge_recall_and_f1(row["generation"], text, kind, words) for row, text, words in chosen]


def _wording(rows: list[Row]) -> dict[str, list[float]]:
    """ROUGE-1 and BLEU of each greedy answer; of running text what it repeats word for word."""
    recall, f1 = zip(*_rouge(rows, "rouge1"), strict=True)
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
        results.append(_corpus_bleu(split))
        further = sum(name != "rouge-score" for name in tokenizers_of([reference_of(row) for row in rows]))
        if further:
            results.append(plain_row(split.name, "unicode_answers", further, n))
    answers = [row["answer"] for row in rows]
    results += perplexity_rows(
        split.name,
        [row["answer_nll"] for row in rows],
        [row["answer_tokens"] for row in rows],
        [words_of(answer) for answer in answers],
        [len(answer.encode()) for answer in answers],
        counts,
        [has_spaces_between_words(answer) for answer in answers],
    )
    if "ended" in split.values:
        results.append(_count_row(split, "truncated_answers", 1 - split.values["ended"]))
    if in_all(rows, "round_trips"):
        failed = np.array([not row["round_trips"] for row in rows], dtype=float)
        results.append(_count_row(split, "round_trip_failures", failed))
    return results


def _corpus_bleu(split: Split) -> Row:
    said, true = [row["generation"] for row in split.rows], [reference_of(row) for row in split.rows]
    statistics = bleu_statistics(said, true)
    need = unmet("bleu_corpus", "test", {"longest_answer": statistics[:, -1].max()})
    if need is not None:
        return unmet_row(split.name, "bleu_corpus", need, len(statistics), len(statistics))
    draws = corpus_bleu_draws(split.counts, statistics)
    return metric_row(
        split.name, "bleu_corpus", interval(corpus_bleu(said, true), draws, len(true), shifts=True)
    )


def _count_row(split: Split, metric: str, happened: np.ndarray) -> Row:
    """How many of the split's N rows, with the interval of the share times N."""
    draws = weighted_mean(split.counts, happened) * len(happened)
    return metric_row(split.name, metric, interval(happened.sum(), draws, len(happened)))


def perplexity_rows(
    split: str,
    nll: list[float],
    tokens: list[int],
    words: list[int],
    bytes_: list[int],
    counts: np.ndarray,
    spaced: list[bool] | None = None,
) -> list[Row]:
    """Corpus perplexities from each text's summed NLL and sizes; counts (R, N) are the resamples.

    `spaced`: whether a text has spaces between its words; the others do not count by the word.
    """
    results = []
    losses = np.array(nll)
    for metric, units, form in (
        ("token_perplexity", tokens, perplexity),
        ("word_perplexity", words, perplexity),
        ("byte_perplexity", bytes_, perplexity),
        ("bits_per_byte", bytes_, bits),
    ):
        sizes, of, drawn = np.array(units), losses, counts
        if metric == "word_perplexity" and spaced is not None and not all(spaced):
            left_out = len(spaced) - sum(spaced)
            results.append(unmet_row(split, metric, SPACED_WORDS, left_out, len(spaced)))
            sizes, of, drawn = sizes[spaced], of[spaced], counts[:, spaced]
            drawn = drawn[drawn.any(axis=1)]
            if not len(of):
                continue
        value, draws = form(nll_per_unit(of, sizes)), form(nll_per_unit(of, sizes, drawn))
        results.append(metric_row(split, metric, interval(float(value), draws, len(of))))
    return results
