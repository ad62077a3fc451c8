"""The tests of likeness on 20 retrained models that are kept: their size, and what each sees of a quarter."""

from __future__ import annotations

import sys

import pytest

from tests.paths import REPO, shared_data

sys.path.insert(0, str(REPO / "benchmarks"))
import likeness

SCORES = REPO / "docs" / "measurements" / "retrained_seeds.csv"


@pytest.fixture(scope="module")
def lines():
    retrained, original = (likeness.forget_of(SCORES, method) for method in ("retrained", "original"))
    assert (len(retrained), len(original), len(retrained[0].ids)) == (20, 4, 40)
    found = likeness.held_out(retrained, original, 40)
    return {(line["test"], line["retrained seeds"]): line for line in found}


def test_a_further_retrained_model_is_seldom_rejected(lines):
    for seeds in (2, 3, 5, 10, 19):
        assert (
            float(lines["gap", seeds]["rejected as it is"]) <= 0.125
        )  # 5 of 40, by chance in one of 20 sets


def test_a_quarter_of_the_memory_is_seen_with_three_seeds(lines):
    for seeds in (3, 5, 10, 19):
        assert float(lines["gap", seeds]["rejected with a quarter"]) >= 0.8


def test_the_unpaired_test_sees_none_of_it_and_the_signed_ranks_do(lines):
    assert float(lines["KS (TOFU)", 1]["rejected with a quarter"]) == 0.0
    assert float(lines["Wilcoxon", 1]["rejected with a quarter"]) > 0.95


def test_on_published_logs_the_paired_tests_see_a_quarter_and_the_unpaired_one_does_not():
    names = (f"tofu_eval_logs/llama2-7b_{name}_wd0.01.json" for name in ("full", "retain90", "retain95"))
    found = {line["test"]: line for line in likeness.published(list(map(shared_data, names)), 40)}
    assert all(float(line["rejected as it is"]) <= 0.125 for line in found.values())
    assert float(found["KS (TOFU)"]["rejected with a quarter"]) <= 0.125
    assert float(found["permutation of D"]["rejected with a quarter"]) >= 0.6
    assert float(found["Wilcoxon"]["rejected with a quarter"]) == 1.0
