"""Starting the processes of a job, and what is told when one of them dies."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline_lib.core.errors import UserError
from pipeline_lib.distributed.launch import Processes, _reason, call
from tests.distributed import calls
from tests.paths import REPO

CPU = {"device": "cpu"}


def alive(pid: int) -> bool:
    """Whether this process runs; one that has ended and is not yet collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone(pids: list[int]) -> bool:
    deadline = time.monotonic() + 30
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not any(map(alive, pids))


@pytest.mark.parametrize(
    ("deaths", "told"),
    [
        ({0: 1, 1: 3}, "process 1 (from 0) of 2 processes ended without a word, with exit status 3"),
        ({0: 1, 1: -9}, "process 1 (from 0) of 2 processes was ended by signal 9"),
        ({0: 3, 1: 3}, "process 0 (from 0) of 2 processes ended without a word, with exit status 3"),
        ({1: 1}, "process 1 (from 0) of 2 processes ended without a word, with exit status 1"),
        ({0: -15, 1: -9}, "process 1 (from 0) of 2 processes was ended by signal 9"),  # 0 by the launcher
        ({-1: -15}, "asked to end by a signal (SIGTERM)"),
    ],
)
def test_one_that_merely_lost_the_others_is_not_the_cause(tmp_path, deaths, told):
    """It may end with status 1 before it can say so, as on a busy machine."""
    assert told in str(_reason(deaths, tmp_path, Processes(2)))


@pytest.mark.parametrize(("code", "told"), [(-9, "signal 9"), (3, "exit status 3"), (1, "asked to end")])
def test_one_that_the_launcher_asked_to_end_is_not_the_cause(tmp_path, code, told):
    """On a busy machine the request comes before the exchange with the dead process fails."""
    error = {"rank": 0, "user": True, "message": "asked to end", "time": 1.0}
    (tmp_path / "error.0.json").write_text(json.dumps({**error, "stopped": True, "lost_another": False}))
    assert told in str(_reason({0: 1, 1: code}, tmp_path, Processes(2)))


def test_one_process_is_a_plain_call(tmp_path):
    seen = []
    call(lambda **given: seen.append(given), {"a": 1}, Processes(), tmp_path / "p", None)
    assert seen == [{"a": 1}]
    assert list(tmp_path.iterdir()) == []


def test_each_process_gets_the_arguments_and_the_log_holds_all_they_say(tmp_path):
    log = tmp_path / "log"
    log.write_text("before\n")
    before = dict(os.environ)
    arguments = {"folder": tmp_path, "words": ["a b", "$(c)"], **CPU}
    call(calls.tell, arguments, Processes(2), tmp_path / "p", log)
    assert [(tmp_path / f"{rank}.txt").read_text() for rank in (0, 1)] == ["2 1 True True"] * 2
    text = log.read_text()
    assert text.startswith("before\n") and "rank 0 was here" in text and "rank 1 was here" in text
    assert not (tmp_path / "p").exists()
    assert dict(os.environ) == before


@pytest.mark.parametrize(
    "how, kind, message",
    [
        (
            "kill",
            UserError,
            r"process 1 .from 0. of 2 processes .*signal 9 \(SIGKILL\).*out of memory.*last checkpoint",
        ),
        ("user", UserError, "^the plum is not ripe; expected a ripe one$"),
        ("defect", RuntimeError, "process 1 of 2 failed: KeyError: 'missing-piece'"),
        ("silent", UserError, "process 1 .from 0. of 2 processes ended without a word, with exit status 3"),
    ],
)
def test_a_dead_process_ends_the_others_and_is_told(how, kind, message, tmp_path):
    started = time.monotonic()
    log = tmp_path / "log"
    with pytest.raises(kind, match=message):
        call(calls.die, {"folder": tmp_path, "how": how, **CPU}, Processes(2), tmp_path / "p", log)
    assert time.monotonic() - started < 300  # and not the hours that an exchange may wait
    assert gone([int((tmp_path / f"pid{rank}").read_text()) for rank in (0, 1)])
    assert not (tmp_path / "p").exists()
    assert how != "defect" or "missing-piece" in log.read_text()


