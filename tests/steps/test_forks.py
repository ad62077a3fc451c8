"""Jobs that are forks: what they find, how they end, and that they end with whoever waits for them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from pipeline_lib.core.joblog import read_start
from pipeline_lib.steps import fork_client
from pipeline_lib.steps.fork_client import LOST, OFF, SOCKET, Forks
from pipeline_lib.steps.fork_server import OWN, peer
from tests.paths import REPO

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="forks need Linux")

TOY = """
import atexit, json, os, sys, threading, time
from pathlib import Path
from pipeline_lib.core.errors import UserError
def run(job):
    kind = job.settings["kind"]
    found = {
        "parent": os.getppid(), "folder": os.getcwd(), "given": os.environ.get("GIVEN"), "mask": os.umask(0),
        "torch": "torch" in sys.modules, "threads": job.threads, "stdin": sys.stdin.read(),
        "argument": sys.argv[-1], "open": len(os.listdir("/proc/self/fd")),
    }
    import numpy, torch
    found["drawn"] = [float(numpy.random.rand()), float(torch.rand(1))]
    global kept
    kept = open("kept", "w")
    kept.write("whole")
    Path("early").write_text(json.dumps(found))
    os.replace("early", job.output("made"))  # whole where it is seen
    print("said to stdout"); print("said to stderr", file=sys.stderr)
    Path("left").write_text("")
    atexit.register(Path("left").unlink)
    threading.Thread(target=lambda: (time.sleep(0.2), Path("thread").touch())).start()
    if kind == "refuse":
        raise UserError("no such split")
    if kind == "break":
        raise ZeroDivisionError("by hand")
    while kind == "wait":
        time.sleep(0.01)
"""
CLIENT = """
import json, sys
sys.path[:0] = {path!r}
from pipeline_lib.steps import fork_client
fork_client.run(json.loads({asked!r}))
"""


@pytest.fixture(scope="module")
def forks() -> Iterator[dict[str, str]]:
    """The environment of a process that has a server which is ready."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(SOCKET, raising=False)
        server = Forks()
        server.start(99)
        wait_for(lambda: Path(os.environ[SOCKET].partition(":")[0]).exists())
        yield dict(os.environ)
        server.end()
        assert SOCKET not in os.environ


def wait_for(what: Callable[[], Any], seconds: float = 60) -> Any:
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)
    return found


def ask(folder: Path, environment: dict[str, str], kind: str = "go") -> subprocess.Popen[str]:
    (folder / "toy_step.py").write_text(TOY)
    asked = {
        "params": {"step": "toy_step", "settings": {"kind": kind}, "identity": {}, "code": "", "work": None},
        **{"inputs": {"some": ["a", "b"]}, "outputs": {"made": str(folder / "made.json")}},
        **{"log": str(folder / "job.log"), "threads": 3, "resources": {"device": "cpu"}},
    }
    code = CLIENT.format(path=[str(REPO), str(folder)], asked=json.dumps(asked))
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen(
        [sys.executable, "-c", code, "last"], cwd=folder, env=environment, text=True, umask=0o027, **streams
    )


def made(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "made.json").read_text())


def process_of(folder: Path) -> int:
    start = read_start((folder / "job.log").read_text().splitlines()[0])
    assert start is not None
    return start.process


def lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("forked", [True, False])
def test_a_job_finds_what_a_process_of_its_own_would_find(
    forked: bool, forks: dict[str, str], tmp_path: Path
) -> None:
    client = ask(tmp_path, {**forks, "GIVEN": "this", **({} if forked else {SOCKET: ""})})
    assert client.communicate("typed") == ("", "") and client.returncode == 0
    found = made(tmp_path)
    assert (found.pop("parent") == os.getpid(), found.pop("torch")) == (not forked, forked)
    assert (tmp_path / "thread").exists() and not (tmp_path / "left").exists(), "ended as an interpreter ends"
    assert (tmp_path / "kept").read_text() == "whole"
    assert len(set(found.pop("drawn"))) == 2
    assert found.pop("open") <= 6, "streams, log, lock and listing: nothing of others"
    assert found == {
        **{"folder": str(tmp_path), "given": "this", "mask": 0o027, "threads": 3},
        **{"stdin": "typed", "argument": "last"},
    }
    lines = (tmp_path / "job.log").read_text().splitlines()
    assert lines[1:] == ["said to stdout", "said to stderr"]
    assert (process_of(tmp_path) == client.pid) == (not forked)


