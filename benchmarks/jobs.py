"""What starting jobs costs: seconds of a study's jobs beside the seconds of their work.

    python benchmarks/jobs.py                          the demo, one seed of it
    python benchmarks/jobs.py --seeds 3 --cores 2      whole, on two cores
    python benchmarks/jobs.py SUITE.yaml --peer ../old another suite, and an older checkout beside this one

"work" is the time that the steps themselves take, one after the other in one process that has everything
imported: what no way of starting jobs can save. Then `snakemake` runs the same study, with jobs that are
forks of a process that has torch imported, and with a process of its own for each; "job s" adds up what it
measured of its jobs. All in the same hour on the same cores, in new folders; the last column says whether
metrics.csv is the same, byte for byte. At the end: processor seconds of calls that have nothing to do.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import yaml
from studies import REPO, snakemake

from pipeline_lib.operations.running import Running
from pipeline_lib.steps.fork_client import OFF, SOCKET
from pipeline_lib.steps.fork_server import PACKAGES
from pipeline_lib.steps.job import run_step
from pipeline_lib.study import load_suite
from pipeline_lib.study.jobs import RULES


def work(suite_file: Path, folder: Path) -> Counter[str]:
    """Seconds of each rule's steps in this process, which has everything imported."""
    for name in PACKAGES:
        with suppress(ImportError):
            importlib.import_module(name)
    os.chdir(folder)
    running = Running(load_suite(suite_file))
    seconds: Counter[str] = Counter()
    for job in running.graph.study():
        wildcards = {RULES[job.rule].wildcard: job.name}
        params = running.params(job.rule)(wildcards)
        work_folder = params.pop("work")
        inputs = running.inputs(job.rule, lambda files: files)(wildcards)
        start = time.perf_counter()
        run_step(
            **params,
            inputs={name: placed(files) for name, files in inputs.items()},
            outputs={name: placed(running.placed(files)) for name, files in job.outputs.items()},
            work=None if work_folder is None else Path(work_folder),
            device="cpu",
            threads=running.suite.resources.threads,
        )
        seconds[job.rule] += time.perf_counter() - start
    return seconds


def placed(files: str | list[str]) -> Path | list[Path]:
    return Path(files) if isinstance(files, str) else [Path(file) for file in files]


def study(checkout: Path, suite_file: Path, folder: Path, cores: int, forks: str) -> tuple[float, float]:
    """Seconds of the wall for `snakemake`, and of all its jobs together."""
    environment = {**os.environ, SOCKET: forks, "PYTHONPATH": str(checkout)}
    command = snakemake(checkout, suite_file, folder, cores)
    start = time.perf_counter()
    with open(folder / "out.txt", "w") as out:
        subprocess.run(command, check=True, stdout=out, stderr=out, env=environment, cwd=folder)  # noqa: S603
    wall, total = time.perf_counter() - start, 0.0
    for path in folder.glob("results/*/benchmarks/**/*.tsv"):
        with open(path) as handle:
            total += sum(float(row["s"]) for row in csv.DictReader(handle, delimiter="\t"))
    return wall, total


def calls(suite_file: Path, folder: Path, cores: int) -> dict[str, float]:
    """Processor seconds of calls on a study that is done."""
    named = [sys.executable, "-m", "pipeline_lib"]
    commands = {name: [*named, name, str(suite_file)] for name in ("validate", "plan", "status")}
    commands["snakemake"] = snakemake(REPO, suite_file, folder, cores)
    seconds = {}
    for name, command in commands.items():
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(  # noqa: S603
            command, check=True, capture_output=True, cwd=folder, env={**os.environ, "PYTHONPATH": str(REPO)}
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds[name] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        assert name != "snakemake" or b"Nothing to be done" in done.stdout + done.stderr
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("suite", nargs="?", type=Path, default=REPO / "config.yaml")
    parser.add_argument("--seeds", type=int, default=1, help="of the suite's, the first ones (default: 1)")
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument("--peer", type=Path, help="another checkout of this project")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        raw = yaml.safe_load(chosen.suite.read_text(encoding="utf-8"))
        suite_file = Path(place, "suite.yaml")
        suite_file.write_text(yaml.safe_dump({**raw, "seeds": raw["seeds"][: chosen.seeds]}))
        ways = [("forks", REPO, ""), ("processes", REPO, OFF)]
        ways += [("peer", chosen.peer.resolve(), "")] if chosen.peer else []
        rows = []
        for name, checkout, forks in ways:
            folder = Path(place, name)
            folder.mkdir()
            rows.append((name, *study(checkout, suite_file, folder, chosen.cores, forks)))
        alone = Path(place, "alone")
        alone.mkdir()
        by_rule = work(suite_file, alone)
        total = sum(by_rule.values())
        metrics = {
            name: next(Path(place, name).glob("results/*/metrics.csv")).read_bytes() for name, *_ in rows
        }
        print(f"{'jobs are':10} {'wall s':>7} {'job s':>7} {'job s / work':>12}  same metrics.csv")
        for name, wall, jobs in rows:
            print(
                f"{name:10} {wall:7.0f} {jobs:7.0f} {jobs / total:12.2f}  {metrics[name] == metrics['forks']}"
            )
        idle = calls(suite_file, Path(place, "forks"), chosen.cores)
    print(f"\nwork: {total:.0f} s, of which {', '.join(f'{r} {s:.0f}' for r, s in by_rule.most_common())}")
    print("with nothing to do: " + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in idle.items()))


if __name__ == "__main__":
    main()
