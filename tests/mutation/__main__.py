"""Mutants of the library, and how many of them its tests kill: python -m tests.mutation --room objectives."""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from pipeline_lib.core.errors import UserError
from tests.mutation.copies import Copy, cloned
from tests.mutation.imports import files_of_tests
from tests.mutation.reach import recorded
from tests.mutation.summary import survivors, table
from tests.mutation.trial import Kept, Limits, Trial, tried_room
from tests.paths import REPO

ROOMS = (
    *("objectives", "optimizers", "curvature", "influence", "training"),
    *("engine", "metrics", "tasks", "study", "reporting"),
)


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=REPO, check=True, capture_output=True, text=True)
    return done.stdout


def code() -> str:
    """A hash of all that decides a result: the library and its tests, as committed, without this package."""
    listed = git("ls-tree", "-r", "HEAD", "pipeline_lib", "tests", "workflow", "config", "pyproject.toml")
    lines = [line for line in listed.splitlines() if "tests/mutation/" not in line]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--room", action="append", choices=ROOMS, help="may be repeated (default: all)")
    parser.add_argument("--mutants", type=int, default=60, help="of each room (default: 60)")
    parser.add_argument("--seed", type=int, default=20261130, help="of the choice among the sites")
    parser.add_argument("--workers", type=int, default=2, help="mutants tried at the same time")
    parser.add_argument(
        "--out", type=Path, default=Path("mutation.json"), help="results; a later run goes on with them"
    )
    parser.add_argument("--tests", type=int, default=Limits.tests, help="that a mutant meets at most")
    parser.add_argument("--seconds", type=float, default=Limits.seconds, help="that these take at most")
    parser.add_argument(
        "--store",
        type=Path,
        default=Path(tempfile.gettempdir(), "mutation-reach"),
        help="folder that keeps what each test reaches",
    )
    return parser.parse_args()


def main() -> int:
    chosen, started = options(), time.monotonic()
    head = {"commit": git("rev-parse", "HEAD").strip(), "code": code(), "seed": chosen.seed}
    if changed := git("status", "--porcelain", "--", "pipeline_lib", "tests").strip():
        print(f"not committed, so not tried:\n{changed}", file=sys.stderr)

    def say(text: str) -> None:
        print(f"{time.monotonic() - started:6.0f} s  {text}", file=sys.stderr, flush=True)

    try:
        kept = Kept(chosen.out, head)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    rooms = chosen.room or list(ROOMS)
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder, ExitStack() as closing:
        copies = [Copy(cloned(Path(folder, str(number)))) for number in range(chosen.workers)]
        for copy in copies:
            closing.callback(copy.close)
        files = files_of_tests(copies[0].folder, rooms)
        reach = recorded(copies, rooms, files, chosen.store / head["code"][:16], say)
        say(f"{len(reach.seconds)} tests recorded; {len(reach.failed)} fail without a fault and are left out")
        trial = Trial(reach, Limits(chosen.tests, chosen.seconds))
        for room in rooms:
            tried_room(room, chosen.mutants, copies, trial, kept, say)
    for name, how in (reach.failed | trial.unsound).items():
        say(f"fails without a fault: {name}: {how[:120]}")
    print(f"commit {head['commit']}, seed {chosen.seed}\n\n{table(kept.rooms)}\n\n{survivors(kept.rooms)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
