"""What asking "does it stay forgotten?" costs: seconds of a study's jobs, beside those of unlearning.

    python -m benchmarks.attacks results/SUITE > docs/measurements/attacks.csv

From the times that Snakemake kept of each job (results/SUITE/benchmarks/), the training's own (steps.jsonl)
and the logs of evaluations. One line an attack, a mean over the unlearned models that went through it:

make s, evaluate s, score s    its jobs: the model that the stage makes, its records, its metrics
times unlearning               all of them over the job that unlearned the model, `unlearn s`
alone                          the same, if a job did again what one job shares: every judged step of a
                               relearning by a run that ends there (its steps up to there, an evaluation and
                               its metrics), every phrasing by a job that starts and loads the model (a job's
                               time without what its log says of the evaluations, and metrics). What
                               starting the further runs takes is left out: it is at least so much.

`no attack` is the evaluation of the unlearned model as it is; `all attacks` sums one model's attacks;
`original and retrained` is what the same attacks on these cost, shared by all unlearned models: their sum
over the number of these, in place of a mean.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import read_jsonl
from pipeline_lib.core.runs import FINE_TUNED, RunKey, key_from_path, split_stages
from pipeline_lib.study import load_suite
from pipeline_lib.study.graph import Graph

MAKE, ASK, SCORE = ("stage", "ask"), ("evaluate",), ("score",)
COLUMNS = (
    *("attack", "kind", "models", "unlearn s", "make s", "evaluate s", "score s"),
    *("times unlearning", "alone"),
)
EVALUATED = re.compile(r"evaluated in ([\d.]+) (s|min|h|days)")
UNITS = {"s": 1, "min": 60, "h": 3600, "days": 86400}


@dataclass(frozen=True)
class Cost:
    """Seconds of one model's attack; `more`: what the same would take beyond that if nothing were shared."""

    make: float
    ask: float
    score: float
    more: float = 0.0

    @property
    def total(self) -> float:
        return self.make + self.ask + self.score

    @classmethod
    def sum(cls, costs: Sequence[Cost], over: int = 1) -> Cost:
        """Of all of these, divided by `over`."""
        names = ("make", "ask", "score", "more")
        return cls(*(sum(getattr(cost, name) for cost in costs) / over for name in names))


class Study:
    """The finished jobs of a results folder by rule and model."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.suite = folder, load_suite(folder / "suite.yaml")
        self.seconds: dict[tuple[str, RunKey], float] = {}
        self.missing = 0
        for job in Graph(self.suite).study():
            if job.rule not in ("unlearn", *MAKE, *ASK, *SCORE):
                continue
            place = folder / "benchmarks" / job.rule / f"{job.name}.tsv"
            if not place.is_file():
                self.missing += 1
                continue
            with open(place, encoding="utf-8", newline="") as handle:
                (row,) = csv.DictReader(handle, delimiter="\t")
            self.seconds[job.rule, key_from_path(place.with_suffix("") / "of")] = float(row["s"])

    def cost(self, key: RunKey) -> Cost | None:
        """Of making (where something is made), asking and scoring this model; None unless all is done."""
        rules = (*MAKE, *ASK, *SCORE)
        made = {rule: self.seconds[rule, key] for rule in rules if (rule, key) in self.seconds}
        if not {*ASK, *SCORE} <= made.keys() or (key.after and not made.keys() & set(MAKE)):
            return None
        make, ask, score = (sum(made.get(rule, 0.0) for rule in kind) for kind in (MAKE, ASK, SCORE))
        return Cost(make, ask, score, self._more(key, ask, score))

    def _more(self, key: RunKey, ask: float, score: float) -> float:
        if not key.after:
            return 0.0
        stage = self.suite.stages[key.after.split("/")[-1]]
        if stage.asks:
            log = (self.folder / "logs" / "evaluate" / f"{key.folder}.log").read_text(encoding="utf-8")
            evaluated = sum(float(number) * UNITS[unit] for number, unit in EVALUATED.findall(log))
            return (stage.phrasings() - 1) * (max(ask - evaluated, 0.0) + score)
        steps = read_jsonl(self.folder / "training" / key.folder / "steps.jsonl")
        earlier = [row["elapsed_s"] for row in steps if "judged" in row][:-1]
        return sum(earlier) + len(earlier) * (ask + score)

    def attacked(self) -> dict[RunKey, dict[str, Cost]]:
        """By model, its attacks by label; "" is the model itself. Only what is done."""
        found: dict[RunKey, dict[str, Cost]] = {}
        for rule, key in self.seconds:
            first, labels = split_stages(key.after)
            if rule == "evaluate" and (cost := self.cost(key)) is not None:
                found.setdefault(key._replace(after=first), {})[labels] = cost
        return found

    def lines(self) -> Iterator[list[object]]:
        by_model = self.attacked()
        unlearn = {
            key: s
            for (rule, key), s in self.seconds.items()
            if rule == "unlearn" and by_model.get(key, {}).keys() - {""}
        }
        labels = dict.fromkeys(label for key in unlearn for label in by_model[key])
        whole = [key for key in unlearn if by_model[key].keys() == labels.keys()]
        for label in labels:
            models = [key for key in unlearn if label in by_model[key]]
            kind = self.suite.stages[label.split("/")[-1]].kind if label else ""
            costs = [(by_model[key][label], unlearn[key]) for key in models]
            yield _line(label or "no attack", kind, costs)
        sums = [(Cost.sum([of for name, of in by_model[key].items() if name]), unlearn[key]) for key in whole]
        if sums:
            yield _line("all attacks", "", sums)
        anchors = [of for key, of in by_model.items() if key.method in FINE_TUNED]
        shared = [cost for of in anchors for label, cost in of.items() if label in labels and label]
        if shared:
            each = Cost.sum(shared, over=len(unlearn))
            yield _line("original and retrained", "", [(each, s) for s in unlearn.values()])


def _line(label: str, kind: str, costs: list[tuple[Cost, float]]) -> list[object]:
    """`costs`: of each model, with the seconds of its unlearning."""
    seconds = [fmean(s for _, s in costs)]
    seconds += [fmean(getattr(cost, name) for cost, _ in costs) for name in ("make", "ask", "score")]
    times = (
        fmean(cost.total / s for cost, s in costs),
        fmean((cost.total + cost.more) / s for cost, s in costs),
    )
    return [label, kind, len(costs), *(f"{s:.1f}" for s in seconds), *(f"{value:.2f}" for value in times)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path, help="folder of a finished study that has attacks")
    parser.add_argument("--so-far", action="store_true", help="of a study that is not finished")
    chosen = parser.parse_args()
    try:
        study = Study(chosen.results)
    except UserError as error:
        parser.error(str(error))
    if study.missing and not chosen.so_far:
        parser.error(
            f"{chosen.results}: times of {study.missing} jobs are missing; finish the study where it was "
            "begun, or take `--so-far` to see the others"
        )
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(study.lines())


if __name__ == "__main__":
    main()
