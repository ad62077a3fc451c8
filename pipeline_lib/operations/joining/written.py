"""The folder of a joined study: its tables of numbers, and all that can be drawn from them."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import read_object, write_json, write_text
from pipeline_lib.core.runs import RunKey, key_from_path
from pipeline_lib.core.sealing import seal_path
from pipeline_lib.operations.joining.piece import MARKER, TABLES, Lines, Piece
from pipeline_lib.operations.joining.retrained import file_of
from pipeline_lib.reporting.catalog import REPORT_NEEDS
from pipeline_lib.reporting.cells import write_csv
from pipeline_lib.reporting.collect import beside_others, cells_of, place_of
from pipeline_lib.reporting.figures import draw_figure
from pipeline_lib.reporting.html import OPTIONAL, write_report
from pipeline_lib.reporting.inputs import METRIC_COLUMNS
from pipeline_lib.reporting.scores import Paths, read_paths
from pipeline_lib.reporting.tables import write_table
from pipeline_lib.study import Suite
from pipeline_lib.study.graph import Graph
from pipeline_lib.study.jobs import listed, manifest_of

BESIDE_MODEL = ("run.json", "steps.jsonl")
WRITTEN = {MARKER, "suite.yaml", "runs.json", *TABLES, "data", "training", "tables", "figures", "report"}


class Joined:
    """Writes the study of `pieces` to the folder `out`; `metrics`: every run's own lines."""

    def __init__(
        self, suite: Suite, pieces: Sequence[Piece], out: Path, metrics: Mapping[RunKey, Lines]
    ) -> None:
        self.suite, self.pieces, self.out, self.metrics = suite, pieces, out, metrics
        self.graph = Graph(suite)
        self.owners = {key: self._owner(key) for key in sorted(metrics, key=place_of)}

    def _owner(self, key: RunKey) -> Piece:
        """The first piece that has the run, if possible with its run.json."""
        having = [piece for piece in self.pieces if key in piece.metrics]
        return next((piece for piece in having if piece.made[key].training.is_file()), having[0])

    def write(self) -> list[str]:
        """All but what is drawn; returns a line for each piece."""
        described = self.graph.jobs["describe_suite", ""].settings
        write_text(self.out / "suite.yaml", described["suite"])
        write_text(self.out / "runs.json", described["runs"] + "\n")
        for task in self.suite.tasks:
            source = file_of(manifest_of(task), self.pieces)
            assert source is not None
            self._copy(source, manifest_of(task))
        for key, piece in self.owners.items():
            for name in BESIDE_MODEL:
                place = f"training/{key.folder}/{name}"
                if (piece.root / place).is_file():
                    self._copy(piece.root / place, place)
        for name, lines in (("scores.csv", self._lines("scores")), ("costs.csv", self._lines("costs"))):
            write_csv(self.out / name, TABLES[name], lines)
        write_csv(self.out / "metrics.csv", METRIC_COLUMNS, self._metric_lines())
        write_json(self.out / MARKER, self._marker())
        return [f"{piece.root}: {len(piece.runs)} models" for piece in self.pieces]

    def _copy(self, source: Path, place: str) -> None:
        (self.out / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, self.out / place)

    def _lines(self, table: str) -> Iterator[list[str]]:
        for key, piece in self.owners.items():
            yield from getattr(piece, table).get(key, [])

    def _metric_lines(self) -> Iterator[list[Any]]:
        """What the study says of each run, computed from the scores of all, then the run's own lines."""
        scores = self.out / "scores.csv"
        manifests = {task: read_object(self.out / manifest_of(task)) for task in self.suite.tasks}
        beside = beside_others(scores, manifests, self._paths())
        for key in self.owners:
            run, what = [self.suite.suite, *key[:5]], [key.request, key.after]
            for number, row in enumerate(beside.get(key, []), start=1):
                yield [*run, *cells_of(row, str(scores), number), *what]
            for cells in self.metrics[key]:
                yield [self.suite.suite, *cells]

    def _paths(self) -> Paths:
        """The logs of runs and stages that were judged on their way; a `UserError` names one that is gone."""
        asked = {task: self.suite.evaluation_of(task).trajectory for task in self.suite.tasks}
        levels = {task: trajectory.utility for task, trajectory in asked.items() if trajectory}
        collected = [self.graph.jobs["collect", f"{task}/metrics"].inputs for task in self.suite.tasks]
        read = [path for inputs in collected for path in listed(inputs.get("paths", ()))]
        logs = [self.out / path for path in read if key_from_path(path) in self.owners]
        if missing := [log for log in logs if not log.is_file()]:
            raise UserError(
                f"{missing[0]}: no such file, but the suite judges on the way (`evaluation.trajectory`, or "
                "`points` of a stage). Keep training/**/steps.jsonl of every piece."
            )
        return read_paths(logs, levels, {task: self.suite.learned_groups(task) for task in self.suite.tasks})

    def _marker(self) -> dict[str, Any]:
        """What the folder was joined from, and how its models were made as far as it is known."""
        return {
            "pieces": [
                {"folder": str(piece.root), "suite": piece.suite.suite, "models": len(piece.runs)}
                for piece in self.pieces
            ],
            "made_of": {key.folder: piece.made[key].facts for key, piece in self.owners.items()},
        }

    # --- what is drawn --------------------------------------------------------------------------------

    def draw(self) -> list[str]:
        """Every table and figure whose files are all here, and the report; a line for what is left out."""
        jobs = self.graph.study()
        said, drawn = list[str](), list[Path]()
        for job in (job for job in jobs if job.rule in ("table", "figure")):
            read = listed(job.inputs["files"])
            if missing := self._missing(read):
                said.append(f"left out: {job.title}, which reads {missing}")
                continue
            files, outputs = self._files(read), {form: self.out / str(p) for form, p in job.outputs.items()}
            if job.rule == "table":
                write_table(job.name, files, outputs["csv"], outputs["md"], outputs["tex"])
            else:
                draw_figure(job.name, files, outputs["svg"], outputs["png"])
            drawn += outputs.values()
        (report,) = (job for job in jobs if job.rule == "html_report")
        needed = [
            path
            for path in listed(report.inputs["files"])
            if Path(path).name in (*REPORT_NEEDS, "steps.jsonl")
        ]
        answers = [path for path in needed if Path(path).name in OPTIONAL]
        if missing := self._missing(path for path in needed if path not in answers):
            return [*said, f"left out: the report, which reads {missing}"]
        if missing := self._missing(answers):
            said.append(f"left out: the answers in the report, which reads {missing}")
            needed = [path for path in needed if path not in answers]
        write_report([*self._files(needed), *drawn], self.out / report.result)
        return said

    def _place(self, path: str) -> Path | None:
        """A file of the joined study: here, or where a piece keeps what is not copied."""
        if (self.out / path).is_file():
            return self.out / path
        found = file_of(path, self.pieces) if path.endswith("records.jsonl") else None
        return found if found is not None and seal_path(found).is_file() else None

    def _files(self, paths: Iterable[str]) -> list[Path]:
        return [found for path in paths if (found := self._place(path)) is not None]

    def _missing(self, paths: Iterable[str]) -> str:
        """The names of the files that are not here for every model, and how many of each."""
        lacking = [Path(path).name for path in paths if self._place(path) is None]
        return " and ".join(f"{name} of {lacking.count(name)} models" for name in dict.fromkeys(lacking))
