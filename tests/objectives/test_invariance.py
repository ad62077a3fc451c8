"""What must not change a loss or its gradient: padding, order, micro-batches, masked positions."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_lib.data.batching import IGNORED, Alternative, Example, collate, micro_batches
from pipeline_lib.objectives import OBJECTIVES
from tests.methods import changed
from tests.objectives.cases import CASES, WITHOUT_LOSS, alternatives_to, held, loss_and_gradient
from tests.tiny import Bigram, in_float64, make_examples, pad_right, tiny_model

# One answer at least has tokens after its first, which CE-U may leave out.
lengths = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 5)), min_size=1, max_size=5).map(
    lambda sizes: [(2, 3), *sizes]
)
quick = settings(max_examples=6)
every_objective = pytest.mark.parametrize("name", CASES)


def test_every_objective_is_held_to_these_properties():
    assert set(OBJECTIVES.kinds()) <= set(CASES) | WITHOUT_LOSS


@pytest.fixture(scope="module")
def models():
    """(model, reference model), in fp64."""
    return tiny_model(0, torch.float64), tiny_model(1, torch.float64)


def prepare(sizes):
    """Forget and as many retain examples; a reference NLL and an alternative for each forget row."""
    reference = torch.linspace(2.0, 20.0, len(sizes), dtype=torch.float64)
    forget = make_examples(sizes, 1)
    return forget, make_examples(sizes[::-1], 2), reference, alternatives_to(forget)


def assert_same(one, other):
    for name, value in one[0].items():
        expected = other[0][name]
        assert value == (None if expected is None else pytest.approx(expected, rel=1e-12, abs=1e-12))
    scale = float(one[1].abs().max())
    assert scale > 1e-3  # the comparison has teeth
    assert float((one[1] - other[1]).abs().max()) < 1e-12 * max(scale, 1)


@every_objective
@quick
@given(sizes=lengths, extra=st.integers(1, 9), token=st.integers(0, 63))
@in_float64()
def test_padding_on_the_right_and_its_tokens_change_nothing(models, name, sizes, extra, token):
    objective = CASES[name](held(models[1]))
    forget, retain, *more = prepare(sizes)
    plain = [collate(forget, 0, *more)], [collate(retain, 0)]
    padded = (
        [pad_right(collate(forget, token, *more), extra, token)],
        [pad_right(collate(retain, token), extra, token)],
    )
    assert_same(
        loss_and_gradient(objective, models[0], *plain), loss_and_gradient(objective, models[0], *padded)
    )


@every_objective
@quick
@given(sizes=lengths, seed=st.integers(0, 99))
@in_float64()
def test_order_in_the_batch_changes_nothing(models, name, sizes, seed):
    objective = CASES[name](held(models[1]))
    forget, retain, reference, alternatives = prepare(sizes)
    plain = [collate(forget, 0, reference, alternatives)], [collate(retain, 0)]
    source = random.Random(seed)
    order = source.sample(range(len(forget)), len(forget))
    mixed = (
        [collate([forget[i] for i in order], 0, reference, [alternatives[i] for i in order])],
        [collate(source.sample(retain, len(retain)), 0)],
    )
    assert_same(
        loss_and_gradient(objective, models[0], *plain), loss_and_gradient(objective, models[0], *mixed)
    )


@every_objective
@quick
@given(sizes=lengths, size=st.integers(1, 4))
@in_float64()
def test_micro_batches_add_up_to_the_large_batch(models, name, sizes, size):
    objective = CASES[name](held(models[1]))
    forget, retain, *more = prepare(sizes)
    whole = [collate(forget, 0, *more)], [collate(retain, 0)]
    pieces = micro_batches(forget, size, 0, *more), micro_batches(retain, size, 0)
    assert len(pieces[0]) == -(-len(sizes) // size)
    assert_same(
        loss_and_gradient(objective, models[0], *whole), loss_and_gradient(objective, models[0], *pieces)
    )


@every_objective
@in_float64()
def test_a_batch_that_weighs_nothing_adds_nothing(models, name):
    """Where one set has more micro-batches than the other, the other is filled up with such batches."""
    forget, retain, *more = prepare([(2, 3), (1, 1)])
    endless = {"tokens_in_step": math.inf, "examples_in_step": math.inf}
    batches = [[replace(collate(forget, 0, *more), **endless)], [replace(collate(retain, 0), **endless)]]
    losses, gradient = loss_and_gradient(CASES[name](held(models[1])), models[0], *batches)
    assert not gradient.any()
    assert set(losses.values()) <= {0.0, None}


@every_objective
@in_float64()
def test_only_positions_that_predict_an_answer_token_matter(name):
    """Tokens 0 and 1 stand in prompts and padding only: their rows of the table have no influence."""
    generator = torch.Generator().manual_seed(0)
    model = Bigram(torch.rand(6, 6, generator=generator).add(0.1).tolist())
    objective = CASES[name](held(Bigram(torch.rand(6, 6, generator=generator).add(0.1).tolist())))
    if name == "L1Sparse":  # its penalty looks at weights, not at positions
        objective = changed(objective, strength=0.0)
    prompts, answers = [(0, 1, 2), (1, 0, 0, 1, 3)], [(4, 5, 2), (5, 3)]  # the prompt's last token predicts
    others = [(3,), (2, 4, 5, 5)]

    def of(texts):
        return [Example((*prompts[row], *texts[row]), len(prompts[row]), row) for row in range(2)]

    alternatives = [Alternative(example, 2.0) for example in of(others)]
    batches = [collate(of(answers), 1, torch.tensor([3.0, 4.0]), alternatives)], [collate(of(answers), 0)]
    assert (batches[0][0].labels != IGNORED).sum() == 5

    before = loss_and_gradient(objective, model, *batches)
    assert not before[1].view(6, 6)[:2].any()
    assert before[1].view(6, 6)[[2, 3, 4, 5]].abs().max() > 1e-3
    with torch.no_grad():
        model.table[:2] = 50 * torch.randn(2, 6, generator=generator)
    after = loss_and_gradient(objective, model, *batches)
    assert before[0] == after[0]
    assert torch.equal(before[1], after[1])
