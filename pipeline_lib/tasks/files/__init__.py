"""Your own data: one file of records a split (see data/own_records.py for what a file may be)."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from pipeline_lib.core.blocks import Block, InsidePath, PathText, Switch, Text
from pipeline_lib.core.errors import UserError
from pipeline_lib.core.locate import expanded_folder
from pipeline_lib.core.untrusted import inside
from pipeline_lib.data.own_records import read_own_records
from pipeline_lib.data.records import Record
from pipeline_lib.data.splits import Task, evaluated_part
from pipeline_lib.tasks.base import HOLDOUT, SplitSize, TaskSettings, holdout_split

CHARACTERS = 4  # of English text to a token, in large vocabularies
PLAIN_HEADLINE = {  # of records without wrong answers, which Model Utility and the truth ratio need
    "forgetting": [("forget", name) for name in ("probability", "rouge_l_recall", "extraction_strength")],
    "utility": [("retain", "probability"), ("retain", "rouge_l_recall")],
}

Names = Annotated[
    list[Text],
    Field(min_length=1),
    BeforeValidator(
        lambda value: [value] if isinstance(value, str) else value, json_schema_input_type=str | list[str]
    ),
]


class FieldNames(Block):
    """Which fields of the files hold a record's; several are joined with a blank line between."""

    id: Names | None = None
    prompt: Names | None = Field(None, description="`question` for TOFU, `[instruction, input]` for Alpaca")
    answer: Names | None = None
    group: Names | None = None
    paraphrased_prompt: Names | None = None
    paraphrased_answer: Names | None = None
    distractors: Names | None = Field(None, description="`perturbed_answer` for TOFU")
    alternatives: Names | None = None
    form: Names | None = None


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
    learned: Switch = Field(
        True,
        description="Fine-tune on the forget set first, so that there is a `retrained` too; false: the model "
        "as it is knows the data, and nothing tells what one that never saw them would say",
    )

    fields: FieldNames = Field(FieldNames(), description="Default: the files use the names of records")

    def evaluated_splits(self) -> tuple[str, ...]:
        """Both names of the retain set: which of them is judged shows only in the files."""
        facts = () if self.facts is None else ("facts",)
        return ("forget", "retain", "retain_eval", *facts, *holdout_split(self.holdout))

    def is_taught(self) -> bool:
        return self.learned

    def size_hint(self) -> dict[str, SplitSize] | None:
        """What the files hold, where they can be read; whoever loads them says what is wrong with them."""
        try:
            root, named = expanded_folder(self.folder), self.fields.model_dump_json(exclude_none=True)
            splits: dict[str, list[Record]] = {}
            for split, file in self._files().items():
                path = inside(root, file)
                changed = path.stat()
                records = _records(path, named, (changed.st_mtime_ns, changed.st_size))
                splits |= evaluated_part(split, records) if split == "retain" else {split: records}
        except (UserError, OSError):
            return None
        return {split: self._size(split, records) for split, records in splits.items()}

    def _size(self, split: str, records: list[Record]) -> SplitSize:
        def tokens(*lengths: int) -> int:
            return max(1, round(sum(lengths) / len(lengths) / CHARACTERS))

        learned: Literal["both", "target", "none"] = "target" if split == "forget" else "both"
        return SplitSize(
            len(records),
            tokens(*(len(record.prompt) for record in records)),
            tokens(*(len(record.answer) for record in records)),
            tokens(max(len(record.prompt) + len(record.answer) for record in records)),
            1 + max(len(record.distractors) + (record.paraphrased_answer is not None) for record in records),
            learned if self.learned and split != HOLDOUT else "none",
            len({record.group for record in records}),
            split == "facts",
        )

    def _files(self) -> dict[str, str]:
        files = {"forget": self.forget, "retain": self.retain, "facts": self.facts, "holdout": self.holdout}
        return {split: file for split, file in files.items() if file is not None}

    def load(self) -> Task:
        """Facts, if given, are learned with the rest and judged as multiple choice.

        Where only some records of the retain set have distractors, only these are evaluated.
        """
        root = expanded_folder(self.folder)
        named = self.fields.model_dump(exclude_none=True)
        splits: dict[str, list[Record]] = {}
        notes: list[str] = []
        for split, file in self._files().items():
            records, said = read_own_records(inside(root, file), named)
            splits |= evaluated_part(split, records) if split == "retain" else {split: records}
            notes += said
        facts = [] if self.facts is None else ["facts"]
        judged = ["retain_eval" if "retain_eval" in splits else "retain", *facts]
        # Facts are judged by their options, and Model Utility is over all its splits or none.
        choices = bool(facts) or all(record.distractors for record in splits[judged[0]])
        return Task(
            origin=str(root),
            splits=splits,
            finetune={"target": ["forget", "retain", *facts], "retrained": ["retain", *facts]}
            if self.learned
            else {"target": []},
            evaluate=["forget", *judged, *holdout_split(self.holdout)],
            utility=judged if choices else [],
            multiple_choice=facts,
            holdout=None if self.holdout is None else "holdout",
            headline=None if choices else PLAIN_HEADLINE,
            notes=notes,
        )


@lru_cache(maxsize=16)  # a plan asks for the sizes once a job
def _records(path: Path, named: str, changed: tuple[int, int]) -> list[Record]:
    """Records of a file under the field names of this JSON. `changed` tells one content from another."""
    return read_own_records(path, FieldNames.model_validate_json(named).model_dump(exclude_none=True))[0]
