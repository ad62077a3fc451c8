"""States are told from files: results, logs that end in errors or in mid-air, locks and signs of life."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline_lib.core.joblog import start_line
from pipeline_lib.operations.status.logs import headline, read_log, slurm_log
from pipeline_lib.operations.status.states import Main, main_process, states_of
from tests.operations.status.study import DEAD, Files, small_suite
from tests.paths import REPO
from tests.workflow.study import SUITE

UNLEARN = "unlearn authors/tiny/GradDiff/adamw/seed0"
HERE_DEAD = start_line().replace(f"process {os.getpid()}", f"process {DEAD}")
PROGRESS = "step 22 of 50, loss=-0.1; 2 s so far, about 3 min left\n"
TRACEBACK = """Traceback (most recent call last):
  File "x.py", line 1, in <module>
    raise OSError
OSError: [Errno 28] No space left on device
"""


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path / "results/small", small_suite())


def state(files: Files, title: str = UNLEARN, main: Main | None = None) -> str:
    (found,) = states_of([files.jobs[title]], files.out, main)
    return found.state


def test_a_job_without_a_log_waits(files: Files) -> None:
    assert state(files) == "waiting"


def test_a_result_is_done_or_says_that_it_diverged(files: Files) -> None:
    files.done(UNLEARN)
    assert state(files) == "done"
    files.done(UNLEARN, status="diverged")
    assert state(files) == "diverged"


def test_only_what_is_made_by_training_diverges(tmp_path: Path) -> None:
    """A model of a stage or a trial says so; what is measured on it is done."""
    suite = small_suite(stages=SUITE["stages"])
    files = Files(tmp_path, suite)
    for title, expected in (
        ("stage authors/tiny/soup/none/seed0", "diverged"),
        (UNLEARN, "diverged"),
        (UNLEARN.replace("unlearn", "evaluate"), "done"),
    ):
        job = files.done(title, status="diverged")
        (found,) = states_of([job], tmp_path, None)
        assert found.state == expected, title


def test_a_result_of_anything_but_json_is_done(files: Files) -> None:
    files.write(files.jobs["table main"].result, "\\begin{tabular}")
    assert state(files, "table main") == "done"


@pytest.mark.parametrize("error", ["error: task own: no folder\n  give another\n", TRACEBACK])
def test_a_log_that_ends_with_an_error_failed(files: Files, error: str) -> None:
    files.log(UNLEARN, PROGRESS + error, HERE_DEAD)
    assert state(files) == "failed"
    files.log(UNLEARN, PROGRESS + error)  # on another machine, this moment, while a main process runs
    assert state(files, main=Main("1", time.time() - 60)) == "failed"


def test_an_error_that_was_overcome_is_none(files: Files) -> None:
    files.log(UNLEARN, TRACEBACK + PROGRESS, HERE_DEAD, left=180.0)
    assert state(files) == "stopped"


def test_a_process_of_this_machine_is_asked(files: Files) -> None:
    files.log(UNLEARN, PROGRESS, start_line(), age=10**6)
    assert state(files) == "running"
    files.log(UNLEARN, PROGRESS, HERE_DEAD)
    assert state(files, main=Main("1", 0.0)) == "stopped"


def test_elsewhere_signs_of_life_count(files: Files) -> None:
    files.log(UNLEARN, PROGRESS)
    assert state(files) == "running"
    files.log(UNLEARN, PROGRESS, age=1000)
    assert state(files) == "stopped"
    checkpoint = files.out / str(files.jobs[UNLEARN].work)
    checkpoint.mkdir(parents=True)
    assert state(files) == "running", "a checkpoint of this moment"


def test_elsewhere_a_main_process_vouches_for_jobs_that_began_after_it(files: Files) -> None:
    files.log(UNLEARN, PROGRESS, age=1000)
    assert state(files, main=Main("1", time.time() - 2000)) == "running"
    assert state(files, main=Main("1", time.time() - 500)) == "stopped"


def test_the_main_process_is_known_by_its_lock(tmp_path: Path) -> None:
    assert main_process(tmp_path) is None
    code = (
        "import sys; from pipeline_lib.core.locking import hold_lock; hold_lock(sys.argv[1]); "
        "print('held', flush=True); sys.stdin.read()"
    )
    held = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / ".lock")],
        cwd=REPO,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert held.stdout is not None
    held.stdout.readline()
    found = main_process(tmp_path)
    assert found is not None
    assert found.process == str(held.pid)
    assert time.time() - found.since < 60
    held.communicate("")
    assert (tmp_path / ".lock").is_file()
    assert main_process(tmp_path) is None, "the file stays, the lock does not"


def test_what_a_log_says_last(tmp_path: Path) -> None:
    path = tmp_path / "job.log"
    path.write_text(start_line() + "Loading 1 of 50\rLoading 22 of 50\r")
    log = read_log(path)
    assert log is not None
    assert (log.last, log.left, log.error) == ("Loading 22 of 50", None, ())


def test_a_job_that_has_just_begun_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "job.log"
    path.write_text(start_line())
    log = read_log(path)
    assert log is not None
    assert (log.last, log.left, log.error) == ("", None, ())


def test_the_time_left_stays_where_a_warning_was_printed_since(files: Files) -> None:
    path = files.log(UNLEARN, PROGRESS, left=180.0)
    path.write_text(path.read_text() + "a warning\n")
    log = read_log(path)
    assert log is not None
    assert (log.last, log.left) == ("a warning", 180.0)


def test_the_last_lines_of_a_long_log_are_read_alone(tmp_path: Path) -> None:
    path = tmp_path / "job.log"
    path.write_text("noise\n" * 200_000 + TRACEBACK)
    log = read_log(path)
    assert log is not None
    assert log.error == tuple(TRACEBACK.splitlines())
    assert headline(log.error) == "OSError: [Errno 28] No space left on device"


def test_bytes_that_are_no_text_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "job.log"
    path.write_bytes(b"\xff\xfe\x00 what\nerror: \xf0 no\n")
    log = read_log(path)
    assert log is not None
    assert log.error[0].startswith("error: ")


def test_slurms_own_log_is_found(tmp_path: Path) -> None:
    place = tmp_path / ".snakemake/slurm_logs/rule_trial/authors_tiny_GradDiff_adamw_3_100"
    place.mkdir(parents=True)
    for number, age in (("8", 50), ("9", 5)):
        (place / f"{number}.log").write_text("slurmstepd: error: CANCELLED DUE TO TIME LIMIT")
        os.utime(place / f"{number}.log", (time.time() - age,) * 2)
    found = slurm_log(tmp_path, "trial", "authors/tiny/GradDiff/adamw/trial3/seed100")
    assert found == place / "9.log"
    assert slurm_log(tmp_path, "trial", "authors/tiny/GradDiff/adamw/trial4/seed100") is None
