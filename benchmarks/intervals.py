"""How often the intervals over seeds hold the true mean: `python benchmarks/intervals.py`.

Seeds are drawn from Beta distributions, as they are and on a grid of 40 answers (a share of records), where
many studies find nothing but zeros: the last column says how many have an interval at all.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipeline_lib.reporting.intervals import of_mean

STUDIES = 4000
ANSWERS = 40


def main() -> None:
    """Print the table."""
    rng = np.random.default_rng(0)
    print("seeds   mean     SD  drawn   coverage  Student's   width  Student's  have one")
    for grid in (False, True):
        for seeds in (2, 3, 5, 10):
            for mean in (0.01, 0.05, 0.2, 0.5, 0.95):
                for concentration in (5, 30, 200):
                    values = rng.beta(mean * concentration, (1 - mean) * concentration, (STUDIES, seeds))
                    if grid:
                        values = rng.binomial(ANSWERS, values) / ANSWERS
                    drawn = "grid" if grid else "free"
                    spread = math.sqrt(mean * (1 - mean) / (concentration + 1))
                    print(f"{seeds:>5}{mean:>7.2f}{spread:>7.3f}  {drawn}  {row(values, mean)}")


def row(values: np.ndarray, mean: float) -> str:
    """Coverage and mean width of both intervals, and the share of studies (N, seeds) that have one."""
    seeds = values.shape[1]
    found = [(study, of_mean(list(study), (0.0, 1.0))) for study in values]
    ends = [(study, low, high) for study, (_, low, high) in found if low is not None and high is not None]
    if not ends:
        return "none varied"
    factor = stats.t.ppf(0.975, seeds - 1) / math.sqrt(seeds)
    halves = [factor * study.std(ddof=1) for study, *_ in ends]
    ours = np.mean([low <= mean <= high for _, low, high in ends])
    off = [abs(study.mean() - mean) for study, *_ in ends]
    students = np.mean(np.array(off) <= halves)
    width = np.mean([high - low for _, low, high in ends])
    kept = len(ends) / len(values)
    return f"{ours:>8.3f}{students:>11.3f}{width:>9.3f}{2 * np.mean(halves):>11.3f}{kept:>10.2f}"


if __name__ == "__main__":
    main()
