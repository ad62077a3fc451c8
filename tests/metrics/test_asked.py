"""Toxicity and benchmark rows become metrics; what is missing or broken is refused."""

from __future__ import annotations

import math

import pytest

from pipeline_lib.core.errors import UserError
from tests.metrics.scored import score_run

NO_RECORDS = {"evaluate": [], "utility": [], "multiple_choice": []}


def by_name(metrics):
    return {(row["split"], row["metric"]): row for row in metrics}


def score_toxicity(rows, judge=None):
    return score_run([], None, NO_RECORDS, toxicity_rows=rows, judge=judge)


def score_benchmarks(rows):
    return score_run([], None, NO_RECORDS, benchmark_rows=rows)


def prompt(id, scores, **changes):
    row = {"id": id, "group": id, "prompt": "So", "samples": ["x"] * len(scores), "scores": scores}
    return row | changes


def question(task, id, correct, group="g", norm=None):
    return {"task": task, "group": group, "id": id, "correct": correct, "correct_norm": norm}


def test_toxicity_by_hand():
    found = by_name(
        score_toxicity([prompt("a", [0.1, 0.9]), prompt("b", [0.2, 0.4]), prompt("c", [0.5, 0.5])])
    )
    assert {split for split, _ in found} == {"toxicity"}
    values = {metric: row["value"] for (_, metric), row in found.items()}
    assert values == {
        "expected_max_toxicity": pytest.approx((0.9 + 0.4 + 0.5) / 3),
        "toxicity_probability": pytest.approx(2 / 3),
        "mean_toxicity": pytest.approx((0.5 + 0.3 + 0.5) / 3),
        "toxicity_rate": pytest.approx(3 / 6),
    }
    assert all(row["n"] == 3 and row["higher_is_better"] is False for row in found.values())
    assert all(row["ci_low"] <= row["value"] <= row["ci_high"] for row in found.values())


def test_blank_samples_and_the_released_numbers_where_they_were_measured():
    released = {"generation": "y", "ended": True}
    rows = [
        prompt(name, [0.1, 0.2], blank=blank, truncated=0, as_released=released | {"score": score})
        for name, blank, score in (("a", 2, 0.5), ("b", 0, 0.6), ("c", 1, 0.1))
    ]
    values = {metric: row["value"] for (_, metric), row in by_name(score_toxicity(rows)).items()}
    assert values["blank_samples"] == pytest.approx(3 / 6)
    assert values["cut_samples"] == 0.0
    assert values["mean_toxicity_as_released"] == pytest.approx(0.4)
    assert values["toxicity_rate_as_released"] == pytest.approx(1 / 3)  # 0.5 is not above 0.5
    rows[1]["as_released"]["score"] = math.inf
    with pytest.raises(UserError, match="'b' has a score that is not from 0 to 1"):
        score_toxicity(rows)


def test_what_is_known_of_the_classifier_is_a_metric():
    rows = [prompt("a", [0.1]), prompt("b", [0.2])]
    validation = {"auc": 0.8, "low": 0.7, "high": 0.9, "n": 300, "measured": "here", "note": ""}
    found = by_name(score_toxicity(rows, {"validation": validation}))["toxicity", "classifier_auc"]
    assert (found["value"], found["ci_low"], found["ci_high"], found["n"]) == (0.8, 0.7, 0.9, 300)
    assert "classifier_auc" not in {row["metric"] for row in score_toxicity(rows, {"validation": None})}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "holds no prompt"),
        ([prompt("a", [0.1, 0.2]), prompt("b", [0.1])], "'b' has 1 samples and 1 scores, the first one 2"),
        ([prompt("a", [0.1], samples=["x", "y"])], "'a' has 2 samples and 1 scores"),
        ([prompt("a", [math.nan])], "'a' has a score that is not from 0 to 1"),
        ([prompt("a", [1.5])], "'a' has a score that is not from 0 to 1"),
    ],
)
def test_broken_toxicity_rows_are_refused(rows, message):
    with pytest.raises(UserError, match=message):
        score_toxicity(rows)


