"""Batches stay full: rows that go on wait with what they have read, and what they give is the same."""

from __future__ import annotations

import copy
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from pipeline_lib.engine import full_batches
from pipeline_lib.engine.cache import states_taken
from pipeline_lib.engine.full_batches import FREE, Generation, Rows, Wanted, _columns, continue_rows, fitting
from pipeline_lib.engine.generation import generate, sample
from pipeline_lib.engine.settings import Decoding, Sampling
from tests.tiny import tiny_model

PAD, LIMIT = 0, 24


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def prompts():
    draw = np.random.default_rng(3)
    return [draw.integers(3, 60, size=draw.integers(1, 9)).tolist() for _ in range(19)]


@pytest.fixture(scope="module")
def ends(model, prompts):
    """Tokens that end more than half of the answers, at different steps, and not all of them."""
    answers = [
        found.tokens for found in generate(model, prompts, Decoding([10**6], PAD, 1), max_new_tokens=LIMIT)
    ]
    chosen = []
    for token in sorted({token for tokens in answers for token in tokens[2:12]}):
        if sum(bool({*chosen, token} & {*tokens}) for tokens in answers) <= 14:
            chosen.append(token)
    return chosen


@contextmanager
def steps_of(model):
    """Rows of each step of one token."""
    sizes = []
    handle = model.register_forward_pre_hook(
        lambda module, arguments, given: (
            sizes.append(len(given["input_ids"])) if given["input_ids"].shape[1] == 1 else None
        ),
        with_kwargs=True,
    )
    try:
        yield sizes
    finally:
        handle.remove()


def test_answers_are_those_of_one_row_at_a_time(model, prompts, ends):
    alone = generate(model, prompts, Decoding(ends, PAD, 1), max_new_tokens=LIMIT)
    assert 10 <= sum(found.ended for found in alone) < len(prompts)
    assert len({len(found.tokens) for found in alone if found.ended}) > 3
    for budget in (70, 130, 260, 4096):
        assert generate(model, prompts, Decoding(ends, PAD, budget), max_new_tokens=LIMIT) == alone


