"""What a model shows to know of the texts, and which of the runs on their way forgot them best.

Source: this project. A removal has no model that never saw the texts. In its place stand texts that the model
has not seen: how likely it finds those, token for token, is what forgetting aims at. Below that a text is
avoided, which shows that it was there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import mannwhitneyu

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import read_jsonl
from pipeline_lib.metrics.definition import FORGET_SPLIT
from pipeline_lib.metrics.questions import Questions
from pipeline_lib.metrics.study import Scores
from pipeline_lib.reporting.scores import read_scores

RECITED = 0.5  # ROUGE-L recall of an answer from which a text counts as recited
LEVEL = 0.05
RETAIN = "retain"


@dataclass(frozen=True)
class Knowledge:
    """What one model shows of the texts.

    `recited`: how many of the `texts` it recites. `likelihood`: mean log-probability of a token of them,
    nats; `unseen`: of texts that it has not seen. `p`: one-sided, of a Mann-Whitney test that the texts are
    as likely as these.
    """

    texts: int
    recited: int
    rouge: float
    likelihood: float
    unseen: float
    p: float

    @classmethod
    def of(cls, scores: Scores) -> Knowledge:
        forget, unseen = (scores[split].values["log_probability"] for split in (FORGET_SPLIT, "holdout"))
        said = scores[FORGET_SPLIT].values["rouge_l_recall"]
        return cls(
            len(forget),
            int((said >= RECITED).sum()),
            float(np.nanmean(said)),
            float(forget.mean()),
            float(unseen.mean()),
            float(mannwhitneyu(forget, unseen, alternative="greater").pvalue),
        )

    @property
    def shown(self) -> bool:
        """Whether there is any sign that the model knows the texts."""
        return self.recited > 0 or self.p < LEVEL

    def text(self) -> str:
        """In a sentence."""
        than = "more likely than" if self.p < LEVEL else "not told from"
        return (
            f"it recites {self.recited} of {self.texts} texts (ROUGE-L recall of at least {RECITED:g}; mean "
            f"{self.rouge:.2f}), and finds them {than} texts that it has not seen ({self.likelihood:.2f} "
            f"against {self.unseen:.2f} nats a token, p = {self.p:.2g})"
        )


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
            row["step"],
            float(row["judged"]["utility"][RETAIN]) / kept,
            float(np.mean(list(row["judged"]["forget"].values()))),
            _distance(forget, row["judged"]["forget"], aim),
        )
        for rate, path in steps.items()
        for row in read_jsonl(path)
        if "judged" in row
    ]


def best(found: Sequence[Place], utility: float, before: Scores) -> Place:
    """The place nearest to texts that were not seen, among those that keep the utility.

    Raises `UserError` where none of them is nearer than the model before.
    """
    forget, aim = before[FORGET_SPLIT], float(before["holdout"].values["log_probability"].mean())
    start = float(forget.mean_over_groups(np.abs(forget.values["log_probability"] - aim)))
    kept = [place for place in found if place.utility >= utility and place.distance < start]
    if kept:
        return min(kept, key=lambda place: (place.distance, place.step))
    most = max((place.utility for place in found), default=0.0)
    raise UserError(
        f"no run forgot any of the texts at a utility of {utility:g} (the best of its judged models kept "
        f"{most:.2f}). Allow a lower one with --utility, more time with --budget, or name related texts that "
        "must stay known with --retain"
    )


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
