"""Your own data: one JSON Lines file a split, in the form of `Record` (see `records.py`)."""

from __future__ import annotations

from pipeline_lib.data.locate import expanded_folder
from pipeline_lib.data.records import read_records
from pipeline_lib.data.splits import Task, evaluated_part
from pipeline_lib.untrusted import inside


def load(
    *,
    folder: str,
    forget: str = "forget.jsonl",
    retain: str = "retain.jsonl",
    facts: str | None = None,
    holdout: str | None = None,
) -> Task:
    """The task `files`: `forget`, `retain`, `facts` and `holdout` are file names inside `folder`.

    Facts, if given, are learned with the rest and judged as multiple choice. Of a retain set in which
    only some records have distractors, these are the ones that are evaluated.
    """
    root = expanded_folder(folder)
    splits = {
        "forget": read_records(inside(root, forget)),
        **evaluated_part("retain", read_records(inside(root, retain))),
    }
    judged = ["retain_eval" if "retain_eval" in splits else "retain"]
    learned = ["retain"]
    options = []
    if facts is not None:
        splits["facts"] = read_records(inside(root, facts))
        judged.append("facts")
        learned.append("facts")
        options.append("facts")
    unseen = []
    if holdout is not None:
        splits["holdout"] = read_records(inside(root, holdout))
        unseen.append("holdout")
    return Task(
        origin=str(root),
        splits=splits,
        finetune={"target": ["forget", *learned], "retrained": learned},
        evaluate=["forget", *judged, *unseen],
        utility=judged,
        multiple_choice=options,
        holdout=unseen[0] if unseen else None,
    )