def test_processes_that_read_different_things_say_so(tmp_path):
    with pytest.raises(UserError, match="do not agree on the number: 0, 1 "):
        call(calls.disagree, CPU, Processes(2), tmp_path / "p", tmp_path / "log")


def test_processes_end_with_a_job_that_is_killed(tmp_path):
    program = (
        "import sys; from pathlib import Path; from pipeline_lib.distributed.launch import Processes, call;"
        "from tests.distributed import calls; folder = Path(sys.argv[1]);"
        "call(calls.linger, {'folder': folder, 'device': 'cpu'}, Processes(2), folder / 'p', None)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], cwd=REPO, stderr=subprocess.DEVNULL
    ) as job:
        files = [tmp_path / f"pid{rank}" for rank in (0, 1)]
        while not all(file.exists() and file.read_text() for file in files):
            assert job.poll() is None
            time.sleep(0.1)
        os.kill(job.pid, signal.SIGKILL)
    assert gone([int(file.read_text()) for file in files])


# --- several nodes --------------------------------------------------------------------------------

SRUN = """#!{python}
# What srun does for a job step, on this machine alone: tasks with their ranks, an end with the first failure.
import os, subprocess, sys, time
options = dict(o[2:].split("=") for o in sys.argv[1:] if o.startswith("--") and "=" in o)
command = [o for o in sys.argv[1:] if not o.startswith("--")]
size, on_node = int(options["ntasks"]), int(options["ntasks-per-node"])
assert "--overlap" in sys.argv and options["kill-on-bad-exit"] == "1"
assert int(options["nodes"]) * on_node == size
assert options["cpus-per-task"] == "3" and "SLURM_MEM_PER_NODE" not in os.environ
tasks = [
    subprocess.Popen(command, env={{**os.environ, "SLURM_PROCID": str(r), "SLURM_NTASKS": str(size),
                                    "SLURM_LOCALID": str(r % on_node)}})
    for r in range(size)
]
while any(t.poll() is None for t in tasks) and not any(t.poll() for t in tasks):
    time.sleep(0.05)
for t in tasks:
    if t.poll() is None:
        t.terminate()
        t.wait()
codes = [t.returncode if t.returncode >= 0 else 128 - t.returncode for t in tasks]
sys.exit(next((c for c in codes if c == 137), max(codes)))
"""


@pytest.fixture
def allocation(tmp_path, monkeypatch):
    """A job of a cluster, as far as a stand-in for srun can tell."""
    binary = tmp_path / "bin" / "srun"
    binary.parent.mkdir()
    binary.write_text(SRUN.format(python=sys.executable))
    binary.chmod(binary.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{binary.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "7")


def test_processes_of_several_nodes_start_through_srun_and_find_each_other(allocation, tmp_path):
    arguments, log = {"folder": tmp_path, "words": ["a b", "$(c)"], **CPU}, tmp_path / "log"
    call(calls.tell, arguments, Processes(1, nodes=2, threads=3), tmp_path / "p", log)
    assert [(tmp_path / f"{rank}.txt").read_text() for rank in (0, 1)] == ["2 1 True True"] * 2


@pytest.mark.parametrize(
    "how, message",
    [("user", "^the plum is not ripe"), ("kill", r"^one of 2 processes was ended by signal 9 \(SIGKILL\)")],
)
def test_what_happened_on_another_node_is_told(how, message, allocation, tmp_path):
    arguments, log = {"folder": tmp_path, "how": how, **CPU}, tmp_path / "log"
    with pytest.raises(UserError, match=message):
        call(calls.die, arguments, Processes(1, nodes=2, threads=3), tmp_path / "p", log)


def test_several_nodes_need_an_allocation(tmp_path, monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with pytest.raises(UserError, match=r"not in a SLURM allocation.*resources\.nodes: 1"):
        call(calls.tell, CPU, Processes(1, nodes=2), tmp_path / "p", None)
    assert list(tmp_path.iterdir()) == []
