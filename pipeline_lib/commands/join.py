"""Put a study together that was run in pieces."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path


def add(commands) -> None:
    """`join`."""
    join = commands.add_parser(
        "join", help="put a study together from pieces: runs of it with some of its seeds or rows"
    )
    join.add_argument("out", metavar="OUT", type=Path, help="the folder to write, such as results/demo")
    join.add_argument(
        "pieces", metavar="PIECE", nargs="+", type=Path, help="results folder of a finished piece"
    )
    join.set_defaults(run=_join)


def _join(given: Namespace) -> int:
    from pipeline_lib.operations.joining import join

    print("\n".join([*join(given.out, given.pieces), f"joined: {given.out}"]))
    return 0