def test_jobs_at_the_same_time_have_nothing_in_common(forks: dict[str, str], tmp_path: Path) -> None:
    places = [tmp_path / str(number) for number in range(3)]
    for place in places:
        place.mkdir()
    clients = [ask(place, {**forks, "GIVEN": place.name}) for place in places]
    for client in clients:
        assert client.communicate("") == ("", "")
    assert [made(place)["given"] for place in places] == ["0", "1", "2"]
    drawn = [number for place in places for number in made(place)["drawn"]]
    assert len(set(drawn)) == 6, "random numbers that nobody seeded are no job's in common"
    assert all(made(place)["open"] <= 6 for place in places)


@pytest.mark.parametrize("forked", [True, False])
@pytest.mark.parametrize(("kind", "last"), [("refuse", "error: no such split"), ("break", "by hand")])
def test_failures_are_told_alike(
    kind: str, last: str, forked: bool, forks: dict[str, str], tmp_path: Path
) -> None:
    client = ask(tmp_path, {**forks, **({} if forked else {SOCKET: ""})}, kind)
    terminal = client.communicate("")[1]
    assert client.returncode == 1
    assert terminal.rstrip().endswith(last)
    assert (tmp_path / "job.log").read_text().rstrip().endswith(last)


def test_a_signal_reaches_the_job(forks: dict[str, str], tmp_path: Path) -> None:
    client = ask(tmp_path, forks, "wait")
    client.stdin.close()
    wait_for((tmp_path / "made.json").exists)
    client.terminate()
    assert client.wait(30) == 143
    assert "stopped: asked to end by a signal (SIGTERM)" in (tmp_path / "job.log").read_text()


def test_a_signal_that_comes_twice_is_one(forks: dict[str, str], tmp_path: Path) -> None:
    """A scheduler sends it to every process of the job, and the client passes it on."""
    client = ask(tmp_path, forks, "wait")
    client.stdin.close()
    wait_for((tmp_path / "made.json").exists)
    os.kill(process_of(tmp_path), signal.SIGTERM)
    client.terminate()
    assert client.wait(30) == 143
    log = (tmp_path / "job.log").read_text()
    assert log.count("stopped: ") == 1 and "Traceback" not in log


def test_what_is_ignored_stays_ignored(forks: dict[str, str], tmp_path: Path) -> None:
    """As `nohup` does with the hang-up of a terminal."""
    hang_up = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's `&` ignores it
    try:
        client = ask(tmp_path, forks, "wait")
    finally:
        signal.signal(signal.SIGHUP, hang_up)
        signal.signal(signal.SIGINT, interrupt)
    client.stdin.close()
    wait_for((tmp_path / "made.json").exists)
    for process in (client.pid, process_of(tmp_path)):
        os.kill(process, signal.SIGHUP)
    time.sleep(0.3)
    assert client.poll() is None and lives(process_of(tmp_path))
    client.send_signal(signal.SIGINT)
    status, terminal = client.wait(30), client.stderr.read()
    assert "KeyboardInterrupt" in terminal and status == -signal.SIGINT, terminal


