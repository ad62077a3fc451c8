"""Records of a person's own file: what its fields mean, and what a row may leave out.

Fields of other names are read where the suite says what they mean (`fields`); a wrong guess could silently
teach a model the wrong one of two texts. A row that needs it is refused with the line to add.

A row without `id` gets one from the file's name and its place; a row without `group` is a group of its own.
A row of running text may have `text` alone: its first half is the prompt, the second half is judged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline_lib.core.blocks import suggestion
from pipeline_lib.core.errors import UserError
from pipeline_lib.core.json_text import parse_json
from pipeline_lib.data.records import FIELDS, Record, check_ids, record_from_dict
from pipeline_lib.data.table_files import FORMS, Row, read_table

Fields = Mapping[str, Sequence[str]]  # a field of `Record` -> fields of the file, joined in this order

# Names in other data sets (TOFU; LUME; Alpaca, whose `input` belongs to its `instruction`), for messages.
KNOWN_AS = {
    "prompt": ("question", "instruction", "input"),
    "answer": ("response", "completion", "output"),
    "paraphrased_prompt": ("paraphrased_question",),
    "distractors": ("perturbed_answer",),
}
_LISTS = ("distractors", "alternatives")
_TEXT = "text"  # a row of running text

# Labels of common data sets that no model learns; they are passed over, and a note says so.
_LABELS = ("task", "split", "category", "topic", "subject", "source", "title", "type", "level", "difficulty")
PASSED_OVER = frozenset([*_LABELS, "index", "metadata", "option1", "option2", "option3", "option4"])
_NOT_GIVEN = ("nan", "null", "none")  # in a cell of a table without types


@dataclass
class _Filled:
    """What was filled in or passed over, counted for one file."""

    ids: int = 0
    first_id: str = ""
    groups: int = 0
    cut: int = 0
    passed: Counter[str] = field(default_factory=Counter)
    others: frozenset[str] = frozenset()  # fields that are passed over beside PASSED_OVER


def read_own_records(
    path: Path, fields: Fields | None = None, common: bool = False
) -> tuple[list[Record], list[str]]:
    """The records of a file in any form of `table_files.FORMS`, and notes about them.

    `common`: where nobody can say what fields mean, common names are taken for what they mean elsewhere, and
    all others are passed over. Raises `UserError` for a file or row that cannot be read, and where two rows
    have one id.
    """
    rows = read_table(path)
    if not rows:
        raise UserError(f"{path}: holds no record; a split needs at least one. Expected {FORMS}")
    filled, records = _Filled(), []
    if common:
        fields = common_fields(path, rows)
        named = {name for names in fields.values() for name in names}
        known = {*FIELDS, _TEXT, *named, *PASSED_OVER}
        filled.others = frozenset(name for row in rows for name in row.fields) - known
    stem = path.name.partition(".")[0] or "row"
    for number, row in enumerate(rows, start=1):
        values = _meant(row, fields or {}, filled)
        _fill(values, f"{stem}-{number:05d}", filled)
        records.append(record_from_dict(values, row.where))
    check_ids(str(path), records)
    return records, _said(path, records, filled)


def _meant(row: Row, fields: Fields, filled: _Filled) -> dict[str, Any]:
    """The row under the names of `Record`."""
    left, values = dict(row.fields), dict[str, Any]()
    for meant, names in fields.items():
        given = [name for name in names if name in left]
        if meant in left and meant not in names and given:
            raise UserError(
                f"{row.where}: {meant!r} and {given[0]!r} are two names of `{meant}`, as `fields` says; keep "
                "one of them"
            )
        if given:
            values[meant] = _joined([left.pop(name) for name in given], given, row.where)
    if _TEXT in left:
        values |= _halves(left, values, row.where)
        filled.cut += 1
    values |= {name: left.pop(name) for name in FIELDS & set(left)}
    for name in (PASSED_OVER | filled.others) & set(left):
        filled.passed[name] += 1
        del left[name]
    if left:
        raise UserError(f"{row.where}: {_unknown(left, row.fields, fields)}")
    if row.cells:
        _type_cells(values, row.where)
    return values


def _joined(values: list[Any], names: list[str], where: str) -> Any:
    if len(values) == 1:
        return values[0]
    if not all(isinstance(value, str) for value in values):
        raise UserError(
            f"{where}: {' and '.join(map(repr, names))} are joined by `fields`, so both must be texts"
        )
    return "\n\n".join(value for value in values if value.strip())


def _unknown(left: Mapping[str, Any], given: Mapping[str, Any], fields: Fields) -> str:
    """The message about unknown fields, with the line of the suite that would give them a meaning."""
    proposal: dict[str, list[str]] = {}
    for meant in sorted(FIELDS, key=[*KNOWN_AS, *sorted(FIELDS)].index):
        names = (meant, *KNOWN_AS.get(meant, ()))
        found = [name for known in names for name in left if name.lower() == known]
        twice = [*([meant] if meant in given else []), *found]
        if found and len(twice) > 1 and [name.lower() for name in found] != ["instruction", "input"]:
            return f"{' and '.join(map(repr, twice))} are two names of `{meant}`; keep one of them"
        if found:
            proposal[meant] = found
    name, allowed = next(iter(left)), sorted([*FIELDS, _TEXT])
    if not proposal:
        return f"unknown field {name!r}; {suggestion(name, allowed)}"
    lines = ", ".join(
        f"{meant}: {names[0] if len(names) == 1 else '[' + ', '.join(names) + ']'}"
        for meant, names in {**fields, **proposal}.items()
    )
    return (
        f"unknown field {name!r}; allowed: {', '.join(allowed)}. If it means what it seems to, say so in "
        f"the task: `fields: {{{lines}}}`"
    )


def common_fields(path: Path, rows: Sequence[Row]) -> dict[str, list[str]]:
    """What the names in a file mean by the custom of other data sets (`KNOWN_AS`, of any case).

    Raises `UserError` where there is neither running text nor a prompt with its answer, or two names of one.
    """
    given = list(dict.fromkeys(name for row in rows for name in row.fields))
    found: dict[str, list[str]] = {}
    for meant in sorted(FIELDS):
        names = [
            name for known in (meant, *KNOWN_AS.get(meant, ())) for name in given if name.lower() == known
        ]
        if len(names) > 1 and [name.lower() for name in names] != ["instruction", "input"]:
            raise UserError(f"{path}: {' and '.join(map(repr, names))} are two names of `{meant}`; keep one")
        if names and names != [meant]:
            found[meant] = names
    if _TEXT not in given and not all(part in given or part in found for part in ("prompt", "answer")):
        known = {part: ", ".join((part, *KNOWN_AS[part])) for part in ("prompt", "answer")}
        raise UserError(
            f"{path}: expected running text (`{_TEXT}`), or a prompt ({known['prompt']}) and an answer "
            f"({known['answer']}); found {', '.join(map(repr, given))}. Rename the columns"
        )
    return found


def text_record(text: str, identifier: str, group: str) -> Record:
    """Running text as a record: the first half is the prompt, the second is judged."""
    halves = _halves({_TEXT: text}, {}, identifier)
    return record_from_dict({**halves, "id": identifier, "group": group}, identifier)


def _halves(left: dict[str, Any], values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Running text is learned as a whole; its second half is judged, after the first as the prompt."""
    text = left.pop(_TEXT)
    if part := next((part for part in ("prompt", "answer") if part in left or part in values), None):
        raise UserError(f"{where}: `{_TEXT}` is a whole running text, `{part}` a part of one; keep one")
    if left.get("form", "text") != "text":
        raise UserError(f"{where}: `{_TEXT}` is running text, but `form` is {left['form']!r}")
    if not isinstance(text, str) or len(text.strip()) < 2:
        raise UserError(f"{where}: `{_TEXT}` must be a text of two characters or more, found {text!r}")
    text = text.strip()
    middle = len(text) // 2
    spaces = [i for i in range(1, len(text)) if text[i].isspace() and not text[i - 1].isspace()]
    boundary = min(spaces, key=lambda i: (abs(i - middle), i)) if spaces else middle
    return {"prompt": text[:boundary], "answer": text[boundary:], "form": "text"}


