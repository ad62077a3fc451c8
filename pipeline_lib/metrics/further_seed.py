"""How far one further `retrained` seed would be from those there are: the scale on which a gap is judged.

Model: the mean log-probability x of a forget group g under the retrained model of seed s is
    x[s, g] = mu[g] + a[s] + e[s, g],   a ~ N(0, var_seed), e ~ N(0, var_inner),
questions and authors being the same for all seeds. a moves a whole model, e holds what a seed makes of one
group's questions. The mean squares of the two-way table with one entry a cell estimate both (Searle, Casella
and McCulloch 1992, Variance Components, chapter 4):
    seeds    MS_a = G sum_s (xbar[s] - xbar)^2 / (S - 1)                      with S - 1 degrees of freedom
    inner    MS_e = sum_sg (x[s,g] - xbar[s] - xbar[g] + xbar)^2 / ((S - 1) (G - 1))   with (S - 1) (G - 1)

A further seed is compared with the mean of the S, so each of its group differences d[g] has both variances
times 1 + 1/S. What the gap, mean_g |d[g]|, would then be is drawn: the mean squares are unknown, so each draw
divides their sums by a chi-square of their degrees of freedom (the predictive distribution under the prior 1
/ variance; for the mean of d alone it is Student's prediction interval for one further observation with S - 1
degrees of freedom).

Shapes: S seeds, G groups, N draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike

DRAWS = 20_000
LEVEL = 0.95


@dataclass(frozen=True)
class FurtherSeed:
    """What `retrained` seeds say about one more of them: mean squares and their degrees of freedom."""

    seeds: int
    groups: int
    between: float  # MS_a, in squared nats per token
    inner: float  # MS_e

    @property
    def freedom(self) -> tuple[int, int]:
        """Degrees of freedom of the seeds, and of what a seed makes of single groups."""
        return self.seeds - 1, (self.seeds - 1) * (self.groups - 1)

    @classmethod
    def of(cls, means: ArrayLike) -> FurtherSeed:
        """From the groups' mean log-probabilities per token of every seed, (S, G).

        Raises ValueError with fewer than two seeds: one seed does not say how seeds differ.
        """
        x = np.asarray(means, dtype=float)
        if x.ndim != 2 or x.shape[0] < 2 or not x.shape[1]:
            raise ValueError(f"expected means of shape (S, G) with at least 2 seeds, got {x.shape}")
        seeds, groups = x.shape
        of_seed = x.mean(axis=1)  # (S,)
        rest = x - of_seed[:, None] - x.mean(axis=0) + x.mean()  # (S, G)
        between = groups * of_seed.var(ddof=1)
        inner = (rest**2).sum() / max(1, (seeds - 1) * (groups - 1))
        return cls(seeds, groups, float(between), float(inner))

    def gaps(self, runs: int = 1) -> np.ndarray:
        """Draws of the mean gap of so many further seeds, (N,), in ascending order."""
        return _gaps(self, runs)

    def limit(self, runs: int = 1) -> float:
        """The gap that `runs` further seeds stay below, on average, with a probability of 95 %."""
        return float(np.quantile(self.gaps(runs), LEVEL))

    def p_value(self, gap: float, runs: int = 1) -> float:
        """The probability of a mean gap at least as large, (1 + draws at or above it) / (1 + N)."""
        draws = self.gaps(runs)
        return float(1 + len(draws) - np.searchsorted(draws, gap, side="left")) / (1 + len(draws))


@cache
def _gaps(model: FurtherSeed, runs: int) -> np.ndarray:
    generator = np.random.default_rng(20_240_419)
    between, inner = model.freedom
    level = np.sqrt(
        model.between / model.groups * between / generator.chisquare(between, DRAWS)
    )  # of mean_g d
    spread = (
        np.sqrt(model.inner * inner / generator.chisquare(inner, DRAWS)) if inner else np.zeros(DRAWS)
    )  # of d - mean_g d

    def drawn(scale: float) -> np.ndarray:
        """Differences of the groups, (N, G), with the variances times `scale`^2."""
        e = generator.standard_normal((DRAWS, model.groups))
        a = generator.standard_normal((DRAWS, 1))
        e -= e.mean(axis=1, keepdims=True)
        return scale * (level[:, None] * a + spread[:, None] * e)

    reference = drawn(1 / np.sqrt(model.seeds))  # the mean of the seeds there are, which all runs share
    total = np.zeros(DRAWS)
    for _ in range(runs):
        total += np.abs(drawn(1.0) - reference).mean(axis=1)
    return np.sort(total / runs)
