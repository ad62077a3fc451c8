"""TOFU's published evaluation logs of Llama-2-7B give the published numbers, to 1e-6 relative."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from pipeline_lib import __main__ as command
from pipeline_lib.metrics.forget_quality import forget_quality
from pipeline_lib.metrics.probability import normalised_probability, probability
from pipeline_lib.metrics.rouge import rouge_recall, tokenizers_of
from pipeline_lib.metrics.truth_ratio import Variant, log_truth_ratio
from tests.metrics.scored import score_run
from tests.paths import shared_data

PARTS = {
    "forget": ("Forget", "eval_log_forget.json"),
    "retain": ("Retain", "eval_log.json"),
    "real_authors": ("Real Authors", "eval_real_author_wo_options.json"),
    "world_facts": ("Real World", "eval_real_world_wo_options.json"),
}
MANIFEST = {
    "evaluate": list(PARTS),
    "utility": ["retain", "real_authors", "world_facts"],
    "multiple_choice": ["real_authors", "world_facts"],
}
MODELS = [f"llama2-7b_{name}_wd0.01" for name in ("full", "retain90", "retain95", "retain99")]
FULL, RETAIN90, RETAIN95, RETAIN99 = MODELS


def read(name: str) -> Any:
    return json.loads(shared_data(f"tofu_eval_logs/{name}.json").read_text())


def rows_of(name: str) -> list[dict[str, Any]]:
    """A log as records. It holds losses per token, so every text counts as one token."""
    rows = []
    for split, (_, part) in PARTS.items():
        log = read(name)[part]
        for key, loss in log["avg_gt_loss"].items():
            prompt, generation, answer = log["generated_text"][key]
            wrong = log["average_perturb_loss"][key]
            rows.append(
                {
                    "id": prompt,
                    "group": str(int(key) // 20),
                    "split": split,
                    "prompt": prompt,
                    "answer": answer,
                    "generation": generation,
                    "answer_nll": loss,
                    "answer_tokens": 1,
                    "paraphrase_nll": log["avg_paraphrased_loss"][key],
                    "paraphrase_tokens": 1,
                    "distractor_nll": wrong,
                    "distractor_tokens": [1] * len(wrong),
                    "token_nll": [loss],
                    "argmax_correct": [1],
                }
            )
    return rows


def log_ratios(rows: list[dict[str, Any]], variant: Variant = "geometric") -> dict[str, float]:
    return {
        row["id"]: log_truth_ratio(
            row["paraphrase_nll"], 1, row["distractor_nll"], row["distractor_tokens"], variant
        )
        for row in rows
        if row["split"] == "forget"
    }


@pytest.mark.parametrize("model", MODELS)
def test_all_nine_parts_and_both_utilities(model):
    expected = read("expected")["models"][model]
    found = {(m["split"], m["metric"]): m for m in score_run(rows_of(model), None, MANIFEST)}
    names = {
        "rouge_l_recall": "ROUGE",
        "probability": "Probability",
        "truth_ratio": "Truth Ratio",
        "truth_ratio_arithmetic": "Truth Ratio (utils.py variant)",
    }
    for split, (part, _) in PARTS.items():
        for metric, published in names.items():
            assert found[split, metric]["value"] == pytest.approx(expected[f"{part} {published}"], rel=1e-6)
            assert found[split, metric]["n"] == expected["rows"][part]
    assert found["utility", "model_utility"]["value"] == pytest.approx(expected["Model Utility"], rel=1e-6)
    assert found["utility", "model_utility_arithmetic"]["value"] == pytest.approx(
        expected["Model Utility (utils.py variant)"], rel=1e-6
    )


@pytest.mark.parametrize("retrained", [RETAIN90, RETAIN95, RETAIN99])
def test_forget_quality_of_whole_logs(retrained):
    expected = read("expected")["forget_quality"][f"{FULL} vs {retrained}"]
    assert_equal(
        forget_quality(*(list(log_ratios(rows_of(name)).values()) for name in (FULL, retrained))), expected
    )


@pytest.mark.parametrize("retrained", [RETAIN90, RETAIN95])
def test_forget_quality_of_matched_questions(retrained):
    expected = read("expected")["forget_quality_matched_questions"][f"{FULL} vs {retrained}"]
    first, second = log_ratios(rows_of(FULL)), log_ratios(rows_of(retrained))
    both = [name for name in first if name in second]
    assert_equal(forget_quality([first[name] for name in both], [second[name] for name in both]), expected)


@pytest.mark.parametrize("model", [RETAIN90, RETAIN95, RETAIN99])
def test_a_model_against_itself(model):
    ratios = list(log_ratios(rows_of(model)).values())
    assert_equal(forget_quality(ratios, ratios), read("expected")["self_checks"][f"{model} vs {model}"])


def assert_equal(found, expected):
    assert found.p_value == pytest.approx(expected["p_value"], rel=1e-6)
    assert found.log10_p_value == pytest.approx(expected["log10_p_value"], rel=1e-6)
    assert found.ks_statistic == pytest.approx(expected["ks_statistic"], rel=1e-6)
    assert (found.n_unlearned, found.n_retrained) == (expected["n_unlearned"], expected["n_retain"])


def test_score_run_gives_the_published_forget_quality_with_an_interval_around_it():
    expected = read("expected")["forget_quality"][f"{FULL} vs {RETAIN90}"]
    found = {
        m["metric"]: m
        for m in score_run(rows_of(FULL), rows_of(RETAIN90), MANIFEST)
        if m["split"] == "forget"
    }
    assert found["forget_quality"]["value"] == pytest.approx(expected["p_value"], rel=1e-6)
    assert found["forget_quality_log10"]["value"] == pytest.approx(expected["log10_p_value"], rel=1e-6)
    assert found["ks_statistic"]["value"] == pytest.approx(expected["ks_statistic"], rel=1e-6)
    assert found["ks_statistic"]["n"] == 300
    for low, high in pairwise(("ci_low", "value", "ci_high")):
        assert all(m[low] <= m[high] for m in found.values() if m["ci_low"] is not None)
    assert found["ks_statistic"]["ci_low"] is not None
    assert 0.3 < found["ks_statistic"]["ci_low"] < found["ks_statistic"]["ci_high"] < 0.55


def test_rouge_of_every_published_answer():
    """The log's own ROUGE numbers come out of its strings, row by row."""
    for _, part in PARTS.values():
        log = read(RETAIN90)[part]
        chosen = tokenizers_of([answer for *_, answer in log["generated_text"].values()])
        assert set(chosen) == {"rouge-score"}  # a few names with accents do not change it
        for key, (_, generation, answer) in log["generated_text"].items():
            for kind, theirs in (("rougeL", "rougeL_recall"), ("rouge1", "rouge1_recall")):
                ours = rouge_recall(generation, answer, kind, "rouge-score")
                assert ours == pytest.approx(log[theirs][key])


