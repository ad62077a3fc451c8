"""Settings of the task `files`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline_lib.blocks import InsidePath, PathText
from pipeline_lib.data.splits import Task
from pipeline_lib.tasks.base import TaskSettings, holdout_split
from pipeline_lib.tasks.files.load import load


class Settings(TaskSettings):
    """Own data: a file of records a split, in one folder: JSON lines or array, CSV, TSV or Parquet."""

    source: Literal["files"]
    folder: PathText
    forget: InsidePath = "forget.jsonl"
    retain: InsidePath = "retain.jsonl"
    facts: InsidePath | None = None
    holdout: InsidePath | None = Field(
        None, description="Records like those to be forgotten that no model learns, for membership inference"
    )

    def evaluated_splits(self) -> tuple[str, ...]:
        """Both names of the retain set: which of them is judged shows only in the files."""
        facts = () if self.facts is None else ("facts",)
        return ("forget", "retain", "retain_eval", *facts, *holdout_split(self.holdout))

    def load(self) -> Task:
        return load(**self.own())
