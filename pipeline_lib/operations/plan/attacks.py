"""Stages before any job starts: whether what they learn or ask fits the data by which they are judged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.redaction import listed
from pipeline_lib.data.asked import Way, read_phrasings, ways_of
from pipeline_lib.data.overlap import WORDS, measure_overlap
from pipeline_lib.data.records import Record
from pipeline_lib.data.splits import Task, of_first_groups
from pipeline_lib.operations.plan.local_data import Look
from pipeline_lib.stages.ask import Ask
from pipeline_lib.study.draws import parted
from pipeline_lib.study.stages import StagedRow, applied

if TYPE_CHECKING:
    from pipeline_lib.study.suite import Suite


def look_at_stages(look: Look, suite: Suite) -> None:
    """Check every stage against the data of `look.tasks`; phrasings in files are read once."""
    read: set[str] = set()
    for label, stage in suite.stages.items():
        if isinstance(stage, Ask) and stage.questions_file is not None:
            where = f"stages.{label}.questions_file"
            if look.attempt(where, where, read_phrasings, stage.questions_file)[0]:
                read.add(label)
    rows = applied(suite.stages, suite.rows())[0]
    for label, task in dict.fromkeys((row.label, row.key.task) for row in rows):
        stage, data = suite.stages[label], look.tasks.get(task)
        if data is None:
            continue
        if isinstance(stage, Ask):
            known = stage.questions_file is None or label in read
            faults = list(_unasked(stage, data)) if known else []
            if (soft := stage.soft_prompt) is not None:
                # Random targets teach nothing by which the stage is judged.
                largest = suite.tasks[task].max_overlap if soft.targets == "answers" else 1.0
                faults += _injected(soft.groups, data.splits["forget"], data, "forget", largest)
            look.faults += [(f"stages.{label}", f"on the task {task!r}: {fault}") for fault in faults]
        elif stage.training() is not None and (learned := look.tasks.get(stage.data_of(task))) is not None:
            largest = suite.tasks[task].max_overlap
            for split in stage.splits():
                for fault in _injected(stage.first_groups(), learned.splits[split], data, split, largest):
                    look.faults.append((f"stages.{label}", f"on the task {task!r}: {fault}"))


def _unasked(stage: Ask, task: Task) -> Iterator[str]:
    ways = ways_of(stage.settings())
    forget = task.splits["forget"]
    if not all(way == Way() or way.of(forget) != forget for way in ways):
        yield (
            "asking in this way changes no forget question: they are running text, have no paraphrase, or no "
            "other question of their group; name the tasks that the stage is for (`tasks`)"
        )


def _injected(
    groups: float | None, records: list[Record], judged: Task, split: str, largest: float
) -> Iterator[str]:
    """Data that hold the answers by which the stage is judged: they would be taught, not recovered."""
    forget = judged.splits["forget"]
    try:
        learned = records if groups is None else of_first_groups(records, groups, split)
    except UserError as error:
        yield str(error)
        return
    taught = {record.group for record in learned} if records == forget else set()
    judges = forget if groups is None else [record for record in forget if record.group not in taught]
    found = measure_overlap(judges, learned)
    if found.share > largest:
        named = listed([f"{record} ({share:.0%})" for record, share in found.records])
        yield (
            f"what it learns holds {found.share:.1%} of the forget answers that judge it, counted in runs of "
            f"{WORDS} words: {named}. That would teach the answers, not bring them back. Learn a part of the "
            "forget set (`groups`) or other data"
        )


def soft_tokens(suite: Suite, label: str) -> int:
    """Tokens that the stage of this label puts into each prompt besides text; 0 for "", which is no stage."""
    stage = suite.stages.get(label)
    return stage.soft_tokens() if isinstance(stage, Ask) else 0


def asked_otherwise(
    suite: Suite, task: str, model: str, judged: Mapping[str, list[Record]]
) -> dict[str, list[Record]]:
    """Stage -> the evaluated questions of a task as it asks them, with all that comes before an answer."""
    found: dict[str, list[Record]] = {}
    for row in applied(suite.stages, suite.rows())[0]:
        if isinstance(row.stage, Ask) and row.label not in found and row.key[:2] == (parted(task)[0], model):
            found[row.label] = list(_whole(row, judged))
    return found


def _whole(row: StagedRow, judged: Mapping[str, list[Record]]) -> Iterator[Record]:
    settings = row.stage.settings()
    before = f"{settings['instruction']}\n\n" if settings["instruction"] else ""
    try:
        ways = ways_of(settings)
    except UserError:
        return  # which is a fault of its own
    for way in ways:
        for records in judged.values():
            for record in way.of(records):
                begun = f" {record.opening}" if record.opening else ""
                yield replace(record, prompt=f"{before}{record.prompt}{begun}", opening="")
