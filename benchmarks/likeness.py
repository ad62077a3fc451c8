"""Tests of "like `retrained`": how often they reject a further seed, and one with a tenth or a quarter of
the memory left.

    python benchmarks/likeness.py results/SUITE/scores.csv          held-out `retrained` models of a study
    python benchmarks/likeness.py SCORES --simulated 2000            and seeds drawn with its variances
    python benchmarks/likeness.py --logs FULL RETAIN90 RETAIN95      TOFU's published logs of Llama-2-7B

A study with many `retrained` seeds (20 of them: seeds 4, `retrained_seeds` 16) is taken apart: of a random
order of the seeds the first S are known and the next one is judged, as it is (size: a right test rejects at
most 5 %) and with a tenth or a quarter of what `original` knows beyond it put back into every question, on
the scale of log p per token and of log R (power). The tests are the gap's prediction interval
(metrics/further_seed.py), and those against one `retrained` alone: TOFU's KS test, Wilcoxon's signed-rank
test and the permutation of D.
`--simulated` draws the group means of S + 1 seeds from a normal model whose variances are estimated from all
seeds.
`--logs` takes subsamples of 40 questions that only the first of three logs' models has seen, and holds the
second against the third.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from pipeline_lib.core.runs import RunKey
from pipeline_lib.metrics.forget_quality import forget_quality
from pipeline_lib.metrics.further_seed import FurtherSeed, of_groups
from pipeline_lib.metrics.paired_tests import permutation_d_p, wilcoxon_p
from pipeline_lib.metrics.questions import Questions
from pipeline_lib.peers.tofu_log import FORGET, read_tofu_log
from pipeline_lib.reporting.scores import read_scores

SEEDS = (2, 3, 5, 10)
SHARES = {"as it is": 0.0, "with a tenth": 0.1, "with a quarter": 0.25}  # of what `original` knows, put back
LEVEL = 0.05
QUESTIONS = 40  # of TOFU's smallest forget set
TESTS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {  # of two models on the same questions
    "KS (TOFU)": lambda first, second: forget_quality(first, second).p_value,
    "Wilcoxon": wilcoxon_p,
    "permutation of D": permutation_d_p,
}
COLUMNS = ("how", "test", "retrained seeds", *(f"rejected {left}" for left in SHARES), "tries")


def forget_of(path: Path, method: str) -> list[Questions]:
    """The forget questions under every seed of `original` or `retrained`."""
    found: dict[RunKey, dict[str, Questions]] = dict(read_scores(path))  # type: ignore[arg-type]
    return [
        scores["forget"] for key, scores in sorted(found.items()) if key.method == method and key.row.anchor
    ]


def held_out(
    retrained: list[Questions], original: list[Questions], tries: int
) -> Iterator[dict[str, object]]:
    """A line for each number of known seeds, and one for each test against a single one."""
    generator = np.random.default_rng(0)
    known = np.stack([one.values["log_probability"] for one in retrained])  # (S, N)
    before = np.mean([one.values["log_probability"] for one in original], axis=0)
    groups = retrained[0].groups
    for seeds in (*(s for s in SEEDS if s < len(known)), len(known) - 1):
        rejected = np.zeros(len(SHARES))
        for _ in range(tries):
            order = generator.permutation(len(known))
            first, further = known[order[:seeds]], known[order[seeds]]
            rejected += _rejected(first, further, before, groups)
        yield _line("held-out models", "gap", seeds, rejected / tries, tries)
    ratios = np.stack([one.values["log_truth_ratio"] for one in retrained])  # (S, N)
    was = np.mean([one.values["log_truth_ratio"] for one in original], axis=0)
    pairs = [(i, j) for i in range(len(ratios)) for j in range(len(ratios)) if i != j]
    for name, test in TESTS.items():
        rejected = np.array(
            [
                [test(_with(ratios[i], was, share), ratios[j]) < LEVEL for share in SHARES.values()]
                for i, j in pairs
            ]
        ).mean(axis=0)
        yield _line("held-out models", name, 1, rejected, len(pairs))


def simulated(
    retrained: list[Questions], original: list[Questions], tries: int
) -> Iterator[dict[str, object]]:
    """The same of the gap for seeds drawn with the variances of all that there are."""
    known = np.stack([one.values["log_probability"] for one in retrained])
    before, groups = np.mean([one.values["log_probability"] for one in original], axis=0), retrained[0].groups
    scale, generator = FurtherSeed.of(known, groups), np.random.default_rng(1)
    member = retrained[0].of_group.T  # (G, N)
    inner = max(0.0, scale.inner - scale.single / scale.sizes[0])  # without its questions'
    level = max(0.0, scale.level - scale.inner / len(scale.sizes))
    for seeds in SEEDS:
        rejected = np.zeros(len(SHARES))
        for _ in range(tries):
            a = np.sqrt(level) * generator.standard_normal((seeds + 1, 1))
            b = np.sqrt(inner) * generator.standard_normal((seeds + 1, len(member))) @ member
            e = np.sqrt(scale.single) * generator.standard_normal((seeds + 1, len(groups)))
            x = known.mean(axis=0) + a + b + e
            rejected += _rejected(x[:-1], x[-1], before, groups)
        yield _line("simulated", "gap", seeds, rejected / tries, tries)


def _with(model: np.ndarray, before: np.ndarray, share: float) -> np.ndarray:
    """The model's scores with this share of those before put back."""
    return (1 - share) * model + share * before


