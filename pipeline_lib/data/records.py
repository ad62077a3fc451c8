"""The one record type of every task, and its file form (one JSON object a line)."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from pipeline_lib.core.blocks import suggestion
from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import read_jsonl, write_jsonl

Form = Literal["question", "text"]


@dataclass(frozen=True)
class Record:
    """One prompt and the answer that a model learns or forgets.

    `group` names what was memorised together (an author, a chapter): intervals resample groups.
    `distractors` are wrong answers of the same shape; where a record has no `paraphrased_answer`,
    metrics that need one use `answer` itself, as TOFU does for real authors and world facts.
    `opening` is how the answer begins where it is put into the model's mouth; no file has one (asked.py).
    `alternatives` are answers that an objective may teach in place of `answer`; where one is a distractor
    too, its score is that of a taught answer. `form` says how prompt and answer become tokens: "question" in
    the model's prompt format; "text" as one running text that `answer` continues, learned as a whole.
    """

    id: str
    prompt: str
    answer: str
    group: str
    paraphrased_prompt: str | None = None
    paraphrased_answer: str | None = None
    distractors: tuple[str, ...] = ()
    alternatives: tuple[str, ...] = ()
    form: Form = "question"
    opening: str = ""


FIELDS = frozenset(field.name for field in fields(Record)) - {"opening"}

# Letters and symbols of Unicode that are invisible: fillers of Hangul, the blank pattern of braille.
_BLANK = frozenset("\u115f\u1160\u3164\uffa0\u2800")


def record_from_dict(row: dict[str, Any], where: str) -> Record:
    """Build a record, or raise a `UserError` that starts with `where` (file and line)."""
    optional = ("paraphrased_prompt", "paraphrased_answer")
    for name in ("id", "prompt", "answer", "group", *optional):
        value, or_null = row.get(name), " or null" if name in optional else ""
        if value is None and or_null:
            continue
        if not isinstance(value, str) or not value.strip():
            raise UserError(f"{where}: `{name}` must be a non-empty text{or_null}, found {_shown(value)}")
        _check_text(value, name, where)
    if unknown := sorted(set(row) - FIELDS):
        raise UserError(f"{where}: unknown field {unknown[0]!r}; {suggestion(unknown[0], FIELDS)}")
    lists = {}
    for name in ("distractors", "alternatives"):
        texts = row.get(name, ())
        if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
            raise UserError(f"{where}: `{name}` must be a list of texts, found {_shown(texts)}")
        for text in texts:
            if text.strip():  # check_split reports a blank one
                _check_text(text, name, where)
        lists[name] = tuple(texts)
    if row.get("form", "question") not in get_args(Form):
        raise UserError(f"{where}: `form` must be one of {', '.join(get_args(Form))}, found {row['form']!r}")
    return Record(**{**row, **lists})


def shows(text: str) -> bool:
    """Whether any character of a text can be seen: not spaces, marks without a letter, or format controls.

    Seen are letters, numbers, punctuation, symbols, and what only a font or a later Unicode knows.
    """
    return any(
        char not in _BLANK and (category[0] in "LNPS" or category in ("Co", "Cn"))
        for char, category in zip(text, map(unicodedata.category, text), strict=True)
    )


def _check_text(text: str, name: str, where: str) -> None:
    if "\0" in text:
        raise UserError(
            f"{where}: `{name}` holds the character 0, as damaged files do: {text[:60]!r}. Remove it, or "
            "save the file again as UTF-8."
        )
    if not shows(text):
        raise UserError(
            f"{where}: `{name}` must hold visible text, found only invisible characters: {text[:20]!r}"
        )


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "..."


def read_records(path: Path | str) -> list[Record]:
    """Read a split as `write_records` wrote it; no record at all, or two with one id, is an error."""
    rows = read_jsonl(path)
    if not rows:
        raise UserError(f"{path}: holds no record; a split needs at least one")
    records = [record_from_dict(row, f"{path}, record {i}") for i, row in enumerate(rows, start=1)]
    check_ids(str(path), records)
    return records


def check_ids(where: str, records: Sequence[Record]) -> None:
    """Raise `UserError` where two records have one id, or ids that look the same to every reader.

    Texts that differ only in how Unicode composes their letters (é as one character or as two) look and sort
    alike; programs on the way may make them equal.
    """
    seen: dict[str, str] = {}
    for record in records:
        same = unicodedata.normalize("NFC", record.id)
        if same in seen:
            if seen[same] == record.id:
                raise UserError(f"{where}: two records have the id {record.id!r}")
            raise UserError(
                f"{where}: two records have the id {record.id!r}, once with composed and once with "
                "decomposed letters. Give one of them another id."
            )
        seen[same] = record.id


def row_of(record: Record) -> dict[str, Any]:
    """The fields that a file of records holds, as `record_from_dict` reads them."""
    return {name: value for name, value in asdict(record).items() if name in FIELDS}


def write_records(path: Path | str, records: Sequence[Record]) -> None:
    """Write a split atomically, one record a line, in the order given."""
    write_jsonl(path, map(row_of, records))
