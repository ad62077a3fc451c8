"""The built-in evaluation: numbers equal the model's own, whatever is computed together; resume; flags."""

from __future__ import annotations

import json
import math

import pytest
import torch

from pipeline_lib.errors import UserError
from pipeline_lib.evaluation.benchmarks import evaluate
from pipeline_lib.evaluation.benchmarks.encoding import first_token
from pipeline_lib.evaluation.benchmarks.evaluate import evaluate_benchmarks, judge, score_questions
from pipeline_lib.evaluation.benchmarks.likelihoods import score_pairs
from pipeline_lib.evaluation.benchmarks.prompts import Choices
from pipeline_lib.evaluation.benchmarks.readers import load_benchmark
from pipeline_lib.evaluation.benchmarks.tasks import TASKS


def run(tiny, data_folder, work_dir, tasks, **changes):
    model, tokenizer, _ = tiny
    settings = {
        "limit": None,
        "mmlu_shots": 1,
        "folder": str(data_folder),
        "max_tokens_per_batch": 4096,
        "pad_id": tokenizer.pad_token_id,
        "work_dir": work_dir,
        "fingerprint": "weights",
        "progress": False,
    }
    return evaluate_benchmarks(model, tokenizer, tasks, **settings | changes)


def alone(model, given, scored):
    """NLL of `scored` after `given` from the model's whole forward pass, log-softmax in float64."""
    tokens = torch.tensor([given + scored])
    with torch.inference_mode():
        logits = model(input_ids=tokens).logits[0, len(given) - 1 : -1].double()
    return float(-logits.log_softmax(-1).gather(1, torch.tensor(scored)[:, None]).sum())


@pytest.mark.parametrize("budget", [4096, 300])
@pytest.mark.parametrize("name", ["arc_easy", "winogrande", "truthfulqa_mc2", "hellaswag", "mmlu"])
def test_every_choice_as_if_it_were_alone(tiny, data_folder, tmp_path, name, budget):
    model, tokenizer, _ = tiny
    rows = run(tiny, data_folder, tmp_path, [name], max_tokens_per_batch=budget)
    asked = load_benchmark(name, folder=str(data_folder), shots=int(name == "mmlu"))
    for row, question in zip(rows, asked, strict=True):
        for nll, context, text in zip(
            row["choice_nll"], question.contexts, question.continuations, strict=True
        ):
            given = tokenizer.encode(context)
            scored = tokenizer.encode(context + text)[len(given) :]
            room = 257 - len(scored)  # the model reads 256 tokens
            assert nll == pytest.approx(alone(model, given[-room:], scored), abs=1e-3, rel=1e-5)
            assert row.get("truncated", False) == any(
                len(tokenizer.encode(c + t)) > 257
                for c, t in zip(question.contexts, question.continuations, strict=True)
            )


def test_perplexity_counts_every_token_once(tiny, data_folder, tmp_path):
    model, tokenizer, _ = tiny
    (row, _) = run(tiny, data_folder, tmp_path, ["wikitext"])
    page = load_benchmark("wikitext", folder=str(data_folder))[0]
    tokens = tokenizer.encode(page.text)
    assert row["tokens"] == len(tokens)
    assert (row["words"], row["bytes"]) == (page.words, page.bytes)
    assert row["nll"] == pytest.approx(alone(model, [first_token(tokenizer)], tokens), rel=1e-5)


def test_progress_counts_every_text(tiny):
    model, tokenizer, _ = tiny
    pairs = [([5, 6, 7], [8]), ([5, 6, 7], [9, 10]), ([20], [21]), ([30, 31], [32])]
    counts = []
    scores = score_pairs(
        model,
        pairs,
        ["q"] * 4,
        max_tokens_per_batch=64,
        pad_id=tokenizer.pad_token_id,
        on_progress=counts.append,
    )
    assert sum(counts) == 4
    assert [score.tokens for score in scores] == [1, 2, 1, 1]


def test_judged_by_sum_and_by_length():
    """Choice 0: -4 nats over 2 characters; choice 1: -5 over 10. The sum prefers 0, the mean 1."""
    question = Choices("q", "q", ("c",) * 2, (" ab", " abcdefghij"), (0, 1), (2, 10))
    assert judge(question, [4.0, 5.0], "choice") == {
        "correct": 0,
        "correct_norm": 1,
        "choice_nll": [4.0, 5.0],
    }


def test_the_first_of_equal_choices_counts():
    question = Choices("q", "q", ("c",) * 2, (" a", " b"), (0, 1))
    assert judge(question, [3.0, 3.0], "choice")["correct"] == 0


def test_mass_of_the_right_choices():
    """Probabilities 0.4, 0.1 (right) and 0.3 (wrong): (0.4 + 0.1) / 0.8."""
    question = Choices("q", "q", ("c",) * 3, (" a", " b", " c"), (1, 1, 0))
    row = judge(question, [-math.log(p) for p in (0.4, 0.1, 0.3)], "mass")
    assert row["score"] == pytest.approx(0.625, abs=1e-12)
    far = judge(question, [2000.0, 2001.0, 2000.0], "mass")  # exp(-2000) is 0 in floating point
    assert far["score"] == pytest.approx((1 + math.exp(-1)) / (2 + math.exp(-1)), abs=1e-12)


