"""Facts about how runs were made, and a check that runs reported together agree in them.

Seeds may differ by chance alone; only then does their mean say anything. All runs of a task must share their
data, those of one model also the base model and what `compute: auto` became, and the seeds of a row also
settings and code. A model must come from the parents that the study holds now. A fact that no run states is
not compared.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.grouping import grouped
from pipeline_lib.core.runs import NO_OPTIMIZER, RunKey, key_of

SETTINGS = ("objective", "optimizer_settings", "training", "model_settings", "stage")
SCORED = "code that scored it"
MOST = 12  # the largest number of differences in a message

Group = tuple[Any, ...]  # the runs that must agree on a fact


class Facts(TypedDict, total=False):
    """What a run was made of, as metrics.json has it; digests, or None where they are not known."""

    base: str | None
    data: dict[str, str] | None
    settings: dict[str, str]
    auto: str | None  # what `compute: auto` became
    code: str | None
    parents: dict[str, str | None]
    weights: str | None
    at: str | None  # when it was made
    scored_by: str  # the code that made its scores


@dataclass(frozen=True)
class Made:
    """One run, its facts (see `made_of`), and the files to make again to train and score it."""

    key: RunKey
    facts: Facts
    training: Path
    scores: Path | None = None

    @property
    def name(self) -> str:
        return self.key.folder


def made_of(run: Mapping[str, Any]) -> Facts:
    """The facts in the content of run.json."""
    origin = run.get("origin") or {}
    digests = origin.get("sha256")  # the same weights are the same model, from the hub or from a folder
    base = {"weights": sorted(digests.values())} if digests else {"kind": origin.get("kind")}
    return {
        "base": _short({**base, "inputs": run.get("inputs") or {}}) if origin else None,
        "data": run.get("data"),
        "settings": {name: _short(run[name]) for name in SETTINGS if name in run},
        "auto": run.get("auto"),
        "code": run.get("code"),
        "parents": _parents(run),
        "weights": run.get("weights_sha256"),
        "at": run.get("made_at"),
    }


def check_alike(runs: Iterable[Made]) -> None:
    """`UserError` that names every difference between runs that a report takes together, and the cure."""
    if found := differences(runs):
        raise UserError(
            "runs that were not made of the same cannot stand in one table:\n"
            f"{listed(found)}\nMake the older ones again, with the study's own --configfile:\n"
            f"  {made_alike(found)}"
        )


class Found(NamedTuple):
    """A difference: what is said, the run to make again (or only to score), and the one it differs from."""

    said: str
    run: Made
    other: Made
    scored: bool


def differences(runs: Iterable[Made]) -> list[Found]:
    """Every difference between runs that a report takes together."""
    made = sorted(runs, key=lambda run: (run.facts.get("at") or "", run.name))
    return _different(made) + _foreign_parents(made)


def listed(found: Iterable[Found]) -> str:
    """A line for each difference, as many as a message holds."""
    lines = list(dict.fromkeys(difference.said for difference in found))
    more = [f"  and {len(lines) - MOST} more differences"] if len(lines) > MOST else []
    return "\n".join([*(f"  {line}" for line in lines[:MOST]), *more])


def made_alike(found: Iterable[Found]) -> str:
    """The command that makes the older runs of these differences again."""
    found = list(found)
    again = {run.key: run for _, run, _, scored in found if not scored}
    names = {run.name for run in again.values()}
    # Snakemake makes the descendants of a remade model again by itself.
    first = [run for run in again.values() if names.isdisjoint(run.facts.get("parents") or {})]
    files = [str(run.training) for run in first]
    files += [str(run.scores) for _, run, _, scored in found if scored and run.key not in again]
    return f"snakemake --forcerun {' '.join(dict.fromkeys(files))}"


def _different(made: list[Made]) -> list[Found]:
    """`made` is in order of time; each run is compared with the newest one that states a fact."""
    groups = grouped(((what, group), (run, value)) for run in made for what, group, value in _compared(run))
    found = []
    for (what, _), members in groups.items():
        known = [(run, value) for run, value in members if value is not None]
        for run, value in members:
            if known and value != known[-1][1]:
                newest, right = known[-1]
                line = f"{run.name}: {what} {value or 'not noted'}, but {right} in {newest.name}"
                found.append(Found(line, run, newest, what == SCORED))
    return found


def _compared(run: Made) -> list[tuple[str, Group, str | None]]:
    """(what, the group that must agree on it, its value) for each fact of a run."""
    facts = run.facts
    task, model, row = run.key.task, run.key.model, run.key.row
    return [
        *((f"data of {split}", (task,), digest[:12]) for split, digest in (facts.get("data") or {}).items()),
        ("base model", (task, model), facts.get("base")),
        *((name.replace("_", " "), row, value) for name, value in (facts.get("settings") or {}).items()),
        ("code", row, facts.get("code")),
        # The suite asked for no difference between rows, so none is compared as if it were the method's.
        *([("`compute: auto` is", (task, model), facts["auto"])] if facts.get("auto") else []),
        # A row that is asked for many answers has metrics that others lack, and so the code of these.
        *([(SCORED, (task, run.key.after), facts.get("scored_by"))] if run.scores is not None else []),
    ]


def _foreign_parents(made: list[Made]) -> list[Found]:
    there = {run.name: run for run in made}
    return [
        Found(
            f"{run.name}: made from weights {parent[:12]}, but {name} has {now[:12]}", run, there[name], False
        )
        for run in made
        for name, parent in (run.facts.get("parents") or {}).items()
        if parent and name in there and (now := there[name].facts.get("weights")) and parent != now
    ]


def _parents(run: Mapping[str, Any]) -> dict[str, str | None]:
    """The run's parent models, by folder, with the hash of their weights."""
    if "parents" in run or not run.get("parent"):
        return dict(run.get("parents") or {})
    return {key_of(run)._replace(method="original", optimizer=NO_OPTIMIZER).folder: run["parent"]}


def _short(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:12]
