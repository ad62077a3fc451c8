"""The small model and its tokenizer: same seed same bits, no text lost, no random state touched."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_lib.models.scratch import SPECIALS, build_scratch
from tests.models.conftest import SETTINGS, TEXTS


def test_same_seed_same_bits_and_another_seed_differs():
    (a, tokenizer_a), (b, tokenizer_b), (c, tokenizer_c) = (
        build_scratch(SETTINGS, TEXTS, s) for s in (3, 3, 4)
    )
    assert tokenizer_a.backend_tokenizer.to_str() == tokenizer_b.backend_tokenizer.to_str()
    assert tokenizer_a.get_vocab() == tokenizer_c.get_vocab()
    pairs = list(zip(a.state_dict().values(), b.state_dict().values(), strict=True))
    assert all(torch.equal(x, y) for x, y in pairs)
    assert not torch.equal(a.get_input_embeddings().weight, c.get_input_embeddings().weight)


def test_global_random_state_is_left_alone_and_not_read():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, _ = build_scratch(SETTINGS, TEXTS, 0)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    second, _ = build_scratch(SETTINGS, TEXTS, 0)
    assert torch.equal(first.get_input_embeddings().weight, second.get_input_embeddings().weight)


def test_shape_follows_the_settings(scratch):
    model, tokenizer = scratch
    assert len(tokenizer) <= SETTINGS.vocab_size
    assert model.config.vocab_size == len(tokenizer) == model.get_input_embeddings().num_embeddings
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert model.config._attn_implementation == "sdpa"
    assert not model.training
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert [tokenizer.convert_tokens_to_ids(token) for token in SPECIALS] == [0, 1, 2, 3, 4]
    assert (tokenizer.pad_token, tokenizer.eos_token) == ("<pad>", "<eos>")
    assert (model.config.pad_token_id, model.config.eos_token_id) == (0, 2)


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_any_text_survives(scratch, text):
    tokenizer = scratch[1]
    ids = tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text
    assert not set(ids) & set(range(len(SPECIALS)))


def test_digits_stand_alone_and_words_carry_their_space(scratch):
    tokens = scratch[1].convert_ids_to_tokens(scratch[1].encode("born in 1956 in", add_special_tokens=False))
    assert tokens[-6:] == ["Ġ", "1", "9", "5", "6", "Ġin"]
