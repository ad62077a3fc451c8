"""What each classifier can see: its AUC on texts that others have labelled, and the verdict drawn from it.

AUC = P(score of a positive text > score of a negative text) + P(equal) / 2, over all pairs of a positive and
a negative text. Range 0 to 1, higher is better, 0.5 is chance (Hanley and McNeil 1982). It needs no
threshold, so it says whether a classifier ranks well, not whether 0.5 is the right place to cut.
A classifier that ranks a kind of text hardly better than chance is blind to it: a rate of 0 would then mean
nothing, so `check_fit` refuses it. It measures the AUC on labelled texts that come with the study's own
prompts, where there are enough of them, and else looks it up in the table below. A pair of which nothing is
known is allowed, with a warning that belongs to the result.

Shapes: R resamples, N texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline_lib.core.errors import UserError
from pipeline_lib.data.toxicity_labelled import LabelledTexts
from pipeline_lib.engine.classifiers.base import TextClassifier
from pipeline_lib.metrics.membership.roc import auc_draws
from pipeline_lib.metrics.statistics import Interval, interval, resample_counts
from pipeline_lib.metrics.toxicity import BLIND_BELOW

LEAST = 50  # texts of either label that a measurement needs

# Kinds of data, as a reader of the result would put it. What is judged are a model's answers to such prompts.
KINDS = {
    "jigsaw": "comments in a forum",
    "davidson": "tweets",
    "realtoxicityprompts": "continuations of web text",
    "safe_rlhf": "answers to questions that ask for harm (harmful content, politely worded or not)",
    "manners": "answers to the generated requests of the task `manners`",
    "other": "data of your own, which is not one of the labelled kinds",
}


@dataclass(frozen=True)
class Validation:
    """AUC with its 95 % interval (None: nothing varied) on `n` labelled texts.

    `measured`: the texts on which it was measured, or the date.
    """

    auc: float
    low: float | None
    high: float | None
    n: int
    measured: str
    note: str = ""

    def said(self, decimals: int) -> str:
        """`AUC 0.88 [0.87, 0.89]`, the interval where there is one."""
        text = f"AUC {self.auc:.{decimals}f}"
        if self.low is None or self.high is None:
            return text
        return f"{text} [{self.low:.{decimals}f}, {self.high:.{decimals}f}]"


# (classifier, kind of data) -> what `python benchmarks/classifiers.py` printed; a test measures it again.
_PROFANITY = "alt-profanity-check 1.9.1"
VALIDATED = {
    (_PROFANITY, "jigsaw"): Validation(0.962, 0.957, 0.967, 3936, "2026-11-22"),
    (_PROFANITY, "davidson"): Validation(
        0.982, 0.978, 0.985, 4186, "2026-11-22", "its training data holds this set: too good"
    ),
    (_PROFANITY, "realtoxicityprompts"): Validation(0.884, 0.873, 0.894, 4912, "2026-11-22"),
    (_PROFANITY, "safe_rlhf"): Validation(0.522, 0.502, 0.543, 2992, "2026-11-22"),
    (_PROFANITY, "manners"): Validation(0.987, 0.979, 0.994, 400, "2026-11-23"),
    ("rude_words 1", "manners"): Validation(
        1.0, None, None, 400, "2026-11-23", "generated answers, whose words the list was made for"
    ),
}


@dataclass(frozen=True)
class Fit:
    """Whether a classifier may judge a kind of data; `warning` is None where that was measured."""

    validation: Validation | None
    warning: str | None


def check_fit(classifier: TextClassifier, data_kind: str, labelled: LabelledTexts | None = None) -> Fit:
    """How well this classifier judges this kind of data; `UserError` where it is blind to it.

    `labelled`: texts of this kind on which it is tried now, if there are `LEAST` of either label.
    """
    if data_kind not in KINDS:
        raise UserError(f"no kind of data {data_kind!r}; expected one of {', '.join(KINDS)}")
    if classifier.made_for is not None and data_kind not in classifier.made_for:
        known = ", ".join(f"{kind} ({KINDS[kind]})" for kind in sorted(classifier.made_for))
        raise UserError(
            f"{classifier.name} is blind to {data_kind} ({KINDS[data_kind]}): it was made for {known} alone. "
            "Choose another classifier."
        )
    found = _measured(classifier, labelled) or VALIDATED.get((classifier.name, data_kind))
    if found is None:
        few = (
            f"; too few labelled texts to try it now: {_counted(labelled)}"
            if labelled and labelled.texts
            else ""
        )
        return Fit(
            None,
            f"{classifier.name} was never validated on {data_kind} ({KINDS[data_kind]}): its scores may mean "
            f"nothing there{few}",
        )
    if found.auc < BLIND_BELOW:
        able = [
            kind for (name, kind), v in VALIDATED.items() if name == classifier.name and v.auc >= BLIND_BELOW
        ]
        raise UserError(
            f"{classifier.name} is blind to {data_kind} ({KINDS[data_kind]}): {found.said(2)} "
            f"on {found.n} labelled texts ({found.measured}), where "
            f"0.5 is chance and at least {BLIND_BELOW} is asked for. Its score would be a number without "
            f"meaning. Choose another classifier; this one was found able on: {', '.join(able) or 'nothing'}."
        )
    return Fit(found, None)


def _measured(classifier: TextClassifier, labelled: LabelledTexts | None) -> Validation | None:
    if labelled is None or min(_numbers(labelled)) < LEAST:
        return None
    found = auc_interval(classifier.score(labelled.texts), labelled.labels, labelled.groups)
    return Validation(found.value, found.low, found.high, found.n, labelled.origin)


def _numbers(labelled: LabelledTexts) -> tuple[int, int]:
    return labelled.labels.count(1), labelled.labels.count(0)


def _counted(labelled: LabelledTexts) -> str:
    positive, negative = _numbers(labelled)
    return f"{labelled.origin} has {positive} positive and {negative} negative, {LEAST} of either are needed"


def auc_interval(scores: Sequence[float], labels: Sequence[int], groups: Sequence[str]) -> Interval:
    """AUC of `scores` for `labels` (1 positive, 0 negative); texts of one group are drawn together.

    Resamples without a text of either label have no AUC and are left out.
    """
    values, positive = np.asarray(scores, dtype=float), np.asarray(labels, dtype=bool)
    if positive.all() or not positive.any():
        raise ValueError("an AUC needs texts of both labels")
    counts = resample_counts(groups, seed=0)  # (R, N)
    counts = counts[counts[:, positive].any(axis=1) & counts[:, ~positive].any(axis=1)]
    whole = np.concatenate([np.ones((1, len(values))), counts])
    draws = auc_draws(whole[:, positive], whole[:, ~positive], values[positive], values[~positive])
    # a group drawn twice meets its own copies: with texts of both labels in it that moves the AUC
    return interval(draws[0], draws[1:], len(values), shifts=True)
