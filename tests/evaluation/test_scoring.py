"""Likelihoods: equal to the model's own logits, in a tree or apart, whatever else is in the batch."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from pipeline_lib.data.batching import Example, encode
from pipeline_lib.data.records import Record
from pipeline_lib.errors import UserError
from pipeline_lib.evaluation import scoring
from pipeline_lib.evaluation.scoring import build_tree, halve_on_out_of_memory, record_texts, score_records


def score(setup, records, budget=4096, max_length=256):
    model, tokenizer, prompt_format = setup
    return score_records(
        model,
        tokenizer,
        prompt_format,
        records,
        split="forget",
        max_length=max_length,
        max_tokens_per_batch=budget,
        pad_id=tokenizer.pad_token_id,
    )


def alone(setup, record):
    """Reference: each text alone through the model's whole forward pass, log-softmax in float64."""
    model, tokenizer, prompt_format = setup
    texts = record_texts(record)
    for example in encode([record.prompt] * len(texts), texts, tokenizer, prompt_format, 256):
        tokens = torch.tensor([example.tokens])
        with torch.no_grad():
            logits = model(input_ids=tokens).logits[0, example.prompt_length - 1 : -1].double()  # (A, V)
        answer = tokens[0, example.prompt_length :]
        nll = -logits.log_softmax(-1).gather(1, answer[:, None])[:, 0]
        yield nll.tolist(), (logits.argmax(-1) == answer).long().tolist()


def assert_same(first, second, tolerance):
    for scores, others in zip(first, second, strict=True):
        for one, other in zip(scores, others, strict=True):
            assert one.token_nll == pytest.approx(other.token_nll, abs=tolerance)
            assert one.nll == pytest.approx(other.nll, abs=tolerance)
            assert one.argmax_correct == other.argmax_correct


def test_tree_merges_common_beginnings():
    # prompt 7 8; answers "1 2 3", "1 2 4", "5"
    tree = build_tree([Example((7, 8, *answer), 2, 0) for answer in ((1, 2, 3), (1, 2, 4), (5,))])
    assert tree.tokens == [7, 8, 1, 2]  # last tokens predict nothing
    assert tree.parents == [-1, 0, 1, 2]
    assert tree.depths == [0, 1, 2, 3]
    assert tree.paths == [([1, 2, 3], [1, 2, 3]), ([1, 2, 3], [1, 2, 4]), ([1], [5])]


def test_tree_keeps_an_answer_that_begins_another():
    tree = build_tree([Example((7, 1, 2, 3), 1, 0), Example((7, 1, 2), 1, 0)])
    assert tree.tokens == [7, 1, 2]
    assert tree.paths == [([0, 1, 2], [1, 2, 3]), ([0, 1], [1, 2])]


def test_tree_needs_a_prompt():
    with pytest.raises(ValueError, match="prompt token"):
        build_tree([Example((1, 2), 0, 0)])


def test_scores_equal_the_models_own_logits(tiny, records):
    for record, scores in zip(records, score(tiny, records), strict=True):
        for found, (nll, correct) in zip(scores, alone(tiny, record), strict=True):
            assert found.token_nll == pytest.approx(nll, abs=1e-5)
            assert found.argmax_correct == correct
            assert found.tokens == len(nll)
            assert found.nll == pytest.approx(sum(nll), abs=1e-5)


def test_tree_equals_separate_sequences(tiny, records, monkeypatch):
    in_trees = score(tiny, records)
    monkeypatch.setattr(scoring, "_tree_is_exact", lambda *arguments: False)
    assert_same(in_trees, score(tiny, records), 1e-5)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_tree_is_exact_for_learned_positions(tiny, records, attention, monkeypatch):
    from transformers import AutoModelForCausalLM, OPTConfig

    _, tokenizer, prompt_format = tiny
    config = OPTConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        ffn_dim=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=256,
        word_embed_proj_dim=32,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()
    used = []
    original = scoring.tree_scores

    def counted(*arguments):
        used.append(arguments)
        return original(*arguments)

    monkeypatch.setattr(scoring, "tree_scores", counted)
    for record, scores in zip(records, score((model, tokenizer, prompt_format), records), strict=True):
        for found, (nll, _) in zip(scores, alone((model, tokenizer, prompt_format), record), strict=True):
            assert found.token_nll == pytest.approx(nll, abs=1e-5)
    assert len(used) == 2  # the check and one batch: no fallback


