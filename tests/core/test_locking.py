"""One main process at a results folder, and no lock left when it is killed."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys

import pytest

from pipeline_lib.core import locking
from pipeline_lib.core.errors import UserError
from pipeline_lib.core.locking import hold_lock, only_one
from tests.paths import REPO

HOLDER = (
    "import sys; from pipeline_lib.core.locking import hold_lock; "
    "hold_lock(sys.argv[1]); print(1, flush=True); "
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


def test_only_one_process_runs_a_job_and_leaves_no_lock(tmp_path):
    path = tmp_path / "logs" / ".seed0.log.running"
    with only_one(path, "this job"):
        command = [sys.executable, "-c", HOLDER, str(path)]  # the same lock, taken by another process
        refused = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)
        assert refused.returncode == 1 and f"process {os.getpid()}" in refused.stderr
        refusal = pytest.raises(UserError, match=rf"this job still runs as process {os.getpid()}.*kill")
        with refusal, only_one(path, "this job"):
            pytest.fail("two at once")
        assert path.read_text() == f"{os.getpid()}\n"
    assert not path.exists()
    with only_one(path, "this job"):
        pass


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "results").write_text("a file where the folder should be")
    with pytest.raises(UserError, match=r"\.lock cannot be written: .*Check the folder"):
        hold_lock(tmp_path / "results" / ".lock")


def test_a_file_system_without_locks_gets_a_warning(tmp_path, monkeypatch, capsys):
    def none(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locking.fcntl, "flock", none)
    hold_lock(tmp_path / ".lock")
    assert "this file system has no locks (No locks available)" in capsys.readouterr().err
