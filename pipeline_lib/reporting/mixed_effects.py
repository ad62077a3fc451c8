"""A paired difference that must hold for further seeds and for further forget groups: mixed effects.

Two rows answer the same questions after the same seeds, so that only their differences count. Model of the
difference of seed s in question q of forget group g:
    d[s, q] = mu + a[s] + b[g] + c[s, g] + u[q] + e[s, q],   all but mu normal with mean 0, a variance each.
a and b are the slopes of the row by seed and by group of y ~ row + (row | seed) + (row | group) + (row |
question): its intercepts, which both rows share, cancel. This is the maximal model of Barr, Levy, Scheepers
and Tily 2013 (Journal of Memory and Language 68, 255-278). Student's paired test over seeds takes b and u as
fixed: it holds for these groups (Clark 1973, Journal of Verbal Learning and Verbal Behavior 12, 335-359, the
fixed-effect fallacy).

Every seed meets every group, so the table of group means (S, G) and its mean squares M of seeds, groups and
both say all about mu (Searle, Casella and McCulloch 1992, Variance Components, chapter 4). A variance that
is estimated below 0 is taken as 0; else this is restricted maximum likelihood in closed form:
    var(mean) = (max(M_s, M_sg) + max(M_g, M_sg) - M_sg) / (S G)
    df = Satterthwaite's (1946, Biometrics Bulletin 2, 110-114), at least the smaller of S - 1 and G - 1
With groups of several sizes these are the unweighted means of groups, as the gap itself takes them.
Traps: a handful of groups says little about further ones, so that intervals are wide. `retrained` is as it
was measured: its seeds are no random effect here. The groups stand for those of which they are a sample.

Shapes: S seeds, N questions, G groups. Units: those of the differences; for gaps nats per token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike
from scipy import special  # not scipy.stats: the plan asks for the power too, and takes a second

from pipeline_lib.metrics.further_seed import of_groups
from pipeline_lib.reporting.paired import LEVEL, TIE, shift_seen

DRAWS = 4000  # of mean squares; the error of a simulated power is below 0.01


@dataclass(frozen=True)
class Variances:
    """Of seeds (a), groups (b), both (c), questions (u) and the rest (e). What cannot be told apart is 0.

    With one question in each group, u counts as b and e as c.
    """

    seeds: float
    groups: float
    both: float
    questions: float = 0.0
    rest: float = 0.0


@dataclass(frozen=True)
class MixedEffects:
    """The fit of one paired difference. `squares`: M of seeds, groups and both; `single`: of u and e.

    `size`: questions in a group, as a harmonic mean.
    """

    mean: float
    seeds: int
    groups: int
    squares: tuple[float, float, float]
    single: tuple[float, float] = (0.0, 0.0)
    size: float = 1.0

    @classmethod
    def of(cls, differences: ArrayLike, groups: Sequence[str]) -> MixedEffects:
        """From the differences of every seed, (S, N), and the group of each question.

        Raises ValueError with fewer than two seeds or two groups: nothing says how single ones differ.
        """
        x = np.asarray(differences, dtype=float)
        if x.ndim != 2 or len(x) < 2 or x.shape[1] != len(groups) or len(set(groups)) < 2:
            raise ValueError(
                f"expected differences (S, {len(groups)}) of at least 2 seeds and 2 groups, got {x.shape} "
                f"and {len(set(groups))} groups"
            )
        mean = of_groups(groups)  # (N, G)
        member = (mean > 0).T  # (G, N)
        table = x @ mean  # (S, G)
        seeds, many = table.shape
        mu, s, g, both = map(float, mean_squares(table))
        around = x - table @ member  # of a question around its group, in each seed
        of_question = around.mean(axis=0)
        df = max(1, len(groups) - many)
        single = seeds * (of_question**2).sum() / df, ((around - of_question) ** 2).sum() / (seeds - 1) / df
        size = many / mean.max(axis=0).sum()  # a question's weight in its group is 1 / size
        return cls(mu, seeds, many, (s, g, both), (float(single[0]), float(single[1])), float(size))

    @property
    def error(self) -> float:
        """Standard error of the mean over seeds and groups; 0 where nothing varies but by rounding."""
        error = float(np.sqrt(_mean_square(*self.squares) / (self.seeds * self.groups)))
        return error if error > TIE * max(1.0, abs(self.mean)) else 0.0

    @property
    def freedom(self) -> float:
        """Satterthwaite's degrees of freedom of `error`; 0 where nothing varies."""
        return float(_freedom(*self.squares, self.seeds, self.groups)) if self.error else 0.0

    @property
    def p(self) -> float | None:
        """Two-sided p of no difference; None where nothing varies."""
        if not self.error:
            return None
        return float(2 * special.stdtr(self.freedom, -abs(self.mean) / self.error))

    def interval(self, comparisons: int = 1) -> tuple[float, float] | None:
        """95 % interval; with `comparisons` > 1 Bonferroni's, so that as many hold at once."""
        if not self.error:
            return None
        half = float(special.stdtrit(self.freedom, 1 - LEVEL / comparisons / 2)) * self.error
        return self.mean - half, self.mean + half

    @property
    def variances(self) -> Variances:
        """Estimates from the mean squares, 0 where they come out below."""
        s, g, both = self.squares
        u, e = self.single
        found = (
            (s - both) / self.groups,
            (g - both) / self.seeds - (u - e) / self.seeds / self.size,
            both - e / self.size,
            (u - e) / self.seeds,
            e,
        )
        return Variances(*(max(0.0, value) for value in found))


