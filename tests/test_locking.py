"""One main process at a results folder, and no lock left when it is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from pipeline_lib.errors import UserError
from pipeline_lib.locking import hold_lock
from tests.paths import REPO

HOLDER = (
    "import sys; from pipeline_lib.locking import hold_lock; hold_lock(sys.argv[1]); print(1, flush=True); "
)


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock, and the lock's path."""
    path = tmp_path / "results" / "demo" / ".lock"
    command = [sys.executable, "-c", HOLDER + "sys.stdin.read()", str(path)]
    with subprocess.Popen(command, cwd=REPO, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"1\n"
        yield process, path
        process.kill()


def test_a_second_process_is_refused_and_told_who_has_it(holder):
    process, path = holder
    with pytest.raises(
        UserError, match=rf"{path.parent} is in use by another snakemake \(process {process.pid}\)"
    ):
        hold_lock(path)
    assert path.read_text() == f"{process.pid}\n"  # asking changed nothing
    assert process.poll() is None


def test_the_lock_is_gone_after_kill_9(holder):
    process, path = holder
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    hold_lock(path)
    assert path.read_text() == f"{os.getpid()}\n"
    command = [sys.executable, "-c", HOLDER, str(path)]
    refused = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)
    assert refused.returncode == 1 and f"process {os.getpid()}" in refused.stderr


def test_the_lock_is_gone_after_a_normal_end(holder):
    process, path = holder
    process.stdin.close()
    assert process.wait() == 0
    hold_lock(path)


def test_two_folders_do_not_disturb_each_other(holder):
    _, path = holder
    hold_lock(path.parent.parent / "other" / ".lock")
