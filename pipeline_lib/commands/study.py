"""The argument of every command that looks at a study's results."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path


def add_study(parser: ArgumentParser) -> None:
    """`study`: the suite file or results folder, by default the suite that a plain `snakemake` runs."""
    parser.add_argument(
        "study",
        metavar="SUITE",
        nargs="?",
        default=Path("config.yaml"),
        type=Path,
        help="a suite file, or the results folder of a study (default: config.yaml)",
    )
