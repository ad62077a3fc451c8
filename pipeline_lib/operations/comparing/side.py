"""One of the two studies that are compared: its numbers, read from the small files of its results folder."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline_lib.core.blocks import suggestion
from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import read_object
from pipeline_lib.core.grouping import grouped
from pipeline_lib.core.runs import LOST, NO_OPTIMIZER, RowKey, RunKey
from pipeline_lib.metrics import declared
from pipeline_lib.metrics.questions import BENCHMARK
from pipeline_lib.metrics.study import Scores, Studied
from pipeline_lib.reporting.cells import csv_text
from pipeline_lib.reporting.collect import check_lines, lines_of_table
from pipeline_lib.reporting.headline import Measure
from pipeline_lib.reporting.inputs import LATER, METRIC_COLUMNS
from pipeline_lib.reporting.scores import read_scores, studied
from pipeline_lib.reporting.summary import Estimate, one_run_estimate, plain_estimate
from pipeline_lib.study import Suite, load_suite
from pipeline_lib.study.jobs import manifest_of

Line = Mapping[str, Any]  # of metrics.csv; numbers as numbers, None where a cell is empty
_NUMBERS = ("value", "ci_low", "ci_high", "n")
_PART = re.compile(r"(.+)\.\w+ over original")  # a quantity of the table joint_utility


def row_name(row: RowKey) -> str:
    """A row within its task and model."""
    name = row.method if row.optimizer == NO_OPTIMIZER else f"{row.method} + {row.optimizer}"
    request = f", request {row.request}" if row.request else ""
    return f"{name}{request}" + (f", then {row.after}" if row.after else "")


@dataclass(frozen=True, eq=False)
class Side:
    """`name`: A or B. `measured`: the lines of a row by measure and seed. `lost`: the seeds of a row without
    a model, each with its status."""

    name: str
    root: Path
    measured: Mapping[RowKey, Mapping[Measure, Mapping[int, Line]]]
    lost: Mapping[RowKey, Mapping[int, str]]

    def file(self, name: str) -> Path | None:
        """A file of the study, or its packed form; None where neither was kept."""
        found = (self.root / name, self.root / f"{name}.gz")
        return next((path for path in found if path.is_file()), None)

    def seeds(self, row: RowKey) -> tuple[int, ...]:
        """All seeds of the row, those that have no model too."""
        of_measures = (seed for lines in self.measured.get(row, {}).values() for seed in lines)
        return tuple(sorted({*of_measures, *self.lost.get(row, {})}))

    def values(self, row: RowKey, measure: Measure) -> dict[int, float]:
        """By seed."""
        return {seed: line["value"] for seed, line in sorted(self.measured[row][measure].items())}

    def estimate(self, row: RowKey, measure: Measure) -> Estimate:
        """As the tables of the study have it: over seeds, or the run's own."""
        lines = self.measured[row][measure]
        if len(lines) == 1:
            return one_run_estimate(next(iter(lines.values())), measure.metric, None)
        found = plain_estimate(list(self.values(row, measure).values()), declared()[measure.metric].range)
        assert found is not None  # there is a line
        return found

    @cached_property
    def shown(self) -> list[Measure]:
        """What the table `main` shows, where it was kept."""
        path = self.root / "tables" / "main.csv"
        lines = csv.DictReader(csv_text(path).splitlines()) if path.is_file() else ()
        parts = dict.fromkeys((line.get("quantity") or "").rpartition(".")[::2] for line in lines)
        return [Measure(split, metric) for split, metric in parts if metric in declared()]

    @cached_property
    def suite(self) -> Suite | None:
        """None where there is none that this version reads."""
        path = self.file("suite.yaml")
        try:
            return None if path is None else load_suite(path, kept=True)
        except UserError:
            return None

    @cached_property
    def scores(self) -> Mapping[RunKey, Scores]:
        """Of every question under every model; empty where they were not kept."""
        path = self.file("scores.csv")
        return {} if path is None else read_scores(path)

    @cached_property
    def manifests(self) -> Mapping[str, Mapping[str, Any]]:
        """By task, where they were kept."""
        paths = {task: self.root / manifest_of(task) for task in {row.task for row in self.measured}}
        return {
            task: read_object(path, "splits", "evaluate", "utility")
            for task, path in paths.items()
            if path.is_file()
        }

    @cached_property
    def studied(self) -> Mapping[RunKey, Studied]:
        """Every model beside the others of its study, of the tasks whose scores have an `original`."""
        able = {(key.task, key.model) for key in self.scores if key.method == "original" and key.row.anchor}
        scores = {key: found for key, found in self.scores.items() if (key.task, key.model) in able}
        tasks = {key.task for key in scores}
        manifests = {task: self.manifests.get(task) or self._utility(task) for task in tasks}
        return studied(scores, manifests)

    def _utility(self, task: str) -> dict[str, Any]:
        """What a manifest says of utility, from the parts of the table joint_utility; nothing without it."""
        path = self.root / "tables" / "joint_utility.csv"
        lines = csv.DictReader(csv_text(path).splitlines()) if path.is_file() else ()
        quantities = (line.get("quantity") or "" for line in lines if line.get("task") == task)
        splits = dict.fromkeys(match[1] for quantity in quantities if (match := _PART.fullmatch(quantity)))
        return {"evaluate": [], "utility": [split for split in splits if not split.startswith(BENCHMARK)]}

    @cached_property
    def run_files(self) -> dict[RunKey, dict[str, Any]]:
        """The run.json of every model, where it was kept."""
        keys = [row.seeded(seed) for row in self.measured for seed in self.seeds(row)]
        paths = {key: self.root / "training" / key.folder / "run.json" for key in keys}
        return {key: read_object(path) for key, path in paths.items() if path.is_file()}


