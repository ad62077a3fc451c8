"""How much the least gap of a run's path depends on the utility at which rows are compared.

    python benchmarks/front_levels.py keep results/SUITE --task TASK > paths.csv
    python benchmarks/front_levels.py rows results/reference/SUITE > levels.csv

`keep` writes what the paths of a finished study are made of: the probability of each utility split, and the
log-probability per token of each forget question, at every judged step of every run. `rows` reads that file
and scores.csv beside it, without any model, and writes for several levels one line a row: the mean least gap
over its seeds, how many runs have it at their last judged step with more utility than the level
(`ran_out`: they might have come nearer), and how many end at less utility than the level (`lost`).
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

from pipeline_lib.core.files import read_jsonl
from pipeline_lib.core.runs import RunKey, key_from_path
from pipeline_lib.metrics.path import Path as RunPath
from pipeline_lib.metrics.study import Studied
from pipeline_lib.reporting.scores import Paths, read_scores, studied

LEVELS = (0.85, 0.88, 0.9, 0.92)
KEYS = ("task", "model", "method", "optimizer", "seed", "step")
COLUMNS = ("level", "method", "optimizer", "runs", "front_gap", "largest", "ran_out", "lost")


def kept(results: Path, task: str) -> Iterator[list[Any]]:
    """The lines of paths.csv, the head first."""
    head: list[str] = []
    for place in sorted((results / "training" / task).rglob("steps.jsonl")):
        key = key_from_path(place)
        for row in read_jsonl(place):
            if "judged" not in row or key.after:
                continue
            values = {f"utility:{name}": value for name, value in row["judged"]["utility"].items()}
            values |= {f"forget:{name}": value for name, value in row["judged"]["forget"].items()}
            if not head:
                head = list(values)
                yield [*KEYS, *head]
            yield [*key[:5], row["step"], *(values[name] for name in head)]


def read_paths_csv(path: Path) -> dict[RunKey, list[tuple[int, dict[str, Any]]]]:
    """The judged steps of every run, as a study's log holds them."""
    found: dict[RunKey, list[tuple[int, dict[str, Any]]]] = {}
    with open(path, encoding="utf-8", newline="") as handle:
        for row in csv.DictReader(handle):
            key = RunKey(row["task"], row["model"], row["method"], row["optimizer"], int(row["seed"]))
            judged: dict[str, dict[str, float]] = {"utility": {}, "forget": {}}
            for name, value in row.items():
                kind, _, of = name.partition(":")
                if of:
                    judged[kind][of] = float(value)
            found.setdefault(key, []).append((int(row["step"]), judged))
    return found


def studies(folder: Path) -> dict[RunKey, Studied]:
    """The runs of a kept study with their paths, beside `original` and `retrained`."""
    paths = read_paths_csv(folder / "paths.csv")
    scores = read_scores(folder / "scores.csv")
    utility = {key.task: list(judged[0][1]["utility"]) for key, judged in paths.items()}
    manifests = {task: {"evaluate": [], "utility": splits} for task, splits in utility.items()}
    found = studied(scores, manifests, Paths(paths, {}))
    return {key: study for key, study in found.items() if key in paths}


def rows(folder: Path) -> Iterator[tuple[Any, ...]]:
    """The lines of levels.csv after the head."""
    paths = {key: RunPath.of(study) for key, study in studies(folder).items()}
    for level in LEVELS:
        by_row: dict[tuple[str, str], list[RunPath]] = {}
        for key, path in sorted(paths.items()):
            by_row.setdefault((key.method, key.optimizer), []).append(path)
        for (method, optimizer), of_row in by_row.items():
            fronts = [path.front(level) for path in of_row]
            out = sum(
                front.step == path.points[-1].step and path.points[-1].utility > level
                for front, path in zip(fronts, of_row, strict=True)
            )
            lost = sum(path.points[-1].utility < level for path in of_row)
            gaps = [front.gap for front in fronts]
            told = (f"{fmean(gaps):.4f}", f"{max(gaps):.4f}", out, lost)
            yield (level, method, optimizer, len(gaps), *told)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("keep", "rows"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--task")
    arguments = parser.parse_args()
    writer = csv.writer(sys.stdout, lineterminator="\n")
    if arguments.what == "keep":
        if arguments.task is None:
            parser.error("keep needs --task, a folder below training/")
        writer.writerows(kept(arguments.folder, arguments.task))
        return
    writer.writerow(COLUMNS)
    writer.writerows(rows(arguments.folder))


if __name__ == "__main__":
    main()
