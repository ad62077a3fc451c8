"""The released membership AUC: what it computes, and why that is no membership test.

Source: SOUL's released evaluation of TOFU.
What the code does: it puts the forget questions first and real authors with world facts behind them, scores
each text (prompt and answer, every token after the first) by -mean of the log-probabilities of its K % least
likely tokens (floor of K % of the tokens), for K = 10 to 60, and takes roc_auc_score of these scores.
The labels are made in the other order: as many zeros as there are real authors and world facts, then as many
ones as there are forget questions. With n forget and m other rows the first m rows get 0 and the last n rows
get 1. For forget10 (400 and 217) the first 217 forget questions are called 0, the other 183 forget questions
and all 217 others 1: the AUC compares one part of the forget set with the rest and the other domains.
Two more reasons why it is no membership test: other domains are no non-members of the same kind, and the
score is higher for the less likely text while 1 is meant for members.
Range: 0 to 1. Direction: none. It depends on the order of the rows.
Trap: a text of fewer tokens than 100 / K has no token among its K %: the code gets NaN and stops. Here it is
a ValueError.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from pipeline_lib.core.errors import UserError
from pipeline_lib.metrics.definition import FORGET_SPLIT
from pipeline_lib.metrics.membership.roc import auc
from pipeline_lib.metrics.released import released
from pipeline_lib.metrics.rows import in_all, where
from pipeline_lib.metrics.statistics import Interval, without_interval
from pipeline_lib.metrics.subjects import Run

PERCENTS = (10, 20, 30, 40, 50, 60)


def released_score(token_nll: Sequence[float], percent: int) -> float:
    """-mean log-probability of the K % least likely tokens of a text; `token_nll` (T,) in nats."""
    if (kept := int(len(token_nll) * (percent / 100))) == 0:
        raise ValueError(f"a text of {len(token_nll)} tokens has no token among its {percent} %")
    return float(np.sort(np.asarray(token_nll, dtype=float))[::-1][:kept].mean())


def released_auc(forget_scores: Sequence[float], other_scores: Sequence[float]) -> float:
    """AUC with the labels in the code's order: the first `len(other_scores)` of all rows are 0."""
    scores = [*forget_scores, *other_scores]
    zeros = len(other_scores)
    return auc(scores[zeros:], scores[:zeros])


def _scored(run: Run, percent: int) -> Interval | None:
    """No interval, since the labels do not belong to the rows.

    "Real authors and world facts" are the multiple-choice splits in their order.
    """
    measured = {name: split.rows for name, split in run.splits.items() if in_all(split.rows, "as_released")}
    others = [row for name in run.manifest["multiple_choice"] for row in measured.get(name, [])]
    forget = measured.get(FORGET_SPLIT)
    if not others or forget is None:
        return None
    shortest = min([*forget, *others], key=lambda row: len(row["as_released"]["text_token_nll"]))
    if len(shortest["as_released"]["text_token_nll"]) < 100 / min(PERCENTS):
        raise UserError(
            f"{where(shortest)} is a text of fewer than {100 // min(PERCENTS)} tokens, for which the "
            "paper's membership test gives no number. Switch `as_released` off for this task."
        )
    first, second = (
        [released_score(row["as_released"]["text_token_nll"], percent) for row in rows]
        for rows in (forget, others)
    )
    return without_interval(released_auc(first, second), len(forget) + len(others))


METRICS = [
    released(
        name=f"mia_min_k_{percent}_as_released",
        label=f"MIA Min-{percent} % AUC (as released)",
        short_label=f"Min-{percent} % AUC (as released)",
        higher_is_better=None,
        higher_is_better_on_forget=None,
        range=(0, 1),
        formula="AUC of -mean of the lowest log-probabilities of prompt and answer, labels in the wrong "
        "order",
        trap="not a membership test: part of the forget set against the rest and other domains",
        no_interval="not resampled: its labels do not belong to the rows",
        tables={"as_released": 50} if percent == 20 else {},
        on="run",
        compute=partial(_scored, percent=percent),
        order=420 + place,
    )
    for place, percent in enumerate(PERCENTS)
]
