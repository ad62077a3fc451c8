"""Comparisons of optimisers that a study declares before it runs, and their faults."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from pipeline_lib.core.blocks import Block, Fault, Text, suggestion
from pipeline_lib.core.blocks.messages import show
from pipeline_lib.core.runs import NO_OPTIMIZER, RowKey, split_stages

if TYPE_CHECKING:
    from pipeline_lib.study.runs import Run


class Comparison(Block):
    """One question, answered by `first` minus `second` for every method that runs with both."""

    first: Text = Field(description="Label of the optimiser in question")
    second: Text = Field(description="Label of the optimiser that it is compared with")
    question: Text = Field(description="The question that the comparison answers, as the report prints it")
    after: list[Text] = Field(
        [],
        description="Stages after which the recovery of both rows is compared too, such as "
        "`matched/relearn_1e-4`; what they claim is of one family with the gap",
        exclude_if=lambda after: not after,
    )


def comparison_faults(
    comparisons: Sequence[Comparison] | None,
    optimizers: Collection[str],
    runs: Collection[tuple[str, str]] | None,
) -> Iterator[Fault]:
    """What is wrong with declared comparisons.

    `runs`: (method, optimiser) of every run; None where the runs themselves have faults.
    """
    seen: dict[frozenset[str], str] = {}
    methods_of: dict[str, set[str]] = {}
    for method, optimizer in runs or ():
        methods_of.setdefault(optimizer, set()).add(method)
    for number, comparison in enumerate(comparisons or ()):
        where = f"comparisons.{number}"
        labels = {"first": comparison.first, "second": comparison.second}
        unknown = {part: label for part, label in labels.items() if label not in optimizers}
        for part, label in unknown.items():
            yield f"{where}.{part}", f"found {show(label)}; {suggestion(label, optimizers)}"
        if unknown:
            continue
        pair = frozenset(labels.values())
        if len(pair) == 1:
            yield f"{where}.second", f"is {comparison.second!r}, as `first` is; compare two optimisers"
            continue
        if pair in seen:  # either way round it is one test
            yield where, f"compares {' and '.join(labels.values())}, as {seen[pair]} already does"
        seen.setdefault(pair, where)
        both = methods_of.get(comparison.first, set()) & methods_of.get(comparison.second, set())
        if runs is not None and not both:
            yield where, f"no method runs with both {' and '.join(labels.values())}; add such runs"


def stage_faults(comparisons: Sequence[Comparison] | None, made: Collection[RowKey]) -> Iterator[Fault]:
    """Stages of declared comparisons that no compared rows go through, or `retrained` does not.

    `made`: every row of the suite with its stages.
    """
    known = sorted({row.after for row in made if split_stages(row.after)[1]})
    for number, comparison in enumerate(comparisons or ()):
        for place, after in enumerate(comparison.after):
            where = f"comparisons.{number}.after.{place}"
            if after not in known:
                yield where, f"found {show(after)}; {suggestion(after, known)}"
                continue
            if after in comparison.after[:place]:
                yield where, f"{show(after)} appears twice"
            both = [
                row
                for row in made
                if (row.optimizer, row.after) == (comparison.first, after)
                and row._replace(optimizer=comparison.second) in made
            ]
            if not both:
                yield where, f"no method has both rows after {after}; add both to `of` of its stages"
            for task, model in dict.fromkeys(row[:2] for row in both):
                if RowKey(task, model, "retrained", NO_OPTIMIZER, after=split_stages(after)[1]) not in made:
                    yield (
                        where,
                        f"`retrained` of {task}, {model} does not go through it, and recovery is what a "
                        "model knows beyond `retrained` after the same stages; add it to `of`",
                    )


def pairs_in(
    comparisons: Sequence[Comparison] | None, runs: Collection[Run], staged: Collection[RowKey]
) -> dict[tuple[str, str], int]:
    """How many differences of rows decide in each task and model, which is the family of their tests: a pair
    of rows once, and once more after each stage that its comparison names and both go through.

    `runs`: of one seed. `staged`: every row after a stage. Without declared comparisons every second-order
    row is held against every first-order one.
    """
    found: Counter[tuple[str, str]] = Counter()
    for one in runs:
        for other in runs:
            if (one.task, one.model, one.method) != (other.task, other.model, other.method):
                continue
            tests = (
                (one.order, other.order) == ("SO", "FO")
                if comparisons is None
                else sum(
                    1 + sum({run.row._replace(after=a) for run in (one, other)} <= {*staged} for a in c.after)
                    for c in comparisons
                    if (one.optimizer, other.optimizer) == (c.first, c.second)
                )
            )
            found[one.task, one.model] += tests
    return {study: pairs for study, pairs in found.items() if pairs}
