"""What every task of a suite has: one class that declares its settings and loads its records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import Field

from pipeline_lib.core.blocks import Block, UpToOne
from pipeline_lib.data.splits import Task

HOLDOUT = "holdout"  # the split of records that no model learns; only likelihoods are measured on it


@dataclass(frozen=True)
class SplitSize:
    """The approximate size of a split, for estimates before the start.

    `prompt`, `answer`: mean length in tokens of a tokenizer with a large vocabulary, without the model's
    template; `longest`: of prompt and answer together. `texts`: how many answers are scored after each prompt
    (the true one, its paraphrase, wrong ones). `learned_by`: the models before unlearning that learn it.
    `groups`: how many groups the records are of, where the settings tell. `multiple_choice`: the wrong ones
    are options, without which the true one says nothing.
    """

    records: int
    prompt: int
    answer: int
    longest: int
    texts: int = 1
    learned_by: Literal["both", "target", "none"] = "both"
    groups: int | None = None
    multiple_choice: bool = False


class TaskSettings(Block):
    """Base of the settings of all tasks.

    A task's class is called `Settings` and lies in `pipeline_lib/tasks/<source>/__init__.py`; its field
    `source: Literal["<source>"]` names the folder. docs/tasks.md shows a whole one.
    """

    # What its records are, where some tables are about such tasks alone (reporting/catalog.py).
    shown_as: ClassVar[Literal["authors", "texts", "answers"] | None] = None

    finetune: dict[str, Any] = Field({}, description="Overrides of the block `finetune` for this task")
    evaluation: dict[str, Any] = Field({}, description="Overrides of the block `evaluation` for this task")
    max_overlap: UpToOne = Field(
        0.5,
        description="Largest share of the forget set's runs of eight words that may stand in the retain set",
    )

    def evaluated_splits(self) -> tuple[str, ...]:
        """Names of the splits that are evaluated, as far as the settings alone can tell."""
        raise TypeError(f"the task {type(self).__module__} does not name its splits")

    def has_retrained(self) -> bool:
        """Whether there can be a model that never saw the forget set, to compare with."""
        return self.is_taught()

    def is_taught(self) -> bool:
        """Whether the models before unlearning learn its data first; False: the model as it is knows them."""
        return True

    def size_hint(self) -> dict[str, SplitSize] | None:
        """The approximate size of each split, as far as the settings alone can tell; None if they cannot."""
        return None

    def has_alternatives(self) -> bool:
        """Whether the forget records bring other answers to teach, as far as the settings alone can tell."""
        return True

    def load(self) -> Task:
        """The records; raises `UserError` for data that are missing or wrong."""
        raise TypeError(f"the task {type(self).__module__} does not load anything")

    def data_settings(self) -> dict[str, Any]:
        """What the prepared data depend on."""
        return self.model_dump(exclude={"finetune", "evaluation"})


def holdout_split(present: object) -> tuple[str, ...]:
    """The holdout split's name where there is one."""
    return (HOLDOUT,) if present else ()
