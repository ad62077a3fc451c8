"""Records of a person's own file: the names of fields that people use, and what a row may leave out.

| here | also read as |
|---|---|
| prompt | question (TOFU), input (LUME), instruction and maybe input (Alpaca) |
| answer | response, completion, output |
| paraphrased_prompt | paraphrased_question |
| distractors | perturbed_answer |
| prompt and answer of running text | text, cut in the middle |

A row without `id` gets one from the file's name and its place, a row without `group` is a group of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline_lib.blocks import suggestion
from pipeline_lib.data.records import FIELDS, Record, check_ids, record_from_dict
from pipeline_lib.data.table_files import FORMS, Row, read_table
from pipeline_lib.errors import UserError
from pipeline_lib.json_text import parse_json

NAMES = {
    "prompt": ("question", "input", "instruction"),
    "answer": ("response", "completion", "output"),
    "paraphrased_prompt": ("paraphrased_question",),
    "distractors": ("perturbed_answer",),
}
_MEANS = {name: field for field, names in NAMES.items() for name in (field, *names)}
_LISTS = ("distractors", "alternatives")
_TEXT = "text"  # a row of running text

# Labels of common data sets that say nothing a model learns; they are passed over, and that is said.
PASSED_OVER = frozenset(
    "task split category topic source index title type level difficulty subject metadata".split()
) | {f"option{i}" for i in range(1, 10)}
_NOT_GIVEN = ("nan", "null", "none")  # in a cell of a table without types


@dataclass
class _Filled:
    """What was filled in or passed over, counted for one file."""

    ids: int = 0
    first_id: str = ""
    groups: int = 0
    cut: int = 0
    passed: Counter[str] = field(default_factory=Counter)
    renamed: Counter[str] = field(default_factory=Counter)


def read_own_records(path: Path) -> tuple[list[Record], list[str]]:
    """The records of a file in any form of `table_files.FORMS`, and what is to be said about them.

    Raises `UserError` for a file or row that cannot be read, and where two rows have one id.
    """
    rows = read_table(path)
    if not rows:
        raise UserError(f"{path}: holds no record; a split needs at least one. Expected {FORMS}")
    filled = _Filled()
    stem = path.name.partition(".")[0] or "row"
    records = [_record(row, f"{stem}-{number:05d}", filled) for number, row in enumerate(rows, start=1)]
    check_ids(str(path), records)
    return records, _said(path, records, filled)


def _record(row: Row, number: str, filled: _Filled) -> Record:
    fields: dict[str, Any] = {}
    said_as: dict[str, str] = {}
    given = dict(row.fields)
    _join_alpaca(given)
    for name, value in given.items():
        meant = _MEANS.get(name, name)
        if meant in said_as:
            raise UserError(
                f"{row.where}: {said_as[meant]!r} and {name!r} are two names of `{meant}`; keep one of them"
            )
        if meant in FIELDS:
            said_as[meant] = name
            fields[meant] = value
            if meant != name:
                filled.renamed[f"{name} as {meant}"] += 1
        elif name in PASSED_OVER:
            filled.passed[name] += 1
        elif name != _TEXT:
            known = sorted({*_MEANS, *FIELDS, _TEXT})
            raise UserError(f"{row.where}: unknown field {name!r}; {suggestion(name, known)}")
    if _TEXT in given:
        _cut(given[_TEXT], fields, said_as, row.where)
        filled.cut += 1
    if row.cells:
        _typed(fields, row.where)
    for name in ("id", "group"):
        if name in fields:
            fields[name] = _named(fields[name])
    if "id" not in fields:
        fields["id"] = number
        filled.first_id = filled.first_id or number
        filled.ids += 1
    if "group" not in fields:
        fields["group"] = fields["id"]
        filled.groups += 1
    if not {"prompt", "answer"} & set(fields):
        raise UserError(
            f"{row.where}: has neither a question nor an answer, only "
            f"{', '.join(map(repr, row.fields)) or 'nothing'}; expected `prompt` (or {', '.join(NAMES['prompt'])}) and `answer` (or "
            f"{', '.join(NAMES['answer'])}), or `{_TEXT}` for running text"
        )
    return record_from_dict(fields, row.where)


def _join_alpaca(fields: dict[str, Any]) -> None:
    """Alpaca's `input` belongs to its `instruction`; one without it is empty there."""
    instruction, more = fields.get("instruction"), fields.get("input")
    if isinstance(instruction, str) and isinstance(more, str):
        fields["instruction"] = f"{instruction}\n\n{more}" if more.strip() else instruction
        del fields["input"]


def _cut(text: Any, fields: dict[str, Any], said_as: dict[str, str], where: str) -> None:
    """Running text is learned as a whole; judged is its second half, after the first."""
    for part in ("prompt", "answer"):
        if part in fields:
            raise UserError(
                f"{where}: `{_TEXT}` is a whole running text, and {said_as[part]!r} a part of one; keep one "
                "of them"
            )
    if fields.get("form", "text") != "text":
        raise UserError(f"{where}: `{_TEXT}` is running text, but `form` is {fields['form']!r}")
    if not isinstance(text, str) or len(text.strip()) < 2:
        raise UserError(f"{where}: `{_TEXT}` must be a text of two characters or more, found {text!r}")
    text = text.strip()
    middle = len(text) // 2
    spaces = [i for i in range(1, len(text)) if text[i].isspace() and not text[i - 1].isspace()]
    boundary = min(spaces, key=lambda i: (abs(i - middle), i)) if spaces else middle
    fields.update(prompt=text[:boundary], answer=text[boundary:], form="text")


def _typed(fields: dict[str, Any], where: str) -> None:
    """Cells of a table without types: lists are JSON, and words for nothing are nothing."""
    for name in [*_LISTS, "paraphrased_prompt", "paraphrased_answer", "form", "id", "group"]:
        cell = fields.get(name)
        if isinstance(cell, str) and cell.strip().lower() in _NOT_GIVEN:
            del fields[name]
        elif cell is not None and name in _LISTS:
            try:
                fields[name] = parse_json(cell, where)
            except UserError:
                raise UserError(
                    f"{where}: the cell `{name}` must be a JSON list of texts, such as "
                    f'["wrong one", "wrong two"], found {cell[:60]!r}'
                ) from None


def _named(value: Any) -> Any:
    """Numbers as the texts that ids and groups are; a table with gaps has 7.0 for 7."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return str(int(value)) if isinstance(value, float) and value.is_integer() else value


def _said(path: Path, records: Sequence[Record], filled: _Filled) -> list[str]:
    said = []
    if filled.renamed:
        said.append("read " + ", ".join(f"`{names}`" for names in sorted(filled.renamed)))
    if filled.ids:
        said.append(
            f"{filled.ids} of {len(records)} records without id: numbered, the first {filled.first_id!r}"
        )
    if filled.groups:
        groups = len({record.group for record in records})
        said.append(
            f"{filled.groups} of {len(records)} records without group: each is a group of its own, {groups} in "
            "all, and intervals take them as independent"
        )
    if filled.cut:
        said.append(f"{filled.cut} running texts: the first half is the prompt, the second what is judged")
    for name, count in sorted(filled.passed.items()):
        said.append(f"the field `{name}` is passed over ({count} rows)")
    return [f"{path.name}: {line}" for line in said]
