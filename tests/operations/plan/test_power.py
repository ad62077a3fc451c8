"""What the plan says of a study's power: its numbers, its groups, and what it assumes."""

from __future__ import annotations

import csv
from typing import Any

import pytest

from pipeline_lib.operations.plan.power import BOTH, GROUPS, forget_groups, power, sign_flips
from pipeline_lib.reporting.mixed_effects import Variances, detectable
from pipeline_lib.reporting.paired import detectable_difference
from pipeline_lib.study import parse_suite
from tests.paths import REPO
from tests.study.suites import small

PAIR = {"first": "sophia", "second": "adamw", "question": "Does curvature help?"}


def suite(**changes: Any) -> Any:
    return parse_suite(small(**{"seeds": [0, 1, 2, 3, 4], "comparisons": [PAIR]} | changes))


def test_first_and_last_step_and_what_forget_groups_add() -> None:
    """Three methods with both optimisers are three comparisons, on four forget authors."""
    known = Variances(1.0, GROUPS, BOTH)
    first, last = detectable_difference(1.0, 5, 3), detectable_difference(1.0, 5, 1)
    wide, wide_last = detectable(5, 4, 3, known), detectable(5, 4, 1, known)
    found, assumed, flips = power(suite())
    assert found == (
        "authors, tiny: 3 comparisons of rows with 5 seeds: Student's paired t-test with Holm's adjustment "
        f"shows, with a probability of 80 %, a true difference of {first:.1f} (first step) to {last:.1f} "
        "(last step) standard deviations of the seeds' differences, or more; for further forget groups "
        f"than these 4, {wide:.1f} (first step) to {wide_last:.1f} (last step)."
    )
    assert first > last and wide > first and wide_last > last
    assert f"groups vary {GROUPS:g} times as much as seeds" in assumed and "docs/inference.md" in assumed
    assert flips == (
        "authors of tiny: The test is Student's paired t-test over seeds, which takes their differences as "
        "normal. Exact sign flips of 5 seeds, which do not, have p of 0.062 or more, times 3 at Holm's first "
        "step: so they can claim nothing below 7 seeds."
    )
    assert list(power(suite())) == [found, assumed, flips]


def test_a_single_comparison_has_one_step() -> None:
    one = suite(objectives={"GradDiff": None}, seeds=list(range(6)))
    found, *_, flips = power(one)
    assert "step" not in found and f"{detectable_difference(1.0, 6, 1):.1f} standard" in found
    assert flips.endswith("have p of 0.031 or more: so they could claim, too.")


def test_without_seeds_or_pairs_or_known_groups_less_is_said() -> None:
    assert list(sign_flips(suite(seeds=[0]))) == []
    assert "no test is possible" in next(power(suite(seeds=[0])))
    assert list(power(suite(optimizers={"adamw": {"learning_rate": 1e-4}}, comparisons=None))) == []
    single = suite(tasks={"authors": {"source": "fictitious", "forget_authors": 1}})
    assert "forget groups" not in next(power(single))


@pytest.mark.parametrize(
    ("task", "groups"),
    [
        ({"source": "fictitious", "forget_authors": 3}, 3),
        ({"source": "tofu", "forget": "forget05"}, 10),
        ({"source": "fictitious", "evaluation": {"max_records": {"forget": 2}}}, 2),
        ({"source": "detox"}, None),
    ],
)
def test_forget_groups_as_far_as_the_suite_tells(task: dict[str, Any], groups: int | None) -> None:
    assert forget_groups(suite(tasks={"one": task}), "one") == groups


def test_the_assumed_variances_are_the_measured_ones() -> None:
    with open(REPO / "docs" / "measurements" / "variances.csv", newline="") as handle:
        lines = [line for line in csv.DictReader(handle) if line["pair"] == "all pairs"]
    (of,) = [line for line in lines if line["task"] == "authors"]
    names = ("seeds", "groups", "both", "questions", "rest")
    seeds, groups, both, questions, rest = (float(of[f"variance of {name}"]) for name in names)
    assert pytest.approx((groups + questions / 10) / seeds, abs=0.005) == GROUPS
    assert pytest.approx((both + rest / 10) / seeds, abs=0.005) == BOTH
