"""Comparisons of optimisers that a study declares before it runs, and their faults."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from pipeline_lib.core.blocks import Block, Fault, Text, suggestion
from pipeline_lib.core.blocks.messages import show

if TYPE_CHECKING:
    from pipeline_lib.study.runs import Run


class Comparison(Block):
    """One question, answered by `first` minus `second` for every method that runs with both."""

    first: Text = Field(description="Label of the optimiser in question")
    second: Text = Field(description="Label of the optimiser that it is compared with")
    question: Text = Field(description="The question that the comparison answers, as the report prints it")


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


def pairs_in(comparisons: Sequence[Comparison] | None, runs: Collection[Run]) -> dict[tuple[str, str], int]:
    """How many pairs of rows of each task and model are compared, which is the family of their tests.

    `runs`: of one seed. Without declared comparisons every second-order row is held against every first-order
    one.
    """
    found: Counter[tuple[str, str]] = Counter()
    for one in runs:
        for other in runs:
            if (one.task, one.model, one.method) != (other.task, other.model, other.method):
                continue
            wanted = (
                (one.order, other.order) == ("SO", "FO")
                if comparisons is None
                else any((one.optimizer, other.optimizer) == (c.first, c.second) for c in comparisons)
            )
            found[one.task, one.model] += wanted
    return {study: pairs for study, pairs in found.items() if pairs}
