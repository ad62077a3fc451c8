"""How the one step over whole sets is cut into micro-batches, by hand."""

from __future__ import annotations

import math

import pytest

from pipeline_lib.training.batches import WholeSets
from tests.training.every import objective_of
from tests.training.runs import data, settings


@pytest.mark.parametrize(
    ("forget", "retain", "sizes"),
    [
        (5, 3, ([2, 2, 1], [1, 1, 1])),  # three micro-batches of each set
        (2, 7, ([1, 1, 0, 0], [2, 2, 2, 1])),  # two that weigh nothing
        (4, 4, ([2, 2], [2, 2])),
    ],
)
def test_both_sets_have_equally_many(forget: int, retain: int, sizes: tuple[list[int], list[int]]) -> None:
    whole = WholeSets(data(forget, retain), settings(batch_size=2), 0, objective_of("GradDiff"))
    cut = whole.batches(0)
    rows = tuple(
        [len(batch.index) if math.isfinite(batch.examples_in_step) else 0 for batch in batches]
        for batches in cut
    )
    assert rows == sizes


@pytest.mark.parametrize(("kind", "forget", "retain"), [("GradAscent", 3, 0), ("L1Sparse", 0, 2)])
def test_a_set_that_the_objective_does_not_use_is_not_cut(kind: str, forget: int, retain: int) -> None:
    whole = WholeSets(data(5, 3), settings(batch_size=2), 0, objective_of(kind))
    assert tuple(map(len, whole.batches(0))) == (forget, retain)