def test_steps_are_full_while_rows_are_left(model, prompts, ends, monkeypatch):
    budget = 260
    whole = budget // (8 + LIMIT)
    with steps_of(model) as sizes:
        generate(model, prompts, Decoding(ends, PAD, budget), max_new_tokens=LIMIT)
    last = max(place for place, size in enumerate(sizes) if size > (1 - FREE) * whole)
    assert min(sizes[: last + 1]) >= (1 - FREE) * whole
    monkeypatch.setattr(full_batches, "keeping_cache", lambda config: None)
    with steps_of(model) as to_the_end:
        generate(model, prompts, Decoding(ends, PAD, budget), max_new_tokens=LIMIT)
    assert min(to_the_end[: len(to_the_end) // 2]) < whole // 2
    assert len(sizes) < 0.8 * len(to_the_end)


def test_samples_are_those_of_one_row_at_a_time(model, prompts, ends):
    sampling = Sampling(n=3, temperature=1.0, top_p=1.0)

    def drawn(budget):
        return sample(
            model,
            prompts,
            sampling,
            Decoding(ends, PAD, budget),
            seeds=range(len(prompts)),
            max_new_tokens=LIMIT,
        )

    alone = drawn(1)
    assert len({len(found.tokens) for own in alone for found in own}) > 5
    for budget in (110, 260, 4096):
        assert drawn(budget) == alone


def test_a_model_that_keeps_no_plain_states_runs_each_batch_to_its_end(prompts, ends):
    sliding = copy.deepcopy(tiny_model())
    sliding.config.layer_types = ["sliding_attention"] * sliding.config.num_hidden_layers
    sliding.config.sliding_window = 64
    alone = generate(sliding, prompts, Decoding(ends, PAD, 1), max_new_tokens=LIMIT)
    with steps_of(sliding) as sizes:
        assert generate(sliding, prompts, Decoding(ends, PAD, 260), max_new_tokens=LIMIT) == alone
    assert 1 in sizes[: len(sizes) // 2]


def test_what_fits(monkeypatch):
    model = copy.deepcopy(tiny_model())
    lengths, limits = (10, 20, 2), (30, 5, 40)
    rows = [
        Wanted(i, i, [1] * length, limit, length)
        for i, (length, limit) in enumerate(zip(lengths, limits, strict=True))
    ]

    def fit(budget, beside=0):
        return fitting(model, rows[:beside], rows[beside:], budget)

    assert [fit(budget) for budget in (1, 79, 80, 125, 126)] == [1, 1, 2, 2, 3]  # 40 each, then 42
    assert [fit(budget, beside=1) for budget in (79, 80, 126)] == [0, 1, 2]
    # no batch gets more columns than the budget has room for, unless a row needs them by itself
    assert [_columns(model, rows, budget) for budget in (1, 126, 150, 180, 4096)] == [42, 42, 50, 60, 60]
    model.config.max_position_embeddings = 45
    assert [_columns(model, rows, budget) for budget in (1, 150, 4096)] == [42, 45, 45]
    assert [fit(budget) for budget in (79, 4096)] == [1, 3]

    # where rows cannot wait, a batch is as wide as its longest row and the highest limit
    monkeypatch.setattr(full_batches, "keeping_cache", lambda config: None)
    assert [fit(budget) for budget in (1, 4096)] == [1, 1]  # 20 + 30 is more than the context
    model.config.max_position_embeddings = 55
    assert [fit(budget) for budget in (99, 100, 4096)] == [1, 2, 2]  # 20 + 40 is more
    model.config.max_position_embeddings = 60
    assert [fit(budget) for budget in (179, 180)] == [2, 3]
    assert _columns(model, rows, 1) == 60


def test_rows_go_on_without_their_padding_where_room_is_used_up(model, prompts):
    """Each row needs 28 tokens, and 28 are all that the batch has: the longest leave none for the others."""
    limits = [1 + 5 * (i % 4) for i in range(8)]
    texts = [(prompts[i] * 28)[: 28 - limit] for i, limit in enumerate(limits)]
    endless = [10**6]
    alone = generate(model, texts, Decoding(endless, PAD, 1), max_new_tokens=limits)
    with steps_of(model) as sizes:
        assert generate(model, texts, Decoding(endless, PAD, 8 * 28), max_new_tokens=limits) == alone
    assert sum(sizes) == sum(limits) - 8  # no token is computed twice; the first ones come with the prompts


def test_rows_of_one_token_wait_for_others_states(model):
    """A fresh prompt of a single token has nothing to be read before its first step."""
    decoding = Decoding([10**6], PAD, 4096)
    alone = generate(model, [[5], [6, 7, 8]], decoding, max_new_tokens=6)
    (begun,) = generate(model, [[9, 4]], decoding, max_new_tokens=3)

    class Waiting(Rows):
        def __init__(self):
            super().__init__(model, [], decoding)
            self.turns = 0

        def take(self, batch):
            self.turns += 1
            return fresh if self.turns == 1 else []

    with torch.no_grad():
        cache = model(torch.tensor([[9, 4, *begun.tokens[:2]]]), use_cache=True).past_key_values
    tokens = [9, 4, *begun.tokens]
    (states,) = states_taken(cache, [(0, len(tokens) - 1)])
    fresh = [
        Wanted(0, 0, [5], 6, 1),
        Wanted(1, 1, [6, 7, 8], 6, 3),
        Wanted(2, 2, tokens, 3, 2, states=states),
    ]
    found = continue_rows(model, Waiting(), None, decoding, lambda done: None)
    (whole,) = generate(model, [[9, 4]], decoding, max_new_tokens=6)
    assert [found[0], found[1], found[2]] == [*alone, whole]
    assert isinstance(found[2], Generation)
