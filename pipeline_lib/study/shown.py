"""Jobs that gather and show results: metrics and costs, tables and figures for people, the report."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pipeline_lib.core.runs import RunKey
from pipeline_lib.metrics import modules_on_studies
from pipeline_lib.metrics import shown as labels
from pipeline_lib.reporting.catalog import (
    FIGURES,
    PAPER_FIGURES,
    PAPER_TABLES,
    REPORT_NEEDS,
    TABLES,
    Item,
    measured_by,
    tasks_of,
)
from pipeline_lib.study.jobs import Files, Job, listed, manifest_of
from pipeline_lib.study.measured import Measured
from pipeline_lib.study.runs import Run
from pipeline_lib.study.stages import StagedRow
from pipeline_lib.study.suite import Suite


class Shown:
    """The jobs that show a suite, from the files of all its `models`."""

    def __init__(
        self, suite: Suite, models: Mapping[RunKey, Run | StagedRow | None], measured: Measured
    ) -> None:
        self.suite, self.models, self.measured = suite, models, measured
        self.tables, self.figures = measured_by(suite, TABLES), measured_by(suite, FIGURES)

    def jobs(self) -> Iterator[Job]:
        """All up to the report."""
        yield from self._collected()
        drawn = [self._drawn("table", name, item) for name, item in self.tables.items()]
        drawn += [self._drawn("figure", name, item) for name, item in self.figures.items()]
        yield from drawn
        files = [path for job in drawn for shown in job.outputs.values() for path in listed(shown)]
        yield Job(
            "html_report",
            "",
            {"files": (*self._files_named(REPORT_NEEDS, None), *self._logs(), *files)},
            ("pipeline_lib.steps.html_report", *(job.code[1] for job in drawn)),
            {"labels": labels()},
            "study",
        )

    def _collected(self) -> Iterator[Job]:
        for task in self.suite.tasks:
            keys = [key.folder for key in self.models if key.task == task]
            read: dict[str, dict[str, Files]] = {
                "scores": {"scores": tuple(f"evaluations/{key}/scores.csv" for key in keys)},
                "metrics": {
                    "metrics": tuple(f"evaluations/{key}/metrics.json" for key in keys),
                    "scores": f"collected/{task}/scores.csv",
                    "manifest": manifest_of(task),
                    **self._paths(task),
                },
                "costs": {
                    "runs": tuple(f"training/{key}/run.json" for key in keys),
                    "steps": tuple(f"training/{key}/steps.jsonl" for key in keys),
                },
            }
            for what, inputs in read.items():
                yield Job(
                    "collect",
                    f"{task}/{what}",
                    inputs,
                    ("pipeline_lib.steps.collect", *(modules_on_studies() if what == "metrics" else ())),
                    {"collected": what, **(self._beside(task) if what == "metrics" else {})},
                    "study",
                )
        for what in ("scores", "metrics", "costs"):
            parts = tuple(f"collected/{task}/{what}.csv" for task in self.suite.tasks)
            yield Job("merge", what, {"parts": parts}, ("pipeline_lib.steps.merge",), {}, "study")

    def _paths(self, task: str) -> dict[str, Files]:
        """The logs of the runs and stages that are judged on their way, as an input of what collects them."""
        logs = self._logs_of(task)
        return {"paths": logs} if logs else {}

    def _logs(self) -> tuple[str, ...]:
        return tuple(log for task in self.suite.tasks for log in self._logs_of(task))

    def _logs_of(self, task: str) -> tuple[str, ...]:
        paths = bool(self._level(task))
        return tuple(
            f"training/{key.folder}/steps.jsonl"
            for key, made in self.models.items()
            if key.task == task
            and (
                made.stage.judged() is not None if isinstance(made, StagedRow) else paths and made is not None
            )
        )

    def _beside(self, task: str) -> dict[str, Any]:
        """What the metrics of models side by side depend on."""
        learned = self.suite.learned_groups(task)
        return {**self._level(task), **({"learned": {task: learned}} if learned else {})}

    def _level(self, task: str) -> dict[str, Any]:
        """The utility at which paths are compared; empty where none is judged."""
        found = self.measured.evaluations[task].trajectory
        return {} if found is None else {"levels": {task: found.utility}}

    def _drawn(self, rule: str, name: str, item: Item, tasks: Collection[str] | None = None) -> Job:
        """`tasks`: the tasks that an item of the paper shows; it is made from their files alone."""
        return Job(
            rule,
            name,
            {"files": (*self._files_named(item.needs, tasks), *(self._logs() if item.paths else ()))},
            (
                f"pipeline_lib.steps.{rule.removeprefix('paper_')}",
                f"pipeline_lib.reporting.{item.module}",
            ),
            {"item": name, "tasks": None if tasks is None else list(tasks), "labels": labels()},
            "study",
        )

    def of_the_paper(self) -> Iterator[Job]:
        for rule, items in (("paper_table", PAPER_TABLES), ("paper_figure", PAPER_FIGURES)):
            for name, item in items.items():
                yield self._drawn(rule, name, item, self.tasks_of_item(item))

    def tasks_of_item(self, item: Item) -> list[str]:
        """The tasks of this suite that an item of the paper shows."""
        return tasks_of(self.suite, item)

    def _files_named(self, names: Collection[str], tasks: Collection[str] | None) -> tuple[str, ...]:
        """Every file of the study with one of these names; with `tasks`, only the files of these."""
        keys = [key.folder for key in self.models if tasks is None or key.task in tasks]
        places = {
            **{name: (name,) for name in ("runs.json", "suite.yaml")},
            **{
                f"{name}.csv": (f"{name}.csv",)
                if tasks is None
                else tuple(f"collected/{task}/{name}.csv" for task in tasks)
                for name in ("scores", "metrics", "costs")
            },
            "manifest.json": tuple(map(manifest_of, self.suite.tasks if tasks is None else tasks)),
            "run.json": tuple(f"training/{key}/run.json" for key in keys),
            "steps.jsonl": tuple(f"training/{key}/steps.jsonl" for key in keys),
            "records.jsonl": tuple(f"evaluations/{key}/records.jsonl" for key in keys),
        }
        return tuple(path for name in names for path in places[name])