def test_a_model_that_ignores_the_mask_is_scored_the_plain_way(tiny, records, monkeypatch):
    model, tokenizer, prompt_format = tiny
    expected = score(tiny, records)
    broken = copy.deepcopy(model)
    decoder = broken.get_decoder()

    def without_tree_mask(attention_mask, **arguments):
        return decoder(attention_mask=attention_mask if attention_mask.ndim == 2 else None, **arguments)

    monkeypatch.setattr(broken, "get_decoder", lambda: without_tree_mask)
    assert_same(score((broken, tokenizer, prompt_format), records), expected, 1e-4)


@pytest.mark.parametrize("budget", [1, 60, 200, 1000])
def test_batch_size_changes_nothing(tiny, records, budget):
    assert_same(score(tiny, records, budget), score(tiny, records), 1e-4)


def test_logit_slices_change_nothing(tiny, records, monkeypatch):
    whole = score(tiny, records)
    monkeypatch.setattr(scoring, "LOGIT_ROWS", 5)
    assert_same(score(tiny, records), whole, 1e-5)


def test_order_and_company_change_nothing(tiny, records):
    whole = score(tiny, records)
    assert_same(score(tiny, records[::-1])[::-1], whole, 1e-4)
    for i, record in enumerate(records):
        assert_same(score(tiny, [record]), [whole[i]], 1e-4)


def test_a_long_prompt_is_an_error_that_names_the_record(tiny, records):
    long = replace(records[1], prompt="word " * 300)
    with pytest.raises(UserError, match=r"split 'forget', record 'q1': .*context holds 256"):
        score(tiny, [records[0], long])


def test_broken_weights_are_an_error_that_names_the_record(tiny, records):
    model, tokenizer, prompt_format = tiny
    broken = copy.deepcopy(model)
    broken.model.norm.weight.data[0] = float("nan")
    with pytest.raises(UserError, match=r"split 'forget', record 'q0'.*not a finite number"):
        score((broken, tokenizer, prompt_format), records)


def test_running_out_of_memory_halves_the_batch(tiny, records, monkeypatch):
    expected = score(tiny, records)
    original = scoring.tree_scores
    sizes = []

    def at_most_two(model, trees, pad_id):
        sizes.append(len(trees))
        if len(trees) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(model, trees, pad_id)

    monkeypatch.setattr(scoring, "tree_scores", at_most_two)
    assert_same(score(tiny, records), expected, 1e-4)
    assert sizes == [1, 7, 3, 1, 2, 4, 2, 2]


def test_one_example_too_large_and_other_errors():
    def fail(message):
        def run(items):
            raise RuntimeError(message)

        return run

    with pytest.raises(UserError, match="single example does not fit in memory"):
        halve_on_out_of_memory([1, 2, 3], fail("DefaultCPUAllocator: can't allocate memory"))
    with pytest.raises(RuntimeError, match="shape"):
        halve_on_out_of_memory([1, 2, 3], fail("shape mismatch"))


def test_a_pretrained_model_scores_alike_in_trees_and_apart(smollm2, monkeypatch):
    records = [
        Record("a", "Where is the Eiffel Tower?", "Paris", "a", distractors=("London", "Rome, Italy")),
        Record(
            "b",
            "Who wrote Hamlet?",
            "William Shakespeare wrote it.",
            "b",
            distractors=("William Blake wrote it.",),
        ),
    ]
    in_trees = score(smollm2, records)
    assert_same(score(smollm2, records, budget=1), in_trees, 1e-4)
    monkeypatch.setattr(scoring, "_tree_is_exact", lambda *arguments: False)
    assert_same(score(smollm2, records), in_trees, 1e-4)
