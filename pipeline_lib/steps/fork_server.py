"""A process that has the heavy packages imported, and becomes a job by a fork: no job imports them again.

`fork_client` starts it (`started`) and sends it jobs (`run`). A request is a JSON object with the job, the
environment, the working folder and the search path of the process that asks, whose standard streams come
with it. The job's process is a fork of this one with all of these, so that it differs from a process of its
own in nothing but its parent and what is imported already. The library itself is never imported here: a job
runs the code that is there when it starts. Nothing here is a thread or has used a GPU, so a fork is safe:
where an import loads the driver of a GPU, which no fork survives, this process ends, and jobs do without.

It runs as a script, and ends when the process that started it has ended and the last job too.
"""

from __future__ import annotations

import atexit
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
import sys
import tempfile
import threading
import traceback
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
)
STREAMS = 3  # stdin, stdout, stderr
LENGTH = 8  # bytes that say how long a request is
DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)
DRIVER = "libcuda.so"  # loaded by the first call that counts devices, unless that asks NVML


@dataclass
class Server:
    """`folder` holds the socket. `alive` can be read once the process that started this one has ended."""

    listener: socket.socket
    alive: int
    folder: Path
    waiting: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    jobs: dict[int, tuple[int, socket.socket]] = field(default_factory=dict)  # pidfd -> process, its asker

    def serve(self) -> None:
        """Until nobody can ask any more and no job is left."""
        self.waiting.register(self.listener, selectors.EVENT_READ, self._asked)
        self.waiting.register(self.alive, selectors.EVENT_READ, self._left_alone)
        while self.jobs or self.waiting.get_map().get(self.alive) is not None:
            for key, _ in self.waiting.select():
                if key.fd in self.waiting.get_map():  # not closed by an event before
                    key.data(key.fd)

    def _left_alone(self, fd: int) -> None:
        self.waiting.unregister(self.alive)
        self.waiting.unregister(self.listener)

    def _asked(self, fd: int) -> None:
        asker = self.listener.accept()[0]
        try:
            request, streams = _received(asker)
        except (OSError, ValueError):  # who asked is gone
            asker.close()
            return
        process = os.fork()
        if process == 0:
            self._become(request, streams, asker)
        for stream in streams:
            os.close(stream)
        handle = os.pidfd_open(process)
        self.jobs[handle] = process, asker
        self.waiting.register(handle, selectors.EVENT_READ, self._ended)
        self.waiting.register(asker, selectors.EVENT_READ, lambda _: self._told(handle))

    def _told(self, handle: int) -> None:
        """Pass on the signals that the asker got; it is dead where it says nothing, and so is its job."""
        asker = self.jobs[handle][1]
        signals = b""
        with suppress(ConnectionError):
            signals = asker.recv(64)
        for number in signals:
            signal.pidfd_send_signal(handle, number)
        if not signals:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            self.waiting.unregister(asker)

    def _ended(self, handle: int) -> None:
        process, asker = self.jobs.pop(handle)
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        self.waiting.unregister(handle)
        os.close(handle)
        with suppress(KeyError):
            self.waiting.unregister(asker)
        with suppress(OSError):
            asker.sendall(f"{status}\n".encode())
        asker.close()

    def _become(self, request: dict[str, Any], streams: list[int], asker: socket.socket) -> None:
        """Turn this fork into the job's process; never returns."""
        status = 1
        try:
            ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
            self.waiting.close()
            for descriptor in (*streams, self.alive, *self.jobs):
                os.close(descriptor)
            for other in (self.listener, asker, *(asker for _, asker in self.jobs.values())):
                other.close()
            os.chdir(request["folder"])
            os.umask(request["umask"])
            os.environ.clear()
            os.environ.update(request["environment"])
            sys.path[:], sys.argv[:] = request["path"], request["arguments"]
            tempfile.tempdir = None  # chosen anew, by this environment
            random.seed()
            importlib.import_module("pipeline_lib.steps.process").run(request["job"])
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
            if isinstance(end.code, str):
                print(end.code, file=sys.stderr)
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
        except BaseException:
            traceback.print_exc()
        finally:
            with suppress(Exception):  # what the end of an interpreter does
                threading._shutdown()  # type: ignore[attr-defined]
                atexit._run_exitfuncs()
            for written in (sys.stdout, sys.stderr):
                with suppress(OSError, ValueError):
                    written.flush()
            os._exit(status)


def _received(asker: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """A request and the standard streams that came with it."""
    head, streams, _, _ = socket.recv_fds(asker, LENGTH, STREAMS)
    body = asker.recv(int.from_bytes(head, "big"), socket.MSG_WAITALL)
    return json.loads(body), list(streams)


def main(listener: int, alive: int, folder: str) -> None:
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):  # jobs and their askers get them as well
        signal.signal(number, signal.SIG_IGN)
    try:
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
        Server(socket.socket(fileno=listener), alive, Path(folder)).serve()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    del sys.path[0]  # this folder, whose modules are the library's
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
