"""The blocks of a walkthrough: files that a person writes, commands that they give, and what these print."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.paths import REPO

BLOCK = re.compile(
    r'^```(?P<kind>\w+)(?: title="(?P<title>[^"]+)")?\n(?P<inside>.*?)^```$'
    r"|^(?P<printed>(?: {4}\S[^\n]*\n)+)",
    re.MULTILINE | re.DOTALL,
)
MAKES_A_MODEL = "/original/none/seed0"  # of a few records, in seconds
REFUSED = "no job is started"


@dataclass
class Step:
    """A command, and lines that it must print."""

    command: str
    printed: list[str]


def page(name: str) -> str:
    return (REPO / "docs" / f"{name}.md").read_text(encoding="utf-8")


def files(text: str) -> dict[str, str]:
    """Name -> content of each block with a title."""
    return {found["title"]: found["inside"] for found in BLOCK.finditer(text) if found["title"]}


def steps(text: str) -> list[Step]:
    """Every line of a `sh` block; what is printed below it, under the same heading, is said of all."""
    made: list[Step] = []
    block: list[Step] = []
    end = 0
    for found in BLOCK.finditer(text):
        if "\n#" in text[end : found.start()]:
            block = []
        end = found.end()
        if found["kind"] == "sh":
            block = [Step(line.partition("  #")[0].strip(), []) for line in found["inside"].splitlines()]
            made += block
        elif found["printed"] and block:
            block[-1].printed += [line.strip() for line in found["printed"].splitlines()]
    return made


def shortened(command: str) -> str:
    """The command as a test gives it: a study that takes minutes is planned and not run."""
    if command.startswith("unlearning run"):
        if "--snakemake" not in command:
            return f"{command} --snakemake --dry-run"
        return command if command.endswith(MAKES_A_MODEL) else f"{command} --dry-run"
    if command.startswith("unlearning forget") and not command.endswith("--dry-run"):
        return f"{command} --dry-run"
    return command


def run(commands: list[Step], folder: Path) -> None:
    """Give the commands one after the other, each once; what a page says that they print must be printed."""
    told = ""
    asked: set[str] = set()
    for step in commands:
        command = shortened(step.command)
        if command in asked:
            continue
        asked.add(command)
        given = command.split()
        assert given[0] == "unlearning", f"{command}: a test of the pages can give `unlearning` only"
        done = subprocess.run(
            [sys.executable, "-m", "pipeline_lib", *given[1:]],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        said = _plain(done.stdout + done.stderr)
        assert done.returncode == (REFUSED in said), f"{command}: {said[-3000:]}"
        told += said
        missing = [line for line in step.printed if _plain(line) not in told]
        assert not missing, f"{command} does not print {missing}, but:\n{told[-3000:]}"


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", text)
