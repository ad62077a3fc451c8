"""Mixed effects of a paired difference: by hand, against statsmodels, in simulated studies."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from pipeline_lib.metrics.gap import differences
from pipeline_lib.reporting.catalog import REPORT_NEEDS
from pipeline_lib.reporting.claims import findings
from pipeline_lib.reporting.inputs import Inputs
from pipeline_lib.reporting.mixed_effects import MixedEffects, Variances, detectable
from pipeline_lib.reporting.paired import LEVEL, POWER, detectable_difference
from pipeline_lib.reporting.summary import Summary
from pipeline_lib.reporting.tables import build_table
from pipeline_lib.reporting.tables.comparisons import family
from pipeline_lib.reporting.tables.layout import EMPTY, Table
from pipeline_lib.reporting.tables.mixed_effects import Wider, wider
from tests.reporting.study import Study

# Differences of 4 seeds in 5 groups of 4 questions, (S, G, n).
DIFFERENCES = np.array(
    [
        [
            [-1.82, -0.96, -0.48, -1.68],
            [0.34, 0.1, 0.71, 0.03],
            [0.16, -0.31, 0.13, 0.76],
            [0.7, 0.13, -0.11, -0.25],
            [-0.78, -1.04, -0.29, 0.06],
        ],
        [
            [-2.35, -0.51, -0.95, -2.04],
            [1.94, 0.89, 1.7, 1.08],
            [-1.2, -1.57, -1.37, -0.65],
            [0.98, 0.55, 1.11, -0.06],
            [-0.56, -0.92, -0.73, -0.17],
        ],
        [
            [-1.22, -0.2, -0.08, -0.47],
            [1.22, 1.48, 1.5, 1.48],
            [0.64, 0.53, 0.62, 1.03],
            [1.74, 1.42, 1.37, 1.16],
            [0.45, 0.18, 0.56, 0.93],
        ],
        [
            [-0.13, 0.27, 0.55, -0.08],
            [0.52, 0.08, 0.91, 0.55],
            [-0.35, 0.16, -0.25, 1.24],
            [0.77, 0.14, 0.89, 0.77],
            [-0.04, 0.28, 0.47, 1.64],
        ],
    ]
)


def of_table(table: list[list[float]]) -> MixedEffects:
    """The fit of one question in each group."""
    return MixedEffects.of(table, [str(g) for g in range(len(table[0]))])


def test_the_restricted_maximum_likelihood_of_statsmodels() -> None:
    """statsmodels 0.15.0: mixedlm("d ~ 1", one group, re_formula="0", vc_formula=a: C(s), b: C(g), c:
    C(s):C(g), u: C(q)).fit(reml=True); its optimiser stops within 2e-4 of the largest likelihood."""
    found = MixedEffects.of(DIFFERENCES.reshape(4, 20), [str(q // 4) for q in range(20)])
    assert found.mean == pytest.approx(0.16625)
    assert found.error == pytest.approx(0.3631985, rel=1e-4)
    v = found.variances
    expected = (0.1748850, 0.3364946, 0.2552640, 0.1412893, 0.0852248)
    assert (v.seeds, v.groups, v.both, v.questions, v.rest) == pytest.approx(expected, rel=3e-4)


def test_two_seeds_and_three_groups_by_hand() -> None:
    # Seeds' means 2 and 4, groups' means 1, 3, 5, mean 3; what is left is 1, 0, -1 and its opposite.
    # M_s = 3 (1 + 1) / 1 = 6, M_g = 2 (4 + 0 + 4) / 2 = 8, M_sg = (1 + 0 + 1 + 1 + 0 + 1) / 2 = 2.
    found = of_table([[1, 2, 3], [1, 4, 7]])
    assert (found.mean, found.squares) == (3, pytest.approx((6, 8, 2)))
    # var = (6 + 8 - 2) / 6 = 2; df = 144 / (36 / 1 + 64 / 2 + 4 / 2) = 144 / 70, above min(1, 2).
    assert found.error == pytest.approx(math.sqrt(2)) and found.freedom == pytest.approx(144 / 70)
    assert found.p == pytest.approx(2 * stats.t.sf(3 / math.sqrt(2), 144 / 70))
    v = found.variances
    assert (v.seeds, v.groups, v.both, v.questions, v.rest) == pytest.approx((4 / 3, 3, 2, 0, 0))
    half = stats.t.ppf(1 - 0.025 / 4, 144 / 70) * math.sqrt(2)
    assert found.interval(4) == pytest.approx((3 - half, 3 + half))


def test_with_groups_that_do_not_differ_it_is_the_paired_test_over_seeds() -> None:
    found = of_table([[1, 1, 1], [2, 2, 2], [4, 4, 4]])
    assert found.freedom == 2 and found.p == pytest.approx(stats.ttest_1samp([1, 2, 4], 0).pvalue)
    found = of_table([[1, 2, 4], [1, 2, 4]])  # and with equal seeds that over groups
    assert found.freedom == 2 and found.p == pytest.approx(stats.ttest_1samp([1, 2, 4], 0).pvalue)


def test_a_variance_below_zero_counts_as_none() -> None:
    """M_s = M_g = 0: the error is that of single cells, and the freedom not below the smaller number."""
    found = of_table([[1, 3], [3, 1]])
    assert found.squares == pytest.approx((0, 0, 4)) and found.error == pytest.approx(1)
    assert found.freedom == 1 and (found.variances.seeds, found.variances.groups) == (0, 0)


def test_its_error_is_never_below_that_over_seeds_or_over_groups() -> None:
    generator = np.random.default_rng(0)
    for _ in range(200):
        table = generator.standard_normal((4, 3)) + generator.standard_normal((4, 1))
        error = MixedEffects.of(table, "abc").error
        assert error >= stats.sem(table.mean(axis=1)) - 1e-12
        assert error >= stats.sem(table.mean(axis=0)) - 1e-12


def test_groups_of_several_sizes_count_alike() -> None:
    whole = MixedEffects.of([[1, 3, 4], [2, 2, 7]], ["a", "a", "b"])
    of_means = of_table([[2, 4], [2, 7]])
    assert (whole.mean, whole.squares) == (of_means.mean, pytest.approx(of_means.squares))
    assert whole.size == pytest.approx(2 / (1 / 2 + 1))


def test_what_does_not_vary_has_no_test_and_too_little_is_refused() -> None:
    still = of_table([[0.1 + 0.2, 0.3], [0.3, 0.3]])
    assert (still.error, still.freedom, still.p, still.interval()) == (0, 0, None, None)
    for values, groups in (([[1, 2]], "ab"), ([[1, 2], [3, 4]], "aa"), ([[1], [2]], "ab")):
        with pytest.raises(ValueError, match="at least 2 seeds and 2 groups"):
            MixedEffects.of(values, groups)


CASES = {  # what holds how much of the variance; the last two: hardly anything, nothing but single cells
    "seeds": Variances(1.0, 0.0, 0.3),
    "groups": Variances(0.0, 1.0, 0.3),
    "all": Variances(1.0, 1.0, 1.0),
    "cells": Variances(0.1, 0.1, 1.0),
    "cells alone": Variances(0.0, 0.0, 1.0),
}


def drawn(variances: Variances, seeds: int, groups: int, tries: int) -> list[MixedEffects]:
    generator = np.random.default_rng([seeds, groups])
    shapes = ((tries, seeds, 1), (tries, 1, groups), (tries, seeds, groups))
    spreads = (variances.seeds, variances.groups, variances.both)
    tables = sum(
        math.sqrt(v) * generator.standard_normal(shape) for v, shape in zip(spreads, shapes, strict=True)
    )
    return [MixedEffects.of(table, [str(g) for g in range(groups)]) for table in tables]


@pytest.mark.parametrize("case", CASES)
def test_it_seldom_claims_where_nothing_differs(case: str) -> None:
    tries = 1500
    found = drawn(CASES[case], 5, 4, tries)
    rejected = np.mean([(m.p or 0) < LEVEL for m in found])
    assert rejected <= LEVEL + 3 * math.sqrt(LEVEL * (1 - LEVEL) / tries)
    if case == "groups":  # where the test over seeds claims in half of the studies
        assert np.mean([_over_seeds(m) < LEVEL for m in found]) > 0.4


def _over_seeds(m: MixedEffects) -> float:
    t = m.mean / math.sqrt(m.squares[0] / m.seeds / m.groups)
    return float(2 * stats.t.sf(abs(t), m.seeds - 1))


@pytest.mark.parametrize("case", ["seeds", "groups", "all"])
def test_the_detectable_difference_is_detected(case: str) -> None:
    tries, comparisons, v = 1500, 3, CASES[case]
    spread = math.sqrt(v.seeds + v.both / 4)  # of the seeds' means over the four groups
    difference = spread * detectable(5, 4, comparisons, v)
    found = drawn(v, 5, 4, tries)
    seen = []
    for m in found:
        assert m.error
        t = (m.mean + difference) / m.error
        seen.append(2 * stats.t.sf(abs(t), m.freedom) < LEVEL / comparisons)
    assert abs(np.mean(seen) - POWER) < 3 * math.sqrt(POWER * (1 - POWER) / tries) + 0.02


def test_without_groups_that_differ_it_detects_what_the_paired_test_does() -> None:
    alone = detectable(5, 4, 3, Variances(1.0, 0.0, 0.0))
    assert alone == pytest.approx(detectable_difference(1.0, 5, 3), rel=0.03)
    assert detectable(5, 4, 3, Variances(1.0, 1.0, 0.0)) > 1.25 * alone
    assert detectable(5, 20, 3, Variances(1.0, 1.0, 0.0)) < 1.2 * alone


SIGN = {"first": "signum", "second": "adamw", "question": "Are sign steps enough?"}


def inputs_of(root: Path, **more: Any) -> Inputs:
    chosen = {"diverged": {}, "methods": {"NPO": 1.0}, "comparisons": [SIGN], "scored": True} | more
    return Inputs(Study(root, **chosen).write().paths(*REPORT_NEEDS))  # type: ignore[arg-type]


def only(root: Path, **more: Any) -> tuple[Table, Wider]:
    inputs = inputs_of(root, **more)
    summary = Summary(inputs)
    (table,), (found,) = build_table("mixed_effects", inputs), wider(summary, family(summary, *STUDY))
    return table, found


STUDY = ("fictitious", "tiny")


def test_the_table_has_the_same_difference_as_the_paired_comparison(root: Path) -> None:
    table, found = only(root)
    assert found.fit is not None and found.entry.difference is not None
    assert (found.seeds, found.groups) == (3, 4)
    assert found.fit.mean == pytest.approx(found.entry.difference.value, abs=1e-6)
    # Its mean square of seeds is that of the paired test: 3 x 4 times the squared error of the mean.
    t = stats.t.ppf(0.975, 2)
    error = ((found.entry.difference.high or 0) - found.entry.difference.value) / t
    assert found.fit.squares[0] == pytest.approx(12 * error**2, rel=1e-4)
    (line,) = table.lines
    assert line.seeds == "3 shared, 4 groups" and line.group == SIGN["question"]
    numbers = {number.quantity: number for cell in line.cells for number in cell.numbers}
    name = "forget.gap minus adamw: mixed effects"
    assert (numbers[name].low, numbers[name].high) == found.fit.interval()
    assert numbers[f"{name}: p"].value == numbers[f"{name}: p (Holm)"].value == found.fit.p
    assert numbers[f"{name}: p (Holm), these groups"].value == found.entry.difference.p_holm
    assert numbers[f"{name}: df"].value == found.fit.freedom
    assert "3 degrees of freedom" in table.notes[0] and "docs/inference.md" in table.notes[0]


def test_what_cannot_be_tested_is_named_with_its_cure(root: Path) -> None:
    lost = {("NPO", "signum", seed): 9 for seed in (1, 2)}
    table, found = only(root / "one", diverged=lost)
    assert found.why == "not tested: 1 shared seed beside runs without a model; add `seeds`"
    assert table.lines[0].cells[1:5] == (EMPTY,) * 4 and found.p_holm is None
    _, found = only(root / "none", diverged={("NPO", "signum", seed): 9 for seed in (1, 2, 3)})
    assert found.why.startswith("not tested: no shared seed beside runs without a model; give both rows")
    _, found = only(root / "single", seeds=(1,), retrained_seeds=(4, 5))
    assert found.why == "not tested: 1 shared seed; add `seeds`"


def test_a_single_group_and_differences_that_are_alike(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = inputs_of(root)
    path = next(path for path in root.glob("scores.csv"))
    whole = path.read_text()
    path.write_text(re.sub(r"author\d", "author0", whole))
    summary = Summary(Inputs(Study(root).paths(*REPORT_NEEDS)))
    (found,) = wider(summary, family(summary, *STUDY))
    assert (found.why, found.groups) == ("not tested: 1 forget group; forget more groups", 1)
    path.write_text(whole)
    monkeypatch.setattr("pipeline_lib.reporting.tables.mixed_effects.differences", lambda _: np.ones(40))
    summary = Summary(inputs)
    (found,) = wider(summary, family(summary, *STUDY))
    assert found.why == "not tested: alike in every seed and group" and not found.claimed
    (table,) = build_table("mixed_effects", inputs)
    assert table.lines[0].cells[1].small == "– (alike)"


def test_without_a_gap_or_pairs_the_table_says_so(root: Path) -> None:
    (table,) = build_table("mixed_effects", inputs_of(root / "older", scored=False))
    assert table.lines == () and "was not measured" in table.notes[0]
    other = {"first": "sophia", "second": "none", "question": "?"}
    (table,) = build_table("mixed_effects", inputs_of(root / "pairs", comparisons=[other]))
    assert "both rows of a comparison" in table.notes[0]


def test_a_claim_is_said_with_how_far_it_holds(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NPO with Signum is closer in every seed; groups that differ more than seeds take the wider claim."""
    inputs = inputs_of(root, comparisons=[{**SIGN, "first": "adamw", "second": "signum"}])
    summary = Summary(inputs)
    (found,) = wider(summary, family(summary, *STUDY))
    assert found.entry.claimed and found.claimed and found.verdict.endswith(": for further groups too")
    said = " ".join(case for finding in findings(inputs, *STUDY) for case in finding.cases)
    assert ", for further groups < 0.001)" in said
    apart = np.repeat([0.0, 0.0, 5.0, 0.0], 10)
    monkeypatch.setattr(
        "pipeline_lib.reporting.tables.mixed_effects.differences",
        lambda study: differences(study) * (1 + apart),
    )
    (found,) = wider(summary, family(summary, *STUDY))
    assert found.entry.claimed and not found.claimed
    assert found.verdict.endswith(": for these groups, not shown for further ones")


def test_what_is_not_claimed_of_these_groups_is_not_claimed_of_further_ones(root: Path) -> None:
    _, found = only(root)
    d = found.entry.difference
    assert d is not None
    weak = replace(found, entry=replace(found.entry, difference=replace(d, p_holm=0.06)), p_holm=0.001)
    assert not weak.claimed and weak.verdict == "no difference can be claimed"
