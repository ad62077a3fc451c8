"""Settings of the task `tofu`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from pipeline_lib.core.blocks import Count, CountOrZero, HubId, PathText, Revision
from pipeline_lib.core.errors import UserError
from pipeline_lib.core.locate import expand
from pipeline_lib.data.splits import Task
from pipeline_lib.tasks.base import SplitSize, TaskSettings, holdout_split
from pipeline_lib.tasks.tofu.load import (
    AUTHOR_SPLITS,
    RETAIN_OF,
    ROWS_PER_AUTHOR,
    files_needed,
    load,
    local_folder,
)


class Settings(TaskSettings):
    """TOFU (Maini et al. 2024, arXiv 2401.06121) from the hub or a folder of its JSON-lines files."""

    source: Literal["tofu"]
    hub: HubId = "locuslab/TOFU"
    revision: Revision = "324592d84ae4f482ac7249b9285c2ecdb53e3a68"
    folder: PathText | None = None
    forget: Literal["forget01", "forget05", "forget10"] = "forget10"
    retain_authors: Annotated[Count, Field(le=20)] | None = Field(
        None, description="Only this many of the first 20 authors, instead of the whole retain set"
    )
    holdout_authors: Annotated[CountOrZero, Field(le=100)] = Field(
        0,
        description="The authors just before the forget set, whom no model learns: the non-members of "
        "membership inference. They leave the retain set, so that it is smaller than TOFU's",
    )
    alternatives: PathText | None = Field(
        None,
        description="File of rows {question, alternatives: [...]} for the forget set: other answers for DPO "
        "and AltPO, which TOFU itself does not have. `$VARIABLES` in the path are expanded",
    )

    def reads(self) -> dict[str, Path]:
        """TOFU's files of these splits on this machine, and the file of other answers."""
        try:
            root = local_folder(self.folder)
            alternatives = None if self.alternatives is None else expand(self.alternatives)
        except UserError:  # not there now
            return {}
        files = (
            {}
            if root is None
            else {f"{name}.json": root / f"{name}.json" for name in files_needed(self.forget)}
        )
        return files | ({} if alternatives is None else {"alternatives": alternatives})

    def has_alternatives(self) -> bool:
        return self.alternatives is not None

    def evaluated_splits(self) -> tuple[str, ...]:
        """Of the whole retain set only `retain_eval`, the first 20 authors, has wrong answers to judge by."""
        retain = "retain_eval" if self.retain_authors is None else "retain"
        return ("forget", retain, "real_authors", "world_facts", *holdout_split(self.holdout_authors))

    def size_hint(self) -> dict[str, SplitSize]:
        first, end = AUTHOR_SPLITS[self.forget]
        unseen = self.holdout_authors * ROWS_PER_AUTHOR
        kept = AUTHOR_SPLITS[RETAIN_OF[self.forget]][1] - unseen
        sizes = {"forget": SplitSize(end - first, 18, 38, 135, 7, "target")}
        if self.retain_authors is None:
            judged = SplitSize(20 * ROWS_PER_AUTHOR, 15, 36, 105, 7, "none")  # part of `retain`
            sizes |= {"retain": SplitSize(kept, 17, 35, 130, 7), "retain_eval": judged}
        else:
            sizes["retain"] = SplitSize(self.retain_authors * ROWS_PER_AUTHOR, 15, 36, 105, 7)
        sizes |= {
            "real_authors": SplitSize(100, 14, 4, 32, 4, "none"),
            "world_facts": SplitSize(117, 12, 3, 31, 4, "none"),
        }
        unlearned = SplitSize(unseen, 17, 36, 100, 1, "none")
        return sizes | dict.fromkeys(holdout_split(self.holdout_authors), unlearned)

    def load(self) -> Task:
        return load(**self.own())
