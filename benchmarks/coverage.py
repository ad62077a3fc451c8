"""How often the 95 % bootstrap interval of one model holds the true mean, by groups and by how alike a
group's rows are.

    python benchmarks/coverage.py [--studies 1000]

A study is G groups of 10 questions with normal scores whose correlation within a group is given; the true
mean is 0. The interval is that of metrics/statistics.py: groups with replacement from 20 groups on, two
stages below.
"""

from __future__ import annotations

import argparse
import csv
import sys

import numpy as np

from pipeline_lib.metrics.statistics import interval, resample_counts, weighted_mean

GROUPS = (2, 4, 10, 20, 40)
CORRELATIONS = (0.0, 0.1, 0.3, 0.6)
ROWS = 10
COLUMNS = ("groups", *(f"correlation {rho:g}" for rho in CORRELATIONS))


def coverage(groups: int, correlation: float, studies: int, resamples: int = 400) -> float:
    """Share of the studies whose interval holds 0."""
    names = [group for group in range(groups) for _ in range(ROWS)]
    generator, held = np.random.default_rng([groups, int(100 * correlation)]), 0
    for study in range(studies):
        shared = np.repeat(generator.standard_normal(groups), ROWS)
        values = np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * generator.standard_normal(
            len(names)
        )
        found = interval(
            values.mean(), weighted_mean(resample_counts(names, study, resamples), values), len(names)
        )
        held += found.low is not None and found.high is not None and found.low <= 0 <= found.high
    return held / studies


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--studies", type=int, default=1000)
    arguments = parser.parse_args()
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(COLUMNS)
    for groups in GROUPS:
        shares = (coverage(groups, rho, arguments.studies) for rho in CORRELATIONS)
        writer.writerow([groups, *(f"{share:.3f}" for share in shares)])


if __name__ == "__main__":
    main()
