"""TOFU (Maini et al. 2024, arXiv 2401.06121): 200 fictitious authors with 20 questions each.

The files are JSON Lines named `<split>.json`. `full` holds the authors one after the other; every
forget and retain split is a run of its rows. The `*_perturbed` files add a paraphrase and five wrong
answers to the rows of their split; of the authors that are never forgotten only the first 20 have them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.locate import expand, expanded_folder, hub_file
from pipeline_lib.data.records import Record, record_from_dict
from pipeline_lib.data.splits import Task, evaluated_part
from pipeline_lib.data.table_files import read_table

ROWS_PER_AUTHOR = 20
AUTHORS_WITH_DISTRACTORS = 20  # the first ones of `full`, whose rows `retain_perturbed` repeats

# forget split -> the retain split that makes it whole
RETAIN_OF = {"forget01": "retain99", "forget05": "retain95", "forget10": "retain90"}

# split of author rows -> first row and end row in `full`
AUTHOR_SPLITS = {
    "full": (0, 4000),
    "retain99": (0, 3960),
    "retain95": (0, 3800),
    "retain90": (0, 3600),
    "forget01": (3960, 4000),
    "forget05": (3800, 4000),
    "forget10": (3600, 4000),
}

# file with paraphrases and wrong answers -> first row and end row in `full`
PERTURBED = {
    "retain_perturbed": (0, 400),
    "forget10_perturbed": (3600, 4000),
    "forget05_perturbed": (3800, 4000),
    "forget01_perturbed": (3960, 4000),
}

# questions about real people and places, each a group of its own
QUESTION_SPLITS = ("real_authors", "world_facts")


def load(
    *,
    hub: str,
    revision: str,
    forget: str,
    folder: str | None = None,
    retain_authors: int | list[int] | None = None,
    holdout_authors: int = 0,
    alternatives: str | None = None,
) -> Task:
    """The task `tofu`: forget `forget`, keep the retain split that belongs to it.

    `retain_authors` limits the retain set to that many of the first 20 authors, or to those listed.
    `holdout_authors`: so many authors just before the forget set are taken out of the retain set and
    learned by no model. `alternatives`: a file with other answers to the questions of the forget set.
    """
    if forget not in RETAIN_OF:
        raise UserError(f"forget: expected one of {', '.join(RETAIN_OF)}, found {forget!r}")
    files, origin = tofu_files(files_needed(forget), hub=hub, revision=revision, folder=folder)
    retain = read_split(RETAIN_OF[forget], files)
    unseen = retain[len(retain) - holdout_authors * ROWS_PER_AUTHOR :]
    retain = retain[: len(retain) - len(unseen)]
    if retain_authors is not None:
        kept = {_author(number) for number in _author_numbers(retain_authors)}
        retain = [record for record in retain if record.group in kept]
    forgotten = read_split(forget, files)
    if alternatives is not None:
        forgotten = _with_alternatives(forgotten, expand(alternatives))
    splits = {"forget": forgotten, **evaluated_part("retain", retain)}
    splits |= {name: read_split(name, files) for name in QUESTION_SPLITS}
    judged = "retain_eval" if "retain_eval" in splits else "retain"
    holdout = "holdout" if unseen else None
    if holdout is not None:
        splits[holdout] = unseen
    return Task(
        origin=origin,
        splits=splits,
        finetune={"target": ["forget", "retain"], "retrained": ["retain"]},
        evaluate=["forget", judged, *QUESTION_SPLITS, *([holdout] if holdout else [])],
        utility=[judged, *QUESTION_SPLITS],
        multiple_choice=list(QUESTION_SPLITS),
        holdout=holdout,
    )


def _with_alternatives(records: list[Record], path: Path) -> list[Record]:
    """The records with the other answers that the file has for their questions: every one must have some."""
    found: dict[str, tuple[str, ...]] = {}
    for row in read_table(path):
        question, texts = row.fields.get("question"), row.fields.get("alternatives")
        listed = texts if isinstance(texts, list) else []
        if not (
            isinstance(question, str) and listed and all(isinstance(t, str) and t.strip() for t in listed)
        ):
            raise UserError(
                f"{row.where}: expected {{question: text, alternatives: [texts]}} with one text "
                "or more, none of them blank"
            )
        found[question.strip()] = tuple(listed)
    without = [record.id for record in records if record.prompt.strip() not in found]
    if without:
        raise UserError(
            f"{path}: has no alternatives for {len(without)} of {len(records)} questions of the forget set, "
            f"the first is that of {without[0]!r}. Add them, or choose an objective that needs none."
        )
    return [replace(record, alternatives=found[record.prompt.strip()]) for record in records]


def files_needed(forget: str) -> set[str]:
    """Names of the files (without `.json`) of a whole task."""
    return set().union(*(files_of(name) for name in (forget, RETAIN_OF[forget], *QUESTION_SPLITS)))


def files_of(split: str) -> set[str]:
    """Names of the files (without `.json`) that `read_split` needs for a split."""
    if split in QUESTION_SPLITS:
        return {f"{split}_perturbed"}
    if split in AUTHOR_SPLITS:
        return {split} | _perturbed_of(split)
    raise UserError(
        f"TOFU has no split {split!r}; expected one of {', '.join((*AUTHOR_SPLITS, *QUESTION_SPLITS))}"
    )


def tofu_files(
    names: Iterable[str], *, hub: str, revision: str, folder: str | None = None
) -> tuple[dict[str, Path], str]:
    """Paths of the files, and where they are from: `folder`, else `$PIPELINE_DATA/tofu`, else the hub."""
    names = sorted(names)
    root = local_folder(folder)
    if root is None:
        return {name: hub_file(hub, revision, f"{name}.json") for name in names}, f"{hub}@{revision}"
    files = {name: root / f"{name}.json" for name in names}
    absent = [path.name for path in files.values() if not path.is_file()]
    if absent:
        raise UserError(
            f"TOFU folder {root}: expected {', '.join(f'{name}.json' for name in names)}, missing "
            f"{', '.join(absent)}. Put the files of {hub} at revision {revision} there, or leave `folder` "
            "empty and $PIPELINE_DATA unset to download them."
        )
    return files, str(root)


def read_split(split: str, files: dict[str, Path]) -> list[Record]:
    """Records of one split; author rows carry paraphrases and distractors where TOFU has them."""
    if split in QUESTION_SPLITS:
        path = files[f"{split}_perturbed"]
        return [_record(row, f"{split}-{i:03d}", f"{split}-{i:03d}", path, i) for i, row in _rows(path)]
    first, end = AUTHOR_SPLITS[split]
    extra: dict[int, tuple[int, dict[str, Any], Path]] = {}  # row of `full` -> (row of the file, row, file)
    for name in _perturbed_of(split):
        start, stop = PERTURBED[name]
        extra |= {start + i: (i, row, files[name]) for i, row in _rows(files[name], stop - start)}
    records = []
    for i, row in _rows(files[split], end - first):
        number, path = first + i, files[split]
        if number in extra:
            i, richer, path = extra[number]
            if (richer.get("question"), richer.get("answer")) != (row.get("question"), row.get("answer")):
                raise UserError(
                    f"{path}, record {i + 1}: expected the question and answer of record "
                    f"{number - first + 1} of {files[split]}, found others. "
                    "The files are not of one release; fetch them again."
                )
            row = richer
        records.append(_record(row, f"tofu-{number:04d}", _author(number // ROWS_PER_AUTHOR), path, i))
    return records


def _perturbed_of(split: str) -> set[str]:
    """The files that enrich a split's rows: its own, else those of `full` that lie inside it."""
    if split.startswith("forget"):
        return {f"{split}_perturbed"}
    return {"retain_perturbed", "forget10_perturbed"} if split == "full" else {"retain_perturbed"}


