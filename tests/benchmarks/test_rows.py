"""Rows: numbers equal the model's own, whatever is computed together, and those recorded; resume; flags."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from pipeline_lib.benchmarks import harness
from pipeline_lib.benchmarks.encoding import encode_pair, first_token
from pipeline_lib.benchmarks.harness import ask, evaluate_benchmarks, mass, members
from pipeline_lib.benchmarks.harness_model import EngineLM
from pipeline_lib.benchmarks.likelihoods import score_pairs
from pipeline_lib.benchmarks.tasks import TASKS
from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import read_jsonl
from tests.benchmarks.conftest import asking
from tests.benchmarks.test_prompts import asked as requests_of

RECORDED = Path(__file__).parent / "recorded.jsonl"


def engine(tiny, **changes):
    model, tokenizer, _ = tiny
    return EngineLM(model, tokenizer, **{"max_tokens_per_batch": 4096, "progress": False} | changes)


def run(tiny, data_folder, work_dir, tasks, fingerprint="weights", **changes):
    return evaluate_benchmarks(engine(tiny), asking(data_folder, *tasks, **changes), work_dir, fingerprint)


def alone(model, given, scored):
    """NLL of `scored` after `given` from the model's whole forward pass, log-softmax in float64."""
    tokens = torch.tensor([given + scored])
    with torch.inference_mode():
        logits = model(input_ids=tokens).logits[0, len(given) - 1 : -1].double()
    return float(-logits.log_softmax(-1).gather(1, torch.tensor(scored)[:, None]).sum())


def test_rows_are_those_recorded(tiny, data_folder, tmp_path):
    """`recorded.jsonl`: what this project's own prompts and judgement gave before lm-eval's were used."""
    recorded = read_jsonl(RECORDED)
    rows = run(tiny, data_folder, tmp_path, list(TASKS), mmlu_shots=2)
    assert len(rows) == len(recorded)
    for row, other in zip(rows, recorded, strict=True):
        assert set(row) - {"right"} == set(other)
        for key, value in other.items():
            exact = isinstance(value, str | int) or value is None
            assert row[key] == (value if exact else pytest.approx(value, rel=1e-6)), (other["id"], key)


@pytest.mark.parametrize("budget", [4096, 300])
@pytest.mark.parametrize("name", ["arc_easy", "winogrande", "truthfulqa_mc2", "hellaswag", "mmlu"])
def test_every_choice_as_if_it_were_alone(tiny, data_folder, name, budget):
    model, tokenizer, _ = tiny
    shots = int(name == "mmlu")
    rows = ask(
        engine(tiny, max_tokens_per_batch=budget),
        name,
        members(name, asking(data_folder, name, mmlu_shots=shots)),
    )
    for number, row in enumerate(rows):
        question = requests_of(data_folder, name, number, shots)
        pairs = []
        for nll, context, text in zip(
            row["choice_nll"], question.contexts, question.continuations, strict=True
        ):
            given, scored = encode_pair(tokenizer, context, text)
            pairs.append((given, scored))
            room = 257 - len(scored)  # the model reads 256 tokens
            assert nll == pytest.approx(alone(model, given[-room:], scored), abs=1e-3, rel=1e-5)
        assert row.get("truncated", False) == any(len(given + scored) > 257 for given, scored in pairs)
        if name in ("arc_easy", "hellaswag", "mmlu"):  # their choices have different words
            said = question.continuations[min(range(len(pairs)), key=row["choice_nll"].__getitem__)]
            assert row["right"] in [text.strip() for text in question.continuations]
            assert (row["right"] == said.strip()) == row["correct"]


def test_perplexity_counts_every_token_once(tiny, data_folder, tmp_path):
    model, tokenizer, _ = tiny
    (row, _) = run(tiny, data_folder, tmp_path, ["wikitext"])
    tokens = tokenizer.encode(requests_of(data_folder, "wikitext").contexts[0])
    assert row["tokens"] == len(tokens)
    page = requests_of(data_folder, "wikitext").doc["page"]
    assert (row["words"], row["bytes"]) == (
        len(page.split()) + 2,
        len(page),
    )  # lm-eval counts both ends' spaces
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


def test_mass_of_the_right_choices():
    """Probabilities 0.4, 0.1 (right) and 0.3 (wrong): (0.4 + 0.1) / 0.8."""
    assert mass([-math.log(p) for p in (0.4, 0.1, 0.3)], (1, 1, 0)) == pytest.approx(0.625, abs=1e-12)
    far = mass([2000.0, 2001.0, 2000.0], (1, 1, 0))  # exp(-2000) is 0 in floating point
    assert far == pytest.approx((1 + math.exp(-1)) / (2 + math.exp(-1)), abs=1e-12)


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
    own = members("mmlu", asking(data_folder, "mmlu"))
    whole, cut = (ask(engine(tiny, max_length=length), "mmlu", own) for length in (256, 40))
    assert not any("truncated" in row for row in whole)
    assert all(row["truncated"] for row in cut)
    given, scored = encode_pair(tokenizer, requests_of(data_folder, "mmlu").contexts[0], " B")
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
    with pytest.raises(UserError, match=r"benchmark piqa, the text that ends in .* not a finite number"):
        run((broken, tokenizer, prompt_format), data_folder, tmp_path, ["piqa"])


def test_a_killed_job_continues_with_the_same_rows(tiny, data_folder, tmp_path, monkeypatch):
    tasks = ["piqa", "winogrande", "wikitext"]
    whole = run(tiny, data_folder, tmp_path / "whole", tasks)

    def killed(lm, name, own):
        if name == "wikitext":
            raise KeyboardInterrupt
        return ask(lm, name, own)

    monkeypatch.setattr(harness, "ask", killed)
    with pytest.raises(KeyboardInterrupt):
        run(tiny, data_folder, tmp_path / "work", tasks)
    assert len(list((tmp_path / "work").iterdir())) == 2
    asked = count_asked(monkeypatch)
    assert run(tiny, data_folder, tmp_path / "work", tasks) == whole
    assert asked == ["wikitext"]


def count_asked(monkeypatch):
    asked = []

    def counted(lm, name, own):
        asked.append(name)
        return ask(lm, name, own)

    monkeypatch.setattr(harness, "ask", counted)
    return asked


@pytest.mark.parametrize("changes", [{"fingerprint": "others"}, {"limit": 2}, {"mmlu_shots": 1}])
def test_parts_of_another_model_or_other_questions_are_not_reused(
    tiny, data_folder, tmp_path, monkeypatch, changes
):
    run(tiny, data_folder, tmp_path, ["mmlu"])
    asked = count_asked(monkeypatch)
    run(tiny, data_folder, tmp_path, ["mmlu"])
    assert asked == []
    run(tiny, data_folder, tmp_path, ["mmlu"], **changes)
    assert asked == ["mmlu"]


def test_what_cannot_be_asked_fails_before_anything_is_scored(tiny, data_folder, tmp_path):
    with pytest.raises(UserError, match="no task 'lambada_opena'; did you mean 'lambada_openai'"):
        run(tiny, data_folder, tmp_path, ["piqa"], lm_eval={"lambada_opena": None})
    assert not list(tmp_path.iterdir())
