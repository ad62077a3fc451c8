"""The logs that jobs write, and what the workflow says at its end."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

from pipeline_lib.core.joblog import read_start
from tests.paths import REPO
from tests.workflow.study import SUITE, Study

JOB = """
import sys
from pathlib import Path
sys.path.insert(0, {repo!r})
from pipeline_lib.core.meter import Meter
from pipeline_lib.steps.process import job
with job(Path({log!r})):
    with Meter(50, "step") as meter:
        meter.update(22)
        {end}
"""


def run_job(log: Path, end: str) -> tuple[int, list[str], str]:
    code = JOB.format(repo=str(REPO), log=str(log), end=end)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return done.returncode, log.read_text().splitlines(), done.stderr


def test_a_job_says_who_it_is_how_far_and_what_went_wrong(tmp_path: Path) -> None:
    raised = "from pipeline_lib.core.errors import UserError; raise UserError('no such split')"
    status, lines, terminal = run_job(tmp_path / "a/job.log", raised)
    assert status == 1
    assert read_start(lines[0]) is not None
    assert lines[1].startswith("step 22 of 50")
    assert lines[-1] == "error: no such split"
    assert terminal == "error: no such split\n"


def test_a_traceback_stands_below_the_state_that_it_ended(tmp_path: Path) -> None:
    status, lines, _ = run_job(tmp_path / "job.log", "raise OSError('disk')")
    assert status == 1
    assert lines[1].startswith("step 22 of 50")
    assert "Traceback (most recent call last):" in lines
    assert lines[-1] == "OSError: disk"


def test_a_job_that_ends_well_ends_its_last_line(tmp_path: Path) -> None:
    status, lines, terminal = run_job(tmp_path / "job.log", "meter.update(28)")
    assert (status, terminal) == (0, "")
    assert lines[-1].startswith("step 50 of 50")


def test_a_job_that_is_asked_to_end_says_what_is_kept(tmp_path: Path) -> None:
    status, lines, terminal = run_job(tmp_path / "job.log", "import os; os.kill(os.getpid(), 15)")
    assert status == 143
    assert lines[-1].startswith("stopped: asked to end by a signal (SIGTERM); what is finished is kept")
    assert terminal.strip() == lines[-1]
    assert not any("Traceback" in line for line in lines)


def test_the_workflow_ends_with_what_failed(tmp_path: Path) -> None:
    suite = copy.deepcopy(SUITE)
    suite["tasks"]["own"] = {"source": "tofu", "hub": "nobody/nothing"}
    study = Study(tmp_path / "project", suite)
    study.variables = {"HF_HUB_OFFLINE": "1", "PIPELINE_DATA": "", "HF_HOME": str(tmp_path / "empty")}
    targets = [f"results/small/data/{task}/manifest.json" for task in ("authors", "own")]
    done = study.snakemake(*targets)
    assert done.returncode != 0
    words = done.stdout[done.stdout.index("small: 1 of ") :]
    assert (
        "Failed: 1 job(s)\n  prepare_data own\n    results/small/logs/prepare_data/own.log ends with\n"
        in words
    )
    assert "      error: data set nobody/nothing at revision" in words
    again = study.snakemake(targets[0])
    assert again.returncode == 0, again.stdout
    assert "Failed:" not in again.stdout, "of an earlier call"
