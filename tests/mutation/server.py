"""Runs tests in forked processes, which find everything heavy imported: python server.py FOLDER [MODULE ...].

It imports the modules and changes into FOLDER, a copy of the repository. Then each line of standard input is
a request, and each line of standard output its answer, both JSON. A request has

    batches    lists of node ids; a batch is collected and run before the next one, in one process
    expected   node id -> seconds that the test takes where all is well
    record     true: run whole files (batches of paths), and note which lines of pipeline_lib each test runs

This file imports nothing of the repository, so that a forked process finds it as FOLDER has it.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import CodeType, FrameType
from typing import IO, Any

import pytest

MEMORY = 8 << 30  # bytes that a forked process may take on top: a fault may be an endless list
COLLECTING = 90.0  # seconds until the first test of a process starts, or the next batch is collected
PATIENCE = 20  # times what a test takes where all is well, and as many seconds on top
RECORDING = 600.0  # seconds for one test, or for collecting its file, where nothing is known yet
PR_SET_PDEATHSIG = 1  # of prctl
OPTIONS = ("-p", "no:cacheprovider", "-p", "no:xdist", "-q", "--tb=line")
Line = tuple[str, int]  # file and number


class Lines:
    """The lines of pipeline_lib that ran, each (file, number), kept apart for each test."""

    def __init__(self, library: Path) -> None:
        self.library = f"{library}{os.sep}"
        self.within: dict[CodeType, bool] = {}
        self.ran: set[Line] = set()

    def called(self, frame: FrameType, event: str, argument: object) -> Any:
        code = frame.f_code
        if code not in self.within:
            self.within[code] = code.co_filename.startswith(self.library)
        return self.line if self.within[code] else None

    def line(self, frame: FrameType, event: str, argument: object) -> Any:
        self.ran.add((frame.f_code.co_filename, frame.f_lineno))
        return self.line

    @contextmanager
    def apart(self) -> Iterator[set[Line]]:
        """The lines that run inside, also when they have run before."""
        before, self.ran = self.ran, set()
        try:
            yield self.ran
        finally:
            self.ran = before | self.ran


class Watch:
    """A plugin of pytest that writes what happens to a pipe, and chooses and orders the tests."""

    def __init__(self, pipe: IO[str], wanted: list[str] | None, lines: Lines | None) -> None:
        self.pipe, self.lines = pipe, lines
        self.shared: dict[tuple[str, str], tuple[set[Line], float]] = {}  # lines and seconds of fixtures
        self.sharing = 0.0  # seconds that the running test has spent in them
        self.place = None if wanted is None else {name: place for place, name in enumerate(wanted)}

    def tell(self, **event: object) -> None:
        self.pipe.write(json.dumps(event) + "\n")
        self.pipe.flush()

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if self.place is not None:
            place = self.place  # it may name a test that a fault in a list of parameters has removed
            items[:] = sorted((i for i in items if i.nodeid in place), key=lambda item: place[item.nodeid])

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any, request: Any) -> Any:
        """A fixture that tests share runs in the first of them; its lines and seconds are those of all."""
        if self.lines is None or fixturedef.scope == "function":
            return (yield)
        started = time.monotonic()
        with self.lines.apart() as ran:
            try:
                return (yield)
            finally:
                spent = time.monotonic() - started
                self.sharing += spent
                self.shared[fixturedef.argname, str(request.node.nodeid)] = ran, spent

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        self.tell(test=item.nodeid)
        self.how, self.worst, self.sharing = "", "passed", 0.0
        started = time.monotonic()
        if self.lines is None:
            result = yield
        else:
            self.lines.ran = set()
            threading.settrace(self.lines.called)
            sys.settrace(self.lines.called)
            result = yield
            sys.settrace(None)
        seconds = round(time.monotonic() - started - self.sharing, 4)
        told = {"outcome": self.worst, "how": self.how, "seconds": seconds} | self.reached_by(item)
        self.tell(ended=item.nodeid, **told)
        return result

    def reached_by(self, item: pytest.Item) -> dict[str, Any]:
        """The `lines` of each file that the test and its fixtures ran; `setup`: seconds of shared ones."""
        if self.lines is None:
            return {}
        ran, setup = set(self.lines.ran), 0.0
        for (name, node), (shared, seconds) in self.shared.items():
            if name in getattr(item, "fixturenames", ()) and item.nodeid.startswith(node):
                ran |= shared
                setup += seconds
        found: dict[str, list[int]] = {}
        for file, line in sorted(ran):
            found.setdefault(os.path.relpath(file), []).append(line)
        return {"lines": found, "setup": round(setup, 4)}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.outcome != "passed" and self.worst != "failed":
            self.worst = report.outcome
            crash = getattr(report.longrepr, "reprcrash", None)
            self.how = str(crash.message if crash else report.longrepr)[:300]


def in_child(request: dict[str, Any], pipe: IO[str], scratch: str) -> None:
    """Run the batches up to the first failure, and tell the exit code of the last one."""
    folder = os.getcwd()
    sys.path[0] = folder
    os.environ |= {"PYTHONPATH": folder, "OMP_NUM_THREADS": "1", "TMPDIR": scratch}
    tempfile.tempdir = None
    lines = Lines(Path(folder, "pipeline_lib")) if request.get("record") else None
    for number, batch in enumerate(request["batches"]):
        files = list(dict.fromkeys(name.partition("::")[0] for name in batch))
        watch = Watch(pipe, None if lines else batch, lines)
        apart = [f"--basetemp={scratch}/{number}", *([] if lines else ["-x"])]
        code = pytest.main([*OPTIONS, *apart, *files], plugins=[watch])
        watch.tell(code=int(code))
        if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED) and not lines:
            break


def end_with_parent() -> None:
    """Whoever ends a run ends what it has started, too; elsewhere than on Linux it ends with its request."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))


