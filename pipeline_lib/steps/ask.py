"""Step: the facts of a model that is asked in another way: those of its parent, which it is."""

from __future__ import annotations

from datetime import UTC, datetime

from pipeline_lib.core.files import read_object, write_json, write_jsonl
from pipeline_lib.core.provenance import git_commit, versions
from pipeline_lib.core.runs import key_of
from pipeline_lib.stages.base import name_of
from pipeline_lib.steps.job import Job

_KEPT = (
    "status",
    "diverged_step",
    "weights_sha256",
    "origin",
    "inputs",
    "parameters",
    "base",
)  # of the model


def run(job: Job) -> None:
    """Write run.json of the row, and an empty log: nothing is trained. Settings: `stage`."""
    path = job.input("parent")
    parent = read_object(path, "status", "weights_sha256")
    of = name_of(key_of(parent).row)
    spent = dict.fromkeys(("steps", "train_time_s", "wall_time_s", "peak_memory_mb", "trained_parameters"), 0)
    facts = {
        **{name: parent[name] for name in _KEPT if name in parent},
        **job.identity,
        **spent,
        "stage": {**job.settings["stage"], "of": [of]},
        "objective": {"kind": "none"},
        "optimizer_settings": {"kind": "none"},
        "training": {},
        "data": {},
        "parents": {"/".join(path.parent.parts[-5:]): parent["weights_sha256"]},
        "processes": 1,
        "device": "cpu",
        "threads": job.threads,
        "versions": versions(),
        "git_commit": git_commit(),
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "code": job.code,
    }
    write_jsonl(job.output("run").parent / "steps.jsonl", [])
    write_json(job.output("run"), facts)
