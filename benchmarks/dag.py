"""How long Snakemake takes to plan a large study, and each of its cluster's jobs to read it.

    python benchmarks/dag.py                 1,000 runs
    python benchmarks/dag.py 1000 10000      these numbers of runs

The suite is made for the purpose: two tasks, two models, ten objectives, ten optimisers, and as many seeds
as it takes. "plan" is `snakemake --dry-run` of the whole study, which builds the graph of all jobs, works
out what each of them asks for, and prints every job. "one job" is the same for a single file of it, about
what the call of Snakemake costs that each job of a cluster makes (twice). Times are of a processor and of
the wall: on a busy machine only the first says something.
"""

from __future__ import annotations

import argparse
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

REPO = Path(__file__).resolve().parents[1]
ROWS = 2 * 2 * 10 * 10


def suite(runs: int) -> dict[str, Any]:
    """A suite of so many runs, in steps of 400."""
    task = {
        "source": "fictitious",
        "n_authors": 6,
        "questions_per_author": 3,
        "forget_authors": 2,
        "n_facts": 8,
    }
    return {
        "suite": "dag",
        "seeds": list(range(max(1, round(runs / ROWS)))),
        "tasks": {f"authors{seed}": {**task, "seed": seed} for seed in range(2)},
        "models": {f"tiny{size}": {"source": "scratch", "hidden_size": 32 * size} for size in (2, 4)},
        "objectives": {f"graddiff{n}": {"kind": "GradDiff", "gamma": 1.0 + n} for n in range(10)},
        "optimizers": {f"adamw{n}": {"kind": "adamw", "learning_rate": 1e-5 * (n + 1)} for n in range(10)},
        "resources": {"device": "cpu"},
    }


def plan(folder: Path, *targets: str) -> dict[str, float]:
    """Jobs, seconds of wall and processor, and peak MiB of a dry run."""
    command = [sys.executable, "-m", "snakemake", *targets, "--snakefile", str(REPO / "workflow/Snakefile")]
    command += ["--directory", str(folder), "--configfile", str(folder / "suite.yaml"), "--cores", "1"]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    with open(folder / "out.txt", "w") as out:
        subprocess.run([*command, "--dry-run"], check=True, stdout=out, stderr=out)  # noqa: S603
    wall, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    (jobs,) = set(re.findall(r"^total +(\d+)", (folder / "out.txt").read_text(), re.MULTILINE))
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"jobs": int(jobs), "wall": wall, "processor": busy, "peak": after.ru_maxrss / 1024}


def main() -> None:
    """Print one line a size and kind of call."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="*", type=int, default=[1000])
    print(f"{'runs':>7}  {'call':8}  {'jobs':>6}  {'processor s':>11}  {'wall s':>7}  {'peak MiB':>8}")
    for runs in parser.parse_args().runs:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            content = suite(runs)
            (folder / "suite.yaml").write_text(yaml.safe_dump(content))
            made = ROWS * len(content["seeds"])
            data = "results/dag/data/authors0/manifest.json"
            for call, targets in (("one job", [data]), ("plan", [])):
                found = plan(folder, *targets)
                print(
                    f"{made:7}  {call:8}  {found['jobs']:6}  {found['processor']:11.1f}  {found['wall']:7.1f}"
                    f"  {found['peak']:8.0f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
