"""What bf16 products change: every headline metric of a study in fp32, and of the same study in bf16.

    python benchmarks/compute.py FP32/results/SUITE BF16/results/SUITE    two finished studies
    python benchmarks/compute.py --run 1                                  makes both, of a part of the demo
    python benchmarks/compute.py --run 4 --suite SUITE.yaml --folder NEW  of any suite, in a folder that stays

The studies differ in `compute` of `finetune` and of `unlearn` alone. A run of one is paired with the run of
the same row and seed in the other. A line of the table, which is csv, has a headline metric over all
unlearned models: both means, and the mean change with the ends of Student's 95 % interval over seeds, of the
seeds' mean changes (runs of one seed share its fine-tuned model, so they count as one). Beside it the largest
change of a single run, and what another seed changes: the standard deviation over seeds in fp32, its mean
over rows.

`--run` calls `snakemake`. Where `compute: auto` would be fp32 on this CPU, bf16 is emulated (emulated/), with
its rounding, so the numbers say something and the time says nothing.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import yaml
from studies import REPO, make, summary_of

from pipeline_lib.core.errors import UserError
from pipeline_lib.metrics import declared
from pipeline_lib.reporting import intervals
from pipeline_lib.reporting.headline import Measure, judged_by
from pipeline_lib.reporting.summary import Summary

KINDS = ("fp32", "bf16")
BLOCKS = ("finetune", "unlearn")
COLUMNS = ("metric", "runs", *KINDS, "change", "low", "high", "largest change", "SD over seeds")


def part_of_the_demo() -> dict[str, Any]:
    """The demo's authors, half as many with six questions each, and three of their rows."""
    raw: dict[str, Any] = yaml.safe_load((REPO / "config.yaml").read_text(encoding="utf-8"))
    authors = {name: value for name, value in raw["tasks"]["authors"].items() if name != "evaluation"}
    raw["tasks"] = {"authors": {**authors, "n_authors": 20, "questions_per_author": 6, "n_facts": 30}}
    raw["finetune"]["epochs"] = 24  # the steps that half as many authors lack
    raw["runs"] = [
        {"methods": ["GradDiff"], "optimizers": ["adamw", "sophia"]},
        {"methods": ["NPO"], "optimizers": ["adamw"]},
    ]
    used = {"objectives": ("GradDiff", "NPO"), "optimizers": ("adamw", "sophia")}
    return {**raw, **{part: {name: raw[part][name] for name in names} for part, names in used.items()}}


def made(raw: dict[str, Any], folder: Path, cores: int) -> list[Path]:
    """Both studies of the suite, in folders of their own; where their results are."""
    found = []
    for kind in KINDS:
        print(f"{kind}: {folder / kind}", file=sys.stderr)
        changed = {block: {**(raw.get(block) or {}), "compute": kind} for block in BLOCKS}
        search = [REPO / "benchmarks/emulated"] if kind == "bf16" and emulated() else []
        path = os.pathsep.join(map(str, [*search, REPO]))
        found.append(make(REPO, {**raw, **changed}, folder / kind, cores, PYTHONPATH=path))
    return found


def emulated() -> bool:
    """Whether this machine has nothing that multiplies bf16."""
    import torch

    from pipeline_lib.training.compute import compute_of

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return compute_of("auto", device)[0] == "fp32"


def computed_in(kind: str, folder: Path) -> Summary:
    """A finished study, whose unlearning and fine-tuning were computed in this kind."""
    study = summary_of(folder)
    for block in BLOCKS:
        if (found := study.inputs.suite[block]["compute"]) != kind:
            raise UserError(f"{folder}: expected a study with {block}.compute: {kind}, found {found}")
    return study


def compared(fp32: Summary, bf16: Summary) -> Iterator[tuple[str, ...]]:
    """The lines of the table."""
    if (same := [_without_compute(study.inputs.suite) for study in (fp32, bf16)])[0] != same[1]:
        raise UserError("the two studies differ in more than `compute`: compare their suite.yaml")
    studies = fp32.inputs.studies
    for task, model in studies:
        headline = judged_by(fp32, task, model)
        for measure in dict.fromkeys([*headline.forgetting, *headline.utility]):
            where = "" if len(studies) == 1 else f"{task}, {model}: "
            if (line := _line(fp32, bf16, task, model, measure)) is not None:
                yield where + measure.label, *line


def _line(fp32: Summary, bf16: Summary, task: str, model: str, measure: Measure) -> tuple[str, ...] | None:
    """The cells of one metric; None where it was not measured.

    What diverged in one of the studies has no pair.
    """
    firsts: list[float] = []
    seconds: list[float] = []
    by_seed: dict[int, list[float]] = {}
    spreads = []
    for row in fp32.inputs.rows_of(task, model):
        if not row.unlearned:
            continue
        one, other = (study.by_seed(row, *measure) for study in (fp32, bf16))
        shared = [seed for seed in one if seed in other]
        for seed in shared:
            by_seed.setdefault(seed, []).append(other[seed] - one[seed])
        firsts += [one[seed] for seed in shared]
        seconds += [other[seed] for seed in shared]
        spreads += [stdev(one.values())] if len(one) > 1 else []
    if not firsts:
        return None
    means = [fmean(changes) for changes in by_seed.values()]
    mean, low, high = intervals.of_difference(means, declared()[measure.metric].range)
    largest = max((change for changes in by_seed.values() for change in changes), key=abs)
    return (
        str(len(firsts)),
        f"{fmean(firsts):.3f}",
        f"{fmean(seconds):.3f}",
        f"{mean:+.3f}",
        *("" if end is None else f"{end:+.3f}" for end in (low, high)),
        f"{largest:+.3f}",
        f"{fmean(spreads):.3f}" if spreads else "",
    )


def _without_compute(value: Any) -> Any:
    """The settings without any `compute`."""
    if isinstance(value, dict):
        return {name: _without_compute(inner) for name, inner in value.items() if name != "compute"}
    return [_without_compute(inner) for inner in value] if isinstance(value, list) else value


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="*", type=Path, help="results of the study in fp32, and in bf16")
    parser.add_argument("--run", type=int, metavar="CORES", help="make both studies on so many cores")
    parser.add_argument("--suite", type=Path, help="with --run: a suite (default: a part of the demo)")
    parser.add_argument("--folder", type=Path, help="with --run: where, to keep them (default: nowhere)")
    chosen = parser.parse_args()
    if len(chosen.folders) != (0 if chosen.run else 2):
        parser.error("give the results of two studies, in fp32 and in bf16, or --run and none")
    with tempfile.TemporaryDirectory() as temporary:
        folders = chosen.folders
        if chosen.run:
            suite = chosen.suite
            raw = yaml.safe_load(suite.read_text(encoding="utf-8")) if suite else part_of_the_demo()
            folders = made(raw, chosen.folder or Path(temporary), chosen.run)
        try:
            lines = list(compared(*map(computed_in, KINDS, folders)))
        except UserError as error:
            sys.exit(f"error: {error}")
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(lines)


if __name__ == "__main__":
    main()
