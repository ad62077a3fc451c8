"""The comparisons of optimisers that a study declares before it runs, and what can be wrong with them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from pydantic import Field

from pipeline_lib.core.blocks import Block, Fault, Text, suggestion
from pipeline_lib.core.blocks.messages import show


class Comparison(Block):
    """One question, answered by `first` minus `second` with every method that has runs of both."""

    first: Text = Field(description="Label of the optimiser in question")
    second: Text = Field(description="Label of the optimiser that it is held against")
    question: Text = Field(description="What the comparison is to answer, in the words of the report")


def comparison_faults(
    comparisons: Sequence[Comparison] | None,
    optimizers: Collection[str],
    runs: Collection[tuple[str, str]] | None,
) -> Iterator[Fault]:
    """What is wrong with declared comparisons.

    `runs`: (method, optimiser) of every run; None where these are at fault themselves.
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
            yield where, f"compares {' and '.join(labels.values())}, which {seen[pair]} does already"
        seen.setdefault(pair, where)
        both = methods_of.get(comparison.first, set()) & methods_of.get(comparison.second, set())
        if runs is not None and not both:
            yield where, f"no method runs with both {' and '.join(labels.values())}; add such runs"