@pytest.mark.parametrize("said", [b"", b"\xff" * 8, b"\x00" * 8, (3).to_bytes(8, "big") + b"{}}"])
def test_nobody_holds_the_server_up_or_ends_it(said: bytes, forks: dict[str, str], tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.connect(forks[SOCKET].partition(":")[0])
        other.sendall(said)
        client = ask(tmp_path, forks)
        assert client.communicate("") == ("", "") and made(tmp_path)["torch"]
        assert not said or other.recv(9) == OWN


def test_a_job_without_an_open_stdout_runs_itself(forks: dict[str, str], tmp_path: Path) -> None:
    environment = {**forks, "PYTHONPATH": str(REPO)}
    code = (
        "import os; os.close(1); from pipeline_lib.steps import fork_client as f; assert not f._connected()"
    )
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0


def test_a_process_asks_only_a_server_of_its_own_user() -> None:
    one, two = socket.socketpair()
    with one, two:
        assert peer(one) == os.getuid()


@pytest.mark.parametrize("whom", ["client", "job", "server"])
def test_a_kill_of_one_ends_the_others(whom: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SOCKET, raising=False)
    server = Forks()
    server.start(99)
    folder = Path(os.environ[SOCKET].partition(":")[0]).parent
    wait_for((folder / "socket").exists)
    client = ask(tmp_path, dict(os.environ), "wait")
    client.stdin.close()
    wait_for((tmp_path / "made.json").exists)
    job, parent = process_of(tmp_path), made(tmp_path)["parent"]
    os.kill({"client": client.pid, "job": job, "server": parent}[whom], signal.SIGKILL)
    assert client.wait(30) == (1 if whom == "server" else -signal.SIGKILL)
    wait_for(lambda: not lives(job))
    if whom == "server":
        assert client.stderr.read().strip() == LOST
        again = ask(tmp_path, dict(os.environ))  # there is none any more
        assert again.communicate("")[1] == "" and made(tmp_path)["parent"] == os.getpid()
    server.end()
    wait_for(lambda: not lives(parent))
    assert whom == "server" or not folder.exists()


def test_it_ends_with_the_process_that_started_it_and_waits_for_the_last_job(tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        "from pipeline_lib.steps.fork_client import SOCKET, Forks\n"
        "Forks().start(99)\n"
        "print(os.environ[SOCKET], flush=True)\n"
        "sys.stdin.read()"
    )
    environment = {k: v for k, v in os.environ.items() if k != SOCKET} | {"PYTHONPATH": str(REPO)}
    main = subprocess.Popen(
        [sys.executable, "-c", code],
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    )
    place = main.stdout.readline().strip()
    folder = Path(place.partition(":")[0]).parent
    wait_for((folder / "socket").exists)
    client = ask(tmp_path, {**environment, SOCKET: place}, "wait")
    client.stdin.close()
    wait_for((tmp_path / "made.json").exists)
    main.kill()
    main.wait(30)
    time.sleep(0.3)
    late = tmp_path / "late"
    late.mkdir()
    assert ask(late, {**environment, SOCKET: place}).communicate("") == ("", ""), "it runs itself"
    assert not made(late)["torch"] or made(late)["parent"] == os.getpid()
    assert lives(process_of(tmp_path)) and client.poll() is None
    client.terminate()
    assert client.wait(30) == 143
    wait_for(lambda: not folder.exists())


@pytest.mark.parametrize(("jobs", "setting"), [(fork_client.ENOUGH - 1, None), (99, OFF)])
def test_none_is_started_for_few_jobs_or_where_it_is_switched_off(
    jobs: int, setting: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(SOCKET, raising=False)
    if setting is not None:
        monkeypatch.setenv(SOCKET, setting)
    forks = Forks()
    forks.start(jobs)
    assert os.environ.get(SOCKET) == setting
    forks.end()


def test_a_system_that_cannot_watch_processes_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(process: int) -> int:
        raise OSError("Function not implemented")

    monkeypatch.delenv(SOCKET, raising=False)
    monkeypatch.setattr(os, "pidfd_open", refuse)
    Forks().start(99)
    assert SOCKET not in os.environ


def test_an_import_that_loads_the_driver_of_a_gpu_ends_the_server(tmp_path: Path) -> None:
    """Any library of another name stands for it."""
    code = (
        "import os, socket, sys; from pathlib import Path; from pipeline_lib.steps import fork_server\n"
        "fork_server.PACKAGES, fork_server.DRIVER = ('json',), sys.argv[2]\n"
        "(Path(sys.argv[1]) / 'socket.early').touch(); read, write = os.pipe()\n"
        "fork_server.Server.serve = lambda server: print('ready')\n"
        "fork_server.main(socket.socket(socket.AF_UNIX).detach(), read, sys.argv[1])"
    )
    for driver, said in (("libc.so", ""), ("libcuda.so", "ready")):
        folder = tmp_path / driver
        folder.mkdir()
        done = subprocess.run(
            [sys.executable, "-c", code, str(folder), driver],
            capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(REPO)},
        )  # fmt: skip
        assert said in done.stdout and ("ready" in done.stdout) == bool(said), done.stderr
        assert not folder.exists()


@pytest.mark.parametrize("name", ["x" * 120, "absent/absent"])
def test_a_temporary_folder_that_cannot_hold_a_socket_does_without(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(SOCKET, raising=False)
    with suppress(FileNotFoundError):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / name))
    Forks().start(99)
    assert SOCKET not in os.environ
    assert not any((tmp_path / name).glob("*"))


def test_another_python_runs_its_job_itself(forks: dict[str, str], tmp_path: Path) -> None:
    client = ask(tmp_path, {**forks, SOCKET: forks[SOCKET] + "-of-conda"})
    assert client.communicate("") == ("", "")
    assert made(tmp_path)["parent"] == os.getpid()
