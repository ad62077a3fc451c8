"""Tests of one model against one `retrained`, question by question, beside TOFU's unpaired one.

Sources: Wilcoxon 1945 (Biometrics Bulletin 1, 80-83); permutation of pairs: Good 2005, Permutation,
Parametric and Bootstrap Tests of Hypotheses, chapter 3; equivalence by two one-sided tests: Schuirmann 1987
(Journal of Pharmacokinetics and Biopharmaceutics 15, 657-680).
Two models answer the same questions, so that their truth ratios go together, and a test that takes them as
independent (forget_quality.py) sees less than there is.
Formulas, on y = log R, the log of the truth ratio, or where a task has no wrong answers log p(answer) /
tokens:
    wilcoxon_p          p of the signed-rank test of y - y of `retrained`
    permutation_d_p     share of 2,000 exchanges, each question's two models swapped by a coin, with a D at
    least as
                        large, the exchange that was seen counted in
    equivalence_margin  larger end of the 90 % interval of the mean of log p(answer) / tokens minus that of
    `retrained`,
                        Student's over forget groups: the smallest margin at which the two would be called
                        equivalent at 5 %
Range: p 0 to 1, margin 0 upwards. Direction: p higher, margin lower.
Traps: the questions of one author are not independent, and one `retrained` is not another: two retrained
seeds are told apart more often than in 5 %. Likeness is judged by gap_p. A margin says nothing until somebody
says which one would be small.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from pipeline_lib.metrics.definition import INF, Metric
from pipeline_lib.metrics.needs import TWO_UNITS, WRONG_ANSWERS
from pipeline_lib.metrics.rows import answer_of
from pipeline_lib.metrics.statistics import Interval, ks_statistics, without_interval
from pipeline_lib.metrics.subjects import Pair
from pipeline_lib.metrics.truth_ratio import log_ratios

EXCHANGES = 2000


def wilcoxon_p(first: np.ndarray, second: np.ndarray) -> float:
    """Two-sided p of the signed-rank test; 1 where no pair differs."""
    from scipy.stats import wilcoxon  # heavy; declarations are read where no test is made

    return 1.0 if (first == second).all() else float(wilcoxon(first, second).pvalue)


def permutation_d_p(first: np.ndarray, second: np.ndarray) -> float:
    """p of the KS distance D under exchanges of the two values of a question, (N,) each."""
    swapped = np.random.default_rng(len(first)).integers(0, 2, (EXCHANGES, len(first)))
    swapped[0] = 0  # what was seen
    drawn = np.hstack([1 - swapped, swapped])  # of the values of both, those of the first sample, (R, 2 N)
    both = np.concatenate([first, second])
    distances = ks_statistics(drawn, 1 - drawn, both, both)
    return float((distances >= distances[0] - 1e-12).mean())


def equivalence_margin(differences: np.ndarray) -> float:
    """The larger end, in size, of Student's 90 % interval of their mean, (G,)."""
    from scipy.stats import t

    half = t.ppf(0.95, len(differences) - 1) * differences.std(ddof=1) / np.sqrt(len(differences))
    return float(abs(differences.mean()) + half)


def _tested(pair: Pair, test: Callable[[np.ndarray, np.ndarray], float]) -> Interval:
    first, second = pair.once(_values)
    return without_interval(test(first, second), len(first))


def _values(pair: Pair) -> tuple[np.ndarray, np.ndarray]:
    if WRONG_ANSWERS.holds(pair.split.rows) and WRONG_ANSWERS.holds(pair.reference):
        return _arrays(log_ratios(rows, "geometric") for rows in (pair.split.rows, pair.reference))
    return _log_probabilities(pair)


def _log_probabilities(pair: Pair) -> tuple[np.ndarray, np.ndarray]:
    return _arrays(
        [-nll / tokens for nll, tokens in map(answer_of, rows)] for rows in (pair.split.rows, pair.reference)
    )


def _arrays(values: Iterable[list[float]]) -> tuple[np.ndarray, np.ndarray]:
    first, second = map(np.array, values)
    return first, second


def _margin(pair: Pair) -> Interval:
    first, second = pair.once(_log_probabilities)
    groups = [row["group"] for row in pair.reference]
    if len(names := list(dict.fromkeys(groups))) == 1:
        groups = names = [row["id"] for row in pair.reference]
    TWO_UNITS.demand(len(names), len(groups))
    of = np.array([names.index(group) for group in groups])
    differences = np.array([(first - second)[of == i].mean() for i in range(len(names))])
    return without_interval(equivalence_margin(differences), len(groups))


_WILCOXON = Metric(
    name="wilcoxon_p",
    label="Wilcoxon's p against `retrained`",
    short_label="Wilcoxon p",
    higher_is_better=True,
    higher_is_better_on_forget=True,
    range=(0, 1),
    source="Wilcoxon 1945",
    formula="p of the signed-rank test of log R (or log p per token) against `retrained` of the same seed",
    trap="questions of one author are not independent, and one `retrained` is not another",
    family="Against `retrained`",
    no_interval="a p-value",
    of="pair",
    compute=lambda pair: _tested(pair, wilcoxon_p),
    order=230,
)
METRICS = [
    _WILCOXON,
    replace(
        _WILCOXON,
        name="permutation_d_p",
        label="Permutation p of D against `retrained`",
        short_label="Permutation p of D",
        source="Good 2005",
        formula="share of exchanges of a question's two models with a KS D at least as large",
        trap="as wilcoxon_p; never below 1 / 2000",
        compute=lambda pair: _tested(pair, permutation_d_p),
        order=231,
    ),
    replace(
        _WILCOXON,
        name="equivalence_margin",
        label="Equivalence margin to `retrained`",
        short_label="Equivalence margin",
        higher_is_better=False,
        higher_is_better_on_forget=False,
        range=(0, INF),
        source="Schuirmann 1987 (two one-sided tests)",
        formula="larger end of the 90 % interval of the mean difference in log p per token, over "
        "forget groups",
        trap="which margin is small has to be said beforehand",
        decimals=3,
        needs=(TWO_UNITS,),
        no_interval="an end of an interval itself",
        compute=_margin,
        order=232,
    ),
]
