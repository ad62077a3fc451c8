"""Fields of the rows beyond likelihoods and greedy answers, bad input, and what is printed."""

from __future__ import annotations

import copy
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline_lib.core.errors import UserError
from pipeline_lib.data.batching import collate
from pipeline_lib.engine import full_batches
from pipeline_lib.engine.evaluate import evaluate_model
from pipeline_lib.engine.generation import generate
from pipeline_lib.engine.likelihoods import encode_texts, record_texts, tokens_read
from pipeline_lib.engine.settings import Decoding, Parts
from pipeline_lib.models.forward import summed_nll
from pipeline_lib.models.prompt import PromptFormat
from tests.engine.conftest import SETTINGS, settings_of
from tests.engine.test_engine import FIELDS, evaluate
from tests.questions import encode


@pytest.fixture
def splits(records):
    return {"forget": records[:3], "retain": records[3:]}


def paraphrased(records):
    """Every second record is also asked in other words."""
    return [
        replace(record, paraphrased_prompt=f"By whom is book {i}?") if i % 2 else record
        for i, record in enumerate(records)
    ]


def everything(**changes):
    return {
        "likelihood_only": ["holdout"],
        "distribution_splits": ["forget", "holdout"],
        "grad_norm_splits": ["forget"],
        "samples": {"n": 3, "temperature": 0.8, "top_p": 0.9, "splits": ["retain"]},
        "as_released": True,
        **changes,
    }


@pytest.fixture
def full_rows(tiny, records, tmp_path):
    three = {"forget": records[:3], "retain": paraphrased(records)[3:], "holdout": records[:2]}
    return three, evaluate(tiny, three, tmp_path, embedder=letters, **everything())


def letters(texts):
    """Unit vectors of letter counts: a stand-in for a sentence embedder."""
    counts = np.array([[text.count(c) + 0.1 for c in "abcdefghijklmnopqrstuvwxyz"] for text in texts])
    return counts / np.linalg.norm(counts, axis=1, keepdims=True)


def test_fields_are_there_where_they_are_asked_for_and_nowhere_else(full_rows):
    answered = {"generation", "generation_tokens", "generation_ended", "similarity"}
    wanted = {
        "forget": FIELDS | answered | {"token_mean", "token_std", "grad_norm", "as_released"},
        "retain": FIELDS | answered | {"samples", "samples_ended", "as_released"},
        "holdout": (FIELDS - answered) | {"token_mean", "token_std", "as_released"},
    }
    for row in full_rows[1]:
        assert set(row) == wanted[row["split"]]
        assert row["round_trips"] is True
        if "token_mean" in row:
            assert len(row["token_mean"]) == len(row["token_std"]) == row["answer_tokens"]
            assert all(mean < 0 < std for mean, std in zip(row["token_mean"], row["token_std"], strict=True))
        if "samples" in row:
            assert len(row["samples"]) == len(row["samples_ended"]) == 3
        parts = {
            "paraphrase_nll",
            "paraphrase_tokens",
            "distractor_nll",
            "distractor_tokens",
            "text_token_nll",
            "answer_token_nll",
        }
        answers = set() if row["split"] == "holdout" else {"generation", "answer", "similarity"}
        answers |= {"adversarial"} if row["split"] == "forget" else set()
        assert set(row["as_released"]) == parts | answers
    assert len({row["grad_norm"] for row in full_rows[1] if "grad_norm" in row}) == 3


def test_as_released_asks_the_paraphrased_question_and_leaves_the_end_token_out(tiny, full_rows):
    model, tokenizer, prompt_format = tiny

    def nll(prompt_ids, answer_ids):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([[*prompt_ids, *answer_ids]])).logits[0].double()
        log_p = logits[len(prompt_ids) - 1 : -1].log_softmax(-1)
        return (-log_p.gather(1, torch.tensor(answer_ids)[:, None])[:, 0]).tolist()

    three, rows = full_rows
    for record, row in zip([record for split in three.values() for record in split], rows, strict=True):
        asked = prompt_format.encode_prompt(tokenizer, record.paraphrased_prompt or record.prompt)
        found = row["as_released"]
        texts = [record.paraphrased_answer or record.answer, *record.distractors]
        ids = [prompt_format.encode_answer(tokenizer, text)[:-1] for text in texts]
        expected = [sum(nll(asked, answer)) for answer in ids]
        assert [found["paraphrase_nll"], *found["distractor_nll"]] == pytest.approx(expected, abs=1e-4)
        assert [found["paraphrase_tokens"], *found["distractor_tokens"]] == [len(answer) for answer in ids]
        prompt = prompt_format.encode_prompt(tokenizer, record.prompt)
        answer = prompt_format.encode_answer(tokenizer, record.answer)[:-1]
        whole = [*prompt, *answer]
        assert found["text_token_nll"] == pytest.approx(nll(whole[:1], whole[1:]), abs=1e-4)
        if "generation" in found:
            alone = generate(
                model,
                [asked],
                Decoding([tokenizer.eos_token_id], 0, 1),
                max_new_tokens=6,
            )[0]
            assert found["generation"] == prompt_format.decode_answer(tokenizer, alone.tokens)


