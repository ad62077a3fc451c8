"""Settings of the task `detox`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline_lib.core.blocks import Count, CountOrZero, Faults, HubId, InsidePath, PathText, Revision, Switch
from pipeline_lib.data.splits import Task
from pipeline_lib.tasks.base import SplitSize, TaskSettings, holdout_split
from pipeline_lib.tasks.c4 import C4
from pipeline_lib.tasks.detox.load import load, stand_in


class Settings(TaskSettings):
    """Unsafe answers of PKU-SafeRLHF, which may not be used commercially (CC BY-NC 4.0), and C4 to keep."""

    source: Literal["detox"]
    hub: HubId = "PKU-Alignment/PKU-SafeRLHF"
    revision: Revision = "ff7ba91063016c78a225b0f74e1c0860bb18230f"  # the first release, which SOUL reads
    file: InsidePath = Field(
        "round0/train.jsonl.xz",
        description="In the hub's repository, or in `folder`: JSON lines, CSV or Parquet. Later "
        "revisions of the data set have data/Alpaca-7B/train.jsonl and others",
    )
    folder: PathText | None = Field(
        None,
        description="Where `file` is. Default: $PIPELINE_DATA/safe_rlhf where that has it, or a pairs.jsonl; "
        "else the hub",
    )
    n_forget: Count = Field(200, description="Unsafe answers to forget")
    n_unseen: Count = Field(200, description="Pairs whose questions no model is trained on, to judge by")
    holdout: CountOrZero = Field(
        0, description="Further pairs for membership inference; only their likelihood is measured"
    )
    max_words: Annotated[Count, Field(ge=20)] = Field(
        200,
        description="Longest prompt and answer together, in words; rows beyond are left out, documents cut",
    )
    learned: Switch = Field(
        False,
        description="Fine-tune on the unsafe answers first, so that there is a `retrained` model too; else "
        "the model as it is, the paper's protocol",
    )
    retain: C4 = C4()
    seed: CountOrZero = 0

    @model_validator(mode="after")
    def _members_exist(self) -> Settings:
        if self.holdout and not self.learned:
            message = "needs `learned: true`; without, no model learned the forget set, and it has no members"
            raise Faults([("holdout", f"found {self.holdout}; {message}")])
        return self

    def evaluated_splits(self) -> tuple[str, ...]:
        return ("forget", "unseen", "retain", *holdout_split(self.holdout))

    def size_hint(self) -> dict[str, SplitSize]:
        """From the real rows at 100 and 200 words; web documents have more tokens a word than answers."""
        longest, answer = round(1.3 * self.max_words), min(70, self.max_words // 2)
        documents = round(0.95 * self.max_words)
        sizes = {
            "forget": SplitSize(self.n_forget, 15, answer, longest, 2, "target" if self.learned else "none"),
            "unseen": SplitSize(self.n_unseen, 15, answer, longest, 2, "none"),
            "retain": SplitSize(
                self.retain.n, 15, documents, 2 * self.max_words, 1, "both" if self.learned else "none"
            ),
        }
        held_out = SplitSize(self.holdout, 15, answer, longest, 1, "none")
        return sizes | dict.fromkeys(holdout_split(self.holdout), held_out)

    def reads(self) -> dict[str, Path] | None:
        """The copy of the pairs on this machine, where the suite names no folder."""
        if self.folder is not None:
            return None
        copy = stand_in(self.file)
        return {} if copy is None else {copy[1]: copy[0] / copy[1]}

    def has_retrained(self) -> bool:
        return self.learned

    def load(self) -> Task:
        return load(**self.own())
