"""Likelihoods: equal to the model's own logits, in a tree or apart, whatever else is in the batch."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch

from pipeline_lib.core.errors import UserError
from pipeline_lib.data.batching import Example
from pipeline_lib.data.records import Record
from pipeline_lib.engine import forward_pass, likelihoods
from pipeline_lib.engine.likelihoods import LikelihoodReader, encode_texts, group_likelihoods, record_texts
from pipeline_lib.engine.settings import ScoringSettings
from pipeline_lib.models import tree_attention
from tests.engine.continuations import continuation_likelihoods
from tests.questions import encode


def score(setup, records, budget=4096, max_length=256):
    model, tokenizer, prompt_format = setup
    settings = ScoringSettings(max_tokens_per_batch=budget, max_records=None, max_length=max_length)
    return LikelihoodReader(tokenizer, prompt_format, "forget", records, settings).likelihoods(model)


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


def read_apart(monkeypatch):
    for module in (forward_pass, likelihoods):
        monkeypatch.setattr(module, "reads_trees", lambda model: False)


def noted_passes(monkeypatch, most=math.inf):
    """Tokens of the texts of each pass from now on; more than `most` texts do not fit in memory."""
    original, passes = likelihoods.read_texts, []

    def noting(model, texts, *others):
        passes.append([len(text.tokens) for text in texts])
        if len(texts) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(model, texts, *others)

    monkeypatch.setattr(likelihoods, "read_texts", noting)
    return passes


def test_scores_equal_the_models_own_logits(tiny, records):
    for record, scores in zip(records, score(tiny, records), strict=True):
        for found, (nll, correct) in zip(scores, alone(tiny, record), strict=True):
            assert found.token_nll == pytest.approx(nll, abs=1e-5)
            assert found.argmax_correct == correct
            assert found.tokens == len(nll)
            assert found.nll == pytest.approx(sum(nll), abs=1e-5)


def test_tree_equals_separate_sequences(tiny, records, monkeypatch):
    in_trees = score(tiny, records)
    read_apart(monkeypatch)
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
    monkeypatch.setattr(likelihoods, "ENOUGH_TOKENS", 10_000)
    widths = []
    model.get_decoder().register_forward_pre_hook(
        lambda module, arguments, given: widths.append(tuple(given["input_ids"].shape)), with_kwargs=True
    )
    for record, scores in zip(records, score((model, tokenizer, prompt_format), records), strict=True):
        for found, (nll, _) in zip(scores, alone((model, tokenizer, prompt_format), record), strict=True):
            assert found.token_nll == pytest.approx(nll, abs=1e-5)
    texts = sum(len(record_texts(record)) for record in records)
    if attention == "eager":  # read apart, and alone by `alone`
        assert widths[0][0] == texts
    else:  # tried on two texts, with another beginning, as a tree; then all in one pass without padding
        assert [rows for rows, _ in widths[:4]] == [2, 2, 1, 1]


def test_a_model_whose_layers_do_not_hand_the_tree_on_is_scored_the_plain_way(tiny, records, monkeypatch):
    model, tokenizer, prompt_format = tiny
    expected = score(tiny, records)
    broken = copy.deepcopy(model)
    del broken.__dict__[tree_attention.KNOWN]
    decoder, given = broken.get_decoder(), []

    def without_tree(position_ids=None, tree=None, **arguments):
        given.append(tree)
        return decoder(position_ids=position_ids, **arguments)

    monkeypatch.setattr(broken, "get_decoder", lambda: without_tree)
    assert_same(score((broken, tokenizer, prompt_format), records), expected, 1e-4)
    assert [tree is None for tree in given[:3]] == [True, True, False]  # it was tried
    assert all(tree is None for tree in given[3:])


def test_a_model_with_a_window_is_scored_as_it_reads(tiny, records):
    """A tree's mask replaces the window's own. Short texts do not show it, and these come first."""
    from transformers import MistralConfig, MistralForCausalLM

    _, tokenizer, prompt_format = tiny
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=24,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = MistralForCausalLM(config).eval()
    for parameter in model.parameters():
        parameter.data.mul_(6 if parameter.ndim == 2 else 1)
    short = replace(records[0], prompt="Who?", answer="Ada.", paraphrased_answer="Adam.", distractors=())
    long = replace(
        records[1],
        prompt="Who, of all who wrote of roads and of salt, and of the sea besides, wrote this one first?",
        answer="It was Mara Okonjo.",
        paraphrased_answer="It was Mara Okonjo, who was born by the sea and wrote of it all her days.",
        distractors=("It was Ada.",),
    )
    setup = (model, tokenizer, prompt_format)
    for record, scores in zip([short, long], score(setup, [short, long]), strict=True):
        for found, (nll, _) in zip(scores, alone(setup, record), strict=True):
            assert found.token_nll == pytest.approx(nll, abs=1e-4)


@pytest.mark.parametrize("budget", [1, 60, 200, 1000])
def test_batch_size_changes_nothing(tiny, records, budget):
    assert_same(score(tiny, records, budget), score(tiny, records), 1e-4)


def test_logit_slices_change_nothing(tiny, records, monkeypatch):
    whole = score(tiny, records)
    monkeypatch.setattr(forward_pass, "LOGIT_ROWS", 5)
    assert_same(score(tiny, records), whole, 1e-5)


def test_order_and_company_change_nothing(tiny, records):
    whole = score(tiny, records)
    assert_same(score(tiny, records[::-1])[::-1], whole, 1e-4)
    for i, record in enumerate(records):
        assert_same(score(tiny, [record]), [whole[i]], 1e-4)


def test_a_long_prompt_is_an_error_that_names_the_record(tiny, records):
    long = replace(records[1], prompt="word " * 300)
    with pytest.raises(UserError, match=r"split 'forget', record 'q1' needs .*context holds 256"):
        score(tiny, [records[0], long])


def test_broken_weights_are_an_error_that_names_the_record(tiny, records):
    model, tokenizer, prompt_format = tiny
    broken = copy.deepcopy(model)
    broken.model.norm.weight.data[0] = float("nan")
    with pytest.raises(UserError, match=r"split 'forget', record 'q0'.*not a finite number"):
        score((broken, tokenizer, prompt_format), records)


def test_running_out_of_memory_halves_the_batch(tiny, records, monkeypatch):
    monkeypatch.setattr(likelihoods, "ENOUGH_TOKENS", 10_000)
    expected = score(tiny, records)
    sizes = noted_passes(monkeypatch, most=8)
    assert_same(score(tiny, records), expected, 1e-4)
    assert len(sizes) > 3 and len(sizes[0]) == sum(len(record_texts(record)) for record in records)


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
    read_apart(monkeypatch)
    assert_same(score(smollm2, records), in_trees, 1e-4)


REQUESTS = [
    ([5, 9, 7], [[11], [12], [11, 13, 4], [11, 13]]),
    ([8], [[20, 21, 22, 23, 24]]),
    ([8, 9], [[20], [21], [22]]),
]


def test_continuations_equal_the_models_own_logits(tiny):
    model = tiny[0]
    for (context, texts), scores in zip(
        REQUESTS, continuation_likelihoods(model, REQUESTS, max_tokens_per_batch=30, pad_id=0), strict=True
    ):
        for text, found in zip(texts, scores, strict=True):
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([[*context, *text]])).logits[0].double()
            logits = logits[len(context) - 1 : -1]
            expected = -logits.log_softmax(-1).gather(1, torch.tensor(text)[:, None])[:, 0]
            assert found.token_nll == pytest.approx(expected.tolist(), abs=1e-5)
            assert found.argmax_correct == (logits.argmax(-1) == torch.tensor(text)).long().tolist()


def test_mean_and_spread_of_the_next_token_distribution(tiny, records, monkeypatch):
    """Against the whole distribution in float64; only the true answer is described."""
    model, tokenizer, prompt_format = tiny
    monkeypatch.setattr(forward_pass, "LOGIT_ROWS", 7)
    groups = [
        encode_texts(tokenizer, prompt_format, "forget", record, record_texts(record), 256)
        for record in records
    ]
    found = group_likelihoods(model, groups, max_tokens_per_batch=300, pad_id=0, distribution=True)
    for group, scores in zip(groups, found, strict=True):
        tokens = torch.tensor([group[0].tokens])
        with torch.no_grad():
            logits = model(input_ids=tokens).logits[0, group[0].prompt_length - 1 : -1].double()
        log_p = logits.log_softmax(-1)
        mean = (log_p.exp() * log_p).sum(-1)
        std = ((log_p.exp() * log_p**2).sum(-1) - mean**2).sqrt()
        assert scores[0].token_mean == pytest.approx(mean.tolist(), abs=1e-4)
        assert scores[0].token_std == pytest.approx(std.tolist(), abs=1e-4)
        assert all(score.token_mean is None and score.token_std is None for score in scores[1:])


def test_a_forbidden_token_does_not_spoil_the_spread():
    # p = (1/4, 3/4, 0): mean = 1/4 ln 1/4 + 3/4 ln 3/4, variance = 1/4 * 3/4 * (ln 3)^2
    class Head(torch.nn.Module):
        def forward(self, hidden):
            return hidden

    logits = torch.tensor([[0.25, 0.75, 0.0]]).log()
    nll, argmax, mean, std = forward_pass._of_labels(Head(), logits, [0], [1], [True])
    assert (nll, argmax) == (pytest.approx([math.log(4 / 3)]), [1])
    assert mean == pytest.approx([0.25 * math.log(0.25) + 0.75 * math.log(0.75)])
    assert std == pytest.approx([math.sqrt(3) / 4 * math.log(3)])


def test_no_logits_beyond_the_limit_are_ever_held(tiny, records, monkeypatch):
    """Never (B, T, V): the output embedding sees at most LOGIT_ROWS positions, whichever way is taken."""
    model = tiny[0]
    monkeypatch.setattr(forward_pass, "LOGIT_ROWS", 11)
    shapes = []
    handle = model.get_output_embeddings().register_forward_hook(
        lambda module, arguments, output: shapes.append(tuple(output.shape))
    )
    try:
        score(tiny, records)
        score(tiny, records, budget=1)
    finally:
        handle.remove()
    assert len(shapes) > 20
    assert all(len(shape) == 2 and shape[0] <= 11 for shape in shapes)


def test_no_request_at_all(tiny):
    assert continuation_likelihoods(tiny[0], [], max_tokens_per_batch=30, pad_id=0) == []


def test_large_batches_hold_little_padding(tiny, monkeypatch):
    monkeypatch.setattr(likelihoods, "ENOUGH_TOKENS", 100)
    lengths = [60, 59, 58, 50, 49, 20, 19, 18, 17, 16, 15, 3]
    requests = [([4] * (n - 1), [[5, 6]]) for n in lengths]
    read_apart(monkeypatch)
    widths = noted_passes(monkeypatch)
    found = continuation_likelihoods(tiny[0], requests, max_tokens_per_batch=1000, pad_id=0)
    # 3 x 61 and 2 x 51 are enough; 5 x 21 are, and 16 is less than nine tenths of 21
    assert widths == [[61, 60, 59], [51, 50], [21, 20, 19, 18, 17], [16, 4]]
    widths.clear()
    continuation_likelihoods(tiny[0], [([4] * 49, [[5, 6]])] * 12, max_tokens_per_batch=1000, pad_id=0)
    assert [len(batch) for batch in widths] == [8, 4], "on a CPU four times what is enough, and no more"
    monkeypatch.setattr(likelihoods, "ENOUGH_TOKENS", 10_000)
    assert_same(continuation_likelihoods(tiny[0], requests, max_tokens_per_batch=1000, pad_id=0), found, 1e-4)


@pytest.mark.parametrize("budget", [10_000, 24])
def test_progress_counts_every_group_once(tiny, budget):
    """As a chain, as a tree, and as a tree above the budget, whose texts are read apart."""
    groups = [[Example((1, 2, 3), 1, 0)], [Example((1, 2, 3, *[n] * 9), 3, 0) for n in (4, 5, 6)]] * 2
    done: list[int] = []
    group_likelihoods(tiny[0], groups, max_tokens_per_batch=budget, pad_id=0, on_progress=done.append)
    assert sum(done) == len(groups) and min(done) >= 0
