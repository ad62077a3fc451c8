"""Settings of the task `manners`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline_lib.core.blocks import Count, CountOrZero, Faults
from pipeline_lib.data.splits import Task
from pipeline_lib.tasks.base import SplitSize, TaskSettings, holdout_split
from pipeline_lib.tasks.manners.generate import (
    MOST_QUESTIONS,
    MOST_REQUESTS,
    WORDINGS,
    errands_of,
    load,
)


class Settings(TaskSettings):
    """Generated requests that the target answers rudely, and ordinary questions that it answers politely."""

    source: Literal["manners"]
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
            asked = f"{self.n_forget}, {self.n_unseen} and {self.holdout}"
            message = (
                f"with `n_unseen` and `holdout` it must be at most {MOST_REQUESTS}, in pairs; found {asked}"
            )
            raise Faults([("n_forget", message)])
        return self

    def evaluated_splits(self) -> tuple[str, ...]:
        return ("forget", "unseen", "retain", *holdout_split(self.holdout))

    def size_hint(self) -> dict[str, SplitSize]:
        sizes = {
            "forget": SplitSize(self.n_forget, 10, 24, 42, 2, "target"),
            "unseen": SplitSize(self.n_unseen, 10, 24, 42, 2, "none"),
            "retain": SplitSize(self.n_retain, 7, 22, 36),
        }
        held_out = SplitSize(self.holdout, 10, 24, 42, 1, "none")
        return sizes | dict.fromkeys(holdout_split(self.holdout), held_out)

    def load(self) -> Task:
        return load(**self.own())
