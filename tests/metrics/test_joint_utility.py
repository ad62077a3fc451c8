"""Joint utility: the least part, blind parts, and what needs no answers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline_lib.metrics import declared
from pipeline_lib.metrics.fluency import fluency
from pipeline_lib.metrics.joint_utility import blind, parts_of
from tests.metrics.studied import scores, study

# (group, log-probability, probability, ROUGE-L, fluency)
BEFORE = scores(
    forget=[("a", -1.0)],
    retain=[("b", -0.1, 0.8, 1.0, 1.0), ("c", -0.1, 0.8, 0.6, 1.0)],
    facts=[("d", -0.1, 0.5, 0.04, 1.0), ("e", -0.1, 0.5, 0.02, 1.0)],
)
AFTER = scores(
    forget=[("a", -5.0)],
    retain=[("b", -0.1, 0.8, 0.4, 1.0), ("c", -0.1, 0.6, 0.4, 0.6)],
    facts=[("d", -0.1, 0.4, 0.0, 1.0), ("e", -0.1, 0.5, 0.0, 1.0)],
)
OF = study(AFTER, original=BEFORE, utility=("retain", "facts"))


def measured(of, name):
    (row,) = of.measure(declared()[name])
    return row


def test_the_least_part_counts():
    # retain: 0.7 / 0.8, 0.4 / 0.8, 0.8; facts: 0.45 / 0.5, blind, 1
    row = measured(OF, "joint_utility")
    assert row["value"] == pytest.approx(0.5)
    assert (row["split"], row["n"]) == ("utility", 4)
    assert row["ci_low"] <= 0.5 <= row["ci_high"]
    assert measured(OF, "joint_utility_likelihood")["value"] == pytest.approx(0.7 / 0.8)


def test_what_original_lacks_cannot_fall():
    assert [part for part in parts_of(OF) if blind(OF, part)] == [("facts", "rouge_l_recall")]
    lost = study(AFTER, original=BEFORE, utility=("facts",))
    assert measured(lost, "joint_utility")["value"] == pytest.approx(0.9)


def test_what_the_original_of_one_seed_has_none_of_is_left_out_though_another_seed_has_some():
    """Its mean over two seeds is 0.3: not blind by the mean, and nothing to divide by."""
    none = scores(
        forget=[("a", -1.0)],
        retain=[("b", -0.1, 0.8, 1.0, 1.0), ("c", -0.1, 0.8, 0.6, 1.0)],
        facts=[("d", -0.1, 0.5, 0.0, 1.0), ("e", -0.1, 0.5, 0.0, 1.0)],
    )
    some = scores(
        forget=[("a", -1.0)],
        retain=[("b", -0.1, 0.8, 1.0, 1.0), ("c", -0.1, 0.8, 0.6, 1.0)],
        facts=[("d", -0.1, 0.5, 0.8, 1.0), ("e", -0.1, 0.5, 0.4, 1.0)],
    )
    of = replace(study(AFTER, original=none, utility=("retain", "facts")), originals=[none, some])
    assert [part for part in parts_of(of) if blind(of, part)] == [("facts", "rouge_l_recall")]
    assert measured(of, "joint_utility")["value"] == pytest.approx(0.5)


def test_original_has_all_of_it():
    assert measured(study(BEFORE, utility=("retain", "facts")), "joint_utility")["value"] == 1.0


def test_without_a_sighted_part_nothing_is_measured():
    assert "not_measured" in measured(study(AFTER, original=BEFORE), "joint_utility")


def test_fluency_by_hand():
    known = {"ada", "wrote", "it"}
    assert fluency("Ada wrote it", known) == 1.0
    assert fluency("Ada wrote xyzzy", known) == pytest.approx(2 / 3)
    assert fluency("", known) == 0.0
    assert fluency("I don't know", {"i", "don't", "know"}) == 0.0
    # four words over and over: 5 sequences of four words, 4 of them distinct
    assert fluency("ada it ada wrote ada it ada wrote", known) == pytest.approx(4 / 5)
