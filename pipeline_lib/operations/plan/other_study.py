"""Refuses a results folder that belongs to another study, or that an earlier version wrote."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from pipeline_lib.core.blocks.messages import show
from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import read_object
from pipeline_lib.core.redaction import listed
from pipeline_lib.study import Suite, load_suite


def check_same_study(suite: Suite, out: Path) -> None:
    """Raise `UserError` where `out` holds models of a suite that shares no task or no model with this one.

    A task or model is shared if it has the same label and the same kind of `source`. Any other change is a
    change of the same study, after which the jobs that depend on it run again. A folder without a finished
    model holds nothing that could be mixed.
    """
    there = _read(out / "suite.yaml")
    run = next(out.glob("training/*/*/*/*/seed*/run.json"), None)
    if there is None or run is None:
        return
    if "request" not in read_object(run):
        raise UserError(
            f"{out} was made by a former version of this project, which names models and records settings in "
            "another way, so that every job would run again into files of the other version. Keep it under "
            f"another name (mv {out} {out}-before): its report, tables and metrics.csv stay readable, and "
            "this version then makes the study anew. To go on with the old results, use the commit that is "
            f"named in {run}."
        )
    here = suite.resolved()
    lines = []
    for family in ("tasks", "models"):
        old, new = _kinds(there.get(family)), _kinds(here[family])
        if old and not old & new:
            lines.append(
                f"  {family}: found {listed(sorted(old))} in the folder, and {listed(sorted(new))} in "
                "this suite"
            )
    if lines:
        raise UserError(
            f"{out} belongs to another study, which has the same name:\n" + "\n".join(lines) + "\n"
            f"Give this suite a name of its own (`suite: {suite.suite}-2`), or keep the other's results "
            f"under another name first (mv {out} {out}-before)."
        )


def check_unchanged(suite: Suite, out: Path) -> None:
    """Raise `UserError` where a suite of other settings made `out`, of which Snakemake has no records.

    Without records nothing that lies there is made again, so a changed suite would keep old tables beside
    new models. Resources and tracking may differ.
    """
    kept = out / "suite.yaml"
    there, here = ({**s.resolved(), "resources": None} for s in (load_suite(kept, kept=True), suite))
    if first := list(islice(_lines(there, here), 3)):
        raise UserError(
            f"{out} lies here without Snakemake's records, by which jobs run again, and the suite that made "
            "it differs from this one, first in\n" + "\n".join(first) + "\n"
            "Fetch the folder .snakemake/metadata too from where the study ran, give this suite a name of "
            f"its own (`suite: {suite.suite}-2`), or run the folder's suite (--configfile {kept})."
        )


def _lines(there: Any, here: Any) -> Iterator[str]:
    for path, old, new in differences(there, here):
        yield f"  {path}: found {show(old)} in the folder, and {show(new)} in this suite"


def differences(there: Any, here: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """The path of each plain value that differs, with both values."""
    old, new = (dict(enumerate(value)) if isinstance(value, list) else value for value in (there, here))
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in {**old, **new}:
            yield from differences(old.get(key), new.get(key), f"{path}.{key}" if path else str(key))
    elif there != here:
        yield path, there, here


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError):  # none yet, or being written
        return None
    return found if isinstance(found, dict) else None


def _kinds(blocks: Any) -> set[str]:
    """The labels of models or tasks with their sources; `blocks` comes from a file."""
    return {
        f"{label} ({block.get('source')})"
        for label, block in (blocks.items() if isinstance(blocks, Mapping) else ())
        if isinstance(block, Mapping)
    }
