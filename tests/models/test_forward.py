"""Answer log-probabilities against the model's own full logits, and against padding and batch mates."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from pipeline_lib.data.batching import IGNORED, collate
from pipeline_lib.models.forward import (
    answer_logits,
    answer_nll,
    check_selected_logits,
    context_length,
    position_ids,
    summed_nll,
)
from tests.questions import encode

PROMPTS = ["Who?", "In which city was the author born?", "Who wrote The Salt Road, in 1956?"]
ANSWERS = ["Mara Okonjo", "Prague", "The Salt Road was written by Mara Okonjo."]


@pytest.fixture(scope="module")
def examples(scratch, template_format):
    return encode(PROMPTS, ANSWERS, scratch[1], template_format, max_length=128)


def test_nll_equals_log_softmax_of_the_full_logits(scratch, examples):
    model, tokenizer = scratch
    nll, rows = answer_nll(model, collate(examples, tokenizer.pad_token_id))
    with torch.no_grad():
        for row, example in enumerate(examples):  # one at a time, no padding, every position, no selection
            logits = model(input_ids=torch.tensor([example.tokens])).logits[0]  # (T, V)
            log_p = torch.log_softmax(logits.double(), dim=-1)
            expected = [
                -float(log_p[t - 1, example.tokens[t]])
                for t in range(example.prompt_length, len(example.tokens))
            ]
            assert torch.allclose(nll[rows == row].double(), torch.tensor(expected).double(), atol=1e-5)
    assert nll.std() > 0.5  # the model is far from uniform, so the comparison has teeth


def test_rows_and_targets_are_answers_with_their_end(scratch, examples):
    model, tokenizer = scratch
    logits, targets, rows = answer_logits(model, collate(examples, tokenizer.pad_token_id))
    assert logits.shape == (sum(e.answer_length for e in examples), len(tokenizer))
    for row, example in enumerate(examples):
        assert tuple(targets[rows == row].tolist()) == example.tokens[example.prompt_length :]


def nll_by_example(scratch, examples):
    """{index of the example: (n,) NLL of its answer tokens} when scored in one batch."""
    model, tokenizer = scratch
    batch = collate(examples, tokenizer.pad_token_id)
    with torch.no_grad():
        nll, rows = answer_nll(model, batch)
        sums = summed_nll(model, batch)
    split = {int(index): nll[rows == row] for row, index in enumerate(batch.index)}
    assert torch.allclose(sums, torch.stack([split[int(index)].sum() for index in batch.index]))
    return split


def test_padding_on_the_right_changes_nothing(scratch, examples):
    model, tokenizer = scratch
    batch = collate(examples[:1], tokenizer.pad_token_id)
    width = batch.input_ids.shape[1]
    padded = replace(
        batch,
        input_ids=F.pad(batch.input_ids, (0, 40), value=tokenizer.pad_token_id),
        attention_mask=F.pad(batch.attention_mask, (0, 40)),
        labels=F.pad(batch.labels, (0, 40), value=IGNORED),
    )
    assert padded.input_ids.shape == (1, width + 40)
    difference = answer_nll(model, batch)[0] - answer_nll(model, padded)[0]
    assert float(difference.detach().abs().max()) < 1e-5


def test_batch_mates_and_order_change_nothing(scratch, examples):
    alone = {index: nll for example in examples for index, nll in nll_by_example(scratch, [example]).items()}
    for order in ([0, 1, 2], [2, 0, 1], [1, 2], [0, 0, 1]):
        for index, nll in nll_by_example(scratch, [examples[i] for i in order]).items():
            assert float((nll - alone[index]).abs().max()) < 1e-5


def test_positions_count_real_tokens_on_either_side():
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 0, 0]])
    assert position_ids(mask).tolist() == [[0, 0, 0, 1], [0, 1, 1, 1]]


def test_plain_model_passes_the_check(scratch):
    check_selected_logits(scratch[0])


def test_context_length_is_the_configurations(scratch):
    assert context_length(scratch[0]) == scratch[0].config.max_position_embeddings

    class Endless:
        class config:
            @staticmethod
            def get_text_config():
                return object()

    assert context_length(Endless()) is None
