"""The files that tables, figures and the report read, found by their names in one flat list of paths.

The folder of a file says which run it belongs to:
`.../<task>/<model>/<method>/<optimizer>/seed<N>/<file>`; a task's manifest is `.../<task>/manifest.json`.
metrics.csv and costs.csv may come whole or as one file for each task.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import read_json, read_jsonl, read_object, run_again
from pipeline_lib.core.grouping import grouped
from pipeline_lib.core.json_text import decoded
from pipeline_lib.core.runs import (
    ANCHORS,
    FINE_TUNED,
    ORDERS,
    RowKey,
    RunKey,
    key_from_path,
    key_of,
    split_stages,
)
from pipeline_lib.core.sealing import sealed_jsonl
from pipeline_lib.metrics.study import Studied
from pipeline_lib.reporting.scores import NO_PATHS, Paths, read_paths, read_scores, studied

METRIC_COLUMNS = [
    "suite",
    "task",
    "model",
    "method",
    "optimizer",
    "seed",
    "split",
    "metric",
    "value",
    "ci_low",
    "ci_high",
    "n",
    "higher_is_better",
    "request",
    "after",
]
COST_COLUMNS = [
    "task",
    "model",
    "method",
    "optimizer",
    "seed",
    "steps",
    "train_time_s",
    "time_per_step_s",
    "peak_memory_mb",
    "clipped_share",
    "status",
    "request",
    "after",
]


LATER = {"request": "0", "after": ""}  # columns that older tables lack -> what they would hold


@dataclass(frozen=True)
class Row:
    """What runs.json says about a row.

    `order` is one of `ORDERS`, "none" for anchors, averages and methods without steps. `reference`: reports
    give the cost of other optimisers relative to that of this row's. `unlearned`: whether an unlearning run
    made this model, or one of those from which stages made it. `learned`: label of a stage -> how many
    forget groups it taught, or which share of them; only those of the row's stages that taught some.
    `controls`: optimisers of the same method whose control the row is: it keeps something of their step.
    `likelihood_only`: it was judged by the likelihood of the true answers alone. `asked`: its model is that
    of another row, asked in another way. `draws_only`: it is asked as always, and answers are drawn.
    """

    key: RowKey
    display: str
    order: str
    reference: bool
    seeds: tuple[int, ...]
    unlearned: bool
    learned: Mapping[str, float] = field(default_factory=dict, hash=False)
    controls: tuple[str, ...] = ()
    likelihood_only: bool = False
    asked: bool = False
    draws_only: bool = False

    @property
    def anchor(self) -> bool:
        """Whether this is a model to compare with, not an unlearned one."""
        return self.key.anchor

    @property
    def group(self) -> str:
        """Where a legend lists the row: its order ("none": no optimiser), or "anchor"."""
        return self.order if self.unlearned else "anchor"


def anchor_rank(key: RowKey) -> int:
    """Where a row stands: `original` first, then `retrained`, `base`, and all others."""
    return ANCHORS.index(key.method) if key.anchor else len(ANCHORS)


def finite(value: Any) -> bool:
    """True for a real, finite number (a bool is none)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


