"""From rows to metrics.json: hand-worked values, the contract's names, and clear refusals."""

from __future__ import annotations

import math

import pytest

from pipeline_lib.core.errors import UserError
from pipeline_lib.metrics import declared
from tests.metrics.rows import make_row
from tests.metrics.scored import score_run

MANIFEST = {
    "evaluate": ["forget", "retain", "facts"],
    "utility": ["retain", "facts"],
    "multiple_choice": ["facts"],
}


def run_rows(**changes):
    return [
        make_row(f"{split}{i}", split, f"g{i % 2}", **changes)
        for split in MANIFEST["evaluate"]
        for i in range(4)
    ]


def by_name(metrics):
    return {(metric["split"], metric["metric"]): metric for metric in metrics}


def test_values_by_hand():
    found = {
        key: metric["value"] for key, metric in by_name(score_run(run_rows(), run_rows(), MANIFEST)).items()
    }
    # per token: answer 0.1 nats, paraphrase 0.5, wrong answers 1.0 and 2.0
    p, wrong = math.exp(-0.1), [math.exp(-1), math.exp(-2)]
    ratio = math.exp(1.5 - 0.5)
    arithmetic = math.exp(-0.5) / (sum(wrong) / 2)
    chosen = p / (p + sum(wrong))
    assert found["forget", "probability"] == pytest.approx(p)
    assert found["facts", "probability"] == pytest.approx(chosen)
    assert found["facts", "multiple_choice_accuracy"] == 1.0
    assert found["retain", "rouge_l_recall"] == 0.75
    assert found["retain", "truth_ratio"] == pytest.approx(1 - 1 / ratio)
    assert found["forget", "truth_ratio"] == pytest.approx(1 / ratio)
    assert found["retain", "truth_ratio_arithmetic"] == pytest.approx(1 - 1 / arithmetic)
    assert found["retain", "extraction_strength"] == 0.5
    assert found["retain", "exact_memorization"] == 0.75
    assert (found["forget", "forget_quality"], found["forget", "ks_statistic"]) == (1.0, 0.0)
    parts = [p, 0.75, 1 - 1 / ratio, chosen, 0.75, 1 - 1 / ratio]
    assert found["utility", "model_utility"] == pytest.approx(6 / sum(1 / part for part in parts))


def test_wording_and_perplexity_by_hand():
    """ "Ada wrote it" for "Ada Lovelace wrote it": 3 of 4 words, none of them wrong."""
    metrics = by_name(score_run(run_rows(), None, MANIFEST))
    found = {metric: row["value"] for (split, metric), row in metrics.items() if split == "retain"}
    assert found["rouge_1_recall"] == 0.75
    assert found["rouge_1_f1"] == found["rouge_l_f1"] == pytest.approx(6 / 7)
    # 3 of 3 words, 1 of 2 pairs, no triple of 1 (smoothed to 1/2); one word too short
    assert found["bleu"] == pytest.approx(100 * math.exp(1 - 4 / 3) * (1 * 1 / 2 * 1 / 2) ** (1 / 3))
    assert found["bleu_corpus"] == 0.0  # no answer is long enough for a 4-gram
    assert found["truth_ratio_probability"] == pytest.approx(1 / (1 + math.exp(-1)))
    # 0.4 nats on 4 tokens, 4 words, 21 bytes
    assert found["token_perplexity"] == found["word_perplexity"] == pytest.approx(math.exp(0.1))
    assert found["byte_perplexity"] == pytest.approx(math.exp(0.4 / 21))
    assert found["bits_per_byte"] == pytest.approx(0.4 / 21 / math.log(2))
    assert metrics["retain", "token_perplexity"]["higher_is_better"] is False
    assert metrics["forget", "token_perplexity"]["higher_is_better"] is True