def _type_cells(values: dict[str, Any], where: str) -> None:
    """Cells of a table without types: lists are JSON, and words such as "null" mean that nothing is given."""
    for name in [*_LISTS, "paraphrased_prompt", "paraphrased_answer", "form", "id", "group"]:
        cell = values.get(name)
        if isinstance(cell, str) and cell.strip().lower() in _NOT_GIVEN:
            del values[name]
        elif cell is not None and name in _LISTS:
            try:
                values[name] = parse_json(cell, where)
            except UserError:
                raise UserError(
                    f"{where}: the cell `{name}` must be a JSON list of texts, such as "
                    f'["wrong one", "wrong two"], found {cell[:60]!r}'
                ) from None


def _fill(values: dict[str, Any], number: str, filled: _Filled) -> None:
    """Ids and groups that are numbers become texts; missing ones are filled in and counted."""
    for name in ("id", "group"):
        value: Any = values.get(name)
        whole = isinstance(value, float) and value.is_integer()  # a table with gaps has 7.0 for 7
        if whole or (isinstance(value, int) and not isinstance(value, bool)):
            values[name] = str(int(value))
    if "id" not in values:
        values["id"] = number
        filled.first_id = filled.first_id or number
        filled.ids += 1
    if "group" not in values:
        values["group"] = values["id"]
        filled.groups += 1


def _said(path: Path, records: Sequence[Record], filled: _Filled) -> list[str]:
    said, count = [], f"of {len(records)} records"
    if filled.ids:
        said.append(f"{filled.ids} {count} without id: numbered, the first {filled.first_id!r}")
    if filled.groups:
        groups = len({record.group for record in records})
        said.append(
            f"{filled.groups} {count} without group: each is a group of its own, {groups} groups in all, and "
            "intervals take them as independent"
        )
    if filled.cut:
        said.append(f"{filled.cut} running texts: the first half is the prompt, the second is judged")
    said += [f"the field `{name}` is passed over ({n} rows)" for name, n in sorted(filled.passed.items())]
    return [f"{path.name}: {line}" for line in said]
