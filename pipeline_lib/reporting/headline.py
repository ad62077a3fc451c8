"""Which metrics judge a task: those in its manifest, as far as they were measured.

A task's manifest.json has `headline`: (split, metric) pairs under "forgetting" and "utility", the most
telling first. Questions with wrong answers are judged by their truth ratios; a task without them (running
text) by the likelihood of its answers, which has a Kolmogorov-Smirnov distance to `retrained` of its own.
"""

from __future__ import annotations

from typing import NamedTuple

from pipeline_lib.metrics import declared
from pipeline_lib.reporting import style
from pipeline_lib.reporting.summary import Summary


class Measure(NamedTuple):
    """One metric of one split."""

    split: str
    metric: str

    @property
    def label(self) -> str:
        """For people: the metric's name, after its split unless it has one split only."""
        name = style.metric_label(self.metric)
        if declared()[self.metric].of_one_split:
            return name
        split = style.split_label(self.split.removesuffix("_eval")).capitalize()  # the part that was asked
        return f"{split} {style.within(name)}"

    @property
    def named(self) -> str:
        """The label within a sentence."""
        return style.within(self.label)


GAP, GAP_SIGNED = Measure("forget", "gap"), Measure("forget", "gap_signed")  # the primary quantity
FRONT = Measure("forget", "front_gap")  # where runs were judged on their way
RECOVERY, RECOVERY_P = Measure("forget", "recovery"), Measure("forget", "recovery_p")  # after a stage
RECOVERY_MAX, RECOVERY_MAX_P = Measure("forget", "recovery_max"), Measure("forget", "recovery_max_p")
PLACES = Measure("run", "recovery_places")  # over which the largest recovery is
FRONT_STEP = Measure("run", "front_step")
INTERPOLATED = Measure("run", "front_interpolated")
JOINT_UTILITY = Measure("utility", "joint_utility")
RATIO_DISTANCE = Measure("forget", "ks_statistic")
LIKELIHOOD_DISTANCE = Measure("forget", "ks_statistic_likelihood")
RATIO_QUALITY = Measure("forget", "forget_quality_log10")
LIKELIHOOD_QUALITY = Measure("forget", "forget_quality_likelihood_log10")

# For studies of questions that are older than the manifest's entry `headline`.
_FORGETTING = (
    RATIO_DISTANCE,
    RATIO_QUALITY,
    Measure("forget", "truth_ratio"),
    Measure("forget", "probability"),
    Measure("forget", "rouge_l_recall"),
    Measure("forget", "extraction_strength"),
)


class Headline(NamedTuple):
    """The metrics that judge a task, the most telling first."""

    forgetting: list[Measure]
    utility: list[Measure]


def judged_by(summary: Summary, task: str, model: str) -> Headline:
    """What judges this task, measured or not: the gap and joint utility, then what the task names.

    Where likelihoods were measured but truth ratios were not, the distance of likelihoods takes their place.
    """
    if (named := summary.inputs.manifests.get(task, {}).get("headline")) is None:
        retain = Measure(summary.retain_split(task, model), "rouge_l_recall")
        headline = Headline(list(_FORGETTING), [Measure("utility", "model_utility"), retain])
    else:
        headline = Headline(*([Measure(*pair) for pair in named[side]] for side in Headline._fields))
    for old, new in ((RATIO_DISTANCE, LIKELIHOOD_DISTANCE), (RATIO_QUALITY, LIKELIHOOD_QUALITY)):
        if not summary.has(task, model, *old) and summary.has(task, model, *new):
            there = dict.fromkeys(new if m == old else m for m in headline.forgetting)
            headline = headline._replace(forgetting=list(there))
    first = ([measure] if summary.has(task, model, *measure) else [] for measure in (GAP, JOINT_UTILITY))
    return Headline(*([*gap, *side] for gap, side in zip(first, headline, strict=True)))


def axes(summary: Summary, task: str, model: str) -> tuple[Measure | None, Measure | None]:
    """The first measured metric of each side; None where none was measured."""
    forgetting, utility = (
        next((m for m in measures if summary.has(task, model, *m)), None)
        for measures in judged_by(summary, task, model)
    )
    return forgetting, utility


def distance(summary: Summary, task: str, model: str) -> Measure | None:
    """The Kolmogorov-Smirnov distance to `retrained`: of truth ratios or else of likelihoods."""
    return next((m for m in (RATIO_DISTANCE, LIKELIHOOD_DISTANCE) if summary.has(task, model, *m)), None)


def without_retrained(summary: Summary) -> list[str]:
    """Tasks that cannot have a `retrained` model, by name."""
    inputs = summary.inputs
    return list(dict.fromkeys(task for task, model in inputs.studies if not inputs.retrained(task, model)))
