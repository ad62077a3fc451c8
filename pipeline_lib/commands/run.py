"""Run a suite, and show how far it is."""

from __future__ import annotations

import os
import time
from argparse import REMAINDER, Namespace
from pathlib import Path

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.shipped import suites


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
    from pipeline_lib.operations.launching import launch
    from pipeline_lib.operations.listing import INDEX
    from pipeline_lib.study import load_suite

    path = suite_file(given.suite).resolve()
    load_suite(path)
    if not given.directory.is_dir():
        raise UserError(f"{given.directory}: expected a folder, found none; make it first")
    os.chdir(given.directory)
    began, index = time.time(), Path("results") / INDEX
    status = launch(path, Path(), given.cores, given.snakemake, given.verbose)
    if index.is_file() and index.stat().st_mtime >= began:
        print(f"All studies of this folder: {index.resolve()}")
    return status
