"""Run a suite, and show how far it is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from argparse import REMAINDER, Namespace
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.shipped import WORKFLOW, suites

REASON = 12  # the last lines of Snakemake's output, where no job says why it failed


def add(commands) -> None:
    """`run`."""
    run = commands.add_parser("run", help="run a suite, with a view of what is done, running and failed")
    run.add_argument(
        "suite",
        metavar="SUITE",
        nargs="?",
        help="a suite file, or the name of one that comes with the library (default: config.yaml, else demo)",
    )
    run.add_argument("--cores", metavar="N", help="default: all")
    run.add_argument(
        "--directory", metavar="DIR", type=Path, default=Path(), help="where results/ is (default: here)"
    )
    run.add_argument(
        "--verbose", action="store_true", help="show Snakemake's own output in place of the view"
    )
    run.add_argument(
        "--snakemake",
        metavar="ARGUMENT",
        nargs=REMAINDER,
        default=[],
        help="all that follows goes to Snakemake: what is to be made, --dry-run, ...",
    )
    run.set_defaults(run=_run)


def suite_file(given: str | None) -> Path:
    """The file of a suite, given by its path or, for one that comes with the library, by its name."""
    from pipeline_lib.core.blocks import suggestion

    known = suites()
    if given is None:
        return Path("config.yaml") if Path("config.yaml").is_file() else known["demo"]
    if not Path(given).is_file() and given in known:
        return known[given]
    if not Path(given).exists() and not Path(given).suffix:
        raise UserError(f"{given}: expected a suite file or a suite's name; {suggestion(given, known)}")
    return Path(given)


def _run(given: Namespace) -> int:
    from pipeline_lib.study import load_suite

    path = suite_file(given.suite).resolve()
    suite = load_suite(path)
    if not given.directory.is_dir():
        raise UserError(f"{given.directory}: expected a folder, found none; make it first")
    os.chdir(given.directory)
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(WORKFLOW / "Snakefile")]
    command += [
        "--configfile",
        str(path),
        *(["--cores", given.cores] if given.cores else []),
        *given.snakemake,
    ]
    if given.verbose:
        with _passing_on(process := subprocess.Popen(command)):  # noqa: S603
            return _ended(process)

    from rich.console import Console

    from pipeline_lib.operations.listing import INDEX
    from pipeline_lib.operations.status.ending import GOES_ON, ending_text
    from pipeline_lib.operations.status.live import watch

    out, began = Path("results") / suite.suite, time.time()
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
        print(words, end="", file=sys.stderr if status else sys.stdout)
        return status
    summary = ending_text(suite, out, since=began)
    print(summary)
    if status and GOES_ON not in summary:  # Snakemake itself failed, and not a job
        print("\n".join(words.splitlines()[-REASON:]), file=sys.stderr)
    if status == 0 and page.is_file():
        print(f"The report is ready, open it in a browser: {page.resolve()}")
    if (index := out.parent / INDEX).is_file():
        print(f"All studies of this folder: {index.resolve()}")
    return status


@contextmanager
def _passing_on(process: subprocess.Popen[Any]) -> Iterator[None]:
    """A request to end goes to Snakemake, which lets its jobs write their checkpoints."""
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
