"""Recovery: what a model knows of the forget set after a stage, beyond `retrained` after the same stage.

Source: this project; the excess over a model that never saw the data is that of relearning attacks (Hu et al.
2024, arXiv 2406.13356; Lynch et al. 2024, arXiv 2402.16835).
Formula: m = mean over forget groups of their questions' mean log p(answer) / tokens. `recovery` = m(model
after) - mean over seeds of m(`retrained` after the same stages), in nats per token: 0 where the stage brings
back no more than it teaches a model that never saw the data. `recovery_excess` = what the stage changed,
beyond what it changed in `retrained`: [m(after) - m(before)] - [m(`retrained` after) - m(`retrained`
before)]. `recovery_p`: the probability that one further `retrained` seed has so large a recovery or a larger
one after the same stages: Student's prediction for one observation from the S seeds' m, t = recovery / (s
sqrt(1 + 1/S)) with S - 1 degrees of freedom, one-sided.
`recovery_rate`: the published rate of RTT (Deeb and Roger 2024, arXiv 2410.08827), what the attacked model
answers over what `original` of its seed answers after the same stage: mean over the same groups of ROUGE-L
recall, where RTT has multiple-choice accuracy.
Range: any; the rate 0 upwards. Direction: lower is better; below 0 the model still avoids the answers.
Needs: `retrained` in the `of` of the stage, for the p-value two seeds of it besides the model; for the rate
`original`, and something that it answers.
Traps: an over-forgotten model that rises to `retrained` has a large excess and has recovered nothing: read
`recovery`. A broken model does not recover: read joint utility after the stage. Questions of forget groups
that a stage teaches (`groups` of `finetune` and of a soft prompt) are left out. The interval resamples
groups, not seeds. The rate takes nothing off for what can be guessed: `retrained`, which never saw the data,
has one well above 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import sqrt
from statistics import fmean, stdev

import numpy as np

from pipeline_lib.metrics.definition import FORGET_SPLIT, INF, Metric
from pipeline_lib.metrics.needs import STAGED_ORIGINAL, STAGED_RETRAINED, TWO_STAGED_RETRAINED
from pipeline_lib.metrics.statistics import ROUNDING, Interval, without_interval
from pipeline_lib.metrics.study import Scores, Staged, Studied, over_groups

SCORE = "log_probability"
ANSWERED = "rouge_l_recall"


def judges(study: Studied, staged: Staged) -> np.ndarray:
    """Places of the forget questions whose group no stage taught."""
    return study.forget.but_first_groups(staged.learned)


def _mean(models: Sequence[Scores]) -> np.ndarray:
    """Log-probability per token of each forget question, (N,), over these models."""
    return np.mean([model[FORGET_SPLIT].values[SCORE] for model in models], axis=0)


def _beyond(study: Studied, staged: Staged) -> np.ndarray:
    """(N,) of a model after a stage, less that of `retrained` after the same."""
    STAGED_RETRAINED.demand(len(staged.retrained), len(judges(study, staged)))
    return study.forget.values[SCORE] - _mean(staged.retrained)


def _over_judges(study: Studied, staged: Staged, values: np.ndarray) -> Interval:
    places = judges(study, staged)
    return over_groups(study.forget.at(places), values[places])


def _recovery(study: Studied) -> Interval | None:
    return _over_judges(study, study.staged, _beyond(study, study.staged)) if study.staged else None


def _excess(study: Studied) -> Interval | None:
    if (staged := study.staged) is None:
        return None
    beyond = _beyond(study, staged)
    STAGED_RETRAINED.demand(len(study.retrained), len(judges(study, staged)))
    before = staged.before[FORGET_SPLIT].values[SCORE] - _mean(study.retrained)
    return _over_judges(study, staged, beyond - before)


def _p_value(study: Studied) -> Interval | None:
    if (staged := study.staged) is None:
        return None
    places = judges(study, staged)
    TWO_STAGED_RETRAINED.demand(len(staged.retrained), len(places))
    own, *others = (
        model[FORGET_SPLIT].at(places).mean_over_groups(model[FORGET_SPLIT].values[SCORE][places])
        for model in (study.scores, *staged.retrained)
    )
    return without_interval(p_of_one_more(own, others), len(places))


def _rate(study: Studied) -> Interval | None:
    if (staged := study.staged) is None or not study.forget.has(ANSWERED):
        return None
    places = judges(study, staged)
    own, known = (
        0.0
        if model is None
        else model[FORGET_SPLIT].at(places).mean_over_groups(model[FORGET_SPLIT].values[ANSWERED][places])
        for model in (study.scores, staged.original)
    )
    STAGED_ORIGINAL.demand(known, len(places))
    return without_interval(own / known, len(places))


def p_of_one_more(value: float, known: Sequence[float]) -> float:
    """Probability that one more of these numbers, at least two, is as large as `value` or larger.

    Student's prediction for one observation: t = (value - mean) / (s sqrt(1 + 1/S)) with S - 1 degrees of
    freedom.
    """
    from scipy import special  # not scipy.stats, which takes a second to import

    spread, above = stdev(known) * sqrt(1 + 1 / len(known)), value - fmean(known)
    if spread <= ROUNDING:
        return float(above <= ROUNDING)
    return float(special.stdtr(len(known) - 1, -above / spread))


RECOVERY = Metric(
    name="recovery",
    label="Recovery against `retrained` after the same stage",
    short_label="Recovery",
    higher_is_better=False,
    higher_is_better_on_forget=False,
    range=(-INF, INF),
    source="this project",
    formula="mean over forget groups of log p(answer) after a stage, minus that of `retrained` after the "
    "same stage, nats per token",
    trap="a broken model does not recover: read joint utility after the stage",
    family="After a stage",
    decimals=3,
    on="study",
    needs=(STAGED_RETRAINED,),
    compute=_recovery,
    order=0.8,
    only_with=("stages",),
)
METRICS = [
    RECOVERY,
    replace(
        RECOVERY,
        name="recovery_excess",
        label="Excess of what a stage changed over what it changed in `retrained`",
        short_label="Excess",
        higher_is_better=None,
        higher_is_better_on_forget=None,
        formula="(after - before) - (`retrained` after - `retrained` before), of the mean log p(answer) per "
        "token",
        trap="large too where an over-forgotten model rises to `retrained`, which is no recovery",
        compute=_excess,
        order=0.81,
    ),
    replace(
        RECOVERY,
        name="recovery_p",
        label="Probability of such a recovery for a further `retrained` seed",
        short_label="p (recovery)",
        higher_is_better=True,
        higher_is_better_on_forget=True,
        range=(0, 1),
        formula="one-sided, by Student's prediction for one more `retrained` seed after the same stage",
        trap="with few `retrained` seeds after the stage little is told apart",
        needs=(STAGED_RETRAINED, TWO_STAGED_RETRAINED),
        no_interval="a p-value",
        compute=_p_value,
        order=0.82,
    ),
    replace(
        RECOVERY,
        name="recovery_rate",
        label="Recovery rate against `original` after the same stage",
        short_label="Recovery rate",
        range=(0, INF),
        source="RTT, arXiv 2410.08827; ROUGE-L recall where it has multiple-choice accuracy",
        formula="mean over forget groups of ROUGE-L recall after a stage, over that of `original` after the "
        "same stage",
        trap="nothing is taken off for what can be guessed: `retrained` has a rate well above 0",
        needs=(STAGED_ORIGINAL,),
        no_interval="a ratio of two models",
        compute=_rate,
        order=0.825,
    ),
]
