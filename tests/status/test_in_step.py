"""The list of a study's jobs is what Snakemake would run: rules, logs, benchmarks and results."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline_lib.config import parse_suite
from pipeline_lib.status.study import jobs_of_study
from tests.paths import REPO
from tests.workflow.study import SUITE, Study

TUNE = {
    "seeds": [100, 101],
    "trials": 2,
    "optimizers": {"adamw": {"learning_rate": {"low": 1e-4, "high": 1e-2, "scale": "log"}}},
    "select": {"forget": "ks_statistic"},
}


def with_everything() -> dict[str, Any]:
    """Two tasks, toxicity, benchmarks, two seeds, one row that is tuned, for distance from `retrained`."""
    suite = copy.deepcopy(SUITE)
    suite["seeds"] = [0, 1]
    demo = yaml.safe_load((REPO / "config.yaml").read_text())
    suite["tasks"]["manners"] = demo["tasks"]["manners"]  # which brings toxicity
    suite["runs"] = [{"methods": ["GradDiff"], "optimizers": ["adamw"]}]
    del suite["comparisons"]
    return {**suite, "tune": TUNE}


def by_probability() -> dict[str, Any]:
    suite = with_everything()
    return {**suite, "tune": {**TUNE, "select": {"forget": "probability"}}}


@pytest.mark.parametrize("make", [lambda: SUITE, with_everything, by_probability])
def test_jobs_are_those_of_the_workflow(tmp_path: Path, make) -> None:
    suite = make()
    study = Study(tmp_path / "project", suite)
    done = study.snakemake("--dry-run")
    assert done.returncode == 0, done.stdout
    texts = re.findall(r"^(?:local)?rule (\w+):\n((?:    .*\n)*)", done.stdout, re.MULTILINE)
    out = "results/small/"
    found = {}
    for rule, text in texts:
        fields = dict(re.findall(r"^    (\w+): (.*)$", text, re.MULTILINE))
        if rule != "all":
            found[fields["log"].removeprefix(out)] = (rule, fields)
    listed = {job.log: job for job in jobs_of_study(parse_suite(suite))}
    assert sorted(listed) == sorted(found)
    for log, (rule, fields) in found.items():
        job = listed[log]
        assert job.rule == rule
        assert out + job.result in fields["output"].split(", ")
        assert fields["benchmark"] == out + job.benchmark
