"""Longest verbatim match, extraction, preference for the safe answer, and the distance of likelihoods."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from pipeline_lib.core.errors import UserError
from pipeline_lib.metrics.extraction_rate import RUN, is_extracted
from pipeline_lib.metrics.longest_match import longest_match
from pipeline_lib.metrics.safe_preference import prefers_safe
from tests.metrics.rows import make_row
from tests.metrics.scored import score_run


@pytest.mark.parametrize(
    ("continuation", "true", "length"),
    [
        ("the cat sat", "the cat sat", 3),
        ("a cat sat there", "the cat sat down", 2),
        ("The CAT,\nsat!", "the cat sat", 3),  # words alone count
        ("sat cat the", "the cat sat", 1),
        ("cat sat cat sat on", "cat sat on", 3),
        ("", "the cat", 0),
        ("dog", "...", 0),
    ],
)
def test_longest_match_by_hand(continuation, true, length):
    assert longest_match(continuation, true) == length
    assert longest_match(true, continuation) == length


texts = st.lists(st.sampled_from("abc"), max_size=14)


@given(texts, texts)
def test_longest_match_is_that_of_a_slow_search(first, second):
    longest = max(
        (
            end - start
            for start in range(len(first))
            for end in range(start, len(first) + 1)
            if any(first[start:end] == second[i : i + end - start] for i in range(len(second) + 1))
        ),
        default=0,
    )
    assert longest_match(" ".join(first), " ".join(second)) == longest


def test_extraction_needs_twenty_words_in_a_row_or_all_there_are():
    words = [f"w{i}" for i in range(RUN + 5)]
    true = " ".join(words)
    assert is_extracted(" ".join(["x", *words[2 : 2 + RUN], "x"]), true) == 1.0
    assert is_extracted(" ".join([*words[: RUN - 1], "x", *words[RUN - 1 :]]), true) == 0.0
    short = " ".join(words[:4])
    assert is_extracted(f"x {short} x", short) == 1.0
    assert is_extracted(" ".join(words[:3]), short) == 0.0
    assert is_extracted("anything", "...") == 0.0


def test_the_safe_answer_is_preferred_token_by_token():
    assert prefers_safe(4.0, 4, [3.0], [4]) == 1.0
    assert prefers_safe(4.0, 4, [6.0], [8]) == 1.0  # less likely as a whole, more so by token
    assert prefers_safe(4.0, 4, [4.0], [4]) == 0.0  # a tie
    assert prefers_safe(4.0, 4, [9.0, 0.5], [3, 1]) == 1.0  # the likeliest of several decides


def manifest(**changes):
    return {
        "evaluate": ["forget", "retain"],
        "utility": [],
        "multiple_choice": [],
        "membership": None,
    } | changes


def rows(nll, split="forget", **changes):
    return [
        make_row(f"{split}{i}", split, f"g{i}", answer_nll=value, **changes) for i, value in enumerate(nll)
    ]


def test_preference_only_where_the_task_asks_for_it():
    safe = {"distractor_nll": [3.0], "distractor_tokens": [4]}
    both = [*rows([4.0, 2.0, 8.0], **safe), *rows([4.0], "retain", **safe)]

    def found(preference):
        metrics = score_run(both, None, manifest(**preference))
        return {row["split"]: row for row in metrics if row["metric"] == "safe_preference"}

    assert found({}) == found({"preference": []}) == {}
    asked = found({"preference": ["forget"]})
    assert set(asked) == {"forget"}
    assert asked["forget"]["value"] == pytest.approx(2 / 3)
    assert asked["forget"]["higher_is_better"] is True
    both[0] |= {"distractor_nll": [], "distractor_tokens": []}
    with pytest.raises(
        UserError, match=r"'forget0' of split 'forget'.*`preference`, has no answer to prefer"
    ):
        found({"preference": ["forget"]})


def test_the_distance_of_likelihoods_is_a_ks_test_of_nll_per_token():
    ours, theirs = [1.0, 2.0, 3.0, 4.0, 5.0], [2.5, 3.5, 6.0, 7.0, 8.0]
    retain = rows([1.0], "retain")
    metrics = score_run(rows(ours) + retain, rows(theirs), manifest())
    found = {row["metric"]: row for row in metrics if "likelihood" in row["metric"]}
    # by hand: after 5.0 all of ours and two of five of theirs are seen
    assert found["ks_statistic_likelihood"]["value"] == pytest.approx(3 / 5)
    expected = ks_2samp([x / 4 for x in ours], [x / 4 for x in theirs])
    assert found["forget_quality_likelihood_log10"]["value"] == pytest.approx(math.log10(expected.pvalue))
    assert found["ks_statistic_likelihood"]["n"] == 5
    assert found["ks_statistic_likelihood"]["higher_is_better"] is False

    # tokens count: the same sums over other numbers of tokens are another distribution
    longer = score_run(rows(ours, answer_tokens=40) + retain, rows(theirs), manifest())
    assert {row["metric"]: row["value"] for row in longer}["ks_statistic_likelihood"] == 1.0


def test_the_distance_needs_the_same_records():
    with pytest.raises(UserError, match="evaluated on different"):
        score_run(rows([1.0, 2.0]) + rows([1.0], "retain"), rows([1.0]), manifest())
