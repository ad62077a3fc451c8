"""Your own data: one file of records a split (see data/own_records.py for what a file may be)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline_lib.core.locate import expanded_folder
from pipeline_lib.core.untrusted import inside
from pipeline_lib.data.own_records import read_own_records
from pipeline_lib.data.records import Record
from pipeline_lib.data.splits import Task, evaluated_part


def load(
    *,
    folder: str,
    forget: str = "forget.jsonl",
    retain: str = "retain.jsonl",
    facts: str | None = None,
    holdout: str | None = None,
    fields: Mapping[str, Sequence[str] | None] | None = None,
) -> Task:
    """The task `files`: `forget`, `retain`, `facts` and `holdout` are file names inside `folder`.

    `fields` says what fields of the files mean that have other names than those of `Record`.
    Facts, if given, are learned with the rest and judged as multiple choice. Of a retain set in which
    only some records have distractors, these are the ones that are evaluated.
    """
    root = expanded_folder(folder)
    named = {meant: names for meant, names in (fields or {}).items() if names}
    notes: list[str] = []

    def records(name: str) -> list[Record]:
        found, said = read_own_records(inside(root, name), named)
        notes.extend(said)
        return found

    splits = {"forget": records(forget), **evaluated_part("retain", records(retain))}
    judged = ["retain_eval" if "retain_eval" in splits else "retain"]
    learned = ["retain"]
    options = []
    if facts is not None:
        splits["facts"] = records(facts)
        judged.append("facts")
        learned.append("facts")
        options.append("facts")
    unseen = []
    if holdout is not None:
        splits["holdout"] = records(holdout)
        unseen.append("holdout")
    return Task(
        origin=str(root),
        splits=splits,
        finetune={"target": ["forget", *learned], "retrained": learned},
        evaluate=["forget", *judged, *unseen],
        utility=judged,
        multiple_choice=options,
        holdout=unseen[0] if unseen else None,
        notes=tuple(notes),
    )