class Inputs:
    """Reads each kind of file once, when it is first asked for.

    `tasks`: the only tasks that the files are about; None: every task of runs.json.
    """

    def __init__(self, paths: Iterable[Path | str], tasks: Collection[str] | None = None) -> None:
        self.tasks = tasks
        self._paths = grouped((path.name, path) for path in map(Path, paths))

    def require(self, names: Sequence[str], what: str) -> None:
        """Raise a `UserError` unless at least one file of each name was given."""
        if missing := [name for name in names if name not in self._paths]:
            raise UserError(
                f"{what} reads {', '.join(names)}; not given: {', '.join(missing)}. Add the files to its "
                "inputs."
            )

    def have(self, *names: str) -> bool:
        """Whether a file of each name was given."""
        return all(name in self._paths for name in names)

    def ending(self, suffix: str) -> list[Path]:
        """The given files whose names end with `suffix`."""
        return [path for name, paths in self._paths.items() if name.endswith(suffix) for path in paths]

    def one(self, name: str) -> Path:
        """The only file of this name."""
        if len(paths := self._paths.get(name, [])) != 1:
            raise UserError(f"expected exactly one {name}, found {len(paths)}: {', '.join(map(str, paths))}")
        return paths[0]

    def by_run(self, name: str) -> dict[RunKey, Path]:
        """The files of this name, by run, in the order of runs.json."""
        found: dict[RunKey, Path] = {}
        for path in self._paths.get(name, []):
            if (key := key_from_path(path)) in found:
                raise UserError(f"two files of one run: {found[key]} and {path}")
            if key not in self.run_keys:
                raise UserError(f"{path}: its run is not in runs.json. Name the files of one suite only.")
            found[key] = path
        return {key: found[key] for key in self.run_keys if key in found}

    @cached_property
    def rows(self) -> list[Row]:
        """Rows in the order of runs.json, with those of `anchor_rank` first for each task and model."""
        path = self.one("runs.json")
        entries = read_json(path)
        needed = {"task", "model", "method", "optimizer", "seed", "reference", "order", "display"}
        if not isinstance(entries, list) or not entries:
            raise UserError(f"{path}: expected a list of runs, found {type(entries).__name__}")
        found: dict[RowKey, list[dict[str, Any]]] = {}
        for number, entry in enumerate(entries, start=1):
            missing = sorted(needed - set(entry)) if isinstance(entry, dict) else sorted(needed)
            if missing:
                raise UserError(f"{path}, run {number}: `{missing[0]}` is missing")
            if entry["order"] not in ORDERS:
                raise UserError(
                    f"{path}, run {number}: order: found {entry['order']!r}; allowed: {', '.join(ORDERS)}"
                )
            key = key_of(entry).row
            if self.tasks is None or key.task in self.tasks:
                found.setdefault(key, []).append(entry)
        if not found:
            raise UserError(f"{path}: no run of the tasks {', '.join(self.tasks or ())}")
        studies = list(dict.fromkeys(key[:2] for key in found))
        for task, model in studies:
            learned = self.manifests.get(task, {}).get("finetune", {})  # says whether `retrained` is one
            for anchor in FINE_TUNED if "retrained" in learned else FINE_TUNED[:1]:
                if not any(key[:3] == (task, model, anchor) and key.anchor for key in found):
                    raise UserError(
                        f"{path}: no `{anchor}` run for task {task}, model {model}. Without `original`, and "
                        "`retrained` where the task can have one, no unlearning number means anything. "
                        f"{run_again(path)}"
                    )
        return [
            Row(
                key,
                str(entries[0]["display"]),
                "none" if key.optimizer == "none" else entries[0]["order"],
                bool(entries[0]["reference"]),
                tuple(sorted(int(entry["seed"]) for entry in entries)),
                bool(entries[0].get("unlearned", key.method not in ANCHORS)),  # older studies do not say it
                dict(entries[0].get("learned", {})),
                tuple(entries[0].get("controls", ())),
                bool(entries[0].get("likelihood_only", False)),
                bool(entries[0].get("asked", False)),
                bool(entries[0].get("draws_only", False)),
            )
            for key, entries in sorted(
                found.items(), key=lambda item: (studies.index(item[0][:2]), anchor_rank(item[0]))
            )
        ]

    @cached_property
    def run_keys(self) -> dict[RunKey, None]:
        return {row.key.seeded(seed): None for row in self.rows for seed in row.seeds}

    @cached_property
    def studies(self) -> list[tuple[str, str]]:
        """(task, model) in order."""
        return list(dict.fromkeys((row.key.task, row.key.model) for row in self.rows))

    def attacked(self, row: Row) -> bool:
        """Whether a stage made it that `retrained` went through too: it is held against that `retrained`."""
        return (row.key.task, row.key.model, row.key.after) in self._attacks

    @cached_property
    def _attacks(self) -> set[tuple[str, str, str]]:
        keys = (row.key for row in self.rows if row.key.method == "retrained" and row.key.after)
        return {(key.task, key.model, key.after) for key in keys}

    def before_attacks(self) -> Inputs:
        """The same without attacked models, which do not belong beside models that nobody attacked."""
        shown = [row for row in self.rows if not self.attacked(row)]
        other = copy(self)
        # The files are still about all runs.
        other.__dict__.update(rows=shown, run_keys=self.run_keys)
        return other

    def rows_of(self, task: str, model: str, method: str | None = None) -> list[Row]:
        """The rows of one study, or of one method in it."""
        return [
            row
            for row in self.rows
            if row.key[:2] == (task, model) and (method is None or row.key.method == method)
        ]

    def original(self, task: str, model: str) -> Row:
        """The model before unlearning."""
        return self.rows_of(task, model, "original")[0]

    def retrained(self, task: str, model: str) -> Row | None:
        """The model that never saw the forget set; None where the task cannot have one."""
        return next(iter(self.rows_of(task, model, "retrained")), None)

    def methods(self, task: str, model: str) -> list[str]:
        """Methods of a study, anchors left out."""
        return list(dict.fromkeys(row.key.method for row in self.rows_of(task, model) if row.unlearned))

    def stages(self, task: str, model: str) -> dict[str, dict[RowKey, Row]]:
        """By the labels of stages, the rows they made, by the row without them (`matched` is no stage)."""
        found: dict[str, dict[RowKey, Row]] = {}
        for row in self.rows_of(task, model):
            before, labels = split_stages(row.key.after)
            if labels:
                found.setdefault(labels, {})[row.key._replace(after=before)] = row
        return found

    @cached_property
    def suite(self) -> dict[str, Any]:
        """The resolved suite, of suite.yaml."""
        path = self.one("suite.yaml")
        try:
            suite = yaml.safe_load(decoded(path.read_bytes(), str(path)))
        except (yaml.YAMLError, ValueError, RecursionError):
            suite = None
        if not isinstance(suite, dict):
            raise UserError(f"{path}: expected the resolved suite. {run_again(path)}")
        return suite

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """metrics.csv; numbers as floats, names as text; checked to hold exactly the runs of runs.json."""
        return self._table("metrics.csv", METRIC_COLUMNS, METRIC_COLUMNS[8:12])

    @cached_property
    def costs(self) -> pd.DataFrame:
        """costs.csv, read and checked as metrics.csv is."""
        return self._table("costs.csv", COST_COLUMNS, COST_COLUMNS[5:-3])

    def _table(self, name: str, columns: list[str], numbers: list[str]) -> pd.DataFrame:
        """All given files of this name as one table, checked to hold exactly the runs there are."""
        if not (parts := [self._read(path, columns) for path in self._paths.get(name, [])]):
            raise UserError(f"expected a {name}, found none")
        frame = pd.concat(parts, ignore_index=True)
        path = self.place(name)
        lacking = {column: value for column, value in LATER.items() if column not in frame}
        frame = frame.assign(**lacking).astype({"seed": int, "request": int})
        frame["run"] = keys = [
            RunKey(*values) for values in frame[list(RunKey._fields)].itertuples(index=False)
        ]
        if missing := [key for key in self.run_keys if key not in set(keys)]:
            raise UserError(f"{path}: nothing about the run {missing[0]} of runs.json")
        if extra := [key for key in keys if key not in self.run_keys]:
            raise UserError(f"{path}: the run {extra[0]} is not in runs.json")
        for column in numbers:
            frame[column] = pd.to_numeric(frame[column].replace("", None))
        return frame

    def place(self, name: str) -> str:
        """The paths of the files of this name, for a message."""
        return ", ".join(map(str, self._paths.get(name, [name])))

    @staticmethod
    def _read(path: Path, columns: list[str]) -> pd.DataFrame:
        try:
            # Everything as text first: a model may be called "NA" or "1".
            frame = pd.read_csv(path, dtype=str, keep_default_na=False)
        except FileNotFoundError:
            raise UserError(f"{path}: no such file") from None
        except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: not a table ({error}). {run_again(path)}") from None
        former = [name for name in columns if name not in LATER]
        if list(frame.columns) not in (columns, former):
            raise UserError(
                f"{path}: expected the columns {','.join(columns)}, found {','.join(frame.columns)}"
            )
        return frame

    @cached_property
    def studied(self) -> dict[RunKey, Studied]:
        """Every model beside the others of its study, from scores.csv."""
        scores = {
            key: found
            for path in self._paths.get("scores.csv", [])
            for key, found in read_scores(path).items()
        }
        return studied(scores, self.manifests, self.paths)

    @cached_property
    def paths(self) -> Paths:
        """How runs and stages were judged on their way, from their logs where these are given."""
        logs = [path for path in self._paths.get("steps.jsonl", []) if key_from_path(path) in self.run_keys]
        tasks = self.suite["tasks"].items() if logs else ()
        asked = {name: task["evaluation"].get("trajectory") for name, task in tasks}
        levels = {name: trajectory["utility"] for name, trajectory in asked.items() if trajectory}
        learned: dict[str, dict[str, float]] = {}
        for row in self.rows:
            if row.learned:
                learned.setdefault(row.key.task, {}).update(row.learned)
        return read_paths(logs, levels, learned) if logs else NO_PATHS._replace(learned=learned)

    @cached_property
    def records(self) -> dict[RunKey, list[dict[str, Any]]]:
        """Rows of each records.jsonl."""
        return {key: sealed_jsonl(path) for key, path in self.by_run("records.jsonl").items()}

    @cached_property
    def steps(self) -> dict[RunKey, list[dict[str, Any]]]:
        """Rows of each steps.jsonl."""
        return {key: read_jsonl(path) for key, path in self.by_run("steps.jsonl").items()}

    @cached_property
    def run_files(self) -> dict[RunKey, dict[str, Any]]:
        """Content of each run.json."""
        return {key: read_object(path) for key, path in self.by_run("run.json").items()}

    @cached_property
    def manifests(self) -> dict[str, dict[str, Any]]:
        """manifest.json by task."""
        return {
            path.absolute().parent.name: read_object(path) for path in self._paths.get("manifest.json", [])
        }