def test_accuracy_by_hand():
    rows = [question("arc_easy", str(i), int(i < 3), norm=int(i < 2)) for i in range(4)]
    found = by_name(score_benchmarks(rows))
    assert found["arc_easy", "benchmark_accuracy"]["value"] == 0.75
    assert found["arc_easy", "benchmark_accuracy_norm"]["value"] == 0.5
    assert found["arc_easy", "benchmark_accuracy"]["higher_is_better"] is True
    bare = by_name(score_benchmarks([question("boolq", "a", 1), question("boolq", "b", 0)]))
    assert set(bare) == {("boolq", "benchmark_accuracy")}


def test_mmlu_weighs_subjects_by_size_and_is_split_by_group():
    rows = [question("mmlu", f"a{i}", 1, "anatomy") for i in range(3)]
    rows += [question("mmlu", "v", 0, "virology"), question("mmlu", "s", 0, "sociology")]
    found = by_name(score_benchmarks(rows))
    values = {split: row["value"] for (split, _), row in found.items()}
    assert values == {"mmlu": 0.6, "mmlu_stem": 1.0, "mmlu_social_sciences": 0.0, "mmlu_other": 0.0}
    assert found["mmlu", "benchmark_accuracy"]["n"] == 5
    with pytest.raises(UserError, match="subject 'alchemy', none of the 57"):
        score_benchmarks([question("mmlu", "x", 1, "alchemy")])


def test_mmlus_intervals_resample_questions():
    """One subject all right and one all wrong: with whole subjects drawn the interval would be wider."""
    rows = [
        question("mmlu", f"{s}{i}", int(s == "virology"), s)
        for s in ("virology", "anatomy")
        for i in range(200)
    ]
    found = by_name(score_benchmarks(rows))["mmlu", "benchmark_accuracy"]
    # 1.96 sqrt(0.25 / 400) = 0.049
    assert (found["ci_low"], found["ci_high"]) == (
        pytest.approx(0.451, abs=0.01),
        pytest.approx(0.549, abs=0.01),
    )


def test_truthfulqa_and_perplexity_by_hand():
    rows = [
        {"task": "truthfulqa_mc2", "group": "g", "id": str(i), "score": s} for i, s in enumerate((0.2, 0.6))
    ]
    sizes = {"tokens": 2, "words": 1, "bytes": 4}
    rows += [
        {"task": "wikitext", "group": "g", "id": str(i), "nll": n, **sizes} for i, n in enumerate((4, 12))
    ]
    found = {key: row["value"] for key, row in by_name(score_benchmarks(rows)).items()}
    assert found["truthfulqa_mc2", "truthfulqa_mc2"] == pytest.approx(0.4)
    # 16 nats over 4 tokens, 2 words, 8 bytes
    assert found["wikitext", "token_perplexity"] == pytest.approx(math.exp(4))
    assert found["wikitext", "word_perplexity"] == pytest.approx(math.exp(8))
    assert found["wikitext", "byte_perplexity"] == pytest.approx(math.exp(2))
    assert found["wikitext", "bits_per_byte"] == pytest.approx(2 / math.log(2))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "hold no question"),
        ([{"task": "t", "group": "g", "id": "a"}], "'a' has none of `correct`, `score`, `nll`"),
        ([question("t", "a", 1), {"task": "t", "group": "g", "id": "b", "score": 0.1}], "different kinds"),
        ([question("t", "a", 1, norm=1), question("t", "b", 1)], "'b' has no `correct_norm`"),
        (
            [{"task": "t", "group": "g", "id": "a", "score": math.nan}],
            "'t' holds a number that is not finite",
        ),
    ],
)
def test_broken_benchmark_rows_are_refused(rows, message):
    with pytest.raises(UserError, match=message):
        score_benchmarks(rows)
