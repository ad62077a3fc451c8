"""What a suite will need, printed before anything of it runs."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path


def add(commands) -> None:
    """`plan`."""
    plan = commands.add_parser("plan", help="memory and time of a suite's jobs, estimated from its settings")
    plan.add_argument("file", metavar="SUITE", type=Path)
    plan.add_argument("--left", action="store_true", help="leave out what results/<suite> holds already")
    plan.add_argument(
        "--access", action="store_true", help="also ask the hub whether its models and data can be had"
    )
    plan.set_defaults(run=_plan)


def _plan(given: Namespace) -> int:
    from pipeline_lib.operations.plan import check_access, check_fits, check_inputs, finished, plan_text
    from pipeline_lib.study import load_suite

    suite = load_suite(given.file)
    done = finished(Path("results") / suite.suite) if given.left else None
    print(plan_text(suite, done), flush=True)
    unseen = check_inputs(suite, done)
    check_fits(suite, done)
    print("".join(f"\n{line}" for line in unseen), end="\n" if unseen else "")
    if given.access:
        lines = check_access(suite)
        print("\n".join(["", *lines]) if lines else "\nAll models and data are at hand.")
    return 0