def forked(request: dict[str, Any], scratch: str) -> tuple[int, int]:
    """Process id of the child and the end of the pipe that it writes to."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return child, reading
    end_with_parent()
    os.setsid()
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    os.close(reading)
    silence = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(silence, stream)
    try:
        in_child(request, os.fdopen(writing, "w"), scratch)
    finally:
        os._exit(0)


def served(request: dict[str, Any]) -> dict[str, Any]:
    """`outcome` (passed, failed, broken at import, crashed, timeout), by which `test`, `how`, `tried`."""
    scratch = tempfile.mkdtemp(prefix="tests-", dir=Path.cwd().parent)  # beside the copy
    child, reading = forked(request, scratch)
    answer: dict[str, Any] = {"outcome": "crashed", "test": "", "how": "", "tried": 0}
    tests: dict[str, Any] = {}
    expected, running, buffer = request.get("expected", {}), "", b""
    while True:
        if request.get("record"):
            patience = RECORDING
        else:
            patience = PATIENCE * (1 + expected[running]) if running else COLLECTING
        if not select.select([reading], [], [], patience)[0]:
            answer |= {"outcome": "timeout", "test": running, "how": f"more than {patience:.0f} s"}
            break
        chunk = os.read(reading, 1 << 20)
        if not chunk:
            break
        *whole, buffer = (buffer + chunk).split(b"\n")
        for event in map(json.loads, whole):
            if "test" in event:
                running = event["test"]
            elif "ended" in event:
                name, running = event.pop("ended"), ""
                tests[name] = event
                answer["tried"] += 1
                if event["outcome"] == "failed":
                    answer |= {"outcome": "failed", "test": name, "how": event["how"]}
            elif answer["outcome"] != "failed":
                answer["outcome"] = "passed" if event["code"] in (0, 5) else "broken"
    answer["test"] = answer["test"] or (running if answer["outcome"] == "crashed" else "")
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # what a test has left running, too
    os.waitpid(child, 0)
    os.close(reading)
    shutil.rmtree(scratch, ignore_errors=True)
    return answer | ({"tests": tests} if request.get("record") else {})


def main() -> None:
    end_with_parent()
    folder, *modules = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else is printed
    for name in modules:
        with suppress(ImportError):
            importlib.import_module(name)
    with tempfile.TemporaryDirectory() as empty:
        pytest.main(["--rootdir", empty, *OPTIONS, empty])  # imports its plugins
    os.chdir(folder)
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        answers.write(json.dumps(served(json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
