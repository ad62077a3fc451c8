"""What a step's forget batches hold: drawn alternatives, reference numbers of just these, other labels."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch

from pipeline_lib.data.batching import IGNORED
from pipeline_lib.models.forward import summed_nll
from pipeline_lib.steps import objective_data
from pipeline_lib.steps.objective_data import with_reference_nll
from pipeline_lib.training.batches import MiniBatches, WholeSets
from pipeline_lib.training.data import drawn, drawn_pairs, forget_batches, forget_examples
from tests.tiny import make_examples, random_examples, tiny_model
from tests.training.every import objective_of
from tests.training.runs import data, settings

ROWS = 6


def plan(paired, **changes):
    """Alternative p of row i begins with the token 10 p + i; rows have 1, 2, 3, 1, 2 and 3 of them."""
    options = [
        [type(e)((10 * p + i, *e.tokens), e.prompt_length + 1, i) for p in range(1 + i % 3)]
        for i, e in enumerate(make_examples([(3, 1 + i) for i in range(ROWS)]))
    ]
    return data(forget=ROWS, forget_alternatives=options, paired=paired, **changes)


def test_draws_follow_from_seed_and_step_and_are_even():
    sets, rows = plan(True), list(range(ROWS))
    assert drawn(sets, rows, 4, 0) == drawn(sets, rows, 4, 0)
    draws = [drawn(sets, rows, step, 0) for step in range(300)]
    assert draws != [drawn(sets, rows, step, 1) for step in range(300)]
    for row in rows:
        counts = Counter(draw[row] for draw in draws)
        share = 300 / (1 + row % 3)
        assert set(counts) == set(range(1 + row % 3)), row
        assert all(abs(count - share) < 50 for count in counts.values()), row  # 6 sigma of 300 at 1/3


@pytest.mark.parametrize("size", [1, 4])
def test_pairs_stand_row_by_row_with_counts_of_the_step(size):
    sets = plan(True, reference_nll=torch.arange(6.0))
    numbers = {(row, pick): 100.0 * pick + row for row in range(6) for pick in range(3)}
    sets = replace(sets, alternative_nll=numbers)
    rows = [4, 1, 2, 5]
    batches = forget_batches(sets, rows, 7, 0, size)
    picks = dict(zip(rows, drawn(sets, rows, 7, 0), strict=True))
    assert sorted(int(i) for batch in batches for i in batch.index) == sorted(rows)
    for batch in batches:
        other = batch.alternative
        assert other.index.tolist() == batch.index.tolist()
        assert batch.reference_nll.tolist() == [float(row) for row in batch.index.tolist()]
        for row, tokens, number in zip(
            other.index.tolist(), other.input_ids.tolist(), other.reference_nll.tolist(), strict=True
        ):
            assert tokens[0] == 10 * picks[row] + row
            assert number == 100.0 * picks[row] + row
        assert other.examples_in_step == batch.examples_in_step == 4
        assert other.tokens_in_step == sum(b.alternative.answer_tokens for b in batches)
        assert batch.tokens_in_step == sum(b.answer_tokens for b in batches)


def test_alternatives_in_place_of_answers_bring_their_own_numbers():
    sets = replace(
        plan(False), alternative_nll={(row, p): 100.0 * p + row for row in range(6) for p in range(3)}
    )
    for batch in forget_batches(sets, [3, 2, 5], 1, 0, 2):
        assert batch.alternative is None
        for row, tokens, number in zip(
            batch.index.tolist(), batch.input_ids.tolist(), batch.reference_nll.tolist(), strict=True
        ):
            pick, found = divmod(tokens[0], 10)
            assert (found, number) == (row, 100.0 * pick + row)


@pytest.mark.parametrize("one_shot", [False, True])
def test_numbers_are_those_of_the_pairs_that_the_run_draws_and_no_others(one_shot, monkeypatch):
    asked = []
    original = objective_data.summed_nll
    monkeypatch.setattr(
        objective_data,
        "summed_nll",
        lambda model, batch: asked.append(len(batch.index)) or original(model, batch),
    )
    model, cut, sets = tiny_model(), settings(epochs=2), plan(True)
    walk = MiniBatches(sets, cut, 3)
    whole = WholeSets(sets, cut, 3, objective_of("DPO"))
    done = with_reference_nll(model, sets, whole if one_shot else walk)
    steps = [(list(range(ROWS)), 0)]
    if not one_shot:
        steps = [(walk.forget_rows(step), step) for step in range(walk.steps)]
        for _, step in steps:  # every number that a step wants is there
            for batch in MiniBatches(done, cut, 3).batches(step)[0]:
                with torch.no_grad():
                    expected = summed_nll(model, batch.alternative)
                assert torch.allclose(batch.alternative.reference_nll, expected, rtol=1e-5)
                with torch.no_grad():
                    assert torch.allclose(batch.reference_nll, summed_nll(model, batch), rtol=1e-5)
    pairs = drawn_pairs(sets, steps, 3)
    assert sorted(done.alternative_nll) == pairs == sorted(set(pairs))
    assert len(pairs) < sum(len(options) for options in sets.forget_alternatives)
    assert sum(asked) == ROWS + len(pairs)  # each once


def test_other_labels_stand_where_the_answers_did():
    sets = data(forget=4)
    wanted = [[10 * i + k for k in range(e.answer_length)] for i, e in enumerate(sets.forget)]
    plain, other = sets, replace(sets, forget_labels=wanted)
    for size in (1, 3):
        pairs = zip(forget_batches(plain, range(4), 0, 0, size), forget_batches(other, range(4), 0, 0, size),
                    strict=True)  # fmt: skip
        for before, after in pairs:
            assert torch.equal(before.input_ids, after.input_ids)
            for row, old, new in zip(before.index.tolist(), before.labels, after.labels, strict=True):
                assert new[old != IGNORED].tolist() == wanted[row]
                assert (new[old == IGNORED] == IGNORED).all()
    with pytest.raises(ValueError, match="expected 3 labels for this batch, got 2"):
        short = replace(sets, forget=make_examples([(2, 3)]), forget_labels=[[1, 2]])
        forget_batches(short, [0], 0, 0, 1)


def test_without_alternatives_the_answers_are_learned():
    sets = data(forget=4)
    assert forget_examples(sets, [2, 0], 5, 0) == [random_examples(4, 1)[2], random_examples(4, 1)[0]]


def test_the_draws_are_those_of_every_version():
    """Runs of earlier versions drew these; 5, 7, 11 and 13 alternatives have a common multiple of 5005."""
    options = [make_examples([(2, 1)] * n) for n in (5, 7, 11, 13)]
    sets = data(forget=4, forget_alternatives=options, paired=False)
    found = [drawn(sets, [0, 1, 2, 3], step, 9) for step in range(3)]
    assert found == [
        [0, 3, 4, 11],
        [0, 0, 7, 5],
        [2, 3, 1, 0],
    ]


def test_numbers_of_alternatives_without_a_common_multiple_in_64_bits():
    counts = [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53]
    sets = data(forget=16, forget_alternatives=[make_examples([(2, 1)] * n) for n in counts], paired=False)
    picks = drawn(sets, list(range(16)), 0, 0)
    assert all(0 <= pick < count for pick, count in zip(picks, counts, strict=True)) and len(set(picks)) > 5
