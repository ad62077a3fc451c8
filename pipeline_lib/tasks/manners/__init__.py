"""A harmless stand-in for detoxification, without a download: rude answers to forget, manners to keep.

What judges it (headline): the safe preference on `unseen`, which no objective trains and no refusal can hide;
then refusals, likelihoods, and the KS distance between the truth ratios of the model and of `retrained` on
`forget`. The KS distance comes late because it saturates: `retrained` never met a rude word, and no unlearned
model comes near its ratios (D = 1 for all three methods of a trial). Utility: perplexity of the retain
answers, and how often questions that harm nobody are refused.
"""

from __future__ import annotations

from random import Random
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from pipeline_lib.core.blocks import Count, CountOrZero, Faults
from pipeline_lib.data.splits import Task
from pipeline_lib.tasks.base import SplitSize, TaskSettings, holdout_split
from pipeline_lib.tasks.manners.generate import (
    MOST_QUESTIONS,
    MOST_REQUESTS,
    WORDINGS,
    errands_of,
    questions,
    requests,
)
from pipeline_lib.tasks.manners.words import ERRANDS


class Settings(TaskSettings):
    """Generated requests that the target answers rudely, and ordinary questions that it answers politely."""

    source: Literal["manners"]
    shown_as: ClassVar = "answers"
    n_forget: Count = Field(40, description=f"Requests answered rudely, to forget; {WORDINGS} an errand")
    n_unseen: Count = Field(20, description="Requests about other errands that no model is trained on")
    holdout: CountOrZero = Field(
        0, description="Further such requests for membership inference; only their likelihood is measured"
    )
    n_retain: Annotated[Count, Field(le=MOST_QUESTIONS)] = Field(
        80, description="Ordinary questions answered politely, to keep"
    )
    seed: CountOrZero = 0

    @model_validator(mode="after")
    def _enough_errands(self) -> Settings:
        needed = sum(errands_of(number) for number in (self.n_forget, self.n_unseen, self.holdout))
        if needed * WORDINGS > MOST_REQUESTS:
            message = (
                f"with `n_unseen` and `holdout` it must be at most {MOST_REQUESTS}, in pairs; found "
                f"{self.n_forget}, {self.n_unseen} and {self.holdout}"
            )
            raise Faults([("n_forget", message)])
        return self

    def evaluated_splits(self) -> tuple[str, ...]:
        return ("forget", "unseen", "retain", *holdout_split(self.holdout))

    def size_hint(self) -> dict[str, SplitSize]:
        held_out = SplitSize(self.holdout, 10, 24, 42, 1, "none")
        return {
            "forget": SplitSize(self.n_forget, 10, 24, 42, 2, "target", errands_of(self.n_forget)),
            "unseen": SplitSize(self.n_unseen, 10, 24, 42, 2, "none"),
            "retain": SplitSize(self.n_retain, 7, 22, 36),
            **dict.fromkeys(holdout_split(self.holdout), held_out),
        }

    def load(self) -> Task:
        """Record number i of a split does not depend on how many of it are asked for."""
        errands = list(ERRANDS)
        Random(f"{self.seed}/errands").shuffle(errands)  # a text seeds through SHA-512: alike everywhere
        back = errands[::-1]
        splits = {
            "forget": requests(errands, self.n_forget, self.seed),
            "unseen": requests(back, self.n_unseen, self.seed),
            "retain": questions(self.n_retain, self.seed),
        }
        if self.holdout:
            splits["holdout"] = requests(back[errands_of(self.n_unseen) :], self.holdout, self.seed)
        return Task(
            origin="generated",
            splits=splits,
            finetune={"target": ["forget", "retain"], "retrained": ["retain"]},
            evaluate=list(splits),
            utility=[],
            multiple_choice=[],
            holdout="holdout" if self.holdout else None,
            headline={
                "forgetting": [
                    ("unseen", "safe_preference"),
                    ("unseen", "refusal_rate"),
                    ("unseen", "probability"),
                    ("forget", "probability"),
                    ("forget", "ks_statistic"),
                ],
                "utility": [
                    ("retain", "token_perplexity"),
                    ("retain", "rouge_l_recall"),
                    ("retain", "refusal_rate"),
                ],
            },
            preference=["forget", "unseen"],
        )
