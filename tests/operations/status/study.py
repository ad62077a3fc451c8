"""A study of made-up files, to be looked at."""

from __future__ import annotations

import copy
import json
import os
import time
from pathlib import Path
from typing import Any

from pipeline_lib.core.joblog import progress_file, start_line
from pipeline_lib.study import Suite, parse_suite
from pipeline_lib.study.graph import Graph
from pipeline_lib.study.jobs import Job
from tests.workflow.study import SUITE

ELSEWHERE = "started 2026-01-02 03:04:05 UTC on another-machine, process 1\n"
DEAD = 2**22 + 1  # no process has this number: it is above the largest that Linux gives


def small_suite(**changes: Any) -> Suite:
    """The suite of the workflow's tests: five rows of one seed, beside original and retrained."""
    return parse_suite({**copy.deepcopy(SUITE), "stages": {}, **changes})


class Files:
    """The results folder, with what jobs leave there."""

    def __init__(self, out: Path, suite: Suite) -> None:
        self.out, self.suite = out, suite
        self.jobs = {job.title: job for job in Graph(suite).study()}

    def write(self, place: str, text: str, age: float = 0.0) -> Path:
        path = self.out / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        moment = time.time() - age
        os.utime(path, (moment, moment))
        return path

    def done(self, title: str, seconds: float = 10.0, status: str = "ok", age: float = 0.0) -> Job:
        job = self.jobs[title]
        self.write(job.result, json.dumps({"status": status, "request": 0}), age)
        self.write(job.benchmark, f"s\th:m:s\tmax_rss\n{seconds}\t0:00:10\t463.8\n", age)
        self.write(job.log, start_line(), age)
        return job

    def log(
        self, title: str, text: str, start: str = ELSEWHERE, age: float = 0.0, left: float | None = None
    ) -> Path:
        """Where time is `left`, the last line of the text is one of progress, and says so."""
        path = self.write(self.jobs[title].log, start + text, age)
        if left is not None:
            told = {"line": text.splitlines()[-1], "seconds_left": left}
            progress_file(path).write_text(json.dumps(told))
        return path
