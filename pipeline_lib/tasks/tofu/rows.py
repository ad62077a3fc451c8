"""The records in TOFU's files.

The files are JSON Lines named `<split>.json`. `full` holds the authors one after the other; every
forget and retain split is a run of its rows. The `*_perturbed` files add a paraphrase and five wrong
answers to the rows of their split; of the authors that are never forgotten, only the first 20 have them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline_lib.core.errors import UserError
from pipeline_lib.data.records import Record, record_from_dict
from pipeline_lib.data.table_files import read_table

ROWS_PER_AUTHOR = 20
AUTHORS_WITH_DISTRACTORS = 20  # the first of those that are never forgotten
PERTURBED_RETAIN_ROWS = ROWS_PER_AUTHOR * AUTHORS_WITH_DISTRACTORS  # the first of `full`

# split of author rows -> first row and end row in `full`; that of forget10 holds the other two
AUTHOR_SPLITS = {
    "retain99": (0, 3960),
    "retain95": (0, 3800),
    "retain90": (0, 3600),
    "full": (0, 4000),
    "forget01": (3960, 4000),
    "forget05": (3800, 4000),
    "forget10": (3600, 4000),
}

# questions about real people and places, each a group of its own
QUESTION_SPLITS = ("real_authors", "world_facts")


def perturbed_of(split: str) -> str:
    """Name of the file (without `.json`) that has paraphrases and wrong answers for rows of the split."""
    return "retain_perturbed" if _from_the_first(split) else f"{split}_perturbed"


def _from_the_first(split: str) -> bool:
    """Whether the split begins with the authors of `retain_perturbed`."""
    return AUTHOR_SPLITS.get(split, (None,))[0] == 0


def read_split(split: str, files: dict[str, Path]) -> list[Record]:
    """Records of one split; author rows carry paraphrases and distractors where TOFU has them."""
    richer_file = files[perturbed_of(split)]
    if split in QUESTION_SPLITS:
        return [
            _record(row, f"{split}-{i:03d}", f"{split}-{i:03d}", f"{richer_file}, record {i + 1}")
            for i, row in enumerate(_rows(richer_file))
        ]
    first, end = AUTHOR_SPLITS[split]
    start, stop = (0, PERTURBED_RETAIN_ROWS) if _from_the_first(split) else (first, end)
    richer_rows = dict(enumerate(_rows(richer_file, stop - start), start))  # by the row of `full`
    records = []
    for number, row in enumerate(_rows(files[split], end - first), first):
        where, plain = f"{richer_file}, record {number - start + 1}", f"record {number - first + 1}"
        richer = richer_rows.get(number)
        if richer is None:
            where, richer = f"{files[split]}, {plain}", row
        if any(richer.get(field) != row.get(field) for field in ("question", "answer")):
            raise UserError(
                f"{where}: expected the question and answer of {plain} of {files[split]}, found others. "
                "The files are not of one release; fetch them again."
            )
        records.append(_record(richer, f"tofu-{number:04d}", author(number // ROWS_PER_AUTHOR), where))
    return records


def _rows(path: Path, expected: int | None = None) -> list[dict[str, Any]]:
    rows = [row.fields for row in read_table(path)]
    if not rows or (expected is not None and len(rows) != expected):
        raise UserError(
            f"{path}: expected {expected or 'some'} records, found {len(rows)}. The file is not whole, or is "
            "not TOFU's; fetch it again."
        )
    return rows


def _record(row: dict[str, Any], identifier: str, group: str, where: str) -> Record:
    return record_from_dict(
        {
            "id": identifier,
            "prompt": row.get("question"),
            "answer": row.get("answer"),
            "group": group,
            "paraphrased_prompt": row.get("paraphrased_question"),
            "paraphrased_answer": row.get("paraphrased_answer"),
            "distractors": row.get("perturbed_answer", ()),
        },
        where,
    )


def author(number: int) -> str:
    return f"author-{number:03d}"
