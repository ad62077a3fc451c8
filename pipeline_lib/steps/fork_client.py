"""In which process a job runs: in a fork of one that has the heavy packages imported, or else in this one.

The main process starts a `fork_server` for its jobs on this machine and names its socket in the environment.
A job that finds none there, or one of another Python (conda environments, containers, other machines), or is
told to, runs in its own process. Either way it is the same job: same results, files, log and signals. Of a
fork, Snakemake's own measurements of memory and processor time are those of the process that waits for it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline_lib.steps import process
from pipeline_lib.steps.fork_server import BEGUN, LENGTH, OWN, SIGNALS, peer

SOCKET = "PIPELINE_FORK_SERVER"  # "off": none is started; else the socket and the Python that listens
OFF = "off"
ENOUGH = 4  # jobs; for fewer the server would not be ready in time
LOST = (
    "error: the process of which jobs are forks has ended, most often because the machine ran out of memory. "
    f"The job continues where it was when it is run again; {SOCKET}={OFF} does without that process."
)


class Forks:
    """The server of this process, for its jobs on this machine."""

    def __init__(self) -> None:
        self._end: int | None = None
        self._server: subprocess.Popen[bytes] | None = None

    def start(self, jobs: int) -> None:
        """Start it for so many jobs, unless they are few or forks are not at hand.

        It ends by itself with this process, however that ends.
        """
        if jobs < ENOUGH or not _can_watch() or os.environ.get(SOCKET) == OFF:
            return
        listener, folder = socket.socket(socket.AF_UNIX), ""
        try:
            folder = tempfile.mkdtemp(prefix="unlearning-")  # open to this user alone
            listener.bind(f"{folder}/socket.early")
        except OSError:  # no space, or a path too long for a socket: each job imports for itself
            listener.close()
            shutil.rmtree(folder, ignore_errors=True)
            return
        listener.listen(128)
        alive, self._end = os.pipe()
        script = Path(__file__).with_name("fork_server.py")
        # Libraries for linear algebra read their number of threads when they are loaded, and each job sets
        # torch's. With one thread nothing is started that a fork would lose; nor by arrow's own allocator.
        single = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}
        single |= {"PYTORCH_NVML_BASED_CUDA_CHECK": "1", "ARROW_DEFAULT_MEMORY_POOL": "system"}
        self._server = subprocess.Popen(  # noqa: S603
            [sys.executable, str(script), str(listener.fileno()), str(alive), folder],
            pass_fds=(listener.fileno(), alive),
            env={**os.environ, **single},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        listener.close()
        os.close(alive)
        os.environ[SOCKET] = f"{folder}/socket:{_python()}"

    def end(self) -> None:
        if self._end is not None and self._server is not None:
            os.environ.pop(SOCKET, None)
            os.close(self._end)
            self._end = None
            with suppress(subprocess.TimeoutExpired):
                self._server.wait(10)


def run(asked: Mapping[str, Any]) -> None:
    """Run a job (see `process.run`), and end as its process does where that is another one."""
    server = _connected()
    if server is None or (answer := _answer(server, asked)) == OWN:
        process.run(asked)
        return
    if not answer:
        print(LOST, file=sys.stderr)
        sys.exit(1)
    if int(answer) < 0:  # ended by a signal
        with suppress(OSError):  # SIGKILL has no other meaning
            signal.signal(-int(answer), signal.SIG_DFL)
        os.kill(os.getpid(), -int(answer))
    sys.exit(int(answer))


def _answer(server: socket.socket, asked: Mapping[str, Any]) -> bytes:
    """How the job ended; OWN where it was not begun; empty where the server ended before it.

    Signals wait until the request is sent, and are passed on once the job is there to get them.
    """
    usual = {number: signal.getsignal(number) for number in SIGNALS}
    heard = [number for number in SIGNALS if usual[number] != signal.SIG_IGN]
    signal.pthread_sigmask(signal.SIG_BLOCK, heard)
    try:
        with server, suppress(OSError):
            body = _request(asked, [number for number in SIGNALS if number not in heard])
            server.sendall(body[socket.send_fds(server, [body], (0, 1, 2)) :])
            with server.makefile("rb") as lines:
                if lines.readline() != BEGUN:
                    return OWN
                for number in heard:
                    signal.signal(number, lambda number, frame: _pass_on(server, number))
                signal.pthread_sigmask(signal.SIG_UNBLOCK, heard)
                with suppress(ConnectionError):
                    return lines.readline()
                return b""
        return OWN
    finally:
        for number in heard:
            signal.signal(number, usual[number])
        signal.pthread_sigmask(signal.SIG_UNBLOCK, heard)


def _pass_on(server: socket.socket, number: int) -> None:
    with suppress(OSError):  # the job has ended
        server.sendall(bytes([number]))


def _connected() -> socket.socket | None:
    """The server, where there is one of this user and this Python that is ready."""
    place, _, python = os.environ.get(SOCKET, "").partition(":")
    if python != _python() or not os.path.exists(place) or not _has_streams():
        return None
    server = socket.socket(socket.AF_UNIX)
    with suppress(OSError):  # it is gone
        server.connect(place)
        if peer(server) == os.getuid():
            return server
    server.close()
    return None


def _has_streams() -> bool:
    """Whether stdin, stdout and stderr are open: the socket must not take the place of one."""
    try:
        return all(os.fstat(number) for number in range(3))
    except OSError:
        return False


def _request(asked: Mapping[str, Any], ignored: list[signal.Signals]) -> bytes:
    mask = os.umask(0)
    os.umask(mask)
    content = {
        "job": asked,
        "folder": os.getcwd(),
        "umask": mask,
        "environment": dict(os.environ),
        "path": sys.path,
        "arguments": sys.argv,
        "ignored": ignored,
    }
    body = json.dumps(content, allow_nan=False).encode()
    return len(body).to_bytes(LENGTH, "big") + body


def _can_watch() -> bool:
    """Whether this system tells the end of a process as the server needs it: Linux since 5.3."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        return False
    return True


def _python() -> str:
    """Which Python this is: that of another environment has other packages."""
    return f"{sys.version_info.major}.{sys.version_info.minor}:{sys.prefix}"
