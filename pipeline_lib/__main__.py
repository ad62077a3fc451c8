"""`python -m pipeline_lib`: check, plan and watch suites, keep their schema, read and write other logs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pipeline_lib.commands import logs, plan, status, suite, track
from pipeline_lib.errors import UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the process's exit status."""
    parser = argparse.ArgumentParser(prog="python -m pipeline_lib", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for family in (suite, plan, status, track, logs):
        family.add(commands)
    given = parser.parse_args(arguments)
    try:
        return given.run(given)
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    except BrokenPipeError:  # who reads the output has read enough, as `head` does
        sys.stdout = None  # type: ignore[assignment]  # nothing is left to flush into
        return 0


if __name__ == "__main__":
    sys.exit(main())
