"""A process that has the heavy packages imported, and becomes a job by a fork: no job imports them again.

`fork_client` starts it and sends it jobs. A request is a JSON object with the job, the environment, the
working folder, the search path and the ignored signals of the process that asks, whose standard streams come
with it. The job's process is a fork of this one with all of these, in a process group of its own: a signal to
the group of the asker reaches it once, through the asker. The library itself is never imported here: a job
runs the code that is there when it starts. Nothing here has used a GPU: where an import loads the driver of
one, which no fork survives, this process ends, and jobs do without.

It runs as a script, and ends when the process that started it has ended and the last job too.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import random
import select
import selectors
import shutil
import signal
import socket
import struct
import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# What the steps import beside the library. One that is not there is not imported by the job either.
PACKAGES = (
    "torch",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.llama.modeling_llama",
    "transformers.generation.utils",
    "safetensors.torch",
    "pydantic.type_adapter",
    "yaml",
    "pandas",
    "scipy.stats",
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_svg",
    "jinja2",
    "rouge_score.rouge_scorer",
    "sacrebleu.metrics.bleu",
)
STREAMS = 3  # stdin, stdout, stderr
LENGTH = 8  # bytes that say how long a request is
MOST = 1 << 28  # bytes of a request
SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)  # passed on
BEGUN, OWN = b"begun\n", b"own\n"  # answers: the job runs; run it yourself
DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)
DRIVER = "libcuda.so"  # loaded by the first call that counts devices, unless that asks NVML


class Job(BaseException):
    """Raised in the fork, to leave the server's code: the request that it is to become."""

    def __init__(self, request: dict[str, Any], streams: list[int]) -> None:
        self.request, self.streams = request, streams


@dataclass
class Asker:
    """One who asks, from the connection to the end of the job. `process`, `handle`: of its job (a pidfd)."""

    link: socket.socket
    received: bytearray = field(default_factory=bytearray)
    streams: list[int] = field(default_factory=list)
    process: int = 0
    handle: int = -1

    def request(self) -> dict[str, Any] | None:
        """The request, where all of it is there. Raises `ValueError` for what is none."""
        length = int.from_bytes(self.received[:LENGTH], "big")
        if len(self.received) < LENGTH:
            return None
        if length > MOST:
            raise ValueError("no request")
        if len(self.received) < LENGTH + length:
            return None
        found: dict[str, Any] = json.loads(self.received[LENGTH : LENGTH + length])
        return found

    def close(self) -> None:
        for descriptor in (*self.streams, *([self.handle] if self.handle >= 0 else [])):
            os.close(descriptor)
        self.streams, self.handle = [], -1
        self.link.close()


