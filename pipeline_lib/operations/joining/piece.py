"""A piece of a study: the results folder of a run of a part of its suite, read from its small files."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import read_json, read_object
from pipeline_lib.core.grouping import grouped
from pipeline_lib.core.runs import BASE, LOST, RunKey, key_of
from pipeline_lib.reporting.collect import lines_of_table
from pipeline_lib.reporting.inputs import COST_COLUMNS, METRIC_COLUMNS
from pipeline_lib.reporting.made_of import Facts, Made, made_of
from pipeline_lib.reporting.scores import SCORE_COLUMNS, read_scores
from pipeline_lib.study import Suite, load_suite
from pipeline_lib.study.jobs import manifest_of
from pipeline_lib.study.measured import Measured

MARKER = "joined.json"  # stands in a folder that `join` wrote
TABLES = {"metrics.csv": METRIC_COLUMNS, "scores.csv": SCORE_COLUMNS, "costs.csv": COST_COLUMNS}
SHOWN = 12  # lines that a message lists

Lines = list[list[str]]


@dataclass(frozen=True)
class Piece:
    """`runs`: in the order of runs.json. `metrics`, `scores`, `costs`: the lines of each run."""

    root: Path
    suite: Suite
    runs: tuple[RunKey, ...]
    metrics: Mapping[RunKey, Lines]
    scores: Mapping[RunKey, Lines]
    costs: Mapping[RunKey, Lines]
    manifests: Mapping[str, dict[str, Any]]

    def within(self, joined: Suite) -> Piece:
        """The piece without a base that the joined study has from another one, beside a lower seed."""
        rows = {row: joined.seeds_of(row) for row in joined.rows() if row.method == BASE}
        runs = tuple(key for key in self.runs if key.seed in rows.get(key.row, [key.seed]))
        return replace(self, runs=runs)

    @cached_property
    def measured(self) -> Measured:
        return Measured(self.suite)

    @cached_property
    def _noted(self) -> Mapping[str, Facts]:
        """Facts that an earlier join kept."""
        marker = self.root / MARKER
        return read_object(marker, "made_of")["made_of"] if marker.is_file() else {}

    @cached_property
    def made(self) -> Mapping[RunKey, Made]:
        """How each run was made, as far as the files that are here say it."""
        return {key: self._made(key) for key in self.runs}

    def _made(self, key: RunKey) -> Made:
        run = self.root / f"training/{key.folder}/run.json"
        scored = self.root / f"evaluations/{key.folder}/metrics.json"
        facts = Facts(**self._noted.get(key.folder, {}))
        if scored.is_file():
            facts = Facts(**(facts | Facts(**(read_object(scored).get("made_of") or {}))))
        if run.is_file():
            facts = Facts(**(facts | made_of(read_object(run))))
        return Made(key, facts, run, scored if facts.get("scored_by") else None)


def read_piece(root: Path) -> Piece:
    """Raise a `UserError` where something that a piece must hold is missing, broken or unfinished."""
    if not root.is_dir():
        raise UserError(
            f"{root}: a piece is the results folder of a study, such as results/demo; there is none"
        )
    _check_there(root, ("suite.yaml", "runs.json", *TABLES))
    suite = load_suite(root / "suite.yaml", kept=True)
    _check_there(root, map(manifest_of, suite.tasks))
    entries = read_json(root / "runs.json")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UserError(f"{root / 'runs.json'}: expected a list of runs")
    try:
        runs = tuple(key_of(entry) for entry in entries)
    except TypeError:
        raise UserError(f"{root / 'runs.json'}: a run lacks a part of its name") from None
    read_scores(root / "scores.csv")  # every line is a score
    found = {name: _by_run(root / name, columns) for name, columns in TABLES.items()}
    piece = Piece(
        root,
        suite,
        runs,
        found["metrics.csv"],
        found["scores.csv"],
        found["costs.csv"],
        {task: read_object(root / manifest_of(task), "splits", "evaluate") for task in suite.tasks},
    )
    _check_finished(piece)
    return piece


def _check_there(root: Path, names: Collection[str] | Iterator[str]) -> None:
    missing = [name for name in names if not (root / name).is_file()]
    if missing:
        raise UserError(
            f"{root}: a piece is a finished study, and this folder has no {', '.join(missing)}. Give the "
            "study's snakemake command again where it ran, which makes what is missing (a study of an "
            "earlier version too, where its records.jsonl are left), or fetch the files from there."
        )


def _by_run(path: Path, columns: Sequence[str]) -> dict[RunKey, Lines]:
    """The lines of a table by their run."""
    head, rows = lines_of_table(path)
    if head != list(columns):
        raise UserError(
            f"{path}: found the columns {','.join(head)}; this version writes {','.join(columns)}. Make the "
            "table again with this version: give the same snakemake command where the study ran."
        )
    place = {name: head.index(name) for name in RunKey._fields}
    try:
        return grouped((_key(row, place), row) for row in rows)
    except (ValueError, IndexError):
        raise UserError(f"{path}: a line does not name its run. Fetch or make the file again.") from None


def _key(row: Sequence[str], place: Mapping[str, int]) -> RunKey:
    values: dict[str, Any] = {name: row[at] for name, at in place.items()}
    return RunKey(**{**values, "seed": int(values["seed"]), "request": int(values["request"])})


def _check_finished(piece: Piece) -> None:
    """Every run of runs.json has its lines, and no line is of another run."""
    expected = set(piece.runs)
    asked = {key for key in piece.runs if not _lost(piece.metrics.get(key, []))}
    for name, found, wanted in (
        ("metrics.csv", piece.metrics, expected),
        ("scores.csv", piece.scores, asked),
        ("costs.csv", piece.costs, expected),
    ):
        missing = [key for key in piece.runs if key in wanted and key not in found]
        if missing:
            raise UserError(
                f"{piece.root}: its study did not finish: {name} has nothing about {missing[0]}"
                f"{f' and {len(missing) - 1} more runs' if len(missing) > 1 else ''} of runs.json. Give its "
                "snakemake command again, then join."
            )
        if extra := sorted(set(found) - expected):
            raise UserError(
                f"{piece.root}: {name} has the run {extra[0]}, which runs.json does not list: the files are "
                "of two states of the study. Fetch or make them again together."
            )


def _lost(lines: Lines) -> bool:
    return bool(lines) and lines[0][METRIC_COLUMNS.index("metric")] in LOST
