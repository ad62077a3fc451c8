"""Several seeds to one number with its 95 % interval.

Two seeds or more: the mean and a t-interval over seeds inside the metric's range (intervals.py). One seed:
the run's own bootstrap interval over groups of questions, which says nothing about other seeds. Where nothing
varied or was repeated there is no interval, and `why` says so.
 Forget quality is averaged as log10 p, never as p.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Any

import pandas as pd
from scipy import stats

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.runs import LOST
from pipeline_lib.metrics import declared
from pipeline_lib.reporting import intervals
from pipeline_lib.reporting.inputs import Inputs, Row, RowKey
from pipeline_lib.reporting.paired import detectable_difference


@dataclass(frozen=True)
class Estimate:
    """`interval`: "t" (over seeds), "bootstrap" (over groups of questions of one run) or "none".

    `why`: why there is none, in a few words.
    """

    value: float
    low: float | None
    high: float | None
    seeds: int
    n: int | None  # examples behind each seed's value
    interval: str
    higher_is_better: bool | None = None
    why: str = ""


@dataclass(frozen=True)
class Difference(Estimate):
    """A paired difference. `p`: paired t-test, `p_holm`: adjusted within its family, once that is known.

    `detectable`: the difference that so many seeds of this spread could have shown (paired.py). All three
    are None where there is no test.
    """

    p: float | None = None
    p_holm: float | None = None
    detectable: float | None = None


def why_none(seeds: int) -> str:
    """Why several seeds, or one number, have no interval."""
    return "1 seed" if seeds == 1 else f"alike in {seeds} seeds"


class Summary:
    """metrics.csv by row: values of single seeds, estimates over seeds, diverged seeds."""

    def __init__(self, inputs: Inputs) -> None:
        self.inputs = inputs
        frame = inputs.metrics
        lost = (frame["split"] == "run") & frame["metric"].isin(LOST)
        found = (frame[name][lost] for name in ("run", "metric", "value"))
        self._lost = {run: (status, int(step)) for run, status, step in zip(*found, strict=True)}
        self._measured = dict.fromkeys(
            (run.task, run.model, split, metric)
            for run, split, metric in zip(frame["run"], frame["split"], frame["metric"], strict=True)
        )
        self._values: dict[tuple[RowKey, str, str], dict[int, dict[Hashable, Any]]] = {}
        for line in frame[~lost].to_dict("records"):
            name = (line["run"].row, line["split"], line["metric"])
            self._values.setdefault(name, {})[line["seed"]] = line

        for row in inputs.rows:
            if row.anchor and not self.finished(row):
                raise UserError(
                    f"`{row.key.method}` of {row.key.task}, {row.key.model} diverged in every seed: nothing "
                    "can be compared with it. Lower the learning rate of its fine-tuning."
                )

    def has(self, task: str, model: str, split: str, metric: str) -> bool:
        """Whether this was measured at all: a task whose records have no wrong answers has no truth ratio."""
        return (task, model, split, metric) in self._measured

    def splits_with(self, task: str, model: str, metric: str) -> list[str]:
        """Splits on which this was measured, in the order of metrics.csv."""
        return [key[2] for key in self._measured if key[:2] == (task, model) and key[3] == metric]

    def retain_split(self, task: str, model: str) -> str:
        """The retain questions that were asked: `retain_eval` where only a part of the set was."""
        return "retain_eval" if self.has(task, model, "retain_eval", "rouge_l_recall") else "retain"

    def diverged(self, row: Row) -> dict[int, int]:
        """Seed -> step, of the runs of a row that have no model: see `lost`."""
        return {run.seed: step for run, (_, step) in self._lost.items() if run.row == row.key}

    def lost(self, row: Row) -> list[str]:
        """Why each of these runs has no model: keys of `LOST`, in the order of `diverged`."""
        return [status for run, (status, _) in self._lost.items() if run.row == row.key]

    def finished(self, row: Row) -> list[int]:
        """Seeds that did not diverge."""
        lost = self.diverged(row)
        return [seed for seed in row.seeds if seed not in lost]

    def by_seed(self, row: Row, split: str, metric: str) -> dict[int, float]:
        """Values of the finished seeds; none if the task does not have this metric.

        If one run of a task has a metric, all must have it, except anchors in what they never have and rows
        judged by likelihood alone.
        """
        if not self.has(row.key.task, row.key.model, split, metric):
            return {}
        found = self._values.get((row.key, split, metric), {})
        for seed in self.finished(row):
            if seed not in found and not row.likelihood_only and not _never_has(row, metric):
                raise UserError(
                    f"{self.inputs.place('metrics.csv')}: no {metric} of split {split} for "
                    f"{row.key}, seed {seed}. Give the same snakemake command "
                    "with `--forcerun score`."
                )
        return {seed: float(found[seed]["value"]) for seed in sorted(found)}

    def estimate(self, row: Row, split: str, metric: str) -> Estimate | None:
        """None where every seed diverged (or the row has no such metric, see `by_seed`)."""
        if not (values := self.by_seed(row, split, metric)):
            return None
        lines = [self._values[row.key, split, metric][seed] for seed in values]
        if len(counts := {int(line["n"]) for line in lines}) > 1:
            raise UserError(
                f"{metric} of split {split} for {row.key}: the seeds have different n "
                f"({', '.join(map(str, sorted(counts)))}). They were judged on different data: give the "
                "same snakemake command with `--forcerun evaluate`."
            )
        direction = {"true": True, "false": False}.get(lines[0]["higher_is_better"])
        if len(values) == 1:
            return one_run_estimate(lines[0], metric, direction)
        over_seeds = plain_estimate(list(values.values()), declared()[metric].range)
        return over_seeds and replace(over_seeds, n=counts.pop(), higher_is_better=direction)

    def shared(self, task: str, model: str, split: str, metric: str) -> Estimate | None:
        """A number that is the same for all runs, with its own interval, from the first run that has it."""
        found = (
            one_run_estimate(next(iter(lines.values())), metric, None)
            for (row, *measure), lines in self._values.items()
            if (row.task, row.model) == (task, model) and measure == [split, metric]
        )
        return next(found, None)

    def mean_estimate(self, row: Row, measures: Sequence[tuple[str, str]]) -> Estimate | None:
        """Mean over several (split, metric) in each seed, then over seeds; what is not measured is left out.

        With one measure this is `estimate`. With several, a single seed has no interval, and n is None.
        """
        if len(found := [m for m in measures if self.has(row.key.task, row.key.model, *m)]) < 2:
            return self.estimate(row, *found[0]) if found else None
        by_seed = [self.by_seed(row, *m) for m in found]
        means = [fmean(values[seed] for values in by_seed) for seed in by_seed[0]]
        limits = [declared()[metric].range for _, metric in found]
        estimate = plain_estimate(means, (min(low for low, _ in limits), max(high for _, high in limits)))
        first = self.estimate(row, *found[0])
        return estimate and replace(estimate, higher_is_better=first.higher_is_better if first else None)

    def difference(
        self, row: Row, other: Row, split: str, metric: str, comparisons: int
    ) -> Difference | None:
        """Mean of `row` minus `other`, paired over the seeds that both finished, with interval and t-test.

        Paired, because runs of one seed start from the same model; the interval is simultaneous for
        `comparisons` differences. None where no seed is shared. Differences without any spread have no
        interval and no test: a metric that moves in steps (KS D in steps of 1 / n) gives such ties by chance
        with few seeds.
        """
        a, b = self.by_seed(row, split, metric), self.by_seed(other, split, metric)
        if not (seeds := [seed for seed in a if seed in b]):
            return None
        pairs = [a[seed] - b[seed] for seed in seeds]
        mean, low, high = intervals.of_difference(pairs, declared()[metric].range, comparisons)
        p = detectable = None
        if low is not None:
            p = float(stats.ttest_rel([a[seed] for seed in seeds], [b[seed] for seed in seeds]).pvalue)
            detectable = detectable_difference(stdev(pairs), len(pairs), comparisons)
        own = self.estimate(row, split, metric)
        assert own is not None  # it has a value in each of these seeds
        kind, why = ("none", why_none(len(pairs))) if low is None else ("t", "")
        facts = (len(pairs), own.n, kind, own.higher_is_better, why)
        return Difference(mean, low, high, *facts, p=p, detectable=detectable)


def _never_has(row: Row, metric: str) -> bool:
    """Only unlearned models are mixed with `original`, and `retrained` may have no other beside it.

    A path of steps may not reach the utility at which others are compared, not every model has a stage behind
    it, and answers may be drawn under attack alone. A further seed of `retrained` has no `original` whose
    layers could be patched. A model that is asked in another way is neither mixed nor put to the paper's own
    questions.
    """
    found = declared()[metric]
    if {"trajectory", "stages", "samples", "inside"} & set(found.only_with):
        return True
    if row.key.after and {"equal_retain", "as_released"} & set(found.only_with):
        return True
    if "equal_retain" in found.only_with:
        return row.order == "none"
    beside_another = found.on == "study" or found.beside_retrained
    return beside_another and row.anchor and row.key.method == "retrained"


def one_run_estimate(line: Mapping[Any, Any] | pd.Series, metric: str, direction: bool | None) -> Estimate:
    """A run's own value with its own interval."""
    value, n = float(line["value"]), int(line["n"])
    if not pd.isna(line["ci_low"]):
        return Estimate(value, float(line["ci_low"]), float(line["ci_high"]), 1, n, "bootstrap", direction)
    repeated = "1 record" if n == 1 else f"1 group, or alike in all {n}"
    return Estimate(value, None, None, 1, n, "none", direction, declared()[metric].no_interval or repeated)


