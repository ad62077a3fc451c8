"""Drawn answers: the right distribution, the smallest nucleus, and randomness that is each sample's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from pipeline_lib.core.errors import UserError
from pipeline_lib.engine import choosing, full_batches
from pipeline_lib.engine.choosing import draw, nucleus
from pipeline_lib.engine.generation import generate, sample
from pipeline_lib.engine.settings import Decoding, Sampling
from pipeline_lib.engine.wanted import Generation
from tests.engine.test_generation import prompts_of
from tests.tiny import END, PAD, tiny_model

P = [0.4, 0.1, 0.3, 0.2]  # by hand: the nucleus of 0.5 is {0, 2}, of 0.7 as well, of 0.75 {0, 2, 3}


def logits(p=P):
    return torch.tensor([p]).log()


def run(model, prompts, seeds=None, budget=4096, n=3, limit=6, **options):
    seeds = list(range(len(prompts))) if seeds is None else seeds
    sampling = Sampling(**{"n": n, "temperature": 1.0, "top_p": 0.9, **options})
    decoding = Decoding([END], PAD, budget)
    return sample(model, prompts, sampling, decoding, seeds=seeds, max_new_tokens=limit)


@pytest.mark.parametrize(
    ("top_p", "kept"),
    [
        (1e-6, [0]),  # the first always
        (0.4, [0]),  # its mass is enough
        (0.41, [0, 2]),
        (0.69, [0, 2]),
        (0.71, [0, 2, 3]),
        (0.95, [0, 1, 2, 3]),
    ],
)
def test_the_nucleus_is_the_smallest_set_of_enough_mass(top_p, kept):
    assert nucleus(torch.tensor([P]), top_p)[0].nonzero()[:, 0].tolist() == kept


def test_a_flat_distribution_needs_more_than_the_likely_tokens(monkeypatch):
    p = torch.stack([torch.softmax(torch.linspace(0, 1, 50), 0), torch.tensor([0.999, *[0.001 / 49] * 49])])
    whole = nucleus(p, 0.8)
    monkeypatch.setattr(choosing, "LIKELY", 4)  # row 0 has 0.8 only far beyond its four likeliest tokens
    assert torch.equal(nucleus(p, 0.8), whole)
    assert whole.sum(-1)[0] > 30 and whole.sum(-1)[1] == 1


@pytest.mark.parametrize(
    ("temperature", "top_p", "expected"),
    [
        (1.0, 1.0, P),
        (1.0, 0.6, [4 / 7, 0, 3 / 7, 0]),
        (0.5, 1.0, [16 / 30, 1 / 30, 9 / 30, 4 / 30]),  # p squared, normalised
        (2.0, 0.5, [0.4**0.5 / (0.4**0.5 + 0.3**0.5), 0, 0.3**0.5 / (0.4**0.5 + 0.3**0.5), 0]),
    ],
)
def test_every_random_number_lands_on_its_token(temperature, top_p, expected):
    """Exact: a grid over [0, 1) hits each token as often as its probability says."""
    grid = (torch.arange(40_000, dtype=torch.float64) + 0.5) / 40_000
    found = draw(logits().expand(len(grid), -1), grid, temperature, top_p)
    shares = torch.bincount(found, minlength=4).double() / len(grid)
    assert shares.tolist() == pytest.approx(expected, abs=1e-4)
    assert found.tolist() == sorted(found.tolist())  # the inverse of a distribution function


def test_the_ends_of_the_unit_interval_stay_inside_the_nucleus():
    ends = torch.tensor([0.0, np.nextafter(1.0, 0.0)], dtype=torch.float64)
    p = [0.0, 0.3, 0.4, 0.3, 0.0]
    assert draw(logits(p).expand(2, -1), ends, 1.0, 1.0).tolist() == [1, 3]


def test_first_tokens_follow_the_models_own_distribution():
    """Chi-square of 4000 samples against softmax(logits / T) of the model's whole forward pass."""
    model, prompt = tiny_model(), [1, 7, 9]
    with torch.no_grad():
        p = (model(input_ids=torch.tensor([prompt])).logits[0, -1].double() / 1.5).softmax(-1)
    drawn = run(model, [prompt], n=4000, limit=1, temperature=1.5, top_p=1.0, budget=10_000)[0]
    firsts = [result.tokens[0] if result.tokens else END for result in drawn]
    counts = np.bincount(firsts, minlength=len(p))
    often = (4000 * p >= 5).numpy()
    observed = [*counts[often], counts[~often].sum()]
    expected = [*(4000 * p.numpy()[often]), 4000 * p.numpy()[~often].sum()]
    assert chisquare(observed, expected).pvalue > 0.01
    assert len(observed) > 5


