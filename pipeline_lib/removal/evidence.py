"""What a model shows to know of the texts, and which of the runs on their way forgot them best.

Source: this project. A removal has no model that never saw the texts. In its place stand texts that the model
has not seen: how likely it finds those, token for token, is what forgetting aims at. Below that a text is
avoided, which shows that it was there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import mannwhitneyu

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import read_jsonl
from pipeline_lib.metrics.definition import FORGET_SPLIT
from pipeline_lib.metrics.joint_utility import joint_utility
from pipeline_lib.metrics.questions import Questions
from pipeline_lib.metrics.study import Scores, Studied
from pipeline_lib.reporting.scores import judged_of, read_scores

RECITED = 0.5  # ROUGE-L recall of an answer from which a text counts as recited
LEVEL = 0.05
RETAIN = "retain"


@dataclass(frozen=True)
class Knowledge:
    """What one model shows of the texts.

    `recited`: how many of the `texts` it recites. `likelihood`: mean log-probability of a token of them,
    nats; `unseen`: of texts that it has not seen. `p`: one-sided, of a Mann-Whitney test that the texts are
    as likely as these; it takes texts of one group as independent, so that it errs towards knowledge.
    `above`: how many are likelier than each of those not seen, as the mean of some that are known and some
    that are avoided may lie between; `p_above`: of so many, if both are alike (Rosenbaum 1954).
    `true_likelier`: of how many texts with wrong answers the true one is likelier than these (TOFU's truth
    ratio below 1); `p_true`: of the first test on truth ratios, where both have some.
    """

    texts: int
    recited: int
    rouge: float
    likelihood: float
    unseen: float
    p: float
    above: int
    p_above: float
    true_likelier: tuple[int, int] | None = None
    p_true: float | None = None

    @classmethod
    def of(cls, scores: Scores) -> Knowledge:
        forget, unseen = (scores[split].values["log_probability"] for split in (FORGET_SPLIT, "holdout"))
        said = scores[FORGET_SPLIT].values["rouge_l_recall"]
        above = int((forget > unseen.max()).sum())
        return cls(
            len(forget),
            int((said >= RECITED).sum()),
            float(np.nanmean(said)),
            float(forget.mean()),
            float(unseen.mean()),
            float(mannwhitneyu(forget, unseen, alternative="greater").pvalue),
            above,
            _of_the_largest(above, len(forget), len(unseen)),
            *_of_wrong_answers(scores),
        )

    @property
    def shown(self) -> bool:
        """Whether there is any sign that the model knows the texts."""
        return self.recited > 0 or min(self.p, 1.0 if self.p_true is None else self.p_true) < LEVEL

    def text(self) -> str:
        """In a sentence."""
        than = "more likely than" if self.p < LEVEL else "not told from"
        return (
            f"it recites {self.recited} of {self.texts} texts (ROUGE-L recall of at least {RECITED:g}; mean "
            f"{self.rouge:.2f}), and finds them {than} texts that it has not seen ({self.likelihood:.2f} "
            f"against {self.unseen:.2f} nats a token, p = {self.p:.2g}){self._of_wrong_answers()}"
        )

    def _of_wrong_answers(self) -> str:
        if self.true_likelier is None:
            return ""
        said = "; the true answer is likelier than the wrong ones for {} of {}".format(*self.true_likelier)
        if self.p_true is None:
            return said
        more = "more" if self.p_true < LEVEL else "no more"
        return f"{said} ({more} clearly than of unseen texts: p = {self.p_true:.2g})"


def _of_the_largest(count: int, texts: int, unseen: int) -> float:
    """The probability that the `count` largest of all values are of the texts, if none differs in kind."""
    return math.prod((texts - i) / (texts + unseen - i) for i in range(count))


def _of_wrong_answers(scores: Scores) -> tuple[tuple[int, int] | None, float | None]:
    """Of the texts whose true answer stands beside wrong ones: how many tell it, and the test."""
    ratios = []
    for split in (FORGET_SPLIT, "holdout"):
        values = scores[split].values.get("log_truth_ratio", np.array([]))
        ratios.append(values[np.isfinite(values)])
    told, unseen = ratios
    if not len(told):
        return None, None
    p = float(mannwhitneyu(told, unseen, alternative="less").pvalue) if len(unseen) else None
    return (int((told < 0).sum()), len(told)), p


class Place(NamedTuple):
    """A model on the way of a run. `distance`: mean over groups of |log p - aim|, nats a token."""

    rate: float
    step: int
    utility: float
    likelihood: float
    distance: float


def scores_of(path: Path) -> Scores:
    """The scores of the only model of a file."""
    (scores,) = read_scores(path).values()
    return scores


def places(steps: Mapping[float, Path], before: Scores) -> list[Place]:
    """Every judged model of the runs, by learning rate; `steps` are their logs."""
    forget, aim = before[FORGET_SPLIT], float(before["holdout"].values["log_probability"].mean())
    kept = _utility(before)
    return [
        Place(
            rate,
            step,
            float(judged["utility"][RETAIN]) / kept,
            float(np.mean(list(judged[FORGET_SPLIT].values()))),
            _distance(forget, judged[FORGET_SPLIT], aim),
        )
        for rate, path in steps.items()
        for step, judged in judged_of(read_jsonl(path))
    ]


def candidates(found: Sequence[Place], utility: float, before: Scores) -> list[Place]:
    """The places that keep the utility of likelihoods, the nearest to texts that were not seen first.

    Raises `UserError` where none of them is nearer than the model before.
    """
    forget, aim = before[FORGET_SPLIT], float(before["holdout"].values["log_probability"].mean())
    start = float(forget.mean_over_groups(np.abs(forget.values["log_probability"] - aim)))
    kept = [place for place in found if place.utility >= utility]
    if nearer := [place for place in kept if place.distance < start]:
        return sorted(nearer, key=lambda place: (place.distance, place.step))
    if not found:
        raise UserError(
            "every run diverged before any of its models was judged. Name a gentler --method or --optimizer"
        )
    if kept:
        raise UserError(
            f"no run brought the texts nearer to texts not seen ({aim:.2f} nats a token): before they are "
            f"{start:.2f} from it, after {min(place.distance for place in kept):.2f} or more. Allow more "
            "time with --budget, which tries more rates; or name with --holdout texts of the same language "
            "and kind that the model has not seen, as the aim may be wrong"
        )
    most = max(place.utility for place in found)
    raise UserError(
        f"no run forgot any of the texts at a utility of {utility:g} (the best of its judged models kept "
        f"{most:.2f}). Allow a lower one with --utility, more time with --budget, or name related texts that "
        "must stay known with --retain"
    )


def gentler(places: Sequence[Place], than: Place, left: float, asked: float) -> list[Place]:
    """Those of the places that should keep the joint utility `asked`, where `than` kept only `left` of it.

    What is lost with answers is taken to be in proportion to what is lost in likelihood.
    """
    allowed = (1 - than.utility) * (1 - asked) / (1 - left)
    return [place for place in places if 1 - place.utility <= allowed and place.utility > than.utility]


def left_of(after: Scores, before: Scores) -> float:
    """Joint utility with answers, as the study underneath measures it: the worst part over that before."""
    return joint_utility(Studied(after, [], before, [before], [RETAIN])).value


def _utility(before: Scores) -> float:
    value = before[RETAIN].mean("probability")
    if not value > 0:
        raise UserError(
            "the model gives the texts that must stay known no probability at all: nothing can be kept"
        )
    return value


def _distance(forget: Questions, judged: Mapping[str, Any], aim: float) -> float:
    known = np.array([judged[name] for name in forget.ids])
    return forget.mean_over_groups(np.abs(known - aim))
