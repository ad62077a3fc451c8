"""The one record type of every task, and its file form (one JSON object a line)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from pipeline_lib.errors import UserError
from pipeline_lib.files import read_jsonl, write_jsonl

Form = Literal["question", "text"]


@dataclass(frozen=True)
class Record:
    """One prompt and the answer that a model learns or forgets.

    `group` names what was memorised together (an author, a chapter): intervals resample groups.
    `distractors` are wrong answers of the same shape; where a record has no `paraphrased_answer`,
    metrics that need one use `answer` itself, as TOFU does for real authors and world facts.
    `alternatives` are answers that an objective may teach in place of `answer`; where one is a distractor
    too, its score is of what was taught. `form` says how prompt and answer become tokens: "question" in
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


_FIELDS = {field.name for field in fields(Record)}


def record_from_dict(row: dict[str, Any], where: str) -> Record:
    """Build a record, or raise a `UserError` that starts with `where` (file and line)."""
    for name in ("id", "prompt", "answer", "group"):
        value = row.get(name)
        if not isinstance(value, str) or not value.strip():
            raise UserError(f"{where}: `{name}` must be a non-empty text, found {value!r}")
    unknown = sorted(set(row) - _FIELDS)
    if unknown:
        raise UserError(f"{where}: unknown field {unknown[0]!r}; allowed: {', '.join(sorted(_FIELDS))}")
    for name in ("paraphrased_prompt", "paraphrased_answer"):
        value = row.get(name)
        if value is not None and (not isinstance(value, str) or not value.strip()):
            raise UserError(f"{where}: `{name}` must be a non-empty text or null, found {value!r}")
    lists = {}
    for name in ("distractors", "alternatives"):
        texts = row.get(name, ())
        if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
            raise UserError(f"{where}: `{name}` must be a list of texts, found {texts!r}")
        lists[name] = tuple(texts)
    if row.get("form", "question") not in get_args(Form):
        raise UserError(f"{where}: `form` must be one of {', '.join(get_args(Form))}, found {row['form']!r}")
    return Record(**{**row, **lists})


def read_records(path: Path | str) -> list[Record]:
    """Read a split; no record at all, or two with one id, is an error."""
    rows = read_jsonl(path)
    if not rows:
        raise UserError(f"{path}: holds no record; a split needs at least one")
    records = [record_from_dict(row, f"{path}, record {i}") for i, row in enumerate(rows, start=1)]
    seen: set[str] = set()
    for record in records:
        if record.id in seen:
            raise UserError(f"{path}: two records have the id {record.id!r}")
        seen.add(record.id)
    return records


def write_records(path: Path | str, records: Sequence[Record]) -> None:
    """Write a split atomically, one record a line, in the order given."""
    write_jsonl(path, (asdict(record) for record in records))
