"""In which process a job runs: in a fork of one that has the heavy packages imported, or else in this one.

The main process starts a `fork_server` for its jobs on this machine and names its socket in the environment.
A job that finds none there, or one of another Python (conda environments, containers, other machines), runs
in its own process. Either way it is the same job: same results, same files, same log, same signals.
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
from pipeline_lib.steps.fork_server import LENGTH

SOCKET = "PIPELINE_FORK_SERVER"  # "off": none is started; else the socket and the Python that listens
OFF = "off"
ENOUGH = 4  # jobs; for fewer the server would not be ready in time
FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
LOST = (
    "error: the process of which jobs are forks has ended, most often because the machine ran out of memory. "
    f"The job continues where it was when it is run again; {SOCKET}={OFF} does without that process."
)


class Forks:
    """The server of this process, for its jobs on this machine."""

    def __init__(self) -> None:
        self._end: int | None = None

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
        # torch's. With one thread nothing is started that a fork would lose.
        single = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}
        subprocess.Popen(  # noqa: S603
            [sys.executable, str(script), str(listener.fileno()), str(alive), folder],
            pass_fds=(listener.fileno(), alive),
            env={**os.environ, **single, "PYTORCH_NVML_BASED_CUDA_CHECK": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        listener.close()
        os.close(alive)
        os.environ[SOCKET] = f"{folder}/socket:{_python()}"

    def end(self) -> None:
        if self._end is not None:
            os.environ.pop(SOCKET, None)
            os.close(self._end)
            self._end = None


def run(asked: Mapping[str, Any]) -> None:
    """Run a job (see `process.run`), and end as its process does where that is another one."""
    server = _connected()
    if server is None:
        process.run(asked)
        return
    with server:
        for number in FORWARDED:
            signal.signal(number, lambda number, frame: _sent(server, bytes([number])))
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the job gets it too, as it is in the same group
        answer = b""
        if _sent(server, _request(asked), (0, 1, 2)):
            with suppress(ConnectionError), server.makefile("rb") as lines:
                answer = lines.readline()
    if not answer:
        print(LOST, file=sys.stderr)
        sys.exit(1)
    if int(answer) < 0:  # ended by a signal
        with suppress(OSError):  # SIGKILL has no other meaning
            signal.signal(-int(answer), signal.SIG_DFL)
        os.kill(os.getpid(), -int(answer))
    sys.exit(int(answer))


def _connected() -> socket.socket | None:
    """The server, where there is one of this Python that is ready."""
    place, _, python = os.environ.get(SOCKET, "").partition(":")
    if python != _python() or not os.path.exists(place):
        return None
    server = socket.socket(socket.AF_UNIX)
    try:
        server.connect(place)
    except OSError:  # it is gone
        server.close()
        return None
    return server


def _request(asked: Mapping[str, Any]) -> bytes:
    mask = os.umask(0)
    os.umask(mask)
    content = {
        "job": asked,
        "folder": os.getcwd(),
        "umask": mask,
        "environment": dict(os.environ),
        "path": sys.path,
        "arguments": sys.argv,
    }
    body = json.dumps(content, allow_nan=False).encode()
    return len(body).to_bytes(LENGTH, "big") + body


def _sent(server: socket.socket, content: bytes, streams: tuple[int, ...] = ()) -> bool:
    try:
        first = socket.send_fds(server, [content], streams) if streams else 0
        server.sendall(content[first:])
    except OSError:
        return False
    return True


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