def test_later_tokens_follow_the_distribution_after_their_own_beginning():
    """The first sampled token sends rows to different places of the repeated cache."""
    model, prompt = tiny_model(), [1, 7, 9]
    for result in run(model, [prompt], n=12, limit=5, top_p=1e-9)[0]:  # greedy, in effect
        greedy = generate(model, [prompt], Decoding([END], PAD, 100), max_new_tokens=5)
        assert result == greedy[0]
    uniforms = [np.random.default_rng([0, k]).random(4) for k in range(6)]
    for result, numbers in zip(run(model, [prompt], n=6, limit=4, top_p=0.9)[0], uniforms, strict=True):
        tokens = list(prompt)
        for number in numbers:  # the plain way: one sequence, no cache
            with torch.no_grad():
                last = model(input_ids=torch.tensor([tokens])).logits[:, -1].float()
            token = int(draw(last, torch.tensor([number]), 1.0, 0.9))
            if token == END:
                break
            tokens.append(token)
        assert result.tokens == tokens[len(prompt) :]


def test_a_sample_is_its_seeds_own(tiny, records):
    model, prompts = tiny[0], prompts_of(tiny, records)
    whole = run(model, prompts, n=3)
    assert run(model, prompts, n=3, budget=1) == whole  # one row a batch
    assert run(model, prompts, n=3, budget=300) == whole
    assert run(model, prompts[::-1], list(range(len(prompts)))[::-1], n=3)[::-1] == whole
    assert run(model, prompts[2:3], [2], n=3) == whole[2:3]
    assert run(model, prompts, n=2) == [samples[:2] for samples in whole]
    assert [[s.tokens[:3] for s in few] for few in run(model, prompts, limit=3)] == [
        [s.tokens[:3] for s in many] for many in whole
    ]
    assert run(model, prompts, [5] * len(prompts), n=3) != whole
    assert len({tuple(s.tokens) for samples in whole for s in samples}) > len(prompts)


def test_the_prompt_is_computed_once(tiny, records):
    model, prompts = tiny[0], prompts_of(tiny, records)
    shapes = []
    handle = model.register_forward_pre_hook(
        lambda module, arguments, options: shapes.append(tuple(options["input_ids"].shape)), with_kwargs=True
    )
    try:
        run(model, prompts, n=4, limit=3)
    finally:
        handle.remove()
    assert shapes[0] == (len(prompts), max(map(len, prompts)))
    assert shapes[1] == (4 * len(prompts), 1)


def test_a_prompts_samples_stay_in_one_batch_where_they_fit(tiny, records):
    model, prompts = tiny[0], prompts_of(tiny, records)
    room = max(map(len, prompts)) + 6
    wide = []
    handle = model.register_forward_pre_hook(
        lambda module, arguments, options: wide.append(tuple(options["input_ids"].shape)), with_kwargs=True
    )
    try:
        run(model, prompts, n=3, limit=6, budget=5 * room)  # five rows fit: one prompt a batch, not 1 2/3
    finally:
        handle.remove()
    assert sum(rows for rows, width in wide if width > 1) == len(prompts)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": 0.0}, "temperature must be above 0, found 0.0; greedy"),
        ({"top_p": 0.0}, "top_p must be above 0 and at most 1, found 0.0"),
        ({"top_p": 1.1}, "top_p must be above 0 and at most 1, found 1.1"),
        ({"n": 0}, "number of samples must be at least 1, found 0"),
    ],
)
def test_settings_that_cannot_work_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        run(tiny_model(), [[1, 7]], **change)


def test_running_out_of_memory_changes_no_sample(tiny, records, monkeypatch):
    model, prompts = tiny[0], prompts_of(tiny, records)
    whole = run(model, prompts)
    original = full_batches._Batch.step

    def at_most_two(batch):
        if len(batch.running) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(batch)

    monkeypatch.setattr(full_batches._Batch, "step", at_most_two)
    assert run(model, prompts) == whole
    assert isinstance(whole[0][0], Generation)
