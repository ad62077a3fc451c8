"""The command `unlearning`: check, plan, run and watch suites, join pieces, handle other logs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout

from pipeline_lib.core.environment import missing_package, wrong_python

if __name__ == "__main__" and wrong_python():  # before a line that an old Python cannot read
    sys.exit(wrong_python())

from pipeline_lib.commands import compare, forget, join, logs, plan, run, status, suite, track
from pipeline_lib.core.errors import UserError
from pipeline_lib.core.redaction import VisibleStream


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the process's exit status."""
    parser = argparse.ArgumentParser(prog="unlearning", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for family in (suite, plan, run, forget, status, compare, track, join, logs):
        family.add(commands)
    try:
        # the output contains ids, names and paths of the user
        with redirect_stdout(VisibleStream(sys.stdout)), redirect_stderr(VisibleStream(sys.stderr)):
            given = parser.parse_args(arguments)
            try:
                return given.run(given)
            except UserError as error:
                print(error, file=sys.stderr)
                return 1
            except ModuleNotFoundError as error:
                print(missing_package(error), file=sys.stderr)
                return 1
            except KeyboardInterrupt:
                print("stopped; what is finished is kept, and the same command goes on", file=sys.stderr)
                return 130
    except BrokenPipeError:  # the reader of the output has stopped reading, as `head` does
        sys.stdout = None  # type: ignore[assignment]  # nothing is left to flush into
        return 0


if __name__ == "__main__":
    sys.exit(main())