def mean_squares(table: np.ndarray) -> np.ndarray:
    """Mean, and mean squares of seeds, groups and both, of group means (..., S, G): (4, ...)."""
    seeds, groups = table.shape[-2:]
    mean = table.mean(axis=(-2, -1), keepdims=True)
    of_seed = table.mean(axis=-1, keepdims=True) - mean
    of_group = table.mean(axis=-2, keepdims=True) - mean
    parts = zip(
        (of_seed, of_group, table - mean - of_seed - of_group),
        (groups / (seeds - 1), seeds / (groups - 1), 1 / (seeds - 1) / (groups - 1)),
        strict=True,
    )
    return np.stack([mean[..., 0, 0], *((part**2).sum(axis=(-2, -1)) * times for part, times in parts)])


def _mean_square(s: np.ndarray | float, g: np.ndarray | float, both: np.ndarray | float) -> np.ndarray:
    """S G times the variance of the mean, from the mean squares."""
    return np.maximum(s, both) + np.maximum(g, both) - both


def _freedom(
    s: np.ndarray | float, g: np.ndarray | float, both: np.ndarray | float, seeds: int, groups: int
) -> np.ndarray:
    between, among = seeds - 1, groups - 1
    parts = np.square(s) / between + np.square(g) / among + np.square(both) / (between * among)
    return np.maximum(np.square(_mean_square(s, g, both)) / parts, min(between, among))


@cache
def detectable(seeds: int, groups: int, comparisons: int, variances: Variances) -> float:
    """The smallest true difference that this test claims with a probability of 80 %, by simulation.

    In standard deviations of the seeds' differences of means over these groups, as for Student's paired test
    over seeds (paired.py). The test is two-sided at LEVEL / comparisons. `variances`: of group means, so that
    only those of seeds, groups and both count. The draws are the same at every call.
    """
    v, between, among = variances, seeds - 1, groups - 1
    expected = groups * v.seeds + v.both, seeds * v.groups + v.both, v.both
    generator = np.random.default_rng([seeds, groups])
    s, g, both = (
        mean * generator.chisquare(df, DRAWS) / df
        for mean, df in zip(expected, (between, among, between * among), strict=True)
    )
    critical = special.stdtrit(_freedom(s, g, both, seeds, groups), 1 - LEVEL / comparisons / 2)
    square = groups * v.seeds + seeds * v.groups + v.both  # S G times the true variance of the mean
    shift = shift_seen(critical * np.sqrt(_mean_square(s, g, both) / square))
    return shift * float(np.sqrt(square / seeds / (groups * v.seeds + v.both)))