def read_side(name: str, given: Path) -> Side:
    """A `UserError` says why it is no study that can be compared, and what to do."""
    root = _folder_of(given)
    if (
        path := next((p for p in (root / "metrics.csv", root / "metrics.csv.gz") if p.is_file()), None)
    ) is None:
        raise UserError(
            f"{root}: its study is not finished, as it has no metrics.csv. `unlearning status {root}` says "
            "what is left; the command that began the study goes on with it."
        )
    lines = _lines(path)
    lost, measured = dict[RowKey, dict[int, str]](), dict[RowKey, dict[Measure, dict[int, Line]]]()
    for line in lines:
        row = RowKey(*(line[field] for field in RowKey._fields))
        found = measured.setdefault(row, {})
        if line["split"] == "run" and line["metric"] in LOST:
            lost.setdefault(row, {})[line["seed"]] = line["metric"]
        else:
            found.setdefault(Measure(line["split"], line["metric"]), {})[line["seed"]] = line
    return Side(name, root, measured, lost)


def _folder_of(given: Path) -> Path:
    """A results folder, given as such or by the name of its suite."""
    by_name = Path("results") / given
    for folder in (given, by_name):
        if any((folder / name).is_file() for name in ("suite.yaml", "metrics.csv", "metrics.csv.gz")):
            return folder
    there = "is a folder without suite.yaml and metrics.csv" if given.is_dir() else "is not there"
    if given.is_file():
        there = "is a file"
    known = {path.parent.name for path in Path("results").glob("*/suite.yaml")}
    raise UserError(
        f"{given}: expected the results folder of a study, such as results/demo, or the name of a suite that "
        f"has one; it {there}" + (f"; {suggestion(given.name, known)}" if known else "")
    )


def _lines(path: Path) -> list[dict[str, Any]]:
    """The lines of metrics.csv, checked, also of a version that had neither requests nor stages."""
    head, rows = lines_of_table(path)
    former = [name for name in METRIC_COLUMNS if name not in LATER]
    if head == former:
        head, rows = METRIC_COLUMNS, [[*row, *LATER.values()] for row in rows]
        check_lines(path, head, rows)
    if head != METRIC_COLUMNS:
        missing = [name for name in former if name not in head]
        lacks = f"it lacks {', '.join(missing)}" if missing else f"found {','.join(head)}"
        raise UserError(
            f"{path}: expected the columns {','.join(METRIC_COLUMNS)}; {lacks}. Another version of the "
            "project wrote it: make the table again with this one (the study's snakemake command, where its "
            "evaluations are), or compare with the version that wrote both."
        )
    found: list[dict[str, Any]] = [dict(zip(head, row, strict=True)) for row in rows]
    for number, line in enumerate(found, start=2):
        line |= {name: float(line[name]) if line[name] else None for name in _NUMBERS}
        try:
            line |= {name: int(line[name]) for name in ("seed", "request")}
        except ValueError:
            raise UserError(
                f"{path}, line {number}: seed and request must be whole numbers, found {line['seed']!r} and "
                f"{line['request']!r}. Fetch or make the file again."
            ) from None
    return found


def rows_of(side: Side, other: Side) -> tuple[list[RowKey], list[RowKey]]:
    """The rows that both have, and those of `side` alone, in its order."""
    both = [row for row in side.measured if row in other.measured]
    return both, [row for row in side.measured if row not in other.measured]


def named(rows: Iterable[RowKey]) -> list[str]:
    """Rows in words, by task and model."""
    by_place = grouped(((row.task, row.model), row_name(row)) for row in rows)
    return [f"{task}, {model}: {_some(names)}" for (task, model), names in by_place.items()]


def _some(names: Sequence[str], shown: int = 8) -> str:
    more = f" and {len(names) - shown} more rows" if len(names) > shown else ""
    return "; ".join(names[:shown]) + more
