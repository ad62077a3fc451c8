"""Benchmark questions from local files or, at a pinned commit, from the hub."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline_lib.data.locate import expanded_folder, hub_file
from pipeline_lib.data.table_files import read_table
from pipeline_lib.data.texts import read_text
from pipeline_lib.errors import UserError
from pipeline_lib.evaluation.benchmarks.documents import Document, wikitext_of_lines, wikitext_pages
from pipeline_lib.evaluation.benchmarks.prompts import Choices, Passage
from pipeline_lib.evaluation.benchmarks.tasks import Task, benchmark
from pipeline_lib.redaction import listed

MOST_SHOTS = 5  # example questions of an MMLU subject


def load_benchmark(
    name: str, *, folder: str | None = None, limit: int | None = None, shots: int = 0
) -> list[Choices | Passage]:
    """The questions of a task as they are put to the model.

    `folder` holds the files in the layout of docs/benchmarks.md; without one they are sought under
    `$PIPELINE_DATA`, then on the hub. `limit`: at most so many questions, at even distances over the whole
    set, so over all MMLU subjects in proportion to their size. `shots`: example questions before each one,
    of the same subject (MMLU only).
    """
    task = benchmark(name)
    documents, examples = load_documents(name, folder=folder, limit=limit, shots=shots)
    asked = []
    for document in documents:
        try:
            asked.append(task.ask(document, examples.get(document.group, ())))
        except ValueError as error:
            raise UserError(f"benchmark {name}, question {document.id}: {error}") from None
    return asked


def load_documents(
    name: str, *, folder: str | None = None, limit: int | None = None, shots: int = 0
) -> tuple[list[Document], dict[str, list[Document]]]:
    """The questions before they become prompts, and the examples of each group."""
    task = benchmark(name)
    if shots and task.shots is None:
        raise UserError(f"benchmark {name} has no example questions here; set its shots to 0, not {shots}")
    if not 0 <= shots <= MOST_SHOTS:
        raise UserError(f"benchmark {name}: shots must be between 0 and {MOST_SHOTS}, found {shots}")
    documents = spread(_documents(name, task, task.local, task.hub[2], folder), limit)
    examples: dict[str, list[Document]] = {}
    if shots and task.shots is not None:
        local, hub = task.shots
        for document in _documents(name, task, (local,), hub, folder):
            examples.setdefault(document.group, []).append(document)
        for group in {document.group for document in documents}:
            if len(examples.get(group, [])) < shots:
                raise UserError(
                    f"benchmark {name}: expected at least {shots} example questions of {group!r}, found "
                    f"{len(examples.get(group, []))}. Lower the shots or complete {local}."
                )
    return documents, {group: rows[:shots] for group, rows in examples.items()}


def spread(documents: list[Document], limit: int | None) -> list[Document]:
    """At most `limit` documents at even distances; documents of one group first moved together."""
    if limit is not None and limit < 1:
        raise UserError(f"the limit of questions must be at least 1, found {limit}")
    first_seen: dict[str, int] = {}
    for document in documents:
        first_seen.setdefault(document.group, len(first_seen))
    ordered = sorted(documents, key=lambda document: first_seen[document.group])
    if limit is None or limit >= len(ordered):
        return ordered
    return [ordered[(2 * k + 1) * len(ordered) // (2 * limit)] for k in range(limit)]


def _documents(
    name: str, task: Task, local: Sequence[str], hub_path: str, folder: str | None
) -> list[Document]:
    path = _local_file(name, local, folder)
    if path is not None:
        rows = _rows(path)
        reader = task.read_local
    else:
        path = hub_file(task.hub[0], task.hub[1], hub_path)
        rows = _rows(path)
        reader = task.read_hub
        if task.metric == "perplexity":
            rows = [{"page": page} for page in wikitext_pages(wikitext_of_lines(rows))]
    if not rows:
        raise UserError(f"{path}: expected questions of benchmark {name}, found none")
    documents = []
    for number, row in enumerate(rows):
        try:
            documents.append(reader(number, name, row))
        except KeyError as error:
            raise UserError(
                f"{path}, row {number + 1}: no field {error} as benchmark {name} needs; it has "
                f"{listed(row, 20)}. docs/benchmarks.md shows the format."
            ) from None
        except (ValueError, TypeError, AttributeError) as error:
            raise UserError(f"{path}, row {number + 1}: {error}") from None
    return documents


def _local_file(name: str, local: Sequence[str], folder: str | None) -> Path | None:
    """The file under `folder` (it must be there) or `$PIPELINE_DATA` (it may be)."""
    shared = os.environ.get("PIPELINE_DATA")
    if folder is None and not shared:
        return None
    root = Path(str(shared)) if folder is None else expanded_folder(folder)
    if found := _first_of(root, local):
        return found
    if folder is None:
        return None
    instead = ""
    if name == "boolq":
        instead = " For questions without a passage take the benchmark boolq_closed_book."
    raise UserError(
        f"benchmark {name}: expected {' or '.join(local)} in {root}, found nothing of the name.{instead} "
        "Leave the folder out to download the data from the hub."
    )


def _first_of(root: Path, local: Sequence[str]) -> Path | None:
    return next((root / file for file in local if (root / file).is_file()), None)


def files_at_hand(names: Sequence[str], folder: str | None, shots: int) -> dict[str, Path]:
    """The files of these benchmarks on this machine by their names there, as `load_benchmark` finds them."""
    try:
        root = expanded_folder(folder) if folder is not None else Path(os.environ["PIPELINE_DATA"])
    except (UserError, KeyError):
        return {}
    tasks = [benchmark(name) for name in names]
    wanted = [task.local for task in tasks]
    wanted += [(task.shots[0],) for task in tasks if shots and task.shots is not None]
    found = [path for local in wanted if (path := _first_of(root, local))]
    return {path.relative_to(root).as_posix(): path for path in found}


def _rows(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".txt":
        return [{"page": page} for page in wikitext_pages(read_text(path))]
    return [row.fields for row in read_table(path)]
