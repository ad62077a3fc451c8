"""Truth Ratio: does the model still prefer a true paraphrase over wrong answers of the same shape?

Source: TOFU (arXiv 2401.06121, section 2.2.2); the exact form from its published logs.
Formula, with lm = NLL per token (length-normalised):
    geometric   R = exp(mean of lm(wrong) - lm(paraphrase)) = P(paraphrase) / geometric mean of P(wrong)
    arithmetic  R = P(paraphrase) / arithmetic mean of P(wrong)
Published tables and the leaderboard use the geometric form; TOFU's `utils.py` and SOUL the arithmetic one,
which is never larger. Aggregated over rows: forget split mean of min(R, 1/R), all others mean of
max(0, 1 - 1/R). A split without paraphrases uses the answer itself.
OpenUnlearning (arXiv 2506.12618, its meta-evaluation) also has a probability form: P(paraphrase) /
(P(paraphrase) + geometric mean of P(wrong)) = R / (1 + R), averaged over rows; it measures knowledge, so
lower is better on the forget split and 0.5 is indifference.
Range: R 0 to infinity (1 = indifferent), all aggregates 0 to 1. Direction: higher is better for the first two
aggregates, because the forget one counts a model as good when it is indifferent.
Traps: TOFU's paper writes 1/R. The forget aggregate is also high for a broken model that finds all texts
equally (un)likely, and it does not say that a model is like `retrained`: Forget Quality does.
R is kept as its logarithm, since after unlearning exp would overflow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from pipeline_lib.metrics.definition import FORGET_SPLIT, INF, Metric, at_equal_retain
from pipeline_lib.metrics.needs import WRONG_ANSWERS
from pipeline_lib.metrics.rows import Row, distractors_of
from pipeline_lib.metrics.subjects import Split

Variant = Literal["geometric", "arithmetic"]

TOFU_UTILS = "TOFU, arXiv 2401.06121 (its utils.py; also SOUL, arXiv 2404.18239)"


def log_truth_ratio(
    paraphrase_nll: float,
    paraphrase_tokens: int,
    wrong_nll: Sequence[float],
    wrong_tokens: Sequence[int],
    variant: Variant = "geometric",
) -> float:
    """Natural logarithm of R for one row, from summed NLLs in nats."""
    if not wrong_nll:
        raise ValueError("a truth ratio needs at least one wrong answer")
    wrong = [nll / tokens for nll, tokens in zip(wrong_nll, wrong_tokens, strict=True)]
    paraphrase = paraphrase_nll / paraphrase_tokens
    if variant == "geometric":
        return math.fsum(wrong) / len(wrong) - paraphrase
    # -log(mean of exp(-x)), shifted by the smallest x so that exp cannot underflow for all of them
    smallest = min(wrong)
    mean = math.fsum(math.exp(smallest - x) for x in wrong) / len(wrong)
    return smallest - math.log(mean) - paraphrase


def forget_score(log_ratio: float) -> float:
    """min(R, 1/R): 1 where the model is indifferent, near 0 where it strongly prefers either side."""
    return math.exp(-abs(log_ratio))


def truth_score(log_ratio: float) -> float:
    """max(0, 1 - 1/R): near 1 where the paraphrase is far likelier than the wrong answers."""
    return max(0.0, -math.expm1(-log_ratio)) if log_ratio > 0 else 0.0


def truth_probability(log_ratio: float) -> float:
    """R / (1 + R): the true answer's share against the wrong ones, 0.5 where the model is indifferent."""
    if log_ratio >= 0:
        return 1 / (1 + math.exp(-log_ratio))
    odds = math.exp(log_ratio)  # so that exp cannot overflow
    return odds / (1 + odds)


def log_ratios(rows: list[Row], variant: Variant) -> list[float]:
    """log R of each row."""
    return [
        log_truth_ratio(row["paraphrase_nll"], row["paraphrase_tokens"], *distractors_of(row), variant)
        for row in rows
    ]


def _scores(split: Split, variant: Variant) -> list[float]:
    aggregate = forget_score if split.name == FORGET_SPLIT else truth_score
    return [aggregate(ratio) for ratio in log_ratios(split.rows, variant)]


TRUTH_RATIO = Metric(
    name="truth_ratio",
    label="Truth Ratio",
    short_label="Truth ratio",
    higher_is_better=True,
    higher_is_better_on_forget=True,
    range=(0, 1),
    source="TOFU, arXiv 2401.06121",
    formula="R = P(paraphrase) / geometric mean of P(wrong); forget: mean min(R, 1/R), else "
    "mean max(0, 1 - 1/R)",
    trap="on forget also high for a broken model that finds everything equally unlikely",
    family="Likelihood and truth (TOFU)",
    tables={"utility": 30, "preference": 30},
    needs=(WRONG_ANSWERS,),
    of="column",
    compute=lambda split: _scores(split, "geometric"),
    order=20,
)
METRICS = [
    TRUTH_RATIO,
    replace(
        TRUTH_RATIO,
        name="truth_ratio_arithmetic",
        label="Truth Ratio (arithmetic)",
        short_label="Truth ratio (arithmetic)",
        source=TOFU_UTILS,
        formula="the same with the arithmetic mean of P(wrong)",
        trap="never larger than the geometric R; published tables use the geometric one",
        tables={},
        compute=lambda split: _scores(split, "arithmetic"),
        order=22,
    ),
    replace(
        TRUTH_RATIO,
        name="truth_ratio_probability",
        label="Truth Ratio (probability)",
        short_label="",
        higher_is_better_on_forget=False,
        source="OpenUnlearning, arXiv 2506.12618",
        formula="mean of R / (1 + R) = P_true / (P_true + P_wrong), geometric mean of the wrong answers",
        trap="0.5 is indifference, also on forget: compare with `retrained`, not with 0",
        tables={},
        compute=lambda split: list(map(truth_probability, log_ratios(split.rows, "geometric"))),
        order=21,
    ),
    replace(
        TRUTH_RATIO,
        name="log_truth_ratio",
        label="Log truth ratio",
        short_label="",
        range=(-INF, INF),
        higher_is_better_on_forget=None,
        formula="mean of log R",
        trap="unlike the others it goes on where R is far from 1; on forget compare with `retrained`",
        tables={},
        compute=lambda split: log_ratios(split.rows, "geometric"),
        order=23,
    ),
    at_equal_retain(TRUTH_RATIO, order=702),
]
