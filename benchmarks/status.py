"""How long the status of a study takes: python benchmarks/status.py [RUNS]

Results folders of made-up files, six tenths of their jobs done; seconds of wall clock and of this process.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from pathlib import Path

from pipeline_lib.core.joblog import start_line
from pipeline_lib.operations.status.report import report_of
from pipeline_lib.operations.status.text import status_text
from pipeline_lib.study import Suite, load_suite
from pipeline_lib.study.graph import Graph

SEEDS = 10
DEMO = Path(__file__).resolve().parents[1] / "config.yaml"


def study_of(runs: int) -> Suite:
    """The demo's first task with this many runs: a tenth as many optimisers, ten seeds each."""
    demo = load_suite(DEMO)
    values = demo.model_dump(mode="json", exclude={"runs", "comparisons"})
    values["suite"], values["seeds"] = "many", list(range(SEEDS))
    values["tasks"] = dict(list(values["tasks"].items())[:1])
    values["objectives"] = {"GradDiff": values["objectives"]["GradDiff"]}
    first = next(iter(values["optimizers"].values()))
    values["optimizers"] = {f"variant{i}": first for i in range(runs // SEEDS)}
    return Suite.model_validate(values)


def fill(suite: Suite, out: Path) -> int:
    """Results, logs and measurements of six tenths of the jobs; returns how many jobs the study has."""
    dice = random.Random(0)
    run = json.dumps({"status": "ok", "settings": "x" * 2500})  # as long as a run.json
    jobs = Graph(suite).study()
    for job in jobs:
        if dice.random() < 0.6:
            for place, text in (
                (job.result, run),
                (job.log, start_line()),
                (job.benchmark, "s\th:m:s\n9.69\t0:00:09\n"),
            ):
                path = out / place
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
    return len(jobs)


def main(counts: list[int]) -> None:
    print(f"{'runs':>8}  {'jobs':>8}  {'seconds':>8}  {'CPU':>8}")
    for runs in counts:
        with tempfile.TemporaryDirectory() as folder:
            suite = study_of(runs)
            jobs = fill(suite, Path(folder))
            began, worked = time.perf_counter(), time.process_time()
            status_text(report_of(suite, Path(folder)))
            taken, used = time.perf_counter() - began, time.process_time() - worked
            print(f"{runs:>8}  {jobs:>8}  {taken:>8.2f}  {used:>8.2f}")


if __name__ == "__main__":
    main([int(sys.argv[1])] if len(sys.argv) > 1 else [100, 1000, 10000])