def test_signs_of_collapse_are_counted():
    rows = run_rows()
    said = {"retain0": "I don't know!", "retain1": "", "retain2": "qx " * 9, "retain3": "Ada wrote it"}
    for row in rows:
        row["generation"] = said.get(row["id"], row["generation"])
        row["generation_ended"] = row["id"] not in ("retain2", "facts0")
        row["round_trips"] = row["id"] != "retain0"
    metrics = by_name(score_run(rows, None, MANIFEST))
    found = {metric: row["value"] for (split, metric), row in metrics.items() if split == "retain"}
    assert found["refusal_rate"] == 0.25
    assert found["empty_answers"] == 0.25
    assert found["repetition_4"] == pytest.approx((5 / 6) / 4)  # one of six 4-grams is distinct
    # of i, don't, know none is in a record; qx neither; "Who? Ada Lovelace wrote it" are the records' words
    assert found["unknown_words"] == 0.5
    assert (found["ended"], found["truncated_answers"], found["round_trip_failures"]) == (0.75, 1.0, 1.0)
    assert metrics["retain", "truncated_answers"]["n"] == 4
    assert metrics["facts", "truncated_answers"]["value"] == 1.0
    assert metrics["forget", "round_trip_failures"]["value"] == 0.0


def test_answer_accuracy_only_where_similarities_were_measured():
    assert ("retain", "answer_accuracy") not in by_name(score_run(run_rows(), None, MANIFEST))
    rows = run_rows(similarity=[0.9, 0.2, 0.3])
    rows[4]["similarity"] = [0.3, 0.2, 0.3]
    assert by_name(score_run(rows, None, MANIFEST))["retain", "answer_accuracy"]["value"] == 0.75
    del rows[5]["similarity"]
    with pytest.raises(UserError, match=r"'retain1'.*`similarity`.*different evaluations"):
        score_run(rows, None, MANIFEST)


def test_likelihood_only_splits_need_no_answer_and_have_no_metric_of_one():
    rows = [row for row in run_rows() if row["split"] != "facts"]
    unseen = [make_row(f"h{i}", "holdout", f"g{i}") for i in range(3)]
    for row in unseen:
        del row["generation"]
    manifest = {"evaluate": ["forget", "retain", "holdout"], "utility": ["retain"], "multiple_choice": []}
    metrics = by_name(score_run([*rows, *unseen], None, manifest | {"likelihood_only": ["holdout"]}))
    of_holdout = {metric for split, metric in metrics if split == "holdout"}
    assert {"probability", "token_perplexity", "truth_ratio"} <= of_holdout
    assert not {"rouge_l_recall", "bleu_corpus", "refusal_rate", "ended", "truncated_answers"} & of_holdout
    with pytest.raises(UserError, match=r"'h0'.*generation"):
        score_run([*rows, *unseen], None, manifest)
    with pytest.raises(UserError, match="Model Utility needs answers to split 'holdout'"):
        score_run([*rows, *unseen], None, manifest | {"likelihood_only": ["holdout"], "utility": ["holdout"]})


def test_the_test_at_forty_questions():
    """With exactly 40 questions it is the test itself; below there is none."""
    manifest = {"evaluate": ["forget"], "utility": [], "multiple_choice": []}
    rows, reference = (
        [make_row(f"q{i}", "forget", f"g{i // 2}", paraphrase_nll=2 + (i * step) % 7 / 3) for i in range(40)]
        for step in (1, 3)
    )
    reference[0]["paraphrase_nll"] = 9.0
    found = by_name(score_run(rows, reference, manifest))
    for metric in ("forget_quality", "forget_quality_log10", "ks_statistic"):
        row = found["forget", f"{metric}_n40"]
        assert row["value"] == pytest.approx(found["forget", metric]["value"])
        assert row["ci_low"] <= row["value"] <= row["ci_high"]
        assert row["n"] == 40
    assert not any("n40" in metric for _, metric in by_name(score_run(rows[:38], reference[:38], manifest)))


def matched(**changes):
    """equal_retain.json of a model of which a quarter of the unlearning is kept."""
    rows = [row for row in run_rows(**changes) if row["split"] == "forget"]
    forget = [{name: value for name, value in row.items() if name != "generation"} for row in rows]
    retain = [make_row(f"retain{i}", "retain", f"g{i % 2}", answer_nll=0.8) for i in range(5)]
    return {"status": "ok", "bound": 0.05, "mix": 0.25, "retain": retain, "forget": forget}


def test_rows_of_the_contract():
    metrics = score_run(run_rows(), run_rows(), MANIFEST, matched())
    assert set(metrics[0]) == {"split", "metric", "value", "ci_low", "ci_high", "n", "higher_is_better"}
    found = by_name(metrics)
    assert len(found) == len(metrics)
    assert {metric for _, metric in found} < set(declared())
    assert [split for split, metric in found if metric == "multiple_choice_accuracy"] == ["facts"]
    assert found["retain", "probability"]["n"] == 4
    assert found["utility", "model_utility"]["n"] == 8
    assert found["forget", "probability"]["higher_is_better"] is False
    assert found["retain", "probability"]["higher_is_better"] is True
    # alike in every row: nothing varies, so that nothing has an interval
    assert {(row["ci_low"], row["ci_high"]) for row in metrics} == {(None, None)}