@dataclass
class Server:
    """`alive` can be read once the process that started this one has ended."""

    listener: socket.socket
    alive: int
    waiting: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    askers: list[Asker] = field(default_factory=list)

    def serve(self) -> None:
        """Until nobody can ask any more and no job is left. In a fork it raises `Job`."""
        self._watch(self.listener, self._accept)
        self._watch(self.alive, self._left_alone)
        while self.waiting.get_map():
            for key, _ in self.waiting.select():
                if self.waiting.get_map().get(key.fd) is key:  # not closed by an event before
                    key.data()

    def _watch(self, place: Any, act: Callable[[], None]) -> None:
        self.waiting.register(place, selectors.EVENT_READ, act)

    def _left_alone(self) -> None:
        self.waiting.unregister(self.alive)
        self.waiting.unregister(self.listener)
        self.listener.close()
        for asker in [asker for asker in self.askers if not asker.process]:
            self._part(asker)

    def _accept(self) -> None:
        asker = Asker(self.listener.accept()[0])
        asker.link.setblocking(False)
        if peer(asker.link) != os.getuid():
            asker.close()
            return
        self.askers.append(asker)
        self._watch(asker.link, lambda: self._hear(asker))

    def _hear(self, asker: Asker) -> None:
        """More of a request; or signals to pass on. Who says nothing is dead, and so is its job."""
        try:
            content, streams, _, _ = socket.recv_fds(asker.link, 1 << 16, STREAMS)
            asker.streams += streams
            if asker.process:
                self._pass_on(asker, content)
            elif not content:
                self._part(asker)
            else:
                asker.received += content
                if (request := asker.request()) is not None:
                    self._fork(asker, request)
        except (OSError, ValueError, MemoryError):  # nonsense, or no room for another process
            if asker.process:
                return
            with suppress(OSError):
                asker.link.sendall(OWN)
            self._part(asker)

    def _fork(self, asker: Asker, request: dict[str, Any]) -> None:
        process = os.fork()
        if process == 0:
            streams, asker.streams = asker.streams, []
            self.waiting.close()
            self.listener.close()
            os.close(self.alive)
            for other in self.askers:
                other.close()
            raise Job(request, streams)
        try:
            asker.handle = os.pidfd_open(process)
        except OSError:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            raise
        asker.process = process
        for stream in asker.streams:
            os.close(stream)
        asker.streams = []
        self._watch(asker.handle, lambda: self._ended(asker))
        asker.link.sendall(BEGUN)

    def _pass_on(self, asker: Asker, numbers: bytes) -> None:
        for number in set(numbers) & set(SIGNALS):
            signal.pidfd_send_signal(asker.handle, number)
        if not numbers:
            signal.pidfd_send_signal(asker.handle, signal.SIGKILL)
            self.waiting.unregister(asker.link)

    def _ended(self, asker: Asker) -> None:
        status = os.waitstatus_to_exitcode(os.waitpid(asker.process, 0)[1])
        self.waiting.unregister(asker.handle)
        with suppress(OSError):
            asker.link.sendall(f"{status}\n".encode())
        self._part(asker)

    def _part(self, asker: Asker) -> None:
        with suppress(KeyError):
            self.waiting.unregister(asker.link)
        self.askers.remove(asker)
        asker.close()


def peer(link: socket.socket) -> int:
    """The user at the other end."""
    credentials = link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])


def become(request: dict[str, Any], streams: list[int]) -> None:
    """Be the job's process: what the asker has, and nothing of the server but the imports."""
    ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
    os.setpgid(0, 0)
    for number in SIGNALS:
        usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN if number in request["ignored"] else usual)
    for place, stream in enumerate(streams):
        os.dup2(stream, place)
        os.close(stream)
    os.chdir(request["folder"])
    os.umask(request["umask"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.path[:], sys.argv[:] = request["path"], request["arguments"]
    tempfile.tempdir = None  # chosen anew, by this environment
    random.seed()
    for name, seed in (("numpy.random", "seed"), ("torch", "seed")):
        if name in sys.modules:
            getattr(sys.modules[name], seed)()
    importlib.import_module("pipeline_lib.steps.process").run(request["job"])


def serve(listener: int, alive: int, folder: str) -> None:
    """Import, say that this is ready, and serve."""
    for number in SIGNALS:  # the main process and the askers get them as well
        signal.signal(number, signal.SIG_IGN)
    for name in PACKAGES:
        if select.select([alive], [], [], 0)[0]:
            return  # it was over before this one was needed
        with suppress(ImportError):
            importlib.import_module(name)
    if DRIVER in Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace"):
        return
    gc.collect()
    gc.freeze()  # a collection in a job leaves the pages shared
    os.rename(Path(folder, "socket.early"), Path(folder, "socket"))
    Server(socket.socket(fileno=listener), alive).serve()


def main(listener: int, alive: int, folder: str) -> None:
    try:
        serve(listener, alive, folder)
    except Job as found:
        job = found
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    else:
        shutil.rmtree(folder, ignore_errors=True)
        return
    try:
        become(job.request, job.streams)
    except KeyboardInterrupt:
        traceback.print_exc()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    del sys.path[0]  # this folder, whose modules are the library's
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
