"""Where the paths of a study's trials first fall below the utility of comparison, and where they are nearest.

    python benchmarks/fronts.py results/SUITE --task TASK > docs/measurements/fronts.csv

`--task`: the folder of the data on which the trials forgot, such as authors@draw1. One line for each trial of
each row and tuning seed: its gap to the `retrained` models of the tuning seeds where the path first falls
below the level (`falls`), and the least gap at that utility (metrics/path.py), each with
its step.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

from pipeline_lib.core.files import read_object
from pipeline_lib.metrics.path import Path as RunPath
from pipeline_lib.metrics.path import Point
from pipeline_lib.metrics.study import Studied
from pipeline_lib.reporting.scores import utility_splits
from pipeline_lib.steps.likelihood_scores import scores_of, scores_of_records

COLUMNS = (
    "method",
    "optimizer",
    "trial",
    "seed",
    "learning rate",
    "falls",
    "first gap",
    "first step",
    "least gap",
    "step",
)


def first_fall(path: RunPath, level: float) -> Point | None:
    """The first place where the path falls below the level."""
    return next(iter(path.crossings(level)), None)  # it begins at `original`, above any level


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path)
    parser.add_argument("--task", required=True)
    parser.add_argument("--level", type=float, default=0.9)
    arguments = parser.parse_args()
    results = arguments.results
    manifest = read_object(results / "data" / arguments.task / "manifest.json", "utility", "evaluate")
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(COLUMNS)
    for place in sorted((results / "tuning").rglob("trial*/seed*.json")):
        trial = read_object(place, "status", "judged")
        if trial["status"] != "ok":
            continue
        beside = {}
        for method in ("original", "retrained"):
            folder = results / "evaluations" / arguments.task / trial["model"] / method / "none"
            records = folder / f"seed{trial['seed']}" / "records.jsonl"
            beside[method] = scores_of_records(records, manifest)
        judged = [(row["step"], row["judged"]) for row in trial["judged"]]
        original, utility = beside["original"], utility_splits(manifest)
        study = Studied(
            scores_of(trial["questions"]), [beside["retrained"]], original, [original], utility, judged
        )
        path = RunPath.of(study)
        first, least = first_fall(path, arguments.level), path.front(arguments.level)
        rate = trial["settings"]["optimizer"]["learning_rate"]
        told = ("no", "", "") if first is None else ("yes", f"{first.gap:.4f}", f"{first.step:.1f}")
        row = (trial["method"], trial["optimizer"], trial["trial"], trial["seed"], f"{rate:.4g}", *told)
        writer.writerow((*row, f"{least.gap:.4f}", f"{least.step:.1f}"))


if __name__ == "__main__":
    main()
