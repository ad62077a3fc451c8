"""What a number of metrics.json means and how it comes about: the one record type of the metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

FORGET_SPLIT = "forget"
UNSEEN_SPLIT = "unseen"  # of the same kind, not shown to unlearning
UTILITY_SPLIT = "utility"  # not a split of data: metrics over all utility splits together
RUN_SPLIT = "run"  # not a split of data: what is true of a run as a whole
TOXICITY_SPLIT = "toxicity"  # not a split of data: the prompts of the toxicity evaluation
AT_EQUAL_RETAIN = "_at_equal_retain"  # of the model mixed with the original, see engine/equal_retain.py
FRONT_GAP = "front_gap"  # metric of runs that are judged on their way: see path.py

INF = float("inf")

# Fields of a Metric on which tables, figures and the report depend, with what the metric needs.
READ_BY_REPORTING = (
    "name",
    "short",
    "range",
    "tables",
    "decimals",
    "by_words",
    "no_interval",
    "on",
    "of",
    "split",
    "only_with",
)


class NotMeasured(Exception):
    """Raised by a metric's `compute` in place of a number: the need that is not met, and n of the records."""


@dataclass(frozen=True)
class Need:
    """What must be true before a metric says anything; where it is not, the metric is not measured.

    `text` completes "needs ...". `holds` is asked of each record's row ("record": the others count, and n is
    their number), of all rows of the split ("split"), or by the metric itself of a number that it is made of
    ("number", with `demand`). It looks at the data and at `retrained`, never at what the judged model says,
    so that all models of a study have the same metrics with the same n. `of_retrained`: the number is that of
    the model `retrained`.
    """

    text: str
    of: Literal["record", "split", "number"]
    holds: Callable[[Any], bool]
    of_retrained: bool = False

    def demand(self, number: float, n: int) -> None:
        """Raise `NotMeasured` unless `number`, of `n` records, is what is needed."""
        if not self.holds(number):
            raise NotMeasured(self, n)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric: its name in metrics.csv, how it is read, where it comes from and how it is computed.

    How it is read:
        `label` is the name in docs/metrics.md, `short_label` the one in tables and figures where that is
        another. `higher_is_better` holds on every split but `forget`; there `higher_is_better_on_forget`
        does. None means that neither direction is better. `range`: what the value can be, both ends included.
        `formula` and `trap` are one line each for docs/metrics.md, under the heading `family`; the whole
        story is in the metric's file. `tables`: the tables of reporting/tables/ it stands in, each with the
        place of its column. `decimals`: digits after the point there, where its range does not tell.
        `by_words`: it compares or counts words of the true answer.
    How it is computed:
        `on`    what of a run it is measured on: the `records` of each evaluated split; the `run` as a whole,
        or
                the run within its `study` (then `split` is the name that stands in metrics.csv); prompts of
                the `toxicity` evaluation; questions of `benchmarks`; forget questions looked for `inside`
                layers; the forget set (`mixed`) or the retain set (`kept`) of the model at equal retention.
                `also`: further ones, each with its `order`.
        `of`    what `compute` is given and returns: the row of a `record`, and its value; a `column`: a
                Split, and a value for each of its rows; a `split`: a Split, and the Interval of one number; a
                `pair`: the forget set beside that of `retrained` (a Pair), and an Interval. Values of records
                are averaged, groups resampled. Of a run: the Run, and an Interval or None; of a study: the
                Studied (study.py),
        and an Interval. See subjects.py.
        `order` its place among the rows of metrics.csv.
        `fields` are optional fields that the rows must have, all of them or none; `when` is asked of the
        Split. Without them there is no row. `needs`: see needs.py; `no_interval`: why it has none by its
        nature, "" where it has one.
        `only_with`: settings of `evaluation`, names of splits, or "stages", without which a run cannot have
        it.
        `compares`: of a run or its inside, whether it also looks at the records of `retrained`.
    """

    name: str
    label: str
    short_label: str = ""
    higher_is_better: bool | None
    higher_is_better_on_forget: bool | None
    range: tuple[float, float]
    source: str
    formula: str
    trap: str
    family: str = "Further metrics"
    tables: Mapping[str, int] = field(default_factory=dict)
    decimals: int | None = None
    by_words: bool = False

    compute: Callable[[Any], Any]
    on: Literal["records", "run", "study", "toxicity", "benchmarks", "inside", "mixed", "kept"] = "records"
    of: Literal["record", "column", "split", "pair"] = "record"
    split: str = FORGET_SPLIT
    order: float = INF
    also: Mapping[Literal["benchmarks", "kept"], float] = field(default_factory=dict)
    fields: tuple[str, ...] = ()
    when: Callable[[Any], bool] | None = None
    needs: tuple[Need, ...] = ()
    no_interval: str = ""
    only_with: tuple[str, ...] = ()
    compares: bool = False

    def direction(self, split: str) -> bool | None:
        """Is a higher value on `split` better? None: neither.

        `forget` and `unseen`, and views of them such as `forget_300`, hold what is to be forgotten: an unseen
        split is of the same kind as the forget set, but unlearning is not shown it.
        """
        to_forget = any(
            split == name or split.startswith(f"{name}_") for name in (FORGET_SPLIT, UNSEEN_SPLIT)
        )
        return self.higher_is_better_on_forget if to_forget else self.higher_is_better

    @property
    def short(self) -> str:
        """The name in tables and figures."""
        return self.short_label or self.label

    @property
    def of_one_split(self) -> bool:
        """Whether it is measured on one split only, so that its name needs no split before it."""
        return self.on in ("run", "study") or self.of == "pair"

    @property
    def needs_retrained(self) -> bool:
        """Whether it compares with the model `retrained`, so that a task without one cannot have it."""
        return self.of == "pair" or any(need.of_retrained for need in self.needs)

    @property
    def beside_retrained(self) -> bool:
        """Whether another `retrained` model beside the judged one gives another number."""
        return self.on != "study" and (self.compares or self.needs_retrained)


def at_equal_retain(metric: Metric, order: float, **changes: Any) -> Metric:
    """The same metric of the model moved to the point where it retains as much as all others."""
    return replace(
        metric,
        name=metric.name + AT_EQUAL_RETAIN,
        label=f"{metric.label} at equal retention",
        short_label=f"{metric.short} at equal retention",
        source=f"{metric.source}; {EQUAL_RETENTION_SOURCE}",
        formula=f"`{metric.name}` of the model moved to equal retention",
        trap="about another model than the one that was trained: read equal_retain_mix beside it",
        family=EQUAL_RETENTION,
        on="mixed",
        order=order,
        only_with=("equal_retain",),
        **{"tables": {}, "also": {}, **changes},
    )


EQUAL_RETENTION = "At equal retention"
EQUAL_RETENTION_SOURCE = "Unlearning with Control, arXiv 2406.09179 (its model mixing)"