def _rows(path: Path, expected: int | None = None) -> list[tuple[int, dict[str, Any]]]:
    rows = [row.fields for row in read_table(path)]
    if not rows or (expected is not None and len(rows) != expected):
        raise UserError(
            f"{path}: expected {expected or 'some'} records, found {len(rows)}. The file is not whole, or is "
            "not TOFU's; fetch it again."
        )
    return list(enumerate(rows))


def _record(row: dict[str, Any], identifier: str, group: str, path: Path, index: int) -> Record:
    fields = {
        "id": identifier,
        "prompt": row.get("question"),
        "answer": row.get("answer"),
        "group": group,
        "paraphrased_prompt": row.get("paraphrased_question"),
        "paraphrased_answer": row.get("paraphrased_answer"),
        "distractors": row.get("perturbed_answer", ()),
    }
    return record_from_dict(fields, f"{path}, record {index + 1}")


def _author(number: int) -> str:
    return f"author-{number:03d}"


def _author_numbers(retain_authors: int | list[int]) -> list[int]:
    numbers = list(range(retain_authors)) if isinstance(retain_authors, int) else retain_authors
    allowed = set(range(AUTHORS_WITH_DISTRACTORS))
    if not numbers or len(set(numbers)) < len(numbers) or not set(numbers) <= allowed:
        raise UserError(
            f"retain_authors: expected a count from 1 to {AUTHORS_WITH_DISTRACTORS}, a list of different "
            f"authors from 0 to {AUTHORS_WITH_DISTRACTORS - 1} (these have wrong answers to compare with), "
            f"or null for all, found {retain_authors!r}"
        )
    return numbers


def local_folder(folder: str | None) -> Path | None:
    """`folder`, which must exist, else that under $PIPELINE_DATA; None where the hub's files are read."""
    if folder is not None:
        return expanded_folder(folder)
    root = Path(os.environ.get("PIPELINE_DATA", "")) / "tofu"
    return root if os.environ.get("PIPELINE_DATA") and (root / "full.json").is_file() else None
