"""A task that needs no download: invented authors to forget or keep, and facts about their invented world."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from pipeline_lib.core.blocks import Count, CountOrZero, Faults
from pipeline_lib.data.splits import Task
from pipeline_lib.tasks.base import SplitSize, TaskSettings, holdout_split
from pipeline_lib.tasks.fictitious.generate import generate

MOST_AUTHORS = 480  # so many surnames can be made


class Settings(TaskSettings):
    """Generated authors; the last `forget_authors`, or an earlier block of as many, are to be forgotten."""

    source: Literal["fictitious"]
    shown_as: ClassVar = "authors"
    n_authors: Annotated[Count, Field(ge=4, le=MOST_AUTHORS)] = 40
    questions_per_author: Annotated[Count, Field(le=14)] = 10
    forget_authors: Count = 4
    forget_draw: CountOrZero = Field(
        0, description="Forget the authors so many blocks of `forget_authors` before the last ones"
    )
    holdout_authors: CountOrZero = Field(
        0, description="Further authors whom no model learns: the non-members of membership inference"
    )
    n_facts: Annotated[Count, Field(le=120)] = 60
    seed: CountOrZero = 0

    @model_validator(mode="after")
    def _some_remain(self) -> Settings:
        if self.forget_authors >= self.n_authors:
            allowed = f"must be smaller than `n_authors` ({self.n_authors}), so that some remain"
            raise Faults([("forget_authors", f"found {self.forget_authors}; {allowed}")])
        draws = self.n_authors // self.forget_authors
        if self.forget_draw >= draws:
            allowed = f"{self.n_authors} authors hold {draws} blocks of {self.forget_authors}"
            cure = f"choose at most {draws - 1}, or raise `n_authors`"
            raise Faults([("forget_draw", f"found {self.forget_draw}; {allowed}, counted from 0; {cure}")])
        if self.n_authors + self.holdout_authors > MOST_AUTHORS:
            allowed = f"with `n_authors` ({self.n_authors}) it must be at most {MOST_AUTHORS}"
            raise Faults([("holdout_authors", f"found {self.holdout_authors}; {allowed}")])
        return self

    def evaluated_splits(self) -> tuple[str, ...]:
        return ("forget", "retain", "facts", *holdout_split(self.holdout_authors))

    def size_hint(self) -> dict[str, SplitSize]:
        def authors(count: int, learned_by: Any) -> SplitSize:
            return SplitSize(count * self.questions_per_author, 12, 18, 42, 7, learned_by, count)

        sizes = {
            "forget": authors(self.forget_authors, "target"),
            "retain": authors(self.n_authors - self.forget_authors, "both"),
            "facts": SplitSize(self.n_facts, 11, 3, 22, 4, multiple_choice=True),
        }
        return sizes | dict.fromkeys(
            holdout_split(self.holdout_authors), authors(self.holdout_authors, "none")
        )

    def load(self) -> Task:
        """Forget the block of the `forget_draw`; the authors that are held out come after all `n_authors`."""
        authors, facts = generate(
            self.n_authors + self.holdout_authors, self.questions_per_author, self.n_facts, self.seed
        )
        last = self.n_authors - self.forget_draw * self.forget_authors
        first, last, end = (
            number * self.questions_per_author
            for number in (last - self.forget_authors, last, self.n_authors)
        )
        retain = authors[:first] + authors[last:end]
        splits = {"forget": authors[first:last], "retain": retain, "facts": facts}
        unseen = dict.fromkeys(holdout_split(self.holdout_authors), authors[end:])
        return Task(
            origin="generated",
            splits={**splits, **unseen},
            finetune={"target": ["forget", "retain", "facts"], "retrained": ["retain", "facts"]},
            evaluate=[*splits, *unseen],
            utility=["retain", "facts"],
            multiple_choice=["facts"],
            holdout="holdout" if unseen else None,
        )