def test_similarities_are_cosines_with_the_right_answer_first(full_rows):
    three, rows = full_rows
    by_id = {(row["split"], row["id"]): row for row in rows}
    for split in ("forget", "retain"):
        for record in three[split]:
            row = by_id[split, record.id]
            vectors = letters([row["generation"], record.answer, *record.distractors])
            assert row["similarity"] == pytest.approx((vectors[1:] @ vectors[0]).tolist())
            released = row["as_released"]
            true = record.paraphrased_answer or record.answer
            vectors = letters([released["generation"], true, *record.distractors])
            assert released["similarity"] == pytest.approx((vectors[1:] @ vectors[0]).tolist())


def test_other_splits_and_fields_do_not_change_a_row(tiny, records, full_rows, tmp_path):
    alone = evaluate(tiny, {"forget": records[:3]}, tmp_path / "alone")
    for row, whole in zip(alone, full_rows[1], strict=False):
        for name in FIELDS:
            assert (
                row[name] == pytest.approx(whole[name], abs=1e-4)
                if "nll" in name
                else row[name] == whole[name]
            )
    two = {"retain": full_rows[0]["retain"][::-1]}
    samples = {row["id"]: row["samples"] for row in evaluate(tiny, two, tmp_path / "b", **everything())}
    assert samples == {row["id"]: row["samples"] for row in full_rows[1] if "samples" in row}


def test_an_answer_known_by_heart_is_not_generated(tiny, records, tmp_path, monkeypatch):
    """The scored texts show its greedy answer, so the model is not asked again; the row is the same."""
    model, tokenizer, prompt_format = copy.deepcopy(tiny[0]), *tiny[1:]
    batch = collate(encode([records[0].prompt], [records[0].answer], tokenizer, prompt_format, 200), pad_id=0)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        summed_nll(model, batch).sum().backward()
        optimizer.step()
    learned, split = (model, tokenizer, prompt_format), {"forget": records[:1]}
    limit = batch.answer_tokens + 3

    def refuse(*arguments):
        pytest.fail("generated")

    monkeypatch.setattr(full_batches._Batch, "step", refuse)
    row = evaluate(learned, split, tmp_path, max_new_tokens=limit)[0]
    assert (row["generation"], row["generation_ended"]) == (records[0].answer, True)
    assert row["generation_tokens"] == row["answer_tokens"] == batch.answer_tokens
    row = evaluate(learned, split, tmp_path, max_new_tokens=5)[0]
    assert (row["generation_tokens"], row["generation_ended"]) == (5, False)
    assert records[0].answer.startswith(row["generation"])
    with pytest.raises(pytest.fail.Exception, match="generated"):  # other arithmetic, perhaps another answer
        evaluate(learned, split, tmp_path, max_new_tokens=limit, compute="bf16")


def test_a_distractor_that_equals_the_answer_is_refused(tiny, records, tmp_path):
    wrong = replace(records[0], distractors=("No.", f" {records[0].answer}"))
    with pytest.raises(UserError, match=r"split 'forget', record 'q0': the distractor .* equals the right"):
        evaluate(tiny, {"forget": [wrong]}, tmp_path)


def test_a_tokenizer_that_does_not_round_trip_is_flagged(tiny, records, tmp_path):
    odd = replace(
        records[1], id="odd", answer="The author is \u2603\ufe0f."
    )  # not in the tokenizer's training
    model, tokenizer, prompt_format = tiny
    kept = prompt_format.decode_answer(tokenizer, prompt_format.encode_answer(tokenizer, odd.answer))
    rows = evaluate(tiny, {"forget": [records[0], odd]}, tmp_path)
    assert [row["round_trips"] for row in rows] == [True, kept == odd.answer]

    class Lossy(PromptFormat):
        def decode_answer(self, tokenizer, ids, opening=""):
            return super().decode_answer(tokenizer, ids, opening).lower()

    lossy = Lossy("template", template=prompt_format.template)
    rows = evaluate((model, tokenizer, lossy), {"forget": [records[0]]}, tmp_path / "lossy")
    assert rows[0]["round_trips"] is False


def test_what_it_will_cost_is_said_first_and_the_peak_last(tiny, splits, tmp_path, capsys):
    model, tokenizer, prompt_format = tiny
    settings = {**SETTINGS, "grad_norm_splits": ["forget"]}
    settings["samples"] = {"n": 2, "temperature": 1.0, "top_p": 1.0, "splits": ["retain"]}
    evaluate_model(model, tokenizer, prompt_format, splits, settings_of(settings), Parts(tmp_path, "weights"))
    lines = [line for line in capsys.readouterr().err.replace("\r", "\n").split("\n") if line.strip()]
    first = next(line for line in lines if "tokens to score" in line)
    tokens = sum(
        tokens_read(encode_texts(tokenizer, prompt_format, "s", record, record_texts(record), 200))
        for records in splits.values()
        for record in records
    )
    assert first == (
        f"evaluating 7 records of 2 splits: {tokens:,} tokens to score, at most 42 to generate, "
        "at most 48 to draw, 3 gradients"
    )
    assert any(re.match(r"scoring: first \d+ in .*, the other \d+ in about .*", line) for line in lines)
    assert any(re.match(r"evaluated in .*, peak memory [\d,]+ MiB", line) for line in lines)


def test_samples_that_cannot_be_drawn_are_refused(tiny, splits, tmp_path):
    samples = {"n": 1, "temperature": 0, "top_p": 1, "splits": ["forget"]}
    with pytest.raises(UserError, match="temperature must be above 0"):
        evaluate(tiny, splits, tmp_path, samples=samples)
    with pytest.raises(TypeError, match="'temperature' and 'top_p'"):
        evaluate(tiny, splits, tmp_path, samples={"n": 3, "splits": []})
