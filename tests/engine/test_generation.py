"""Greedy text: equal to the plain way one prompt at a time, whatever the batch."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from pipeline_lib.core.errors import UserError
from pipeline_lib.engine import full_batches
from pipeline_lib.engine.choosing import likeliest
from pipeline_lib.engine.generation import generate
from pipeline_lib.engine.settings import Decoding
from pipeline_lib.engine.wanted import Generation
from tests.engine.continuations import continue_greedily


def prompts_of(setup, records):
    _, tokenizer, prompt_format = setup
    return [prompt_format.encode_prompt(tokenizer, record.prompt) for record in records]


def run(setup, prompts, budget=4096, limit=12, ends=None, compute="fp32"):
    model, tokenizer, _ = setup
    ends = [tokenizer.eos_token_id] if ends is None else ends
    decoding = Decoding(ends, tokenizer.pad_token_id, budget, compute)
    return generate(model, prompts, decoding, max_new_tokens=limit)


def plain(model, prompt, limit, end_id):
    """Reference: one prompt, no padding, no cache, the whole sequence again for every token."""
    tokens = list(prompt)
    while len(tokens) < len(prompt) + limit:
        with torch.no_grad():
            token = int(model(input_ids=torch.tensor([tokens])).logits[0, -1].argmax())
        if token == end_id:
            return Generation(tokens[len(prompt) :], True)
        tokens.append(token)
    return Generation(tokens[len(prompt) :], False)


@pytest.fixture(scope="module")
def common_token(tiny, records):
    """A token that ends some rows early and at different steps when it is taken for the end token."""
    results = [result.tokens for result in run(tiny, prompts_of(tiny, records))]
    candidates = {token for tokens in results for token in tokens}
    firsts = {
        token: {tokens.index(token) for tokens in results if token in tokens} for token in sorted(candidates)
    }
    return max(firsts, key=lambda token: len(firsts[token]))


def test_equals_the_plain_way_also_where_rows_end_early(tiny, records, common_token):
    prompts = prompts_of(tiny, records)
    results = run(tiny, prompts, ends=[common_token])
    assert results == [plain(tiny[0], prompt, 12, common_token) for prompt in prompts]
    assert len({len(result.tokens) for result in results}) > 1
    assert any(result.ended for result in results)


@pytest.mark.parametrize("budget", [1, 80, 200])
def test_batch_size_does_not_change_the_text(tiny, records, common_token, budget):
    prompts = prompts_of(tiny, records)
    assert run(tiny, prompts, budget, ends=[common_token]) == run(tiny, prompts, ends=[common_token])


def test_order_does_not_change_the_text(tiny, records):
    prompts = prompts_of(tiny, records)
    assert run(tiny, prompts[::-1])[::-1] == run(tiny, prompts)


def test_the_end_token_counts_towards_the_limit(tiny, records):
    prompt = prompts_of(tiny, records)[0]
    first, second = run(tiny, [prompt], limit=2)[0].tokens
    assert run(tiny, [prompt], limit=1, ends=[first]) == [Generation([], True)]
    if first != second:
        assert run(tiny, [prompt], limit=1, ends=[second]) == [Generation([first], False)]
        assert run(tiny, [prompt], limit=2, ends=[second]) == [Generation([first], True)]


def test_finished_rows_leave_the_batch(tiny, records, common_token, monkeypatch):
    model = tiny[0]
    sizes = []
    handle = model.register_forward_pre_hook(
        lambda module, arguments, options: sizes.append(len(options["input_ids"])), with_kwargs=True
    )
    try:
        run(tiny, prompts_of(tiny, records), ends=[common_token])
    finally:
        handle.remove()
    assert sizes[0] == len(records)
    assert sizes[-1] < sizes[0]
    assert sizes == sorted(sizes, reverse=True)


def test_limits_of_each_prompt(tiny, records):
    prompts = prompts_of(tiny, records)
    limits = [1 + 2 * i for i in range(len(prompts))]
    expected = [plain(tiny[0], prompt, limit, -1) for prompt, limit in zip(prompts, limits, strict=True)]
    assert run(tiny, prompts, limit=limits, ends=[-1]) == expected
    assert run(tiny, prompts, limit=limits, ends=[-1], budget=1) == expected


def test_any_of_several_end_tokens_ends_an_answer(tiny, records):
    prompts = prompts_of(tiny, records)
    whole = run(tiny, prompts, ends=[-1])
    ends = [whole[0].tokens[2], whole[1].tokens[1]]
    for one, result in zip(whole, run(tiny, prompts, ends=ends), strict=True):
        place = next((t for t, token in enumerate(one.tokens) if token in ends), None)
        assert result == Generation(one.tokens[:place], place is not None)


def test_known_beginnings_are_continued_as_if_they_had_been_generated(tiny, records, common_token):
    prompts = prompts_of(tiny, records)
    whole = run(tiny, prompts, ends=[common_token])
    shapes = []
    handle = tiny[0].register_forward_pre_hook(
        lambda module, arguments, options: shapes.append(options["input_ids"].shape), with_kwargs=True
    )
    try:
        for known in (0, 1, 5, 12):
            beginnings = [
                [
                    *result.tokens[:known],
                    *([common_token] if result.ended and len(result.tokens) < known else []),
                ]
                for result in whole
            ]
            shapes.clear()
            assert whole == continue_greedily(
                tiny[0],
                prompts,
                beginnings,
                [None] * len(prompts),
                Decoding([common_token], 0, 4096),
                [12] * len(prompts),
            )
            assert bool(shapes) == (known < 12)  # nothing is left to generate
    finally:
        handle.remove()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_broken_weights_are_an_error(tiny, records, value):
    broken = copy.deepcopy(tiny[0])
    head = broken.get_output_embeddings()
    head.weight = torch.nn.Parameter(head.weight.data.clone())  # input embeddings stay whole
    head.weight.data[7] = 0.0
    head.weight.data[7, 0] = value  # one token of all
    with pytest.raises(UserError, match="logits are not finite"):
        run((broken, *tiny[1:]), prompts_of(tiny, records))


def test_running_out_of_memory_halves_the_batch(tiny, records, monkeypatch):
    prompts = prompts_of(tiny, records)
    expected = run(tiny, prompts)
    original = full_batches._Batch.step

    def at_most_two(batch):
        if len(batch.running) > 2:
            raise RuntimeError("CUDA out of memory. Tried to allocate")
        return original(batch)

    monkeypatch.setattr(full_batches._Batch, "step", at_most_two)
    assert run(tiny, prompts) == expected


def test_bf16_runs_the_model_under_autocast(tiny, records):
    kinds = []
    layer = tiny[0].model.layers[0].mlp.up_proj
    handle = layer.register_forward_hook(lambda module, arguments, output: kinds.append(output.dtype))
    try:
        results = run(tiny, prompts_of(tiny, records)[:2], limit=3, compute="bf16")
    finally:
        handle.remove()
    assert set(kinds) == {torch.bfloat16}
    assert all(len(result.tokens) == 3 or result.ended for result in results)


def test_a_pretrained_model_answers_alike_in_any_batch(smollm2):
    _, tokenizer, prompt_format = smollm2
    questions = ["Where is the Eiffel Tower?", "Who wrote the play Hamlet, and when?", "What is 2 + 2?"]
    prompts = [prompt_format.encode_prompt(tokenizer, question) for question in questions]
    together = run(smollm2, prompts, limit=16)
    assert run(smollm2, prompts, limit=16, budget=1) == together
    assert "Paris" in prompt_format.decode_answer(tokenizer, together[0].tokens)


@pytest.mark.parametrize("vocabulary", [3, 256, 512, 700])
def test_the_likeliest_token_is_the_first_of_the_largest(vocabulary):
    logits = torch.randint(0, 40, (300, vocabulary), generator=torch.Generator().manual_seed(0)).float()
    logits[0] = 7.0  # all alike
    logits[1, -1] = 50.0
    logits[2] = -math.inf
    expected = [row.index(max(row)) for row in logits.tolist()]
    assert likeliest(logits).tolist() == expected
