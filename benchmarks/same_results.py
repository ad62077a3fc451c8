"""Whether this code has the results of an older checkout, but for the order of rounding.

    python benchmarks/same_results.py --before CHECKOUT                 one seed of the demo
    python benchmarks/same_results.py --before CHECKOUT --folder NEW    the studies stay, and are continued

Three studies of the same suite: of the older checkout; of the older checkout again, with those of torch's
kernels that any CPU can run (ATEN_CPU_CAPABILITY=default), which round in another order; and of this one.
What the second changes in the first's results is what rounding changes: training multiplies a difference in
the last digit. What the third changes should be no more.

The first table has every headline metric over all unlearned models: the mean and the largest absolute change.
The second has all of metrics.csv: how many values are the same bits, how far the others moved as a share of
half their 95 % interval (over records), and how many left that interval.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, median

import yaml
from studies import REPO, make, summary_of

from pipeline_lib.core.runs import ANCHORS
from pipeline_lib.reporting.headline import judged_by

WAYS = ("rounding", "now")
KEY = ("task", "model", "method", "optimizer", "after", "seed", "split", "metric")


def headline(before: Path, others: list[Path]) -> Iterator[dict[str, str]]:
    """A line of the first table for each headline metric of each task."""
    first, *rest = map(summary_of, [before, *others])
    for task, model in first.inputs.studies:
        measures = judged_by(first, task, model)
        rows = [row for row in first.inputs.rows_of(task, model) if row.unlearned]
        for measure in dict.fromkeys([*measures.forgetting, *measures.utility]):
            values = [first.by_seed(row, *measure) for row in rows]
            line = {"metric": f"{task}: {measure.label}", "runs": str(sum(map(len, values)))}
            for way, study in zip(WAYS, rest, strict=True):
                found = [study.by_seed(row, *measure) for row in rows]
                moved = [
                    abs(other[seed] - one[seed])
                    for one, other in zip(values, found, strict=True)
                    for seed in one.keys() & other.keys()
                ]
                mean, largest = (f"{of(moved):.4f}" if moved else "" for of in (fmean, max))
                line |= {f"{way}, mean": mean, f"{way}, largest": largest}
            yield line


def values_of(folder: Path) -> dict[tuple[str, ...], dict[str, str]]:
    with open(folder / "metrics.csv", newline="", encoding="utf-8") as handle:
        return {tuple(row[name] for name in KEY): row for row in csv.DictReader(handle)}


def all_values(before: Path, others: list[Path]) -> Iterator[dict[str, str]]:
    """A line of the second table for each task, fine-tuned and unlearned models apart."""
    first = values_of(before)
    for way, folder in zip(WAYS, others, strict=True):
        found = values_of(folder)
        kinds = {key: (key[0], "fine-tuned" if key[2] in ANCHORS else "unlearned") for key in first}
        for kind in dict.fromkeys(kinds.values()):
            keys = [key for key in first.keys() & found.keys() if kinds[key] == kind]
            moved = [(first[key], float(found[key]["value"])) for key in keys if first[key]["ci_low"]]
            ends = [(float(one["ci_low"]), float(one["ci_high"]), float(one["value"])) for one, _ in moved]
            shares, left = [], 0
            for (low, high, one), (_, other) in zip(ends, moved, strict=True):
                if one != other and high > low:
                    shares.append(abs(other - one) / ((high - low) / 2))
                left += not low <= other <= high
            yield {
                "models": f"{kind[0]}: {kind[1]}",
                "change": way,
                "values": str(len(keys)),
                "missing": str(list(kinds.values()).count(kind) - len(keys)),
                "same bits": str(sum(first[key]["value"] == found[key]["value"] for key in keys)),
                "median share": f"{median(shares or [0.0]):.4f}",
                "largest share": f"{max(shares, default=0.0):.2f}",
                "left it": str(left),
            }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--before", type=Path, required=True, help="older checkout of this project")
    parser.add_argument("--suite", type=Path, default=REPO / "config.yaml")
    parser.add_argument("--seeds", type=int, default=1, help="of the suite's, the first ones (default: 1)")
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where to keep the studies (default: nowhere)")
    chosen = parser.parse_args()
    if not (chosen.before / "workflow/Snakefile").is_file():
        parser.error(f"--before: {chosen.before} is no checkout of this project")
    raw = yaml.safe_load(chosen.suite.read_text(encoding="utf-8"))
    raw["seeds"] = raw["seeds"][: chosen.seeds]
    with tempfile.TemporaryDirectory() as temporary:
        place, older = (chosen.folder or Path(temporary)).resolve(), chosen.before.resolve()
        before = make(older, raw, place / "before", chosen.cores)
        plain = {"ATEN_CPU_CAPABILITY": "default"}
        others = [make(older, raw, place / "rounding", chosen.cores, **plain)]
        others.append(make(REPO, raw, place / "now", chosen.cores))
        tables = [list(headline(before, others)), list(all_values(before, others))]
    for table in tables:
        writer = csv.DictWriter(sys.stdout, list(table[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
        print()


if __name__ == "__main__":
    main()
