"""The task that docs/tasks.md shows whole: put into a folder of its own, checked, and run to its report."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest
import yaml

from pipeline_lib.core.files import read_json
from tests.paths import REPO
from tests.workflow.study import Study


def block(language: str) -> str:
    return re.findall(rf"```{language}\n(.*?)```", (REPO / "docs/tasks.md").read_text(), re.DOTALL)[-1]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A copy of the project, the page's suite, and the page's task in a place of its own."""
    own = tmp_path_factory.mktemp("own") / "tasks"
    (own / "colours").mkdir(parents=True)
    (own / "colours" / "__init__.py").write_text(block("python"))
    made = Study(tmp_path_factory.mktemp("study") / "project", yaml.safe_load(block("yaml")))
    made.variables = {"PIPELINE_TASKS": str(own)}
    return made


def test_the_page_runs_as_it_stands(study):
    done = study.snakemake()
    assert done.returncode == 0, done.stdout
    results = study.folder / "results" / "colours"
    assert (results / "report/index.html").is_file()
    manifest = read_json(results / "data/colours/manifest.json")
    assert manifest["settings"]["n_things"] == 24 and manifest["splits"]["forget"]["groups"] == 6
    with open(results / "metrics.csv", newline="") as handle:
        found = {(row["method"], row["split"], row["metric"]) for row in csv.DictReader(handle)}
    for method in ("original", "retrained", "GradDiff"):
        assert {(method, "forget", "ks_statistic"), (method, "utility", "model_utility")} <= found

    assert study.planned() == set()
    code = Path(study.variables["PIPELINE_TASKS"]) / "colours" / "__init__.py"
    code.write_text(code.read_text() + "\n# edited\n")
    assert "prepare_data" in {rule for rule, _ in study.planned()}, "a change of the task's code counts"


def test_its_settings_are_checked_like_any_others(study):
    suite = yaml.safe_load(block("yaml"))
    suite["tasks"]["colours"]["n_thing"] = 3
    study.write(suite)
    done = study.snakemake("--dry-run")
    assert done.returncode != 0
    assert "tasks.colours.n_thing: unknown key 'n_thing'; did you mean 'n_things'?" in done.stdout
    del study.variables["PIPELINE_TASKS"]
    assert "found 'colours'; allowed: " in study.snakemake("--dry-run").stdout


def test_a_study_without_a_retrained_model_runs_to_its_report(tmp_path):
    """An empty list of what `retrained` learns, where the settings say that there is none."""
    own = tmp_path / "tasks"
    (own / "colours").mkdir(parents=True)
    code, count = re.subn(r'"retrained": \[[^\]]+\]', '"retrained": []', block("python"))
    assert count == 1
    answer = "    def has_retrained(self) -> bool:\n        return False\n\n    def load(self)"
    (own / "colours" / "__init__.py").write_text(code.replace("    def load(self)", answer))
    made = Study(tmp_path / "project", yaml.safe_load(block("yaml")))
    made.variables = {"PIPELINE_TASKS": str(own)}
    done = made.snakemake()
    assert done.returncode == 0, done.stdout
    results = made.folder / "results" / "colours"
    assert "retrained" not in read_json(results / "data/colours/manifest.json")["finetune"]
    table = (results / "tables/main.md").read_text()
    assert "Not measured for this task: KS D, Forget quality log10 p (need wrong answers" in table
    assert (results / "report/index.html").is_file()
