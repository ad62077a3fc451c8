"""How often a comparison of two rows claims what is not there: over seeds alone, and with mixed effects.

    python benchmarks/comparisons.py results/SUITE/scores.csv --variances   what differs between rows
    python benchmarks/comparisons.py results/SUITE/scores.csv --task TASK   claims in simulated studies

The variances are those of reporting/mixed_effects.py: of the difference between two optimisers of one method
in the gap of a question, for each pair, and for all pairs of a task together (mean squares averaged). A
simulated study draws that difference for S seeds and G groups of 10 questions, with the variances of all
pairs of the task, or with one of those of seeds and of groups taken away. Its true mean is 0: the share of
studies with p below 0.05 is the size of a test, and one minus it the coverage of the 95 % interval. With a
true mean of 2 standard deviations of the seeds' differences the share is the power.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator
from dataclasses import astuple, replace
from itertools import combinations
from pathlib import Path

import numpy as np
from scipy import special

from pipeline_lib.core.grouping import grouped
from pipeline_lib.core.runs import RunKey
from pipeline_lib.metrics.study import Scores
from pipeline_lib.reporting.mixed_effects import MixedEffects, Variances, mean_squares
from pipeline_lib.reporting.paired import LEVEL
from pipeline_lib.reporting.scores import read_scores

SEEDS, GROUPS, QUESTIONS = (3, 5, 10), (2, 4, 10, 20), 10
DIFFERENCE = 2.0
ALL = "all pairs"
VARIANCES = ("seeds", "groups", "both", "questions", "rest")
PAIR_COLUMNS = ("task", "method", "pair", "seeds", "groups", *(f"variance of {name}" for name in VARIANCES))
COLUMNS = (
    "seeds",
    "groups",
    "over seeds",
    "over seeds without variance of seeds",
    "mixed",
    "mixed without variance of seeds",
    "mixed without variance of groups",
    "power over seeds",
    "power of mixed",
    "studies",
)


def pairs_of(scores: dict[RunKey, Scores], task: str) -> Iterator[tuple[str, str, MixedEffects]]:
    """(method, pair, fit) of all optimisers of one method in the seeds that both finished."""
    keys = [key for key in scores if key.task == task]
    aim = np.mean([_forget(scores[k]) for k in keys if k.row.anchor and k.method == "retrained"], axis=0)
    rows = grouped((k.row, k) for k in keys if not k.row.anchor)
    for one, other in combinations(rows, 2):
        if one._replace(optimizer="") != other._replace(optimizer=""):
            continue
        seeds = sorted({k.seed for k in rows[one]} & {k.seed for k in rows[other]})
        gaps = [[np.abs(_forget(scores[row.seeded(s)]) - aim) for s in seeds] for row in (one, other)]
        groups = scores[rows[one][0]]["forget"].groups
        fit = MixedEffects.of(np.array(gaps[0]) - np.array(gaps[1]), groups)
        yield one.method, f"{one.optimizer} - {other.optimizer}", fit


def _forget(scores: Scores) -> np.ndarray:
    return scores["forget"].values["log_probability"]


def together(fits: list[MixedEffects]) -> MixedEffects:
    """One fit with the mean of the mean squares; the pairs have the same seeds and groups."""
    s, g, both = map(float, np.mean([fit.squares for fit in fits], axis=0))
    u, e = map(float, np.mean([fit.single for fit in fits], axis=0))
    return replace(fits[0], squares=(s, g, both), single=(u, e))


def variances_of(scores: dict[RunKey, Scores]) -> Iterator[dict[str, object]]:
    """A line for each pair and one for all pairs of a task."""
    for task in dict.fromkeys(key.task for key in scores):
        found = list(pairs_of(scores, task))
        for method, pair, fit in [*found, ("", ALL, together([fit for *_, fit in found]))]:
            values = (f"{value:.4g}" for value in astuple(fit.variances))
            yield dict(zip(PAIR_COLUMNS, (task, method, pair, fit.seeds, fit.groups, *values), strict=True))


def drawn(v: Variances, seeds: int, groups: int, studies: int) -> list[MixedEffects]:
    """The fits of simulated studies whose true mean is 0."""
    generator = np.random.default_rng([seeds, groups])
    table = np.zeros((studies, seeds, groups))  # of group means
    for variance, shape in (
        (v.seeds, (studies, seeds, 1)),
        (v.groups + v.questions / QUESTIONS, (studies, 1, groups)),
        (v.both + v.rest / QUESTIONS, (studies, seeds, groups)),
    ):
        table += np.sqrt(variance) * generator.standard_normal(shape)
    return [MixedEffects(mean, seeds, groups, (s, g, both)) for mean, s, g, both in mean_squares(table).T]


def claims(fits: list[MixedEffects], shift: float = 0.0) -> tuple[float, float]:
    """Shares with p below 0.05, over seeds and with mixed effects, where the true mean is `shift`."""
    over_seeds, mixed = np.array([(fit.squares[0] / fit.seeds / fit.groups, fit.error**2) for fit in fits]).T
    mean = np.array([fit.mean for fit in fits]) + shift
    tests = ((over_seeds, fits[0].seeds - 1), (mixed, np.array([fit.freedom for fit in fits])))
    first, second = (
        float((2 * special.stdtr(df, -np.abs(mean) / np.sqrt(square)) < LEVEL).mean()) for square, df in tests
    )
    return first, second


def simulated(v: Variances, studies: int) -> Iterator[dict[str, object]]:
    """A line for each number of seeds and groups."""
    for seeds in SEEDS:
        for groups in GROUPS:
            cases = (v, replace(v, seeds=0.0), replace(v, groups=0.0, questions=0.0))
            fits = [drawn(case, seeds, groups, studies) for case in cases]
            (over_seeds, mixed), (over_none, no_seeds), (_, no_groups) = map(claims, fits)
            of_seeds = v.seeds + (v.both + v.rest / QUESTIONS) / groups
            seen = claims(fits[0], DIFFERENCE * of_seeds**0.5)
            shares = (over_seeds, over_none, mixed, no_seeds, no_groups, *seen)
            yield dict(zip(COLUMNS, (seeds, groups, *(f"{s:.3f}" for s in shares), studies), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scores", type=Path, help="scores.csv of a study with several seeds")
    parser.add_argument("--variances", action="store_true", help="print the variances of every pair")
    parser.add_argument("--task", default="authors", help="whose variances to simulate (default: authors)")
    parser.add_argument("--studies", type=int, default=4000)
    arguments = parser.parse_args()
    scores: dict[RunKey, Scores] = dict(read_scores(arguments.scores))
    columns, lines = PAIR_COLUMNS, variances_of(scores)
    if not arguments.variances:
        fits = [fit for *_, fit in pairs_of(scores, arguments.task)]
        columns, lines = COLUMNS, simulated(together(fits).variances, arguments.studies)
    writer = csv.DictWriter(sys.stdout, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)


if __name__ == "__main__":
    main()
