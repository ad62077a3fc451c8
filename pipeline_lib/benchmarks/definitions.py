"""Task definitions of the installed lm-evaluation-harness by name, read without running them.

Its own index of all its files takes up to half a minute; one task's folder takes milliseconds. A definition
may name functions, which are Python files beside it in the package; none is read from anywhere else.
"""

from __future__ import annotations

import importlib.util
import logging
import re
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from pipeline_lib.benchmarks.data import Asked, examples, local_splits, questions
from pipeline_lib.benchmarks.generation_settings import wanted
from pipeline_lib.benchmarks.tasks import TASKS
from pipeline_lib.core.errors import UserError
from pipeline_lib.core.redaction import listed

METRICS = {"acc", "exact_match", "word_perplexity"}  # what a row can be made of
_NAME = re.compile(rb"^[\"']?(?:task|group)[\"']?:[ \t]*[\"']?([\w.+-]+)[\"']?[ \t]*\r?$", re.MULTILINE)


@cache
def _folders() -> dict[str, Path]:
    """Task or group -> the folder of the package that holds its definition."""
    spec = importlib.util.find_spec("lm_eval")
    root = Path((spec.submodule_search_locations or [""] if spec else [""])[0]) / "tasks"
    found: dict[str, Path] = {}
    for path in sorted(root.rglob("*.yaml")):
        for name in _NAME.findall(path.read_bytes()):
            found.setdefault(name.decode(), path.parent)
    return found


def manager(name: str):
    """lm-eval's `TaskManager` with the folder of one task."""
    if name not in _folders():
        near = get_close_matches(name, [*TASKS, *_folders()], n=1, cutoff=0.0)
        raise UserError(f"lm-evaluation-harness has no task {name!r}; did you mean {near[0]!r}?")
    return _manager(_folders()[name])


@cache
def _manager(folder: Path):
    import datasets
    from lm_eval.tasks import TaskManager  # takes two seconds to import

    datasets.disable_progress_bars()
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    return TaskManager(include_defaults=False, include_path=folder)


def definition(name: str) -> dict[str, Any]:
    """The settings of a task as lm-eval's file gives them; `UserError` for one that cannot be asked here."""
    settings = manager(name).task_index[name].cfg
    if "group" in settings:
        members = map(str, settings["task"])
        raise UserError(
            f"{name!r} is a group of lm-evaluation-harness; name its tasks: {listed(members, 10)}"
        )
    for field, why in (
        ("class", "is a program of its own"),
        ("custom_dataset", "makes its data by a program"),
        ("unsafe_code", "runs what the model writes"),
    ):
        if settings.get(field):
            raise UserError(
                f"lm-evaluation-harness's task {name!r} {why}, which is not supported; leave it out"
            )
    metrics = [metric["metric"] for metric in settings.get("metric_list") or []]
    if metrics and not METRICS & set(metrics):
        raise UserError(
            f"lm-evaluation-harness's task {name!r} measures {', '.join(metrics)}; supported are tasks that "
            f"measure one of {', '.join(sorted(METRICS))}"
        )
    if settings.get("output_type") == "generate_until":
        wanted(settings.get("generation_kwargs") or {})
    return settings


def check_data(name: str, asked: Asked) -> None:
    """Raises `UserError` where a benchmark is not known, or its data are unfit or cannot be had."""
    if name in TASKS:
        subjects = {row.get("subject", "") for row in questions(name, asked.folder)}
        examples(name, asked.folder, asked.mmlu_shots, subjects)
    else:
        check_source(name, asked.lm_eval[name], asked.folder)


def check_source(name: str, revision: str | None, folder: str | None) -> list[str]:
    """The splits that a task needs, first the one that is judged; `UserError` where its data cannot be had.

    They are local files, or those of a commit of its data set on the hub.
    """
    settings = definition(name)
    splits = {key: settings.get(f"{key}_split") for key in ("test", "validation", "fewshot", "training")}
    needed = [splits["test"] or splits["validation"]]
    if settings.get("num_fewshot"):
        needed.append(splits["fewshot"] or splits["training"] or splits["validation"] or splits["test"])
    files = local_splits(name, folder)
    missing = [f"lm_eval/{name}/{split}.jsonl (or .parquet)" for split in needed if split not in files]
    if missing and (files or revision is None):
        raise UserError(
            f"the data of lm-evaluation-harness's task {name!r}: expected {' and '.join(missing)} in the "
            f"folder of data, or a commit of its data set {settings.get('dataset_path')} on the hub"
        )
    return needed + [split for split in splits.values() if split and split not in needed]
