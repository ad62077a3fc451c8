"""TOFU (Maini et al. 2024, arXiv 2401.06121): 200 fictitious authors with 20 questions each.

The task forgets one of TOFU's forget splits and keeps the retain split that belongs to it.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from pipeline_lib.core.blocks import Count, CountOrZero, Faults, HubId, PathText, Revision
from pipeline_lib.core.errors import UserError
from pipeline_lib.core.locate import expand, expanded_folder, hub_file
from pipeline_lib.data.records import Record
from pipeline_lib.data.splits import Task, evaluated_part
from pipeline_lib.data.table_files import read_table
from pipeline_lib.tasks.base import SplitSize, TaskSettings, holdout_split
from pipeline_lib.tasks.tofu.rows import (
    AUTHOR_SPLITS,
    AUTHORS_WITH_DISTRACTORS,
    QUESTION_SPLITS,
    ROWS_PER_AUTHOR,
    author,
    perturbed_of,
    read_split,
)

# forget split -> the retain split that makes it whole
RETAIN_OF = {"forget01": "retain99", "forget05": "retain95", "forget10": "retain90"}
DRAWN = "forget10"  # the last authors, which all have paraphrases and wrong answers


class Settings(TaskSettings):
    """TOFU (Maini et al. 2024, arXiv 2401.06121) from the hub or a folder of its JSON-lines files."""

    source: Literal["tofu"]
    shown_as: ClassVar = "authors"
    hub: HubId = "locuslab/TOFU"
    revision: Revision = "324592d84ae4f482ac7249b9285c2ecdb53e3a68"
    folder: PathText | None = None
    forget: Literal["forget01", "forget05", "forget10"] = "forget10"
    forget_draw: CountOrZero = Field(
        0,
        description="Forget the authors so many blocks of its size before the forget set, which is then kept",
    )
    forget_authors: Count | None = Field(
        None, description="Forget only the last so many authors of `forget`; the others are kept"
    )
    retain_authors: Annotated[Count, Field(le=AUTHORS_WITH_DISTRACTORS)] | None = Field(
        None, description="Only this many of the first 20 authors, instead of the whole retain set"
    )
    questions_per_author: Annotated[Count, Field(le=ROWS_PER_AUTHOR)] = Field(
        ROWS_PER_AUTHOR, description="Only the first so many questions of each author, forgotten or not"
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

    @model_validator(mode="after")
    def _can_be_judged(self) -> Settings:
        first, end = AUTHOR_SPLITS[self.forget]
        given = self.forget_authors or 0
        if given * ROWS_PER_AUTHOR > end - first:
            found = f"found {given}; {self.forget} has {(end - first) // ROWS_PER_AUTHOR} authors"
            raise Faults([("forget_authors", f"{found}. Choose at most as many, or a larger `forget`")])
        size = self._rows_to_forget()
        draws = (end - AUTHOR_SPLITS[DRAWN][0]) // size
        if self.forget_draw >= draws:
            others = [] if given else [name for name in RETAIN_OF if name < self.forget]
            block = f"{given} author{'s' * (given > 1)}" if given else self.forget
            cures = [f"choose at most {draws - 1}", *(f"`forget: {name}`" for name in others)]
            raise Faults(
                [
                    (
                        "forget_draw",
                        f"found {self.forget_draw}; of the authors that may be forgotten TOFU has "
                        f"paraphrases and wrong answers for the last 20 alone, which are {draws} "
                        f"block{'s' * (draws > 1)} of {block}, counted from 0; {' or '.join(cures)}",
                    )
                ]
            )
        return self

    def _rows_to_forget(self) -> int:
        first, end = AUTHOR_SPLITS[self.forget]
        return end - first if self.forget_authors is None else self.forget_authors * ROWS_PER_AUTHOR

    def reads(self) -> dict[str, Path]:
        """TOFU's files of these splits on this machine, and the file of other answers."""
        try:
            root = self._local_folder()
            alternatives = {} if self.alternatives is None else {"alternatives": expand(self.alternatives)}
        except UserError:  # not there now
            return {}
        files = () if root is None else (root / f"{name}.json" for name in self._files())
        return {**{file.name: file for file in files}, **alternatives}

    def has_alternatives(self) -> bool:
        return self.alternatives is not None

    def evaluated_splits(self) -> tuple[str, ...]:
        """Of the whole retain set only `retain_eval`, the first 20 authors, has wrong answers to judge by."""
        return (
            "forget",
            "retain_eval" if self.retain_authors is None else "retain",
            *QUESTION_SPLITS,
            *holdout_split(self.holdout_authors),
        )

    def size_hint(self) -> dict[str, SplitSize]:
        questions, forgotten = self.questions_per_author, self._rows_to_forget() // ROWS_PER_AUTHOR
        unseen = self.holdout_authors * questions
        sizes = {"forget": SplitSize(forgotten * questions, 18, 38, 135, 7, "target", forgotten)}
        if self.retain_authors is None:
            kept = AUTHOR_SPLITS["full"][1] // ROWS_PER_AUTHOR - forgotten - self.holdout_authors
            sizes["retain"] = SplitSize(kept * questions, 17, 35, 130, 7)
            sizes["retain_eval"] = SplitSize(AUTHORS_WITH_DISTRACTORS * questions, 15, 36, 105, 7, "none")
        else:
            sizes["retain"] = SplitSize(self.retain_authors * questions, 15, 36, 105, 7)
        unlearned = SplitSize(unseen, 17, 36, 135, 1, "none")
        return {
            **sizes,
            "real_authors": SplitSize(100, 14, 4, 32, 4, "none", multiple_choice=True),
            "world_facts": SplitSize(117, 12, 3, 31, 4, "none", multiple_choice=True),
            **dict.fromkeys(holdout_split(self.holdout_authors), unlearned),
        }

    def load(self) -> Task:
        files, origin = self._found()
        before, forgotten, after = map(self._first_questions, self._drawn(files))
        cut = len(before) - self.holdout_authors * self.questions_per_author
        retain, unseen = [*before[:cut], *after], before[cut:]
        if self.retain_authors is not None:
            kept = {author(number) for number in range(self.retain_authors)}
            retain = [record for record in retain if record.group in kept]
        if self.alternatives is not None:
            forgotten = _with_alternatives(forgotten, expand(self.alternatives))
        splits = {"forget": forgotten, **evaluated_part("retain", retain)}
        splits |= {name: read_split(name, files) for name in QUESTION_SPLITS}
        judged = ["retain_eval" if "retain_eval" in splits else "retain", *QUESTION_SPLITS]
        holdout = holdout_split(unseen)
        return Task(
            origin=origin,
            splits=splits | dict.fromkeys(holdout, unseen),
            finetune={"target": ["forget", "retain"], "retrained": ["retain"]},
            evaluate=["forget", *judged, *holdout],
            utility=judged,
            multiple_choice=list(QUESTION_SPLITS),
            holdout="holdout" if unseen else None,
        )

    def _drawn(self, files: dict[str, Path]) -> tuple[list[Record], list[Record], list[Record]]:
        """The authors before the forget set, the forget set, and the authors after it."""
        if self._published():
            return read_split(RETAIN_OF[self.forget], files), read_split(self.forget, files), []
        everyone, forgettable = read_split("full", files), read_split(DRAWN, files)
        start, end = AUTHOR_SPLITS[DRAWN]
        size = self._rows_to_forget()
        end -= self.forget_draw * size
        first = end - size
        return everyone[:first], forgettable[first - start : end - start], everyone[end:]

    def _first_questions(self, records: list[Record]) -> list[Record]:
        """Of whole authors, one after the other, the first `questions_per_author` questions of each."""
        return [row for i, row in enumerate(records) if i % ROWS_PER_AUTHOR < self.questions_per_author]

    def _published(self) -> bool:
        """Whether a forget split of TOFU is forgotten, as it is."""
        return not self.forget_draw and self.forget_authors is None

    def _files(self) -> set[str]:
        """Names of the files (without `.json`) of the whole task."""
        plain = (self.forget, RETAIN_OF[self.forget]) if self._published() else ("full", DRAWN)
        return {*plain, *map(perturbed_of, (*plain, *QUESTION_SPLITS))}

    def _found(self) -> tuple[dict[str, Path], str]:
        """Paths of the files, and where they are from: `folder`, else `$PIPELINE_DATA/tofu`, else the hub."""
        names = [f"{name}.json" for name in sorted(self._files())]
        root = self._local_folder()
        if root is None:
            paths = [hub_file(self.hub, self.revision, name) for name in names]
            origin = f"{self.hub}@{self.revision}"
        else:
            paths, origin = [root / name for name in names], str(root)
            if absent := [path.name for path in paths if not path.is_file()]:
                raise UserError(
                    f"TOFU folder {root}: expected {', '.join(names)}, missing {', '.join(absent)}. Put the "
                    f"files of {self.hub} at revision {self.revision} there, or leave `folder` empty and "
                    "$PIPELINE_DATA unset to download them."
                )
        return {name.removesuffix(".json"): path for name, path in zip(names, paths, strict=True)}, origin

    def _local_folder(self) -> Path | None:
        """`folder`, which must exist, else that under $PIPELINE_DATA; None where the hub's files are read."""
        if self.folder is not None:
            return expanded_folder(self.folder)
        shared = os.environ.get("PIPELINE_DATA")
        return Path(shared) / "tofu" if shared and (Path(shared) / "tofu/full.json").is_file() else None


def _with_alternatives(records: list[Record], path: Path) -> list[Record]:
    """The records with the other answers that the file has for their questions: every one must have some."""
    found: dict[str, tuple[str, ...]] = {}
    for row in read_table(path):
        question, texts = row.fields.get("question"), row.fields.get("alternatives")
        listed = texts if isinstance(texts, list) else []
        proper = bool(listed) and all(isinstance(text, str) and text.strip() for text in listed)
        if not isinstance(question, str) or not proper:
            raise UserError(
                f"{row.where}: expected {{question: text, alternatives: [texts]}} with one text "
                "or more, none of them blank"
            )
        found[question.strip()] = tuple(listed)
    if without := [record.id for record in records if record.prompt.strip() not in found]:
        raise UserError(
            f"{path}: has no alternatives for {len(without)} of {len(records)} questions of the forget set, "
            f"the first is that of {without[0]!r}. Add them, or choose an objective that needs none."
        )
    return [replace(record, alternatives=found[record.prompt.strip()]) for record in records]