def _rejected(
    first: np.ndarray, further: np.ndarray, before: np.ndarray, groups: Sequence[str]
) -> np.ndarray:
    """Whether a further seed is told from the first ones, with each of `SHARES` of `before`."""
    scale, mean = FurtherSeed.of(first, groups), of_groups(groups)
    judged = (_with(further, before, share) for share in SHARES.values())
    gaps = [(np.abs(x - first.mean(axis=0)) @ mean).mean() for x in judged]
    return np.array([scale.p_value(float(gap)) < LEVEL for gap in gaps], dtype=float)


def published(paths: Sequence[Path], tries: int) -> Iterator[dict[str, object]]:
    """A line for each test against a single `retrained`, from logs of a full model and two retrained ones."""
    forget = [read_tofu_log(path)[FORGET] for path in paths]
    ratios = [dict(zip(part.questions, part.log_ratios("geometric"), strict=True)) for part in forget]
    shared = [question for question in ratios[2] if question in ratios[0] and question in ratios[1]]
    full, one, other = (np.array([of[question] for question in shared]) for of in ratios)
    generator = np.random.default_rng(0)
    drawn = [generator.choice(len(shared), QUESTIONS, replace=False) for _ in range(tries)]
    for name, test in TESTS.items():
        rejected = np.array(
            [
                [test(_with(one, full, share)[rows], other[rows]) < LEVEL for share in SHARES.values()]
                for rows in drawn
            ]
        ).mean(axis=0)
        yield _line("published logs", name, 1, rejected, tries)


def _line(how: str, test: str, seeds: int, rejected: np.ndarray, tries: int) -> dict[str, object]:
    values = (how, test, seeds, *(f"{share:.3f}" for share in rejected), tries)
    return dict(zip(COLUMNS, values, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "scores", type=Path, nargs="?", help="scores.csv of a study with many `retrained` seeds"
    )
    parser.add_argument(
        "--logs", type=Path, nargs=3, metavar="LOG", help="eval_log_aggregated.json of three models"
    )
    parser.add_argument("--tries", type=int, default=500, help="random orders of the seeds (default: 500)")
    parser.add_argument("--simulated", type=int, metavar="TRIES", help="draw so many studies too")
    arguments = parser.parse_args()
    writer = csv.DictWriter(sys.stdout, COLUMNS, lineterminator="\n")
    if arguments.logs:
        writer.writeheader()
        writer.writerows(published(arguments.logs, arguments.tries))
        return
    if arguments.scores is None:
        parser.error("give scores.csv of a study, or --logs")
    retrained, original = (forget_of(arguments.scores, method) for method in ("retrained", "original"))
    if len(retrained) < 4 or not original:
        parser.error(
            f"{arguments.scores}: needs 4 `retrained` seeds and an `original`, found {len(retrained)}"
        )
    writer.writeheader()
    writer.writerows(held_out(retrained, original, arguments.tries))
    if arguments.simulated:
        writer.writerows(simulated(retrained, original, arguments.simulated))


if __name__ == "__main__":
    main()
