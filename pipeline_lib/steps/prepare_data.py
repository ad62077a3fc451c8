"""Step: write the folder of one task: a JSON Lines file for each split, the refusals, and a manifest."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from pipeline_lib.core.files import atomic_path, sha256, write_json
from pipeline_lib.data.doubts import doubts_of
from pipeline_lib.data.overlap import check_overlap, measure_overlap
from pipeline_lib.data.records import write_records
from pipeline_lib.data.refusals import refusals
from pipeline_lib.data.splits import check_task
from pipeline_lib.steps.job import Job
from pipeline_lib.tasks import task_settings
from pipeline_lib.tasks.loading import load_task


def run(job: Job) -> None:
    """Write the folder of the output `manifest` from the settings `task`."""
    prepare_task(job.settings["task"], job.output("manifest").parent)


def prepare_task(settings: dict[str, Any], out_dir: Path | str) -> dict[str, Any]:
    """Write the folder of a task and return its manifest; `settings` names the source and its settings.

    The folder appears whole or not at all. An old one is replaced. A task is refused if more of its forget
    set also stands in the retain set than its `max_overlap` allows (see data/overlap.py).
    """
    chosen = task_settings(settings)
    task = load_task(chosen)
    check_task(task)
    forget = task.splits["forget"]
    compared = ["retain", *([] if task.holdout is None else [task.holdout])]
    overlaps = {name: measure_overlap(forget, task.splits[name]) for name in compared}
    check_overlap(overlaps["retain"], chosen.max_overlap)
    doubts = doubts_of(task.splits)
    for line in (*task.notes, *(f"warning: {doubt}" for doubt in doubts)):
        print(line, file=sys.stderr)
    with atomic_path(out_dir) as folder:
        folder.mkdir()
        described = {}
        for name, records in task.splits.items():
            path = folder / f"{name}.jsonl"
            write_records(path, records)
            described[name] = {
                "n": len(records),
                "groups": len({record.group for record in records}),
                "sha256": sha256(path),
            }
        write_json(folder / "refusals.json", refusals())
        manifest = {
            "source": settings["source"],
            "settings": chosen.data_settings(),
            "origin": task.origin,
            "splits": described,
            "refusals": {"n": len(refusals()), "sha256": sha256(folder / "refusals.json")},
            "finetune": task.finetune,
            "evaluate": task.evaluate,
            "utility": task.utility,
            "multiple_choice": task.multiple_choice,
            "preference": list(task.preference),
            "headline": {side: list(map(list, metrics)) for side, metrics in task.judged_by().items()},
            "likelihood_only": [] if task.holdout is None else [task.holdout],
            "membership": None if task.holdout is None else {"members": "forget", "nonmembers": task.holdout},
            "notes": list(task.notes),
            "warnings": doubts,
            "overlap": {name: overlap.described() for name, overlap in overlaps.items()},
        }
        write_json(folder / "manifest.json", manifest)
    return manifest
