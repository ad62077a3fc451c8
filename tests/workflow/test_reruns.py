"""What an edit runs again: exactly the jobs that use the edited code, and what is made of their files."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Collection
from pathlib import Path

import pytest

from pipeline_lib.core.runs import RunKey
from pipeline_lib.study import parse_suite
from pipeline_lib.study.graph import Graph
from pipeline_lib.study.jobs import Job
from tests.workflow.study import SUITE, Study

JOBS = Graph(parse_suite(SUITE)).study()
Chosen = Callable[[Job], bool]


def of_rules(*rules: str) -> Chosen:
    return lambda job: job.rule in rules


def unlearned(**wanted: str) -> Chosen:
    """Unlearning jobs with these names, such as method="PO"."""

    def chosen(job: Job) -> bool:
        key: RunKey | None = job.run
        return job.rule == "unlearn" and all(getattr(key, name) == value for name, value in wanted.items())

    return chosen


def named(rule: str, name: str = "") -> Chosen:
    return lambda job: (job.rule, job.name) == (rule, name)


SHOWN = of_rules("table", "figure", "html_report")

# What is edited, and the jobs that use it themselves; None: the study uses it nowhere.
EDITS: dict[str, Chosen | None] = {
    "objectives/grad_diff.py": unlearned(method="GradDiff"),
    "objectives/po.py": unlearned(method="PO"),
    "objectives/whp.py": None,
    "optimizers/sophia.py": unlearned(optimizer="sophia"),
    "optimizers/lion.py": None,
    "curvature/gauss_newton.py": unlearned(optimizer="sophia"),
    "curvature/hutchinson.py": None,
    "influence/ekfac.py": None,
    "influence/gauss_newton.py": None,
    "training/loop.py": lambda job: (
        job.rule in ("finetune", "unlearn")
        or (job.rule == "stage" and job.run is not None and job.run.method != "soup")
    ),
    "tasks/fictitious/generate.py": of_rules("prepare_data"),
    "tasks/tofu/rows.py": None,
    "stages/average.py": lambda job: job.rule == "stage" and job.run is not None and job.run.method == "soup",
    "engine/equal_retain.py": lambda job: job.rule == "evaluate" and "original" in job.inputs,
    "engine/asked_otherwise.py": lambda job: job.rule == "evaluate" and "ask" in job.settings,
    "engine/soft_prompt.py": None,
    "steps/ask.py": of_rules("ask"),
    "engine/classifiers/rude_words.py": None,
    "metrics/repetition.py": of_rules("score"),
    "metrics/toxicity.py": None,
    "metrics/mmlu.py": of_rules("standard_benchmarks"),
    "reporting/tables/main.py": lambda job: named("table", "main")(job) or job.rule == "html_report",
    "reporting/figures/cost.py": lambda job: named("figure", "cost")(job) or job.rule == "html_report",
    "reporting/template/report.css": of_rules("html_report"),
    "operations/plan/table.py": None,
    "study/suite.py": None,
}


def expected(chosen: Chosen | None) -> set[tuple[str, str]]:
    """(rule, log) of the chosen jobs and of all that are made of what they write."""
    again = [] if chosen is None else [job for job in JOBS if chosen(job)]
    written = {file for job in again for file in files(job.outputs.values())}
    for job in JOBS:  # in an order in which they can run
        if job not in again and not written.isdisjoint(files(job.inputs.values())):
            again.append(job)
            written |= files(job.outputs.values())
    return {(job.rule, job.log.removeprefix("logs/")) for job in again}


def files(places: Collection[str | tuple[str, ...]]) -> set[str]:
    return {file for place in places for file in ([place] if isinstance(place, str) else place)}


@pytest.fixture(scope="module")
def edited(finished: Study, tmp_path_factory: pytest.TempPathFactory) -> Study:
    return finished.copy(tmp_path_factory.mktemp("edited") / "project")


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_runs_exactly_the_jobs_that_use_it(edited: Study, name: str) -> None:
    chosen = EDITS[name]
    assert chosen is None or expected(chosen), "an edit that should run something"
    comment = "\n/* edited */\n" if name.endswith(".css") else "\n# edited\n"
    assert planned_with(edited, name, lambda text: text + comment) == expected(chosen)


def test_a_renamed_label_runs_what_shows_it_alone(edited: Study) -> None:
    name = "metrics/repetition.py"
    planned = planned_with(edited, name, lambda text: text.replace('short_label="', 'short_label="other ', 1))
    assert planned == expected(SHOWN)


def test_a_renamed_optimiser_runs_the_reporting_alone(edited: Study) -> None:
    """Its name stands in runs.json, which all that is shown reads."""
    planned = planned_with(
        edited, "optimizers/sophia.py", lambda text: re.sub(r'(display\b.*= ")', r"\1Other ", text, count=1)
    )
    assert planned == expected(of_rules("describe_suite"))
    assert {rule for rule, _ in planned} == {"describe_suite", "table", "figure", "html_report"}


def test_a_moved_table_runs_the_reporting_alone(edited: Study) -> None:
    def moved(text: str) -> str:
        """The catalogue with `cost` before `main`."""
        line = next(line for line in text.splitlines(keepends=True) if line.startswith('    "cost": Item('))
        return text.replace(line, "", 1).replace("TABLES = {\n", "TABLES = {\n" + line, 1)

    assert planned_with(edited, "reporting/catalog.py", moved) == expected(SHOWN)


def test_a_new_method_beside_the_others_runs_nothing(edited: Study) -> None:
    text = (edited.folder / "pipeline_lib/objectives/grad_diff.py").read_text()
    new = edited.folder / "pipeline_lib/objectives/another.py"
    new.write_text(text.replace('Literal["Grad', 'Literal["Other'))
    try:
        assert edited.planned() == set()
    finally:
        new.unlink()


def planned_with(study: Study, name: str, change: Callable[[str], str]) -> set[tuple[str, str]]:
    path = study.folder / "pipeline_lib" / name
    text = path.read_text()
    assert change(text) != text
    path.write_text(change(text))
    try:
        return {job for job in study.planned() if job[0] != "all"}
    finally:
        path.write_text(text)


def test_place_and_clock_run_nothing(finished: Study, tmp_path: Path) -> None:
    """Results with Snakemake's records in a fresh checkout, in a folder that was moved, after a checkout
    of another branch and back: every file has another time, and some have another place."""
    clone = Study(tmp_path / "fresh" / "clone", SUITE)
    for name in ("results", ".snakemake"):  # as `cp -r` does: no time is kept
        shutil.copytree(finished.folder / name, clone.folder / name, copy_function=shutil.copyfile)
    assert clone.planned() == set()
    moved = Study.__new__(Study)
    moved.folder, moved.variables = tmp_path / "elsewhere", {}
    clone.folder.rename(moved.folder)
    for path in [*(moved.folder / "pipeline_lib").rglob("*.py"), *(moved.folder / "workflow").rglob("*")]:
        if path.is_file():
            path.write_bytes(path.read_bytes())
    assert moved.planned() == set()


def test_a_fetched_folder_redraws_one_figure_with_one_job(finished: Study, tmp_path: Path) -> None:
    """Results alone, without Snakemake's records and without models, as one fetches them from a cluster."""
    clone = Study(tmp_path / "clone", SUITE)
    without = shutil.ignore_patterns("models", "checkpoints")
    shutil.copytree(finished.results, clone.results, ignore=without, copy_function=shutil.copyfile)
    (clone.results / "figures/tradeoff.svg").unlink()
    assert clone.planned("results/small/figures/tradeoff.svg") == {("figure", "figure/tradeoff.log")}
