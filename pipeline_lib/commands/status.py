"""How far a study is."""

from __future__ import annotations

import json
from argparse import Namespace

from pipeline_lib.commands.study import add_study


def add(commands) -> None:
    """`status`."""
    status = commands.add_parser(
        "status", help="how far a study is: done, running, failed, diverged, time left; from its files alone"
    )
    add_study(status)
    status.add_argument("--all", action="store_true", help="name every row and job")
    status.add_argument("--json", action="store_true", help="print everything as one JSON object")
    status.set_defaults(run=_status)


def _status(given: Namespace) -> int:
    from pipeline_lib.operations.status.report import find_study, report_of
    from pipeline_lib.operations.status.text import as_values, status_text

    report = report_of(*find_study(given.study))
    if given.json:
        print(json.dumps(as_values(report), indent=2, allow_nan=False))
    else:
        print(status_text(report, everything=given.all))
    return 0
