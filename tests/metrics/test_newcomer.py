"""A stranger's metric is the one file that CONTRIBUTING.md shows, and nothing else."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.paths import REPO

# In a copy of the library: the metric is computed, collected, printed and shown.
PROGRAM = """
import csv, json, sys
from pathlib import Path
from pipeline_lib.metrics import modules_for
from pipeline_lib.metrics.page import render
from pipeline_lib.metrics.scores import score_all
from pipeline_lib.reporting.catalog import TABLES
from pipeline_lib.reporting.inputs import Inputs
from pipeline_lib.reporting.tables import build_table
from tests.metrics.rows import make_row
from tests.reporting.study import Study

rows = [make_row(f"q{i}", "forget", f"g{i}", generation="word " * (i + 1)) for i in range(4)]
found = score_all(rows, None, {"evaluate": ["forget"], "utility": [], "multiple_choice": []}).metrics
study = Study(Path("study"), more={("forget", "answer_length"): 2.5}, diverged={}).write()
(table,) = build_table("collapse", Inputs(study.paths(*TABLES["collapse"].needs)))
with open("study/metrics.csv", newline="") as handle:
    collected = {row["value"] for row in csv.DictReader(handle) if row["metric"] == "answer_length"}
print(json.dumps({
    "row": next(row for row in found if row["metric"] == "answer_length"),
    "last": found[-1]["metric"],
    "collected": sorted(collected)[0],
    "columns": table.columns,
    "page": "| `answer_length` | Answer length (words) | · | 0 to inf |" in render(),
    "modules": modules_for({}, ["forget"]),
}))
"""


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    place = tmp_path_factory.mktemp("copy")
    for name in ("pipeline_lib", "tests"):
        shutil.copytree(REPO / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    text = (REPO / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n# (pipeline_lib/metrics/\S+)\n(.*?)```\n", text, flags=re.DOTALL)
    file, code = block
    (place / file).write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(place)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_it_is_computed_with_an_interval_after_all_others(shown):
    row = shown["row"]
    assert (row["split"], row["value"], row["n"], row["higher_is_better"]) == ("forget", 2.5, 4, None)
    assert 1 <= row["ci_low"] < 2.5 < row["ci_high"] <= 4
    assert shown["last"] == "answer_length"


def test_it_stands_in_metrics_csv_on_the_page_and_in_its_table(shown):
    assert float(shown["collected"]) == 2.5
    assert shown["page"]
    assert any("nswer length (words)" in column for column in shown["columns"])


def test_a_run_depends_on_its_file(shown):
    assert "pipeline_lib.metrics.answer_length" in shown["modules"]


def test_a_name_that_is_taken_is_refused(tmp_path):
    shutil.copytree(
        REPO / "pipeline_lib", tmp_path / "pipeline_lib", ignore=shutil.ignore_patterns("__pycache__")
    )
    metrics = tmp_path / "pipeline_lib" / "metrics"
    shutil.copy(metrics / "empty_answers.py", metrics / "once_more.py")
    done = subprocess.run(
        [sys.executable, "-c", "from pipeline_lib.metrics import declared; declared()"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "two metrics are called 'empty_answers'; give one of them another name" in done.stderr
