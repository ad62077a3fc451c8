"""The gap: how far the forget set is, per token, from what models know that never saw it. The primary
quantity.

Source: this project; the aim is TOFU's (arXiv 2401.06121: an unlearned model should be as one retrained
without the data), on log-probabilities, paired by question, over several `retrained` seeds.
Formula: d[q] = log p(answer) / tokens of question q minus its mean over `retrained` seeds; gap = mean over
forget groups of their questions' mean |d[q]|, in nats per token. `gap_signed` is the same of d[q]: above 0
the model still knows, below 0 it avoids the answers. The distance is taken question by question, so that
known and avoided answers of one author do not cancel. A `retrained` model is held against the other seeds.
Likeness: `gap_p` is the probability that one further `retrained` seed has a gap as large or larger,
`gap_limit` the gap that it stays below with 95 % (further_seed.py: variance of seeds, of groups and of single
questions).
Range: gap 0 upwards. Direction: lower is better; `retrained` itself is not at 0.
Needs: `retrained`; for `gap_limit` and `gap_p` two seeds of it besides the model: with one, nothing is
calibrated.
Traps: p = 0.000 where `retrained` has 0.08 is a gap as much as p = 0.9 is: who avoids an answer tells that it
was there. The interval resamples groups, not `retrained` seeds; judge likeness by `gap_p` alone. Likelihoods
say nothing about what is said: read ROUGE and the truth ratio too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from pipeline_lib.metrics.definition import INF, Metric
from pipeline_lib.metrics.further_seed import FurtherSeed
from pipeline_lib.metrics.needs import OTHER_RETRAINED, TWO_RETRAINED
from pipeline_lib.metrics.statistics import Interval, without_interval
from pipeline_lib.metrics.study import Studied, over_groups

_SCORE = "log_probability"


def differences(study: Studied) -> np.ndarray:
    """d of every forget question, (N,), in nats per token."""
    return study.forget.values[_SCORE] - study.aims().mean(axis=0)


def gap_of(study: Studied) -> float:
    """The gap alone, as tuning needs it."""
    return study.forget.mean_over_groups(np.abs(differences(study)))


def _over_groups(study: Studied, shape: Callable[[np.ndarray], np.ndarray]) -> Interval:
    """Mean over the groups of their mean `shape(d)`."""
    OTHER_RETRAINED.demand(len(study.retrained), len(study.forget.ids))
    return over_groups(study.forget, shape(differences(study)))


def _of_further_seed(study: Studied, asked: Callable[[FurtherSeed], float]) -> Interval:
    n = len(study.forget.ids)
    TWO_RETRAINED.demand(len(study.retrained), n)
    return without_interval(asked(study.further_seed()), n)


GAP = Metric(
    name="gap",
    label="Gap to `retrained`",
    short_label="Gap",
    higher_is_better=False,
    higher_is_better_on_forget=False,
    range=(0, INF),
    source="this project",
    formula="mean over forget groups of |log p(answer) - its mean over `retrained` seeds|, nats per token",
    trap="`retrained` itself is not at 0: judge by gap_p; says nothing about what the model says instead",
    family="Against `retrained`",
    decimals=3,
    on="study",
    needs=(OTHER_RETRAINED,),
    compute=lambda study: _over_groups(study, np.abs),
    order=0.1,
)
METRICS = [
    GAP,
    replace(
        GAP,
        name="gap_signed",
        label="Gap to `retrained`, signed",
        short_label="Gap, signed",
        higher_is_better=None,
        higher_is_better_on_forget=None,
        range=(-INF, INF),
        formula="mean over forget groups of log p(answer) minus its mean over `retrained` seeds, nats "
        "per token",
        trap="above 0 the model still knows, below 0 it avoids; questions of opposite sign cancel",
        compute=lambda study: _over_groups(study, np.array),
        order=0.2,
    ),
    replace(
        GAP,
        name="gap_limit",
        label="Gap of a further `retrained` seed, 95 % limit",
        short_label="Limit",
        higher_is_better=None,
        higher_is_better_on_forget=None,
        formula="the gap that one further `retrained` seed stays below with 95 %",
        trap="wide with few `retrained` seeds: read their number beside it",
        needs=(OTHER_RETRAINED, TWO_RETRAINED),
        no_interval="an end of an interval itself",
        compute=lambda study: _of_further_seed(study, lambda seeds: seeds.limit()),
        order=0.3,
    ),
    replace(
        GAP,
        name="gap_p",
        label="Probability of such a gap for a further `retrained` seed",
        short_label="p (like `retrained`)",
        higher_is_better=True,
        higher_is_better_on_forget=True,
        range=(0, 1),
        formula="share of further `retrained` seeds with a gap at least as large",
        trap="above 0.05 is like `retrained` in this one respect; with few `retrained` seeds little is "
        "told apart",
        needs=(OTHER_RETRAINED, TWO_RETRAINED),
        no_interval="a p-value",
        compute=lambda study: _of_further_seed(study, lambda seeds: seeds.p_value(gap_of(study))),
        order=0.4,
    ),
]
