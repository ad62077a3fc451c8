"""Benchmark questions from local files or, at a pinned commit, from the hub, in the hub's columns."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline_lib.benchmarks.tasks import TASKS, Row, wikitext_of_lines, wikitext_pages
from pipeline_lib.core.errors import UserError
from pipeline_lib.core.locate import expanded_folder, hub_file
from pipeline_lib.core.redaction import listed
from pipeline_lib.data.table_files import read_table
from pipeline_lib.data.texts import read_text

MOST_SHOTS = 5  # example questions of an MMLU subject
FORMS = (".jsonl", ".parquet")  # of the files below `lm_eval/`


@dataclass(frozen=True)
class Asked:
    """What a suite's block `evaluation.benchmarks` says.

    `tasks`: names in `TASKS`; `lm_eval`: other tasks of lm-eval -> commit of the data set on the hub, or None
    for local files. `limit`: at most so many questions a task. `folder` holds the files in the layout of
    docs/benchmarks.md; without one they are sought under `$PIPELINE_DATA`, then on the hub. `mmlu_shots`:
    example questions before each of MMLU's, of the same subject.
    """

    tasks: Sequence[str]
    lm_eval: Mapping[str, str | None]
    limit: int | None
    mmlu_shots: int
    folder: str | None


def questions(name: str, folder: str | None) -> list[Row]:
    """The rows of a task of `TASKS`."""
    return _read(name, TASKS[name].local, TASKS[name].hub[2], folder)


def examples(name: str, folder: str | None, shots: int, subjects: set[str]) -> dict[str, list[Row]]:
    """The first example questions of these subjects; none where none are asked for or the task has none."""
    files = TASKS[name].shots
    if not shots or files is None:
        return {}
    found: dict[str, list[Row]] = {}
    for row in _read(name, files[:1], files[1], folder):
        found.setdefault(row["subject"], []).append(row)
    for subject in sorted(subjects):
        if len(found.get(subject, [])) < shots:
            raise UserError(
                f"benchmark {name}: expected at least {shots} example questions of {subject!r}, found "
                f"{len(found.get(subject, []))}. Lower the shots or complete {files[0]}."
            )
    return {subject: rows[:shots] for subject, rows in found.items()}


def spread(count: int, limit: int | None) -> list[int]:
    """At most `limit` of the numbers below `count`, at even distances."""
    if limit is None or limit >= count:
        return list(range(count))
    return [(2 * k + 1) * count // (2 * limit) for k in range(limit)]


def _read(name: str, local: Sequence[str], hub_path: str, folder: str | None) -> list[Row]:
    task = TASKS[name]
    here = _local_file(name, local, folder)
    path = here or hub_file(*task.hub[:2], hub_path)
    found = [] if path.suffix == ".txt" else [row.fields for row in read_table(path)]
    if name == "wikitext":
        text = wikitext_of_lines(found) if found else read_text(path)
        found = [{"page": page} for page in wikitext_pages(text)]
    if not found:
        raise UserError(f"{path}: expected questions of benchmark {name}, found none")
    rows = []
    for number, row in enumerate(found):
        try:
            rows.append(task.columns(row) if here else row)
            task.question(rows[-1]).check()
        except KeyError as error:
            raise UserError(
                f"{path}, row {number + 1}: no field {error} as benchmark {name} needs; it has "
                f"{listed(row, 20)}. docs/benchmarks.md shows the format."
            ) from None
        except (ValueError, TypeError, AttributeError) as error:
            raise UserError(f"{path}, row {number + 1}: {error}") from None
    return rows


def _local_file(name: str, local: Sequence[str], folder: str | None) -> Path | None:
    """The file under `folder`, where it must be, or under `$PIPELINE_DATA`, where it may be."""
    root = _root(folder)
    found = root and _first_of(root, local)
    if found is not None or folder is None:
        return found
    closed = " For questions without a passage take the benchmark boolq_closed_book."
    instead = closed if name == "boolq" else ""
    raise UserError(
        f"benchmark {name}: expected {' or '.join(local)} in {root}, found nothing of the name.{instead} "
        "Leave the folder out to download the data from the hub."
    )


def _root(folder: str | None) -> Path | None:
    shared = os.environ.get("PIPELINE_DATA")
    if folder is None:
        return Path(shared) if shared else None
    return expanded_folder(folder)


def _first_of(root: Path, local: Sequence[str]) -> Path | None:
    return next((root / file for file in local if (root / file).is_file()), None)


def local_splits(name: str, folder: str | None) -> dict[str, Path]:
    """Split -> file of a further task of lm-eval, in the folder `lm_eval/TASK`."""
    root = _root(folder)
    files = [] if root is None else sorted((root / "lm_eval" / name).glob("*"))
    return {path.stem: path for path in files if path.suffix in FORMS}


def files_at_hand(asked: Asked) -> dict[str, Path]:
    """The files of these benchmarks on this machine, by their names below the folder of data."""
    with suppress(UserError):
        if root := _root(asked.folder):
            tasks = [TASKS[name] for name in asked.tasks]
            wanted = [task.local for task in tasks]
            wanted += [task.shots[:1] for task in tasks if task.shots and asked.mmlu_shots]
            found = [path for local in wanted if (path := _first_of(root, local))]
            found += [path for name in asked.lm_eval for path in local_splits(name, asked.folder).values()]
            return {path.relative_to(root).as_posix(): path for path in found}
    return {}
