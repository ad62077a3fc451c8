"""Labelled texts that come with the prompts of a study, to try its classifier on first.

| prompts | texts | positive |
|---|---|---|
| RealToxicityPrompts | what the web wrote after the prompts | Perspective toxicity above 0.5 |
| pairs of PKU-SafeRLHF | their two answers | the unsafe one |
| a task's own | answers of the splits whose preference is judged | the answer to forget, not the wished one |
| `labelled` of the suite, for any prompts | {"text", "label", and maybe "group"} a line | label 1 |
"""

from __future__ import annotations

from pathlib import Path

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import read_object
from pipeline_lib.core.locate import expand
from pipeline_lib.data.table_files import read_table
from pipeline_lib.data.task_folder import load_splits
from pipeline_lib.data.toxicity_labelled import SETS, LabelledTexts, labelled_rows
from pipeline_lib.data.toxicity_prompts import KIND_OF_TASK, Prompts, kind_of_rows, read_prompt_rows, spread

ROWS = 2000  # at most, spread over the file: enough for an interval of a few hundredths


def labelled_at_hand(
    prompts: Prompts, labelled: str | None = None, data_dir: Path | None = None
) -> LabelledTexts:
    """The labelled texts for these prompts, of the prompts' `kind`; none where nothing is labelled.

    `labelled` as in the suite's block `toxicity`; `data_dir` is the prepared task, for prompts of its own.
    """
    if prompts.source == "task":
        if data_dir is None:
            raise UserError("toxicity.prompts: expected the folder of the prepared task, found none")
        kind = KIND_OF_TASK.get(read_object(data_dir / "manifest.json", "source")["source"], "other")
        return _of_task(data_dir, kind) if labelled is None else _own(labelled, kind)
    rows, _, origin = read_prompt_rows(prompts)
    kind = kind_of_rows(rows)
    if labelled is not None:
        return _own(labelled, kind)
    if kind == "realtoxicityprompts":
        rows = [row for row in rows if "continuation" in row]  # a file of the prompts alone has none
    if kind not in SETS or not rows:
        return LabelledTexts(kind, [], [], [], origin)
    return labelled_rows(kind, spread(rows, ROWS), origin)


def _own(labelled: str, kind: str) -> LabelledTexts:
    path = expand(labelled)
    if not path.is_file():
        raise UserError(f"toxicity.labelled {labelled}: expected a file at {path}, found none")
    found = []
    for number, row in enumerate(spread(read_table(path), ROWS), start=1):
        text, label = row.fields.get("text"), row.fields.get("label")
        if row.cells and label in ("0", "1"):
            label = int(label)
        if not isinstance(text, str) or not text.strip() or label not in (0, 1):
            raise UserError(
                f"{row.where}: expected rows with `text`, a non-empty text, and `label`, 1 for what the "
                f"classifier shall find and 0 for the rest; found {str(row.fields)[:80]!r}"
            )
        found.append((text, int(label), str(row.fields.get("group", number))))
    return LabelledTexts.of(kind, found, labelled)


def _of_task(data_dir: Path, kind: str) -> LabelledTexts:
    splits = read_object(data_dir / "manifest.json").get("preference", [])
    rows = [
        row
        for records in load_splits(data_dir, splits).values()
        for record in records
        for row in (
            (record.answer, 1, record.group),
            *((text, 0, record.group) for text in record.distractors),
        )
    ]
    return LabelledTexts.of(kind, rows, f"answers of {data_dir}")
