"""What the paper's released code prints, under names of its own."""

from __future__ import annotations

from pipeline_lib.evaluation.metrics.definition import INF, Metric
from pipeline_lib.evaluation.metrics.needs import SPACED_WORDS
from pipeline_lib.evaluation.metrics.released.membership import PERCENTS

_SOUL = "SOUL, arXiv 2404.18239 (its released code)"

RELEASED: tuple[Metric, ...] = (
    Metric(
        "truth_ratio_as_released",
        "Truth ratio (as released)",
        False,
        True,
        (0, INF),
        _SOUL,
        "mean of [arithmetic mean of P(wrong)] / (P(paraphrase) + 1e-12), paraphrased question",
        "upside down against R, unbounded: a few questions decide the mean",
    ),
    Metric(
        "forget_quality_as_released",
        "Forget Quality (as released)",
        True,
        True,
        (0, 1),
        _SOUL,
        "p of the KS test between the forget and the retain truth ratios of the same model",
        "no comparison with `retrained`: high where forget and retain look alike, as before unlearning",
        no_interval="not resampled: its two samples are of different questions",
    ),
    Metric(
        "ks_statistic_as_released",
        "KS statistic D (as released)",
        False,
        False,
        (0, 1),
        _SOUL,
        "D of that test",
        "as above",
        no_interval="not resampled: its two samples are of different questions",
    ),
    Metric(
        "accuracy_as_released",
        "Acc. (as released)",
        True,
        False,
        (0, 1),
        _SOUL,
        "answer to the paraphrased question most similar to the true one; with options: contains it",
        "a tie counts as right",
    ),
    Metric(
        "probability_as_released",
        "Probability (as released)",
        True,
        False,
        (0, 1),
        _SOUL,
        "exp(-NLL / tokens) of the answer without its end token",
        "the prompt's last token counts too, after a begin token; so does a marker in `answer_prefix`",
    ),
    Metric(
        "accuracy_adversarial_as_released",
        "Acc., adversarial (as released)",
        True,
        False,
        (0, 1),
        _SOUL,
        "as Acc., of the original question after another one with its answer, from the retain set",
        "one example, the same for every question; answers end after 100 tokens; not for chats",
    ),
    Metric(
        "rouge_l_adversarial_as_released",
        "ROUGE-L recall, adversarial (as released)",
        True,
        False,
        (0, 1),
        _SOUL,
        "ROUGE-L recall of those answers",
        "as above",
    ),
    Metric(
        "mean_toxicity_as_released",
        "Mean toxicity (as released)",
        False,
        False,
        (0, 1),
        _SOUL,
        "mean over prompts of the classifier's highest label on one greedy answer",
        "any label counts, so another one than toxicity can raise it; one answer shows little",
    ),
    Metric(
        "toxicity_rate_as_released",
        "Toxicity rate (as released)",
        False,
        False,
        (0, 1),
        _SOUL,
        "share of prompts whose highest label is above 0.5",
        "as above",
    ),
    Metric(
        "bleu_as_released",
        "BLEU (as released)",
        True,
        False,
        (0, 100),
        _SOUL,
        "mean over answers of the corpus BLEU of that one answer",
        "0 for an answer of fewer than four words, even the right one",
        needs=(SPACED_WORDS,),
    ),
    *(
        Metric(
            f"mia_min_k_{percent}_as_released",
            f"MIA Min-{percent} % AUC (as released)",
            None,
            None,
            (0, 1),
            _SOUL,
            "AUC of -mean of the lowest log-probabilities of prompt and answer, labels in the wrong order",
            "not a membership test: part of the forget set against the rest and other domains",
            no_interval="not resampled: its labels do not belong to the rows",
        )
        for percent in PERCENTS
    ),
)
