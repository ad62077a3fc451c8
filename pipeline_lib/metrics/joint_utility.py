"""Joint utility: the worst of what must not be lost, as a share of what `original` had.

Source: this project. A mean over parts, or one split, hides that another part is gone: at equal retain
probability the ROUGE of general facts can fall to 0.
Formula: least over the parts of (mean of the part under this model / under `original` of the same seed). The
parts are the probability of the answers, ROUGE-L recall and fluency (no refusal, no repetition, no unknown
words) on every utility split: those of Model Utility, or the retain questions where a task has none.
`joint_utility_likelihood` takes the probabilities alone, which need no answers.
Range: 0 upwards; 1 is `original`. Direction: higher is better, though above 1 nothing is gained.
Blind parts: where a part is below 0.05 under some seed of `original` it cannot fall; it is left
out and named in the table of parts.
Traps: the least of noisy parts lies below each of them; the interval resamples the questions of both models
together and does not remove that. It follows the worst part, and says nothing about abilities that no split
asks for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from pipeline_lib.metrics.definition import INF, UTILITY_SPLIT, Metric
from pipeline_lib.metrics.needs import SIGHTED_PART
from pipeline_lib.metrics.statistics import Interval, interval, varies, weighted_mean
from pipeline_lib.metrics.study import Studied, resamples

BLIND = 0.05  # of a part under `original`
SCORES = ("probability", "rouge_l_recall", "fluency")
Part = tuple[str, str]  # split, score


def parts_of(study: Studied, names: tuple[str, ...] = SCORES) -> Iterator[Part]:
    """Every part that was measured, blind ones too."""
    for split in study.utility:
        for name in names:
            if all(split in scores and scores[split].has(name) for scores in (study.scores, study.original)):
                yield split, name


def blind(study: Studied, part: Part) -> bool:
    """Whether `original` has too little of it to lose."""
    split, name = part
    return min(scores[split].mean(name) for scores in study.originals) < BLIND


def ratio(study: Studied, part: Part) -> float:
    """The part under the model over that under `original`."""
    split, name = part
    return study.scores[split].mean(name) / study.original[split].mean(name)


def joint_utility(study: Studied, names: tuple[str, ...] = SCORES) -> Interval:
    """The least ratio over the parts that are not blind; each split is resampled independently."""
    found = [part for part in parts_of(study, names) if not blind(study, part)]
    n = sum(len(study.scores[split].ids) for split in dict.fromkeys(split for split, _ in found))
    SIGHTED_PART.demand(len(found), n)
    counts = {split: resamples(study.scores[split], split) for split, _ in found}
    value = min(ratio(study, part) for part in found)
    with np.errstate(divide="ignore", invalid="ignore"):
        draws = [
            weighted_mean(counts[split], study.scores[split].values[name])
            / weighted_mean(counts[split], study.original[split].values[name])
            for split, name in found
        ]
    least = np.min(draws, axis=0) if varies(*counts.values()) else np.full(len(draws[0]), value)
    return interval(value, np.where(np.isfinite(least), least, np.nan), n, shifts=True)


JOINT = Metric(
    name="joint_utility",
    label="Joint utility",
    higher_is_better=True,
    higher_is_better_on_forget=None,
    range=(0, INF),
    source="this project",
    formula="least over probability, ROUGE-L recall and fluency of the utility splits of model / `original`",
    trap="follows the worst part; parts below 0.05 under `original` are blind and left out",
    family="Against `original`",
    decimals=3,
    by_words=True,
    on="study",
    split=UTILITY_SPLIT,
    needs=(SIGHTED_PART,),
    compute=joint_utility,
    order=0.5,
)
METRICS = [
    JOINT,
    replace(
        JOINT,
        name="joint_utility_likelihood",
        label="Joint utility of likelihoods",
        formula="the same over the probabilities alone",
        trap="blind to what the model says",
        by_words=False,
        compute=lambda study: joint_utility(study, ("probability",)),
        order=0.6,
    ),
]
