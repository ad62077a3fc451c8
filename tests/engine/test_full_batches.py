"""Batches stay full: rows that go on wait with what they have read, and what they give is the same."""

from __future__ import annotations

import copy
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from pipeline_lib.core.errors import UserError
from pipeline_lib.engine import cache, full_batches, wanted
from pipeline_lib.engine.cache import last_states
from pipeline_lib.engine.full_batches import FREE, continue_rows
from pipeline_lib.engine.generation import generate, sample
from pipeline_lib.engine.settings import Decoding, Sampling
from pipeline_lib.engine.wanted import Generation, Rows, Wanted, ahead, columns, fitting
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
    monkeypatch.setattr(wanted, "keeping_cache", lambda config: None)
    with steps_of(model) as to_the_end:
        generate(model, prompts, Decoding(ends, PAD, budget), max_new_tokens=LIMIT)
    assert min(to_the_end[: len(to_the_end) // 2]) < whole // 2
    assert len(sizes) < 0.8 * len(to_the_end)


def test_rows_leave_where_answers_are_long_and_go_on_later(model, prompts, monkeypatch):
    """The shortest make room, no more of them than must, and all of it is used."""
    limit, budget, endless = 80, 400, [10**6]
    alone = generate(model, prompts, Decoding(endless, PAD, 1), max_new_tokens=limit)
    held, left = Ledger(monkeypatch), []
    own = full_batches._Batch.put_back

    def put_back(batch, budget):
        now = batch.now()
        left.append((out := own(batch, budget), batch.now()))
        assert sorted(row.number for part in left[-1] for row in part) == sorted(row.number for row in now)
        assert max((len(row.tokens) for row in out), default=0) <= min(len(r.tokens) for r in batch.now())
        assert not out or (len(batch.now()) + 1) * max(row.soon for row in now) > budget
        return out

    monkeypatch.setattr(full_batches._Batch, "put_back", put_back)
    with steps_of(model) as sizes:
        assert generate(model, prompts, Decoding(endless, PAD, budget), max_new_tokens=limit) == alone
    assert sum(bool(out) for out, _ in left) >= 3 and held.most <= budget
    assert max(sizes) == budget // (8 + ahead(limit)) > 3 * (budget // (8 + limit))
    whole = sum(sizes[: len(sizes) // 2]) / (len(sizes) // 2)
    assert whole > 1.2 * (budget // (8 + limit))

    sampling = Sampling(n=2, temperature=1.0, top_p=1.0)
    drawn = {"seeds": range(len(prompts)), "max_new_tokens": limit}
    assert sample(model, prompts, sampling, Decoding(endless, PAD, budget), **drawn) == sample(
        model, prompts, sampling, Decoding(endless, PAD, 1), **drawn
    )


def test_a_row_that_waits_keeps_no_states(model, prompts, monkeypatch):
    """They would lie outside the budget: it is read again when it joins."""
    decoding, room = Decoding([10**6], PAD, 44), 30
    texts = [prompts[i][:2] * 3 for i in range(3)]
    alone = generate(model, texts, Decoding([10**6], PAD, 1), max_new_tokens=room)
    read = []

    class All:
        def free(self, batch, budget):
            return 0 if read else 3

        def take(self, count):
            for i, text in enumerate(texts):
                with torch.no_grad():
                    cache = model(torch.tensor([text[:-1]]), use_cache=True).past_key_values
                states = last_states(cache, [(0, len(text) - 1)])[0]
                read.append(Wanted(i, i, text, room, len(text), states=states))
            return [*read]

    waited = []

    def fit(model, batch, rows, budget):
        waited.append([row.states for row in rows])
        return fitting(model, batch, rows, budget)

    monkeypatch.setattr(full_batches, "fitting", fit)
    found = continue_rows(model, All(), None, decoding, lambda done: None)
    assert [found[i] for i in range(3)] == alone
    assert all(waited[0]) and len(waited) > 1
    assert not any(states for own in waited[1:] for states in own)


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


def test_a_model_without_plain_states_runs_each_batch_to_its_end(prompts, ends):
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

    assert [ahead(limit) for limit in (0, 1, 16, 17, 64, 65, 200)] == [0, 1, 16, 16, 16, 17, 50]
    assert [row.soon for row in rows] == [26, 25, 18]
    assert [fit(budget) for budget in (1, 51, 52, 77, 78)] == [1, 1, 2, 2, 3]  # 26 each
    assert [fit(budget, beside=1) for budget in (51, 52, 78)] == [0, 1, 2]
    # no batch gets more columns than the budget has room for, unless a row needs them soon by itself
    assert [columns(model, rows, budget) for budget in (1, 78, 150, 180, 4096)] == [26, 26, 50, 60, 60]
    model.config.max_position_embeddings = 45
    assert [columns(model, rows, budget) for budget in (1, 150, 4096)] == [26, 45, 45]
    assert [fit(budget) for budget in (51, 4096)] == [1, 3]

    # where rows cannot join, a batch is as wide as its longest row and the highest limit
    monkeypatch.setattr(wanted, "keeping_cache", lambda config: None)
    assert [fit(budget) for budget in (1, 4096)] == [1, 1]  # 20 + 30 is more than the context
    model.config.max_position_embeddings = 55
    assert [fit(budget) for budget in (99, 100, 4096)] == [1, 2, 2]  # 20 + 40 is more
    model.config.max_position_embeddings = 60
    assert [fit(budget) for budget in (179, 180)] == [2, 3]
    assert columns(model, rows, 1) == 60


def test_rows_go_on_without_their_padding_where_room_is_used_up(model, prompts):
    """Each row needs 28 tokens, and 28 are all that the batch has: the longest leave none for the others."""
    limits = [1 + 5 * (i % 4) for i in range(8)]
    texts = [(prompts[i] * 28)[: 28 - limit] for i, limit in enumerate(limits)]
    endless = [10**6]
    alone = generate(model, texts, Decoding(endless, PAD, 1), max_new_tokens=limits)
    with steps_of(model) as sizes:
        assert generate(model, texts, Decoding(endless, PAD, 8 * 28), max_new_tokens=limits) == alone
    assert sum(sizes) == sum(limits) - 8  # no token is computed twice; the first ones come with the prompts


def test_new_rows_are_read_beside_rows_whose_states_are_known(model):
    """Also a prompt of a single token, of which nothing can be read before its first step."""
    decoding = Decoding([10**6], PAD, 4096)
    texts, room = [[9, 4], [5], [6, 7, 8]], 6
    alone = generate(model, texts, Decoding([10**6], PAD, 1), max_new_tokens=room)
    begun = [9, 4, *alone[0].tokens[:3]]
    with torch.no_grad():
        cache = model(torch.tensor([begun[:-1]]), use_cache=True).past_key_values
    (states,) = last_states(cache, [(0, len(begun) - 1)])
    rows = [
        Wanted(0, 0, begun, 3, 2, states=states),
        *(Wanted(i, i, texts[i], room, len(texts[i])) for i in (1, 2)),
    ]
    found = continue_rows(model, Rows(model, rows), None, decoding, lambda done: None)
    assert [found[i] for i in range(3)] == alone


class Ledger:
    """Keys and values that exist: those of the batch, and of rows that were read and wait."""

    def __init__(self, monkeypatch):
        self.most = 0
        own = cache.ReservedLayer.rearrange

        def rearrange(layer, kept, fresh, width, room):
            own(layer, kept, fresh, width, room)
            self.most = max(self.most, layer.buffers[0].shape[0] * layer.buffers[0].shape[2])

        monkeypatch.setattr(cache.ReservedLayer, "rearrange", rearrange)


@pytest.mark.parametrize("budget", [130, 260, 400])
def test_no_batch_holds_more_than_its_budget(model, prompts, ends, monkeypatch, budget):
    held = Ledger(monkeypatch)
    generate(model, prompts, Decoding(ends, PAD, budget), max_new_tokens=LIMIT)
    assert 0.5 * budget < held.most <= budget


@pytest.mark.parametrize("most", [1, 3, 5])
def test_a_batch_that_does_not_fit_is_given_up_once_and_loses_nothing(
    model, prompts, ends, monkeypatch, most
):
    decoding = Decoding(ends, PAD, 8 * (8 + LIMIT))
    sampling = Sampling(n=3, temperature=1.0, top_p=1.0)
    drawn = {"seeds": range(len(prompts)), "max_new_tokens": LIMIT}
    whole = generate(model, prompts, decoding, max_new_tokens=LIMIT)
    samples = sample(model, prompts, sampling, decoding, **drawn)
    step, tries = full_batches._Batch.step, []

    def limited(batch):
        tries.append(len(batch.running) > most and len(tries) > 4)  # not at the very beginning
        if tries[-1]:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return step(batch)

    monkeypatch.setattr(full_batches._Batch, "step", limited)
    assert generate(model, prompts, decoding, max_new_tokens=LIMIT) == whole
    assert 1 <= sum(tries) <= 3  # 8 rows, 4, 2, 1
    tries.clear()
    assert sample(model, prompts, sampling, decoding, **drawn) == samples

    tries.clear()
    select = full_batches._Batch._select

    def once(batch, rows):  # when answers have just ended
        tries.append(None)
        if len(tries) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        select(batch, rows)

    monkeypatch.setattr(full_batches._Batch, "step", step)
    monkeypatch.setattr(full_batches._Batch, "_select", once)
    assert generate(model, prompts, decoding, max_new_tokens=LIMIT) == whole
    assert len(tries) > 3

    def never(batch):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(full_batches._Batch, "step", never)
    with pytest.raises(UserError, match="a single example does not fit in memory"):
        generate(model, prompts, decoding, max_new_tokens=LIMIT)


def test_many_samples_of_one_prompt_fill_the_batch(model, prompts):
    """More samples than rows: those of a prompt that was begun join as places get free."""
    sampling = Sampling(n=25, temperature=1.0, top_p=1.0)
    common = list(range(2, 64, 3))  # a third of all tokens end an answer
    drawn = {"seeds": range(3), "max_new_tokens": LIMIT}
    alone = sample(model, prompts[:3], sampling, Decoding(common, PAD, 1), **drawn)
    with steps_of(model) as sizes:
        found = sample(model, prompts[:3], sampling, Decoding(common, PAD, 10 * (8 + LIMIT)), **drawn)
    assert found == alone
    last = max(place for place, size in enumerate(sizes) if size > 7)
    assert min(sizes[: last + 1]) >= 5
    assert sum(sizes) / len(sizes) > 6


def test_short_rows_join_a_long_one(model, prompts, ends):
    """The long row allows few beside it, which is no reason to let it run alone."""
    texts = [prompts[0] * 20, *prompts]
    texts[0] = texts[0][:36]
    limits = [LIMIT, *[6] * len(prompts)]
    endless = [10**6]
    alone = generate(model, texts, Decoding(endless, PAD, 1), max_new_tokens=limits)
    with steps_of(model) as sizes:
        assert generate(model, texts, Decoding(endless, PAD, 4 * 60), max_new_tokens=limits) == alone
    assert sizes[: LIMIT - 6] and min(sizes[: LIMIT - 6]) >= 3


def test_bf16_rows_join_too(model, prompts, ends):
    alone, together = (
        generate(model, prompts, Decoding(ends, PAD, budget, "bf16"), max_new_tokens=LIMIT)
        for budget in (1, 130)
    )
    assert sum(one == other for one, other in zip(alone, together, strict=True)) > len(prompts) / 2


def test_no_limit_gives_no_token(model):
    found = generate(model, [[5, 6], [7, 8], [9]], Decoding([10**6], PAD, 64), max_new_tokens=[0, 3, -2])
    assert [len(one.tokens) for one in found] == [0, 3, 0]
    assert found[0] == Generation([], False)