def test_at_equal_retention_by_hand():
    """The forget answers are at 0.2 nats a token, the wrong ones as likely as the paraphrase: R = 1."""
    mixture = matched(answer_nll=0.8, distractor_nll=[2.5, 1.5], argmax_correct=[0, 0, 1, 1])
    metrics = by_name(score_run(run_rows(), run_rows(), MANIFEST, mixture))
    found = {key: metric["value"] for key, metric in metrics.items()}
    assert found["forget", "probability_at_equal_retain"] == pytest.approx(math.exp(-0.2))
    assert found["forget", "truth_ratio_at_equal_retain"] == pytest.approx(1.0)
    assert found["forget", "extraction_strength_at_equal_retain"] == 0.5
    # log R is 0 for each of the 4 questions here and 1 for each in `retrained`: D = 1, and of the 70 ways to
    # draw 4 of 8 two are as far apart.
    assert found["forget", "ks_statistic_at_equal_retain"] == 1.0
    assert found["forget", "forget_quality_log10_at_equal_retain"] == pytest.approx(math.log10(2 / 70))
    assert found["retain", "probability_at_equal_retain"] == pytest.approx(math.exp(-0.2))
    mix = metrics["run", "equal_retain_mix"]
    assert (mix["value"], mix["ci_low"], mix["ci_high"], mix["n"]) == (0.25, None, None, 5)
    assert mix["higher_is_better"] is None
    assert metrics["forget", "probability_at_equal_retain"]["higher_is_better"] is False
    assert metrics["retain", "probability_at_equal_retain"]["higher_is_better"] is True
    assert metrics["forget", "ks_statistic_at_equal_retain"]["n"] == 4


def test_equal_retention_changes_no_other_metric():
    without = score_run(run_rows(), run_rows(), MANIFEST)
    assert score_run(run_rows(), run_rows(), MANIFEST, {"status": "off"}) == without
    assert score_run(run_rows(), run_rows(), MANIFEST, matched())[: len(without)] == without


def test_other_questions_at_equal_retention_are_refused():
    mixture = matched()
    mixture["forget"].pop()
    with pytest.raises(UserError, match=r"records.jsonl and equal_retain.json hold different forget"):
        score_run(run_rows(), run_rows(), MANIFEST, mixture)


def test_without_a_retrained_model_there_is_no_forget_quality():
    names = {metric["metric"] for metric in score_run(run_rows(), None, MANIFEST)}
    assert not any("forget_quality" in name or "ks" in name for name in names)
    assert "model_utility" in names


def test_same_rows_same_numbers_in_any_order_of_the_reference():
    rows = run_rows()
    for i, row in enumerate(rows):
        row["answer_nll"] += 0.3 * i
        row["paraphrase_nll"] += 0.2 * i
    reference = run_rows()
    assert score_run(rows, reference, MANIFEST) == score_run(rows, reference[::-1], MANIFEST)


def test_resampling_takes_matched_questions_together():
    """A model that equals `retrained` on every question has D = 0 in every resample: no interval."""
    rows = run_rows()
    for i, row in enumerate(rows):
        row["paraphrase_nll"] += i
    found = by_name(score_run(rows, rows, MANIFEST))["forget", "ks_statistic"]
    assert (found["value"], found["ci_low"], found["ci_high"]) == (0.0, None, None)


def test_a_utility_of_zero_where_one_part_is_zero():
    found = by_name(score_run(run_rows(generation=""), None, MANIFEST))
    assert found["utility", "model_utility"]["value"] == 0.0


def test_hopeless_losses_give_numbers_not_infinities():
    changes = {"answer_nll": 4e6, "paraphrase_nll": 4e6, "distractor_nll": [9e6, 9e6]}
    metrics = score_run(run_rows(**changes), run_rows(), MANIFEST)
    ends = (metric[key] for metric in metrics for key in ("value", "ci_low", "ci_high"))
    assert all(math.isfinite(end) for end in ends if end is not None)


