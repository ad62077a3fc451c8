"""Paired comparisons of optimisers over seeds: the declared ones, or second order against first order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from pipeline_lib.core.grouping import grouped
from pipeline_lib.core.runs import MATCHED
from pipeline_lib.metrics import declared
from pipeline_lib.metrics.definition import AT_EQUAL_RETAIN
from pipeline_lib.reporting import style
from pipeline_lib.reporting.headline import FRONT, GAP, JOINT_UTILITY, RECOVERY, Measure, axes, distance
from pipeline_lib.reporting.inputs import Inputs, Row
from pipeline_lib.reporting.paired import LEVEL, about_the_test, holm
from pipeline_lib.reporting.summary import Difference, Summary
from pipeline_lib.reporting.tables.layout import EMPTY, Cell, Line, Number, Table, estimate_cell
from pipeline_lib.reporting.tables.of_metrics import anchor_note, front_notes

CAPTION = (
    "Each row minus the row it is held against, with the same method and the same seeds. p: paired t-test. "
    "p (Holm): adjusted for every pair of rows of the table after the same stages (also where no test was "
    "possible), each quantity a family of its own; recovery after stages that the suite declares is of one "
    "family with the gap. A difference is claimed only where p (Holm) is below "
    "0.05; then at most 5 % of tables in which nothing differs claim anything in a quantity. Who looks at "
    "all quantities looks more than once: where the gap to `retrained` was measured it alone decides, and "
    "the others are secondary. What is claimed of it names the difference in joint utility beside it: "
    "closer at less utility is not better. Where runs are judged on their way, the least gap of their paths "
    "at one joint utility of likelihoods decides instead, where every run of both rows has a model: "
    "what is left of the others would be survivors. It says nothing about what is said there. The intervals "
    "are Bonferroni's: all of a quantity hold at once with 95 %. They state more than Holm's test, so a "
    "claim can stand beside an interval that just holds 0. Could detect: the true difference that so many "
    "seeds of this spread would show with a probability of 80 %; smaller ones are easily missed, and none "
    "that is possible means that it is wider than the quantity's range. The t-test takes the differences of "
    "the seeds as independent and normal, which a handful of seeds cannot confirm. Those that are the same "
    "in every seed have no interval and no test. At equal retention: every unlearned model is moved along "
    "the line from `original` through itself until its loss of retain probability is the suite's bound. A "
    "lower forget probability is better only down to that of `retrained`. Which quantities are compared "
    "follows from what judges the task: see the main table."
)


@dataclass(frozen=True)
class Quantity:
    """What is compared. `up` and `down`: a positive and a negative difference in words.

    `decides`: whether a difference may be claimed in it: in the gap alone, where that was measured.
    """

    split: str
    metric: str
    label: str
    up: str
    down: str
    decides: bool = True


_AFTER = Quantity(*RECOVERY, RECOVERY.label, "recovers more", "recovers less")  # declared: it decides
Pair = tuple[str, "Row", "Row"]  # question, row, the row it is held against
_MATCHED = " at equal retention"
_DISTANCES = ("ks_statistic", "ks_statistic_likelihood")
_PROBABILITY = Measure("forget", "probability")


def quantities(summary: Summary, task: str, model: str) -> list[Quantity]:
    """The measured quantities that are compared in this task, the most telling first.

    They are the first headline metric of forgetting, the distance to `retrained`, the probability of the
    forget answers, the first headline metric of utility, and that distance and probability at equal
    retention.
    """
    forgetting, utility = axes(summary, task, model)
    apart = distance(summary, task, model)
    matched = [Measure("forget", name + AT_EQUAL_RETAIN) for name in (*_DISTANCES, _PROBABILITY.metric)]
    wanted = dict.fromkeys([FRONT, forgetting, apart, _PROBABILITY, utility, *matched])
    judged = bool(summary.inputs.suite["tasks"][task]["evaluation"].get("trajectory"))
    found = [
        _quantity(m)
        for m in wanted
        if m and (summary.has(task, model, *m) or (m == FRONT and judged and GAP in wanted))
    ]
    if GAP not in wanted:
        return found
    decides = FRONT.metric if judged else GAP.metric
    return [replace(q, decides=q.metric == decides) for q in found]


def _quantity(measure: Measure) -> Quantity:
    metric = measure.metric.removesuffix(AT_EQUAL_RETAIN)
    where = "" if metric == measure.metric else _MATCHED
    plain = Measure(measure.split, metric)
    if metric in (*_DISTANCES, GAP.metric, FRONT.metric):
        up, down = "farther from retrained", "closer to retrained"
    else:
        name = "utility" if metric == "model_utility" else plain.named
        up, down = f"higher {name}", f"lower {name}"
    return Quantity(*measure, plain.label + where, up + where, down + where)


@dataclass(frozen=True)
class Comparison:
    """One difference of the family: `row` minus `against` in one quantity.

    `question` is as declared in the suite, or empty. `utility`: the difference of the same pair in joint
    utility.
    """

    question: str
    row: Row
    against: Row
    quantity: Quantity
    difference: Difference | None
    utility: Difference | None = None
    measured: tuple[int, int] = (0, 0)  # runs of either row that have the quantity
    tests: int = 1  # of its family

    @property
    def pair(self) -> tuple[Row, Row]:
        return self.row, self.against

    @property
    def claimed(self) -> bool:
        """The one rule of table and report."""
        d = self.difference
        decides = self.quantity.decides and not self.survivors
        return decides and d is not None and d.p_holm is not None and d.p_holm < LEVEL

    @property
    def survivors(self) -> bool:
        """Whether a run of either row has no model that is compared, so that the others are a selection."""
        selective = self.quantity.metric in (FRONT.metric, RECOVERY.metric)
        return selective and self.measured != tuple(len(row.seeds) for row in self.pair)

    @property
    def detectable(self) -> float | None:
        """The difference that these seeds could have shown; None without a test, or if it cannot occur."""
        size = self.difference.detectable if self.difference else None
        low, high = declared()[self.quantity.metric].range
        return None if size is None or size > high - low else size

    @property
    def verdict(self) -> str:
        """What may be said of the difference in words."""
        d = self.difference
        if self.survivors:
            counts = zip(self.measured, self.pair, strict=True)
            said = " against ".join(f"{found} of {len(row.seeds)}" for found, row in counts)
            what = "a path" if self.quantity.metric == FRONT.metric else "a model"
            return f"not compared: {said} runs have {what}"
        if d is None or d.p_holm is None:
            return "no test over seeds: no difference can be claimed"
        if not self.quantity.decides:
            return "secondary: nothing is claimed"
        if not self.claimed:
            return "no difference can be claimed"
        return (self.quantity.up if d.value > 0 else self.quantity.down) + self._beside

    @property
    def _beside(self) -> str:
        """What the claim does not say by itself of utility."""
        if self.quantity.metric == FRONT.metric:
            return ", at one utility of likelihoods alone"
        return f", joint utility {style.signed(self.utility.value)}" if self.utility else ""


def family(summary: Summary, task: str, model: str) -> list[Comparison]:
    """All differences of one task and model, pair by pair.

    Holm adjusts the p-values of one quantity, of models after the same stages: one more attack on a study's
    models takes no claim about the models themselves away. Recovery after the stages that a declared
    comparison names is of one family with what decides before any stage.
    """
    plain = quantities(summary, task, model)
    by_stage = grouped((pair[1].key.after, pair) for pair in _pairs(summary.inputs, task, model))
    listed: list[tuple[Pair, Quantity]] = []
    for after, pairs in by_stage.items():
        for pair in pairs:
            declared_here = after in _stages_of(summary.inputs, pair)
            others = [replace(q, decides=False) for q in plain] if declared_here else plain
            listed += [(pair, quantity) for quantity in ([_AFTER] if declared_here else []) + others]
    families = grouped((_family_of(pair, quantity), (pair, quantity)) for pair, quantity in listed)
    pairs_after = {after: len(pairs) for after, pairs in by_stage.items()}
    found: dict[tuple[Pair, Quantity], Comparison] = {}
    for members in families.values():
        found |= _adjusted(summary, members, pairs_after)
    return [found[one] for one in listed]


def _stages_of(inputs: Inputs, pair: Pair) -> list[str]:
    """The stages after which the declared comparison of these rows holds their recovery side by side."""
    wanted = pair[1].key.optimizer, pair[2].key.optimizer
    declared_pairs = inputs.suite.get("comparisons") or ()
    return next((e.get("after", []) for e in declared_pairs if (e["first"], e["second"]) == wanted), [])


def _family_of(pair: Pair, quantity: Quantity) -> tuple[str, ...]:
    """What Holm adjusts at once: one quantity after the same stages, or the gap with declared recovery."""
    after = pair[1].key.after
    of_the_gap = quantity.metric in (GAP.metric, FRONT.metric) and quantity.decides and not after
    if quantity == _AFTER or of_the_gap:
        return ("decides",)
    return after, quantity.split, quantity.metric


def _adjusted(
    summary: Summary, members: Sequence[tuple[Pair, Quantity]], pairs_after: Mapping[str, int]
) -> dict[tuple[Pair, Quantity], Comparison]:
    """The differences of one family. `pairs_after`: stages -> pairs of rows, for the utility beside them."""
    found = [
        summary.difference(row, against, quantity.split, quantity.metric, len(members))
        for (_, row, against), quantity in members
    ]
    adjusted = holm([d.p if d else None for d in found])
    entries = {}
    for (pair, quantity), d, p in zip(members, found, adjusted, strict=True):
        _, row, against = pair
        utility = None
        if summary.has(*row.key[:2], *JOINT_UTILITY):
            utility = summary.difference(row, against, *JOINT_UTILITY, pairs_after[row.key.after])
        one, other = (len(summary.by_seed(each, quantity.split, quantity.metric)) for each in (row, against))
        difference = replace(d, p_holm=p) if d else None
        entries[pair, quantity] = Comparison(*pair, quantity, difference, utility, (one, other), len(members))
    return entries


def _pairs(inputs: Inputs, task: str, model: str) -> Iterator[Pair]:
    """(question, row, the row it is held against): every declared pair, question by question.

    The models `matched` are no pairs of their own: they are where the paths of their rows are compared.
    """
    methods = inputs.methods(task, model)
    # Each declared comparison has `first`, `second` and `question`.
    if (declared_pairs := inputs.suite.get("comparisons")) is None:
        for method in methods:
            rows = _compared(inputs, task, model, method)
            yield from (
                ("", second, first)
                for second in rows
                for first in rows
                if (second.order, first.order) == ("SO", "FO") and first.key.after == second.key.after
            )
        return
    questions = [entry["question"] for entry in declared_pairs]
    for entry in sorted(declared_pairs, key=lambda entry: questions.index(entry["question"])):
        for method in methods:
            rows = _compared(inputs, task, model, method)
            wanted = entry["first"], entry["second"]
            yield from (
                (entry["question"], first, second)
                for first in rows
                for second in rows
                if (first.key.optimizer, second.key.optimizer) == wanted
                and first.key.after == second.key.after
            )


def _compared(inputs: Inputs, task: str, model: str, method: str) -> list[Row]:
    return [row for row in inputs.rows_of(task, model, method) if row.key.after != MATCHED]


def build(inputs: Inputs) -> list[Table]:
    """One table for each task and model."""
    summary = Summary(inputs)
    heads = ("Against", "In", "Difference", "p", "p (Holm)", "Could detect", "What can be said")
    tables = []
    for task, model in inputs.studies:
        entries = family(summary, task, model)
        lines = tuple(_line(summary, entry) for entry in entries)
        none = "" if lines else "No method of this study runs with both rows of a comparison."
        notes = (
            anchor_note(inputs, task, model),
            none,
            _test_note(entries),
            *front_notes(summary, task, model),
        )
        tables.append(Table(task, model, heads, lines, tuple(filter(None, notes))))
    return tables


def _test_note(entries: list[Comparison]) -> str:
    """Which test was made over the seeds of this table; nothing where none was."""
    seeds = max(
        (e.difference.seeds for e in entries if e.difference and e.difference.p is not None), default=0
    )
    tests = next((e.tests for e in entries if e.quantity.decides), len({entry.pair for entry in entries}))
    return about_the_test(seeds, tests) if seeds else ""


def _line(summary: Summary, entry: Comparison) -> Line:
    d, quantity = entry.difference, entry.quantity
    name = f"{quantity.split}.{quantity.metric} minus {entry.against.key.optimizer}"
    cells = (
        Cell(style.row_label(entry.against)),
        Cell(quantity.label),
        estimate_cell(name, d),
        _number_cell(f"{name}: p", d.p if d else None, d),
        _number_cell(f"{name}: p (Holm)", d.p_holm if d else None, d),
        _detectable_cell(f"{name}: could detect", entry),
        Cell(entry.verdict),
    )
    return Line(
        entry.row, f"{d.seeds if d else 0} shared", len(summary.diverged(entry.row)), cells, entry.question
    )


def _detectable_cell(name: str, entry: Comparison) -> Cell:
    tested = entry.difference is not None and entry.difference.detectable is not None
    if tested and entry.detectable is None:
        return Cell("none that is possible")
    return _number_cell(name, entry.detectable, entry.difference)


def p_cell(name: str, value: float | None, seeds: int, n: int | None) -> Cell:
    """A p-value, or a dash without one."""
    if value is None:
        return EMPTY
    text = "<0.001" if value < 0.001 else style.number(value)
    return Cell(text, numbers=(Number(name, value, seeds=seeds, n=n),))


def _number_cell(name: str, value: float | None, difference: Difference | None) -> Cell:
    return p_cell(name, value, difference.seeds, difference.n) if difference else EMPTY