def test_rows_of_all_tasks(tiny, data_folder, tmp_path):
    rows = run(tiny, data_folder, tmp_path, list(TASKS), limit=2)
    assert [row["task"] for row in rows] == sorted((row["task"] for row in rows), key=list(TASKS).index)
    for row in rows:
        if row["task"] == "wikitext":
            assert set(row) == {"task", "group", "id", "nll", "tokens", "words", "bytes"}
        elif row["task"] == "truthfulqa_mc2":
            assert 0 < row["score"] < 1
        else:
            assert row["correct"] in (0, 1)
            reported = row["task"].startswith(("arc", "hella", "open", "piqa"))
            assert row["correct_norm"] in ((0, 1) if reported else (None,))
    assert [row["group"] for row in rows if row["task"] == "mmlu"] == ["anatomy", "high_school_physics"]


def test_too_long_is_cut_from_the_left_and_marked(tiny, data_folder):
    model, tokenizer, _ = tiny
    asked = load_benchmark("mmlu", folder=str(data_folder), shots=0)
    settings = {"max_tokens_per_batch": 4096, "pad_id": tokenizer.pad_token_id}
    whole = score_questions(model, tokenizer, "mmlu", asked, max_length=256, **settings)
    cut = score_questions(model, tokenizer, "mmlu", asked, max_length=40, **settings)
    assert not any("truncated" in row for row in whole)
    assert all(row["truncated"] for row in cut)
    given = tokenizer.encode(asked[0].contexts[0])
    scored = tokenizer.encode(asked[0].contexts[0] + " B")[len(given) :]
    expected = alone(model, given[-(41 - len(scored)) :], scored)
    assert cut[0]["choice_nll"][1] == pytest.approx(expected, abs=1e-4)


def test_duplicate_choice_is_marked(tiny, tmp_path):
    (tmp_path / "commonsense").mkdir()
    rows = [{"question": "Why?", "choices": ["so", "so"], "answer": 0}]
    (tmp_path / "commonsense/piqa_validation.jsonl").write_text(json.dumps(rows[0]) + "\n")
    (row,) = run(tiny, tmp_path, tmp_path / "work", ["piqa"])
    assert row["duplicate_choice"] is True


def test_broken_weights_are_an_error(tiny, data_folder, tmp_path):
    import copy

    model, tokenizer, prompt_format = tiny
    broken = copy.deepcopy(model)
    broken.get_input_embeddings().weight.data.fill_(math.nan)
    with pytest.raises(UserError, match=r"benchmark piqa, question piqa-0000\d: .* not a finite number"):
        run((broken, tokenizer, prompt_format), data_folder, tmp_path, ["piqa"])


def test_a_killed_job_continues_with_the_same_rows(tiny, data_folder, tmp_path, monkeypatch):
    whole = run(tiny, data_folder, tmp_path / "whole", ["piqa", "winogrande", "wikitext"])

    def killed(*arguments, **settings):
        if arguments[2] == "wikitext":
            raise KeyboardInterrupt
        return score_questions(*arguments, **settings)

    monkeypatch.setattr(evaluate, "score_questions", killed)
    with pytest.raises(KeyboardInterrupt):
        run(tiny, data_folder, tmp_path / "work", ["piqa", "winogrande", "wikitext"])
    assert len(list((tmp_path / "work").iterdir())) == 2
    done = []

    def counted(*arguments, **settings):
        done.append(arguments[2])
        return score_questions(*arguments, **settings)

    monkeypatch.setattr(evaluate, "score_questions", counted)
    assert run(tiny, data_folder, tmp_path / "work", ["piqa", "winogrande", "wikitext"]) == whole
    assert done == ["wikitext"]


@pytest.mark.parametrize("changes", [{"fingerprint": "others"}, {"limit": 2}])
def test_parts_of_another_model_or_other_questions_are_not_reused(
    tiny, data_folder, tmp_path, monkeypatch, changes
):
    run(tiny, data_folder, tmp_path, ["piqa"])
    scored = []

    def counted(*arguments, **settings):
        scored.append(arguments[2])
        return score_questions(*arguments, **settings)

    monkeypatch.setattr(evaluate, "score_questions", counted)
    run(tiny, data_folder, tmp_path, ["piqa"])
    assert scored == []
    run(tiny, data_folder, tmp_path, ["piqa"], **changes)
    assert scored == ["piqa"]


def test_unknown_task_fails_before_anything_is_scored(tiny, data_folder, tmp_path):
    with pytest.raises(UserError, match="did you mean 'mmlu'"):
        run(tiny, data_folder, tmp_path, ["piqa", "mmlu_pro"])
    assert not list(tmp_path.iterdir())
