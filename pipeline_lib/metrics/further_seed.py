"""How far one further `retrained` seed would be from those there are: the scale on which a gap is judged.

Model: log p(answer) / tokens of question q of forget group g under the retrained model of seed s is
    x[s, q] = mu[q] + a[s] + b[s, g] + e[s, q],   each normal with mean 0 and a variance of its own,
questions and authors being the same for all seeds. a moves a whole model, b what it knows of one group, e
what it makes of one question. Mean squares estimate the variances (Searle, Casella and McCulloch 1992,
Variance Components, chapter 4): of the seeds' means over groups, of the groups' means around these, and of
the questions around their group's mean, with S - 1, (S - 1) (G - 1) and (S - 1) (N - G) degrees of freedom.

A further seed is compared with the mean of the S, so each of its differences d[q] has these variances times
1 + 1/S. What its gap, the mean over groups of their mean |d[q]|, would be is drawn: each draw divides the
sums of squares by a chi-square of their degrees of freedom (the predictive distribution under the prior 1 /
variance; the mean of d alone has Student's prediction interval for one further observation).
Traps: one variance stands for all questions; where some vary more than others the expected gap is overstated,
so that the limit is wide rather than narrow. A run's own seed may be among the S, which again favours "like".

Shapes: S seeds, N questions, G groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike

DRAWS = 10_000
AT_ONCE = 4_000_000  # numbers that are drawn at a time
LEVEL = 0.95


def of_groups(groups: Sequence[str]) -> np.ndarray:
    """Which question is of which group over the groups' sizes, (N, G): means of groups by a product."""
    place = {name: i for i, name in enumerate(dict.fromkeys(groups))}
    member = np.eye(len(place))[[place[name] for name in groups]]
    return member / member.sum(axis=0)


@dataclass(frozen=True)
class FurtherSeed:
    """What `retrained` seeds say about one more: variances in squared nats per token, of the three strata.

    `level`: of a seed's mean over groups. `inner`: of a group's mean around it. `single`: of a question
    around its group's mean. `sizes`: questions of each group.
    """

    seeds: int
    sizes: tuple[int, ...]
    level: float
    inner: float
    single: float

    @property
    def freedom(self) -> tuple[int, int, int]:
        """Degrees of freedom of seeds, of what a seed makes of single groups, and of single questions."""
        between = self.seeds - 1
        return between, between * (len(self.sizes) - 1), between * (sum(self.sizes) - len(self.sizes))

    @classmethod
    def of(cls, values: ArrayLike, groups: Sequence[str]) -> FurtherSeed:
        """From the log-probabilities per token of every seed, (S, N), and the group of each question.

        Raises ValueError with fewer than two seeds: one seed does not say how seeds differ.
        """
        x = np.asarray(values, dtype=float)
        if x.ndim != 2 or x.shape[0] < 2 or x.shape[1] != len(groups):
            raise ValueError(f"expected values (S, {len(groups)}) of at least 2 seeds, got {x.shape}")
        mean = of_groups(groups)  # (N, G)
        x = x - x.mean(axis=0)  # around mu
        of_group = x @ mean  # (S, G)
        of_seed = of_group.mean(axis=1)  # (S,)
        around_seed = of_group - of_seed[:, None]
        around_group = x - of_group @ (mean > 0).T
        sizes = tuple(int(n) for n in (mean > 0).sum(axis=0))
        between, inner, single = cls(len(x), sizes, 0, 0, 0).freedom
        squares = [(part**2).sum() for part in (of_seed, around_seed, around_group)]
        found = [float(s / max(1, df)) for s, df in zip(squares, (between, inner, single), strict=True)]
        return cls(len(x), sizes, *found)

    def gaps(self, runs: int = 1) -> np.ndarray:
        """Draws of the mean gap of so many further seeds, in ascending order."""
        return _gaps(self, runs)

    def limit(self, runs: int = 1) -> float:
        """The gap that `runs` further seeds stay below, on average, with a probability of 95 %."""
        return float(np.quantile(self.gaps(runs), LEVEL))

    def p_value(self, gap: float, runs: int = 1) -> float:
        """The probability of a mean gap at least as large, (1 + draws at or above it) / (1 + draws)."""
        draws = self.gaps(runs)
        return float(1 + len(draws) - np.searchsorted(draws, gap, side="left")) / (1 + len(draws))


@cache
def _gaps(model: FurtherSeed, runs: int) -> np.ndarray:
    generator = np.random.default_rng(20_240_419)
    groups = [str(g) for g, size in enumerate(model.sizes) for _ in range(size)]
    mean = of_groups(groups)
    member = (mean > 0).T.astype(float)  # (G, N)
    count = max(1, min(DRAWS, AT_ONCE // len(groups)))
    found = []
    for start in range(0, DRAWS, count):
        here = min(count, DRAWS - start)
        scales = [
            np.sqrt(variance * df / generator.chisquare(df, (here, 1))) if df else np.zeros((here, 1))
            for variance, df in zip((model.level, model.inner, model.single), model.freedom, strict=True)
        ]

        def drawn(scale: float, here: int = here, scales: list[np.ndarray] = scales) -> np.ndarray:
            """Differences of the questions, (here, N), with the variances times `scale`^2."""
            e = generator.standard_normal((here, len(groups)))
            b = generator.standard_normal((here, len(model.sizes)))
            e -= e @ mean @ member
            b -= b.mean(axis=1, keepdims=True)
            a = generator.standard_normal((here, 1))
            return scale * (scales[0] * a + (scales[1] * b) @ member + scales[2] * e)

        reference = drawn(1 / np.sqrt(model.seeds))  # the mean of the seeds there are, which all runs share
        total = sum((np.abs(drawn(1.0) - reference) @ mean).mean(axis=1) for _ in range(runs))
        found.append(total / runs)
    return np.sort(np.concatenate(found))
