"""Two studies side by side, and a page that lists the studies of a folder."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path


def add(commands) -> None:
    """`compare` and `index`."""
    compare = commands.add_parser("compare", help="two studies side by side: what both have, and B - A")
    for name in ("A", "B"):
        compare.add_argument(
            name.lower(),
            metavar=name,
            type=Path,
            help="results folder of a finished study, or the name of its suite",
        )
    compare.add_argument("--out", metavar="FILE.csv", type=Path, help="also write every digit to this file")
    compare.set_defaults(run=_compare)

    index = commands.add_parser("index", help="write the page that lists the studies of a results folder")
    index.add_argument("folder", metavar="DIR", nargs="?", type=Path, default=Path("results"))
    index.set_defaults(run=_index)


def _compare(given: Namespace) -> int:
    from pipeline_lib.operations.comparing import compare

    print(compare(given.a, given.b, given.out))
    return 0


def _index(given: Namespace) -> int:
    from pipeline_lib.operations.listing import write_index

    print(f"index written: {write_index(given.folder)}")
    return 0