def cost_estimate(inputs: Inputs, row: Row, column: str) -> Estimate | None:
    """Mean of a column of costs.csv over the finished seeds; None where no seed has a number."""
    limits = (0.0, 1.0) if column == "clipped_share" else intervals.POSITIVE
    return plain_estimate(list(cost_by_seed(inputs, row, column).values()), limits)


def cost_by_seed(inputs: Inputs, row: Row, column: str) -> dict[int, float]:
    """Values of the finished seeds that have one: a diverged run stopped early, its cost says nothing."""
    frame = inputs.costs
    chosen = frame[(frame["run"].map(lambda run: run.row) == row.key) & (frame["status"] == "ok")]
    return {
        int(seed): float(v) for seed, v in zip(chosen["seed"], chosen[column], strict=True) if not pd.isna(v)
    }


def cost_ratio(inputs: Inputs, row: Row, base: Row | None, column: str) -> dict[int, float]:
    """A column of costs.csv over that of the row `base` with the same seed."""
    other = cost_by_seed(inputs, base, column) if base else {}
    return {seed: v / other[seed] for seed, v in cost_by_seed(inputs, row, column).items() if other.get(seed)}


def relative_time(inputs: Inputs, row: Row) -> dict[int, float]:
    """Training time over that of the reference optimiser with the same method and seed; empty without one.

    Of the whole run, not of a step: one-shot methods take one long step. Empty after a stage too: its
    time is not that of unlearning.
    """
    found = (r for r in inputs.rows_of(*row.key[:3]) if r.reference and not r.key.after)
    trained = row.order != "none" and not row.key.after
    return cost_ratio(inputs, row, next(found, None) if trained else None, "train_time_s")


def relative_time_estimate(inputs: Inputs, row: Row) -> Estimate | None:
    """Mean over seeds of `relative_time`."""
    return plain_estimate(list(relative_time(inputs, row).values()))


def plain_estimate(values: Sequence[float], limits: intervals.Limits = intervals.POSITIVE) -> Estimate | None:
    """Mean and interval of one number a seed, all within `limits`; None without any."""
    if not values:
        return None
    mean, low, high = intervals.of_mean(values, limits)
    kind, why = ("none", why_none(len(values))) if low is None else ("t", "")
    return Estimate(mean, low, high, len(values), None, kind, why=why)
