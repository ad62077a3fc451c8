"""Studies that benchmarks make: `snakemake` of a checkout, in a folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from pipeline_lib.reporting.inputs import Inputs
from pipeline_lib.reporting.summary import Summary

REPO = Path(__file__).resolve().parents[1]


def snakemake(checkout: Path, suite_file: Path, folder: Path, cores: int) -> list[str]:
    """The call that makes the suite's study in this folder."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(checkout / "workflow/Snakefile")]
    command += ["--directory", str(folder), "--configfile", str(suite_file), "--cores", str(cores)]
    return [*command, "--workflow-profile", str(checkout / "workflow/profiles/default")]


def make(checkout: Path, raw: dict[str, Any], folder: Path, cores: int, **environment: str) -> Path:
    """Make the study, or what is missing of it; where its results are. The output goes to `out.txt`."""
    folder.mkdir(parents=True, exist_ok=True)
    folder = folder.resolve()
    suite_file = folder / "suite.yaml"
    suite_file.write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    given = {**os.environ, "PYTHONPATH": str(checkout), **environment}
    with open(folder / "out.txt", "w", encoding="utf-8") as out:
        command = snakemake(checkout, suite_file, folder, cores)
        # There, because `python -m` looks for packages where it is called before it looks into PYTHONPATH.
        subprocess.run(command, check=True, stdout=out, stderr=out, env=given, cwd=folder)  # noqa: S603
    return folder / "results" / raw["suite"]


def summary_of(results: Path) -> Summary:
    """What the tables of a finished study read."""
    manifests = sorted(results.glob("data/*/manifest.json"))
    names = ("metrics.csv", "runs.json", "suite.yaml")
    return Summary(Inputs([*(results / name for name in names), *manifests]))