def test_probabilities_row_by_row():
    log = read(FULL)["eval_real_author_wo_options.json"]
    row = log["avg_gt_loss"]["0"], 1, log["average_perturb_loss"]["0"], [1, 1, 1]
    true, *wrong = np.exp([-row[0], *(-x for x in row[2])])
    assert normalised_probability(*row) == pytest.approx(true / (true + sum(wrong)))
    # summed loss over tokens is the stored mean loss, up to the log's fp32
    assert probability(log["gt_loss"]["0"], log["num_token_gt"]["0"]) == pytest.approx(true, rel=1e-5)


def path_of(name: str) -> str:
    return str(shared_data(f"tofu_eval_logs/{name}.json"))


@pytest.mark.parametrize("retrained", [RETAIN90, RETAIN95, RETAIN99])
def test_the_command_prints_what_is_published(retrained, capsys):
    expected = read("expected")
    quality = expected["forget_quality"][f"{FULL} vs {retrained}"]
    arguments = ["tofu-log", "--unlearned", path_of(FULL), "--retrained", path_of(retrained)]
    assert command.main(arguments) == 0
    seen = capsys.readouterr()
    found = json.loads(seen.out)
    assert found["forget_quality"] == pytest.approx(quality["p_value"], rel=1e-6)
    assert found["forget_quality_log10"] == pytest.approx(quality["log10_p_value"], rel=1e-6)
    assert found["ks_statistic"] == pytest.approx(quality["ks_statistic"], rel=1e-6)
    assert found["n"] == {"unlearned": quality["n_unlearned"], "retrained": quality["n_retain"]}
    for role, model in (("unlearned", FULL), ("retrained", retrained)):
        published = expected["models"][model]
        utility = found[role].pop("model_utility")
        assert utility == pytest.approx(published["Model Utility"], rel=1e-6)
        assert len(found[role]) == 9
        for name, value in (found[role] | found["forget"][role]).items():
            assert value == pytest.approx(published[name], rel=1e-6)
    assert ("different forget questions" in seen.err) == (retrained != RETAIN90)


@pytest.mark.parametrize("retrained", [RETAIN90, RETAIN95])
def test_the_command_on_matched_questions(retrained, capsys):
    expected = read("expected")["forget_quality_matched_questions"][f"{FULL} vs {retrained}"]
    arguments = ["tofu-log", "--unlearned", path_of(FULL), "--retrained", path_of(retrained), "--matched"]
    assert command.main(arguments) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["forget_quality"] == pytest.approx(expected["p_value"], rel=1e-6)
    assert found["n"]["retrained"] == found["questions"]["matched"] == expected["n_retain"]


def test_the_command_finds_no_matched_question_in_the_smallest_log(capsys):
    arguments = ["tofu-log", "--unlearned", path_of(FULL), "--retrained", path_of(RETAIN99), "--matched"]
    assert command.main(arguments) == 1
    assert "share no forget question (300 in the first, 40 in the second)" in capsys.readouterr().err


def test_the_command_in_the_arithmetic_variant(capsys):
    published = read("expected")["models"][FULL]
    arguments = ["tofu-log", "--unlearned", path_of(FULL), "--retrained", path_of(FULL)]
    assert command.main([*arguments, "--variant", "arithmetic"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["unlearned"]["model_utility"] == pytest.approx(
        published["Model Utility (utils.py variant)"], rel=1e-6
    )
    for part in ("Retain", "Real Authors", "Real World"):
        assert found["unlearned"][f"{part} Truth Ratio"] == pytest.approx(
            published[f"{part} Truth Ratio (utils.py variant)"], rel=1e-6
        )
    assert (found["forget_quality"], found["ks_statistic"]) == (1.0, 0.0)


def test_forget_sets_of_three_sizes_agree_at_40_questions(capsys):
    """p of the whole logs spans 16 orders of magnitude; on 40 questions all three are near 1e-3."""
    log10 = []
    for retrained in (RETAIN90, RETAIN95, RETAIN99):
        arguments = ["tofu-log", "--unlearned", path_of(FULL), "--retrained", path_of(retrained)]
        assert command.main([*arguments, "--equal-n", "40"]) == 0
        found = json.loads(capsys.readouterr().out)
        log10.append((found["forget_quality_log10"], found["equal_n"]["forget_quality_log10"]))
    assert log10[0][0] < log10[2][0] - 15
    assert all(-4 < at_40 < -2.5 for _, at_40 in log10)
