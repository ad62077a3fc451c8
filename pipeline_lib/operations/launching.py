"""Run the workflow in a process of its own, with a view of how far it is."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pipeline_lib.core.shipped import WORKFLOW
from pipeline_lib.study import load_suite

REASON = 12  # the last lines of Snakemake's output, where no job says why it failed


def launch(
    path: Path,
    folder: Path,
    cores: str | None = None,
    arguments: Sequence[str] = (),
    verbose: bool = False,
    brief: bool = False,
) -> int:
    """Run the suite file with results/ in `folder`; returns the exit status, as shells give it.

    `arguments` go to Snakemake as they are. `verbose`: its own output in place of the view. `brief`: nothing
    is said where nothing had to be done. A request to end reaches its jobs, which write their checkpoints.
    """
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(WORKFLOW / "Snakefile")]
    command += ["--configfile", str(path.resolve()), "--directory", str(folder.resolve())]
    command += [*(["--cores", cores] if cores else []), *arguments]
    if verbose:
        with _passing_on(process := subprocess.Popen(command)):  # noqa: S603
            return _ended(process)

    from rich.console import Console

    from pipeline_lib.operations.status.ending import GOES_ON, ending_text
    from pipeline_lib.operations.status.live import watch

    suite = load_suite(path)
    out, began = folder / "results" / suite.suite, time.time()
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)  # noqa: S603
        with _passing_on(process):
            with suppress(KeyboardInterrupt):  # Snakemake has it too, and ends its jobs
                # The stream itself, as what is shown has no control characters but the view's own.
                watch(suite, out, Console(file=sys.__stdout__), lambda: process.poll() is None)
            status = _ended(process)
        said.seek(0)
        words = said.read()
    lock, page = out / ".lock", out / "report" / "index.html"
    if not lock.exists() or lock.stat().st_mtime < began:  # no job was started
        if status or not brief:
            print(words, end="", file=sys.stderr if status else sys.stdout)
        return status
    summary = ending_text(suite, out, since=began)
    print(summary)
    if status and GOES_ON not in summary:  # Snakemake itself failed, and not a job
        print("\n".join(words.splitlines()[-REASON:]), file=sys.stderr)
    if status == 0 and page.is_file() and page.stat().st_mtime >= began:
        print(f"The report is ready, open it in a browser: {page.resolve()}")
    return status


@contextmanager
def _passing_on(process: subprocess.Popen[Any]) -> Iterator[None]:
    """A request to end goes to Snakemake, which lets its jobs write their checkpoints."""
    if threading.current_thread() is not threading.main_thread():  # only the main one may say what is done
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, frame: process.terminate())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _ended(process: subprocess.Popen[Any]) -> int:
    """The exit status of Snakemake once it has ended, as shells give it. An interrupt reaches it, too."""
    while True:
        with suppress(KeyboardInterrupt):
            status = process.wait()
            return status if status >= 0 else 128 - status
