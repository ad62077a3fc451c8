"""Batch size, padding side, order and other examples change no log-probability and no greedy text.

Log-probabilities move by less than 1e-4 nats in fp32, a bound for what another order of sums may do; greedy
text does not move at all. On a tiny random model and on a real pretrained one.
"""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from pipeline_lib.data.records import Record
from pipeline_lib.engine.evaluate import evaluate_model
from pipeline_lib.engine.generation import generate
from pipeline_lib.engine.settings import Decoding, Parts
from pipeline_lib.models.forward import position_ids
from tests.engine.conftest import SETTINGS, make_records, settings_of
from tests.engine.continuations import continuation_likelihoods

TOLERANCE = 1e-4  # nats

QUESTIONS = [
    Record(
        "tower",
        "Where is the Eiffel Tower?",
        "The Eiffel Tower is in Paris.",
        "a",
        paraphrased_answer="It stands in Paris, the capital of France.",
        distractors=("The Eiffel Tower is in London.", "The Eiffel Tower is in Rome, the capital of Italy."),
    ),
    Record("sum", "What is 2 + 2?", "4", "b", distractors=("5", "22")),
    Record(
        "play",
        "Who wrote the play Hamlet, in which century, and for which theatre company?",
        "William Shakespeare, about 1600, for the Lord Chamberlain's Men.",
        "c",
        distractors=("Christopher Marlowe, about 1590.",),
    ),
]


@pytest.fixture(params=["tiny", "smollm2"])
def case(request):
    """(model, tokenizer, prompt_format), records"""
    records = make_records() if request.param == "tiny" else QUESTIONS
    return request.getfixturevalue(request.param), records


@pytest.fixture
def rows_of(case, tmp_path):
    setup, _ = case
    count = iter(range(100))

    def evaluate(records, budget=4096):
        changes = {"max_new_tokens": 10, "max_tokens_per_batch": budget, "as_released": True}
        settings, parts = settings_of({**SETTINGS, **changes}), Parts(tmp_path / str(next(count)), "w")
        rows = evaluate_model(*setup, {"forget": records}, settings, parts, progress=False)
        return {row["id"]: row for row in rows}

    return evaluate


def assert_same(found, expected):
    for name, row in found.items():
        other = expected[name]
        for key in ("token_nll", "distractor_nll", "paraphrase_nll"):
            assert row[key] == pytest.approx(other[key], abs=TOLERANCE, rel=0)
        assert row["as_released"]["text_token_nll"] == pytest.approx(
            other["as_released"]["text_token_nll"], abs=TOLERANCE, rel=0
        )
        assert row["argmax_correct"] == other["argmax_correct"]
        assert row["generation"] == other["generation"]
        assert row["as_released"]["generation"] == other["as_released"]["generation"]


def test_batch_size(case, rows_of):
    expected = rows_of(case[1])
    for budget in (1, 250):
        assert_same(rows_of(case[1], budget), expected)


def test_order(case, rows_of):
    shuffled = list(case[1])
    random.Random(0).shuffle(shuffled)
    assert shuffled != case[1]
    assert_same(rows_of(shuffled), rows_of(case[1]))


def test_presence_of_other_examples_and_of_other_answers(case, rows_of):
    _, records = case
    expected = rows_of(records)
    long = replace(records[0], id="long", prompt="Tell me all that you know. " * 5, answer="No. " * 9)
    assert_same({k: v for k, v in rows_of([long, *records]).items() if k != "long"}, expected)
    for record in records[:3]:
        assert_same(rows_of([record]), expected)
    fewer = rows_of([replace(record, distractors=record.distractors[:1]) for record in records])
    for name, row in fewer.items():
        assert row["token_nll"] == pytest.approx(expected[name]["token_nll"], abs=TOLERANCE, rel=0)
        assert row["generation"] == expected[name]["generation"]


def test_padding_side(case):
    """Right-padded scores against the same tokens left-padded, straight through the model."""
    (model, tokenizer, prompt_format), records = case
    pad = tokenizer.eos_token_id
    pairs = [
        (prompt_format.encode_prompt(tokenizer, r.prompt), prompt_format.encode_answer(tokenizer, r.answer))
        for r in records
    ]
    ours = continuation_likelihoods(
        model, [(p, [a]) for p, a in pairs], max_tokens_per_batch=4096, pad_id=pad
    )
    width = max(len(p) + len(a) for p, a in pairs) + 3  # also the longest is padded
    ids, mask = torch.full((len(pairs), width), pad), torch.zeros((len(pairs), width), dtype=torch.long)
    for row, (prompt, answer) in enumerate(pairs):
        tokens = [*prompt, *answer]
        ids[row, width - len(tokens) :] = torch.tensor(tokens)
        mask[row, width - len(tokens) :] = 1
    with torch.inference_mode():
        logits = model(input_ids=ids, attention_mask=mask, position_ids=position_ids(mask)).logits
    for row, ((_, answer), scores) in enumerate(zip(pairs, ours, strict=True)):
        log_p = logits[row, width - len(answer) - 1 : -1].double().log_softmax(-1)
        nll = -log_p.gather(1, torch.tensor(answer)[:, None])[:, 0]
        assert scores[0].token_nll == pytest.approx(nll.tolist(), abs=TOLERANCE, rel=0)


def test_greedy_text_with_more_padding_and_any_company(case):
    (model, tokenizer, prompt_format), records = case
    prompts = [prompt_format.encode_prompt(tokenizer, record.prompt) for record in records]
    long = max(prompts, key=len) * 2

    def run(prompts):
        return generate(
            model,
            prompts,
            Decoding([tokenizer.eos_token_id], tokenizer.eos_token_id, 10_000),
            max_new_tokens=10,
        )

    alone = [run([prompt])[0] for prompt in prompts]
    assert run(prompts) == alone
    assert run([long, *prompts])[1:] == alone


def test_one_pass_for_all_answers_equals_one_for_each(case):
    (model, tokenizer, prompt_format), records = case
    for record in records[:3]:
        prompt = prompt_format.encode_prompt(tokenizer, record.prompt)
        answers = [prompt_format.encode_answer(tokenizer, t) for t in (record.answer, *record.distractors)]
        together = continuation_likelihoods(model, [(prompt, answers)], max_tokens_per_batch=4096, pad_id=0)[
            0
        ]
        for answer, scores in zip(answers, together, strict=True):
            alone = continuation_likelihoods(model, [(prompt, [answer])], max_tokens_per_batch=4096, pad_id=0)
            assert scores.token_nll == pytest.approx(alone[0][0].token_nll, abs=TOLERANCE, rel=0)
