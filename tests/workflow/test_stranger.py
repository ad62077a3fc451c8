"""What a stranger adds, as CONTRIBUTING and docs/tasks.md show it, runs from the suite to the report.

An objective, an optimiser, a metric, a stage and a task: each is the one file that is shown, no line more.
"""

from __future__ import annotations

import copy
import csv
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.paths import REPO
from tests.workflow.study import SUITE, Study

BLOCK = re.compile(r"```python\n# (pipeline_lib/\S+)\n(.*?)```\n", re.DOTALL)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    tasks = (REPO / "docs/tasks.md").read_text(encoding="utf-8")
    page = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", tasks, re.DOTALL)[-1])
    suite = copy.deepcopy(SUITE)
    suite["tasks"] = page["tasks"]
    suite["objectives"] = {"Hinge": {"bound": 3.0}}
    suite["optimizers"] = {"soft_sign": {"learning_rate": 1e-3}}
    suite["stages"] = {"shaken": {"kind": "noise", "scale": 0.05}}
    suite["evaluation"] = {"max_new_tokens": 8}
    del suite["runs"], suite["comparisons"]
    made = Study(tmp_path_factory.mktemp("stranger") / "project", suite)
    blocks = BLOCK.findall((REPO / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    assert {Path(file).parts[1] for file, _ in blocks} == {"objectives", "optimizers", "metrics", "stages"}
    for file, code in blocks:
        assert not (made.folder / file).exists()
        (made.folder / file).write_text(code, encoding="utf-8")
    task = made.folder / "pipeline_lib/tasks/colours/__init__.py"
    task.parent.mkdir()
    task.write_text(re.findall(r"```python\n(.*?)```", tasks, re.DOTALL)[-1], encoding="utf-8")
    return made


def unlearning(study: Study, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline_lib", *arguments],
        cwd=study.folder,
        env={**study.environment(), "PYTHONPATH": str(study.folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_validate_and_plan_know_the_newcomers(study: Study) -> None:
    told = unlearning(study, "validate", "suite.yaml")
    assert "suite.yaml: OK, 1 unlearning runs, 1 models of stages and 2 models to compare with" in told
    plan = unlearning(study, "plan", "suite.yaml")
    for words in ("Hinge+soft_sign", "Hinge+soft_sign/shaken"):
        assert words in plan
    made = {rule for rule, _ in study.planned()}
    assert {"prepare_data", "unlearn", "stage", "score", "html_report"} <= made


def test_their_numbers_stand_in_metrics_csv_and_in_the_report(study: Study) -> None:
    done = study.snakemake()
    assert done.returncode == 0, done.stdout[-4000:]
    with open(study.results / "metrics.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    lengths = {(row["method"], row["after"]) for row in rows if row["metric"] == "answer_length"}
    assert lengths >= {("original", ""), ("retrained", ""), ("Hinge", ""), ("Hinge", "shaken")}
    assert {row["task"] for row in rows} == {"colours"}
    assert {row["optimizer"] for row in rows} == {"none", "soft_sign"}
    report = (study.results / "report/index.html").read_text(encoding="utf-8")
    for words in ("Hinge + Soft sign", "Hinge + Soft sign, then shaken", "Answer length (words)"):
        assert words in report
    assert study.planned() == set()
