"""How a step's rows are shared: each row once, as many passes everywhere, and nothing for stand-ins."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from pipeline_lib.curvature.gauss_newton import chances
from pipeline_lib.data.batching import Alternative, micro_batches
from pipeline_lib.distributed.group import ALONE, Group
from pipeline_lib.distributed.pieces import pieces, weightless
from pipeline_lib.models.forward import answer_logits
from tests.methods import make_objective
from tests.tiny import PAD, random_examples, tiny_model


def member(rank: int, size: int) -> Group:
    """A group of which only rank and size matter."""
    group = Group()
    group.rank, group.size = rank, size
    return group


def batches(rows: int, size: int):
    examples = random_examples(rows, 4)
    others = [Alternative(example, float(example.index)) for example in random_examples(rows, 5)]
    return micro_batches(examples, size, PAD, torch.arange(float(rows)), others)


@pytest.mark.parametrize("rows, size", [(8, 2), (7, 2), (6, 6), (5, 3), (3, 1), (2, 2)])
@pytest.mark.parametrize("processes", [2, 3, 4])
def test_each_row_is_in_one_piece_with_all_that_belongs_to_it(rows, size, processes):
    whole = batches(rows, size)
    shares = [pieces(whole, member(rank, processes)) for rank in range(processes)]
    assert len({len(share) for share in shares}) == 1  # as many passes in every process
    seen: Counter = Counter()
    for piece in (piece for share in shares for piece in share):
        if not piece.counts:
            assert piece.batch.tokens_in_step == piece.batch.alternative.tokens_in_step == float("inf")
            continue
        batch, source = piece.batch, whole[piece.source]
        assert (batch.tokens_in_step, batch.examples_in_step) == (
            source.tokens_in_step,
            source.examples_in_step,
        )
        for place, row in enumerate(batch.index.tolist()):
            seen[row] += 1
            at = source.index.tolist().index(row)
            assert torch.equal(batch.input_ids[place], source.input_ids[at])
            assert torch.equal(batch.labels[place], source.labels[at])
            assert float(batch.reference_nll[place]) == row
            assert int(batch.alternative.index[place]) == row
            assert float(batch.alternative.reference_nll[place]) == row
    assert seen == Counter(range(rows))


@pytest.mark.parametrize("processes", [2, 3])
def test_what_is_drawn_for_a_token_does_not_depend_on_the_number_of_processes(processes):
    """`answers` finds the numbers of a piece's tokens among those of its whole micro-batch."""
    model = tiny_model()
    whole = batches(5, 3)
    generator = torch.Generator().manual_seed(1)
    drawn = [chances(batch, generator) for batch in whole]
    expected = {
        (source, int(batch.index[row]), i): float(value)
        for source, batch in enumerate(whole)
        for i, (row, value) in enumerate(zip(answer_logits(model, batch)[2], drawn[source], strict=True))
    }
    found = []
    for piece in (piece for rank in range(processes) for piece in pieces(whole, member(rank, processes))):
        rows = piece.batch.index[answer_logits(model, piece.batch)[2]].tolist()
        places = drawn[piece.source] if piece.answers is None else drawn[piece.source][piece.answers]
        assert len(rows) == len(places)
        if piece.counts:
            found += [(piece.source, row, float(value)) for row, value in zip(rows, places, strict=True)]
    assert sorted(found) == sorted((source, row, value) for (source, row, _), value in expected.items())


def test_one_process_has_the_batches_themselves():
    whole = batches(5, 2)
    assert all(piece.batch is batch for piece, batch in zip(pieces(whole, ALONE), whole, strict=True))


def test_a_weightless_batch_adds_nothing():
    model = tiny_model()
    batch = weightless(batches(2, 2)[0])
    losses = make_objective("DPO", beta=0.1, alpha=1.0, alternatives="records")(model, batch, batch)
    losses.total.backward()
    assert float(losses.total) == 0
    assert not any(bool(p.grad.any()) for p in model.parameters())
