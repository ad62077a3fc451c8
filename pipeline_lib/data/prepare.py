"""One task of a suite to its folder: a JSON Lines file a split, the refusals, and a manifest of all of it."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipeline_lib.data import fictitious, own_files, tofu
from pipeline_lib.data.records import Record, read_records, write_records
from pipeline_lib.data.refusals import refusals
from pipeline_lib.data.splits import Task, check_task
from pipeline_lib.errors import UserError
from pipeline_lib.files import atomic_path, sha256, write_json

# name in the suite -> function whose keyword arguments are the source's settings
SOURCES: dict[str, Callable[..., Task]] = {
    "fictitious": fictitious.load,
    "tofu": tofu.load,
    "files": own_files.load,
}


def prepare_task(settings: dict[str, Any], out_dir: Path | str) -> dict[str, Any]:
    """Write the folder of a task and return its manifest; `settings` names the source and its settings.

    The folder appears whole or not at all. An old one is replaced.
    """
    task = load_task(settings)
    check_task(task)
    with atomic_path(out_dir) as folder:
        folder.mkdir()
        described = {}
        for name, records in task.splits.items():
            path = folder / f"{name}.jsonl"
            write_records(path, records)
            groups = len({record.group for record in records})
            described[name] = {"n": len(records), "groups": groups, "sha256": sha256(path)}
        write_json(folder / "refusals.json", refusals())
        manifest = {
            "source": settings["source"],
            "settings": settings,
            "origin": task.origin,
            "splits": described,
            "refusals": {"n": len(refusals()), "sha256": sha256(folder / "refusals.json")},
            "finetune": task.finetune,
            "evaluate": task.evaluate,
            "utility": task.utility,
            "multiple_choice": task.multiple_choice,
            "likelihood_only": [] if task.holdout is None else [task.holdout],
            "membership": None if task.holdout is None else {"members": "forget", "nonmembers": task.holdout},
        }
        write_json(folder / "manifest.json", manifest)
    return manifest


def load_task(settings: dict[str, Any]) -> Task:
    """The records of a task, before any check that spans its splits."""
    source = settings.get("source")
    if source not in SOURCES:
        raise UserError(f"source: expected one of {', '.join(SOURCES)}, found {source!r}")
    allowed = inspect.signature(SOURCES[source]).parameters
    given = {name: value for name, value in settings.items() if name != "source"}
    for name in given:
        if name not in allowed:
            near = difflib.get_close_matches(name, allowed, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UserError(f"source {source}: no setting {name!r}; allowed: {', '.join(allowed)}{hint}")
    for name, parameter in allowed.items():
        if parameter.default is inspect.Parameter.empty and name not in given:
            raise UserError(f"source {source}: the setting {name!r} is missing")
    return SOURCES[source](**given)


def load_splits(data_dir: Path | str, names: Sequence[str]) -> dict[str, list[Record]]:
    """Read splits that `prepare_task` wrote."""
    folder = Path(data_dir)
    if not (folder / "manifest.json").is_file():
        raise UserError(
            f"{folder}: expected a folder of prepared data with a manifest.json; prepare the data first"
        )
    present = sorted(path.stem for path in folder.glob("*.jsonl"))
    for name in names:
        if name not in present:
            raise UserError(f"{folder}: no split {name!r}; it has {', '.join(present)}")
    return {name: read_records(folder / f"{name}.jsonl") for name in names}