def test_different_forget_questions_are_refused():
    reference = [row for row in run_rows() if row["id"] != "forget3"]
    with pytest.raises(UserError, match=r"different forget questions \(4 and 3; 'forget3'"):
        score_run(run_rows(), reference, MANIFEST)


def test_a_reference_with_more_questions_is_refused():
    """Each of the model's questions is there, but `retrained` was asked one more: other data."""
    reference = [*run_rows(), make_row("forget9", "forget")]
    with pytest.raises(UserError, match=r"different forget questions \(4 and 5; 'forget9' is in one"):
        score_run(run_rows(), reference, MANIFEST)


def test_the_order_of_the_reference_is_not_that_of_the_rows():
    """Each question is held against itself, whatever the order in the file of `retrained`."""
    rows, reference = run_rows(), run_rows()
    for i, (row, other) in enumerate(zip(rows, reference, strict=True)):
        row["answer_nll"], other["answer_nll"] = 1.0 + i, 9.0 - (i * 5) % 7
    assert score_run(rows, reference[::-1], MANIFEST) == score_run(rows, reference, MANIFEST)


def test_a_retrained_model_without_records_is_refused():
    with pytest.raises(UserError, match=r"`retrained` hold no forget question.*diverged"):
        score_run(run_rows(), [], MANIFEST)


def test_an_empty_split_is_refused():
    rows = [row for row in run_rows() if row["split"] != "facts"]
    with pytest.raises(UserError, match="no example of split 'facts'"):
        score_run(rows, None, MANIFEST)


def test_a_row_of_an_unknown_split_is_refused():
    with pytest.raises(UserError, match="split 'holdout'"):
        score_run([*run_rows(), make_row("x", "holdout")], None, MANIFEST)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("token_std", [0.1, math.nan]),
        ("grad_norm", math.inf),
        ("similarity", [math.nan, 0.1]),
        ("as_released", {"paraphrase_nll": math.nan}),
        ("as_released", {"text_token_nll": [1.0, math.inf]}),
    ],
)
def test_optional_numbers_that_are_not_finite_are_refused(field, value):
    rows = run_rows()
    rows[6][field] = value
    with pytest.raises(UserError, match=r"'retain2'.*not finite"):
        score_run(rows, None, MANIFEST)


@pytest.mark.parametrize("field", ["answer_nll", "argmax_correct", "generation", "distractor_nll"])
def test_a_missing_field_is_named(field):
    rows = run_rows()
    del rows[5][field]
    with pytest.raises(UserError, match=f"'retain1'.*{field}"):
        score_run(rows, None, MANIFEST)


@pytest.mark.parametrize("field", ["answer_tokens", "paraphrase_tokens"])
def test_an_answer_without_tokens_is_refused(field):
    rows = run_rows()
    rows[1][field] = 0
    with pytest.raises(UserError, match=r"'forget1'.*without tokens"):
        score_run(rows, None, MANIFEST)


def test_numbers_that_are_not_finite_are_refused():
    rows = run_rows()
    rows[0]["distractor_nll"] = [math.nan, 1.0]
    with pytest.raises(UserError, match=r"'forget0'.*not finite"):
        score_run(rows, None, MANIFEST)


def test_no_distractors_no_truth_ratio():
    rows = [row | ({"distractor_nll": []} if row["id"] == "forget2" else {}) for row in run_rows()]
    found = by_name(score_run(rows, run_rows(), MANIFEST))
    assert ("forget", "truth_ratio") not in found
    assert ("forget", "forget_quality") not in found
    assert ("retain", "truth_ratio") in found


def test_no_distractors_in_a_utility_or_multiple_choice_split_is_refused():
    rows = [row | ({"distractor_nll": []} if row["id"] == "retain2" else {}) for row in run_rows()]
    with pytest.raises(UserError, match=r"Model Utility.*'retain2'"):
        score_run(rows, None, MANIFEST)
    rows = [row | ({"distractor_nll": []} if row["id"] == "facts2" else {}) for row in run_rows()]
    with pytest.raises(UserError, match=r"'facts2' of split 'facts'.*`multiple_choice`, has no wrong"):
        score_run(rows, None, MANIFEST)


def test_a_utility_split_must_be_evaluated():
    with pytest.raises(UserError, match="'holdout' counts towards Model Utility"):
        score_run(run_rows(), None, MANIFEST | {"utility": ["retain", "holdout"]})
