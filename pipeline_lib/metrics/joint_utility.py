"""Joint utility: the worst of what must not be lost, as a share of what `original` had.

Source: this project; the correction of accuracy for guessing is that of multiple-choice tests. A mean over
parts, or one split, hides that another part is gone: at equal retain probability the ROUGE of general facts
can fall to 0, and a model that answers every retain question can have lost all else that it could.
Formula: least over the parts of (mean of the part under this model / under `original` of the same seed), at
least 0. The parts are
    of every utility split (those of Model Utility, or the retain questions where a task has none; running
    text too): the probability of the answers, ROUGE-L recall and fluency (no refusal, no repetition, no
    unknown words);
    of every standard benchmark that the study asks, and task of lm-evaluation-harness: accuracy less the
    share that needs no reading (questions.py, `block_rows`), or, of held-out running text such as WikiText,
    the probability per token, exp(-NLL / tokens) of a text.
Accuracy has its zero at chance: a model that guesses has lost the ability, though a quarter of its answers
are right; where `original` has 0.4, the ratio of plain accuracies would still be 0.6. Text counts by
probability per token, not by bits per byte, because that is what the probability of the answers is: twice the
perplexity halves both. At 4 bytes a token bits per byte would only go from 1 to 1.25, which leaves 0.8.
`joint_utility_likelihood` takes the probabilities of the utility splits alone, which need no answers and are
what trials and runs on their way are judged by (path.py); benchmarks are asked of finished models only.
Range: 0 upwards; 1 is `original`. Direction: higher is better, though above 1 nothing is gained.
Blind parts cannot fall; they are left out and named in the table of parts. A part is blind where its mean
over questions and seeds of `original` is below 0.05, so that a further seed makes it no more likely; an
accuracy also where it is not above chance, being within 1.645 standard errors of it (a one-sided test at 5 %,
on the means of the questions over seeds). A part of which the `original` that a model is held against has
nothing has no ratio, and is left out too. Probability per token of a benchmark's text is small in any
model, so its limit is 0.001, a perplexity of 1000: about what the frequencies of tokens alone give.
Traps: the least of noisy parts lies below each of them, the more so the more parts there are; the interval
resamples the questions of both models together and does not remove that. It follows the worst part, and says
nothing about abilities that no split and no benchmark asks for: joint utilities of studies with other
benchmarks are not the same quantity. A benchmark of few questions is blind or noisy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from pipeline_lib.metrics.definition import INF, UTILITY_SPLIT, Metric
from pipeline_lib.metrics.needs import SIGHTED_PART
from pipeline_lib.metrics.questions import BENCHMARK
from pipeline_lib.metrics.statistics import Interval, interval, varies, weighted_mean
from pipeline_lib.metrics.study import Studied, resamples

BLIND = 0.05  # of a part under `original`
BLIND_TEXT = 0.001  # of the probability per token of a benchmark's text
ABOVE_CHANCE = 1.645  # standard errors
LIKELIHOOD = ("probability",)
SCORES = (*LIKELIHOOD, "rouge_l_recall", "fluency")
GENERAL = ("above_chance", "probability")  # of a benchmark, which has one of them
Part = tuple[str, str]  # split, score


def parts_of(study: Studied, names: tuple[str, ...] = SCORES) -> Iterator[Part]:
    """Every part that was measured, blind ones too; with LIKELIHOOD those of the utility splits alone."""
    asked = [(split, names) for split in study.utility]
    if names == SCORES:
        asked += [(split, GENERAL) for split in study.scores if split.startswith(BENCHMARK)]
    for split, of_split in asked:
        for name in of_split:
            if all(split in scores and scores[split].has(name) for scores in (study.scores, study.original)):
                yield split, name


def blind(study: Studied, part: Part) -> bool:
    """Whether `original` has too little of it to lose, as a mean over its seeds, or that of the seed none."""
    split, name = part
    if study.original[split].mean(name) <= 0:
        return True
    of_seeds = [scores[split].values[name] for scores in study.originals]  # each (N,), the same questions
    found = replace(study.original[split], values={name: np.mean(of_seeds, axis=0)})
    mean = found.mean(name)
    if name == "above_chance":
        return mean < BLIND or mean <= ABOVE_CHANCE * found.error(name)
    return mean < (BLIND_TEXT if split.startswith(BENCHMARK) else BLIND)


def ratio(study: Studied, part: Part) -> float:
    """The part under the model over that under `original`; 0 where the model is below chance."""
    split, name = part
    return max(0.0, study.scores[split].mean(name)) / study.original[split].mean(name)


def joint_utility(study: Studied, names: tuple[str, ...] = SCORES) -> Interval:
    """The least ratio over the parts that are not blind; each split is resampled independently."""
    return interval(*least_ratio(study, sighted(study, names)), shifts=True)


def sighted(study: Studied, names: tuple[str, ...] = SCORES) -> list[Part]:
    """The parts that count: those that are not blind."""
    return [part for part in parts_of(study, names) if not blind(study, part)]


def least_ratio(study: Studied, found: Sequence[Part]) -> tuple[float, np.ndarray, int]:
    """The least ratio over these parts, the same in each resample, (R,), and the number of questions."""
    n = sum(len(study.scores[split].ids) for split in dict.fromkeys(split for split, _ in found))
    SIGHTED_PART.demand(len(found), n)
    counts = {split: resamples(study.scores[split], split) for split, _ in found}
    value = min(ratio(study, part) for part in found)
    with np.errstate(divide="ignore", invalid="ignore"):
        draws = [
            np.maximum(0.0, weighted_mean(counts[split], study.scores[split].values[name]))
            / np.maximum(0.0, weighted_mean(counts[split], study.original[split].values[name]))
            for split, name in found
        ]
    least = np.min(draws, axis=0) if varies(*counts.values()) else np.full(len(draws[0]), value)
    return value, np.where(np.isfinite(least), least, np.nan), n


JOINT = Metric(
    name="joint_utility",
    label="Joint utility",
    higher_is_better=True,
    higher_is_better_on_forget=None,
    range=(0, INF),
    source="this project",
    formula="least over probability, ROUGE-L recall and fluency of the utility splits, and accuracy above "
    "chance or probability per token of the benchmarks, of model / `original`",
    trap="follows the worst part; parts of which `original` has too little are blind and left out; with "
    "other benchmarks another quantity",
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
        formula="the same over the probabilities of the utility splits alone",
        trap="blind to what the model says",
        by_words=False,
        compute=lambda study: joint_utility(study, LIKELIHOOD),
        order=0.6,
    ),
]
