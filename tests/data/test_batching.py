"""Tokens, labels and groups of a batch, worked out by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline_lib.core.errors import UserError
from pipeline_lib.data.batching import (
    IGNORED,
    Alternative,
    Example,
    collate,
    draw_examples,
    micro_batches,
    token_budget_batches,
)
from pipeline_lib.models.prompt import PromptFormat
from tests.questions import encode
from tests.tiny import make_examples


class Letters:
    """A tokenizer of letters: a = 1, b = 2, ...; the end token is 99, and there are no other special ones."""

    eos_token_id = 99

    def __init__(self):
        self.added_tokens_decoder = {}

    def encode(self, text, add_special_tokens, split_special_tokens):
        return [ord(letter) - 96 for letter in text]

    def decode(self, ids, skip_special_tokens, clean_up_tokenization_spaces):
        return "".join(chr(number + 96) for number in ids)


FORMAT = PromptFormat("template", template="{prompt}z", answer_prefix="y")
X = IGNORED


def test_encode_and_collate_by_hand():
    first, second = encode(["ab", "c"], ["d", "efg"], Letters(), FORMAT, max_length=7)
    assert (first.tokens, first.prompt_length, first.index) == ((1, 2, 26, 25, 4, 99), 3, 0)
    assert (second.tokens, second.prompt_length, second.index) == ((3, 26, 25, 5, 6, 7, 99), 2, 1)
    assert (first.answer_length, second.answer_length) == (3, 5)

    batch = collate([first, second], pad_id=50, reference_nll=torch.tensor([1.5, 2.5, 3.5]))
    assert batch.input_ids.tolist() == [[1, 2, 26, 25, 4, 99, 50], [3, 26, 25, 5, 6, 7, 99]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1, 1]]
    assert batch.labels.tolist() == [[X, X, X, 25, 4, 99, X], [X, X, 25, 5, 6, 7, 99]]
    assert batch.index.tolist() == [0, 1] and batch.reference_nll.tolist() == [1.5, 2.5]
    assert batch.answer_tokens == batch.tokens_in_step == 8 and batch.examples_in_step == 2
    assert {batch.input_ids.dtype, batch.labels.dtype, batch.attention_mask.dtype} == {torch.int64}


def test_reference_values_follow_the_index():
    examples = encode(["a", "b", "c"], ["a", "b", "c"], Letters(), FORMAT, max_length=9)
    batch = collate([examples[2], examples[0]], 0, torch.tensor([10.0, 11.0, 12.0]))
    assert batch.reference_nll.tolist() == [12.0, 10.0]
    moved = batch.to("meta")
    names = ("input_ids", "attention_mask", "labels", "index", "reference_nll")
    assert {getattr(moved, name).device.type for name in names} == {"meta"}
    assert collate(examples, 0).to("cpu").reference_nll is None


def test_a_pad_token_inside_a_text_is_scored():
    (example,) = encode(["a"], ["bc"], Letters(), FORMAT, max_length=9)
    batch = collate([example], pad_id=3)  # c is 3
    assert batch.attention_mask.all() and batch.labels.tolist() == [[X, X, 25, 2, 3, 99]]


def test_a_pair_that_does_not_fit_is_an_error():
    assert len(encode(["abc"], ["de"], Letters(), FORMAT, max_length=8)) == 1
    with pytest.raises(
        UserError, match=r"record '1' needs 8 tokens but the context holds 7: 'abc'.*max_length"
    ):
        encode(["a", "abc"], ["b", "de"], Letters(), FORMAT, max_length=7)


def test_prompts_and_answers_must_pair_up():
    with pytest.raises(ValueError):
        encode(["a"], [], Letters(), FORMAT, max_length=9)


sizes = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=20)


@given(sizes, st.integers(1, 60))
def test_token_budget_holds_and_loses_nobody(lengths, budget):
    examples = make_examples(lengths)
    groups = token_budget_batches(examples, budget)
    assert sorted(e.index for group in groups for e in group) == list(range(len(examples)))
    for group in groups:
        assert len(group) == 1 or len(group) * max(len(e.tokens) for e in group) <= budget
    widths = [len(e.tokens) for group in groups for e in group]
    assert widths == sorted(widths, reverse=True)


def test_token_budget_by_hand():
    examples = make_examples([(1, 1), (1, 5), (1, 2), (1, 2), (2, 4)])  # 2, 6, 3, 3, 6 tokens
    groups = token_budget_batches(examples, 12)
    assert [[e.index for e in group] for group in groups] == [[1, 4], [2, 3, 0]]
    assert [len(group) for group in token_budget_batches(examples, 1)] == [1] * 5


@given(sizes, st.integers(1, 8))
def test_micro_batches_are_neighbours_in_length_and_count_the_whole_step(lengths, size):
    examples = make_examples(lengths)
    batches = micro_batches(examples, size, 0)
    assert [len(batch.index) for batch in batches[:-1]] == [size] * (len(batches) - 1)
    assert sorted(int(i) for batch in batches for i in batch.index) == list(range(len(examples)))
    widths = [int(width) for batch in batches for width in batch.attention_mask.sum(-1)]
    assert widths == sorted(widths)
    tokens = sum(answer for _, answer in lengths)
    assert {(b.tokens_in_step, b.examples_in_step) for b in batches} == {(tokens, len(examples))}
    assert sum(batch.answer_tokens for batch in batches) == tokens


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rows_of(batches):
    """index -> (tokens, labels of the answer, reference value) of each row."""
    return {
        int(batch.index[i]): (
            batch.input_ids[i][batch.attention_mask[i] == 1].tolist(),
            batch.labels[i][batch.labels[i] != IGNORED].tolist(),
            float(batch.reference_nll[i]),
        )
        for batch in batches
        for i in range(len(batch.index))
    }


@given(sizes, st.integers(1, 8), st.integers(1, 8), st.integers(0, 99))
def test_drawn_examples_are_a_smaller_step(lengths, size, count, seed):
    """Rows as they were, as many as asked for, with counts of their own; how the step was cut has no say."""
    examples, reference = make_examples(lengths), torch.arange(len(lengths)) / 2
    batches = micro_batches(examples, size, 0, reference)
    drawn = draw_examples(batches, count, generator(seed))
    found = rows_of(drawn)
    assert len(found) == sum(len(batch.index) for batch in drawn) == min(count, len(examples))
    assert found.items() <= rows_of(batches).items()
    assert found == rows_of(draw_examples(micro_batches(examples, 3, 9, reference), count, generator(seed)))
    tokens = sum(examples[i].answer_length for i in found)
    assert {(b.tokens_in_step, b.examples_in_step) for b in drawn} == {(tokens, len(found))}
    assert all(len(batch.index) <= size for batch in drawn)
    if count < len(examples):
        for batch in drawn:
            assert batch.input_ids.shape[1] == int(batch.attention_mask.sum(-1).max()), "no column of padding"
            assert not (batch.labels[batch.attention_mask == 0] != IGNORED).any()


def test_every_example_is_drawn_as_often_as_the_others():
    """4000 draws of 2 of 5: each 1600 times, with a standard deviation of 31."""
    batches, source = micro_batches(make_examples([(1, n) for n in range(1, 6)]), 2, 0), generator(0)
    drawn = [int(i) for _ in range(4000) for b in draw_examples(batches, 2, source) for i in b.index]
    assert all(abs(drawn.count(i) - 1600) < 4 * 31 for i in range(5))


def test_drawn_examples_keep_their_alternatives():
    examples = make_examples([(2, 2), (2, 3), (3, 1), (1, 4)])
    others = [other(example, *[7] * (i + 1), nll=float(i)) for i, example in enumerate(examples)]
    drawn = draw_examples(micro_batches(examples, 1, 0, None, others), 3, generator(3))
    assert len(drawn) == 3
    for batch in drawn:
        (i,) = batch.index.tolist()
        assert batch.alternative.index.tolist() == [i]
        assert batch.alternative.labels[batch.alternative.labels != IGNORED].tolist() == [7] * (i + 1)
        assert batch.alternative.reference_nll.tolist() == [i]
        assert batch.alternative.tokens_in_step == sum(b.alternative.answer_tokens for b in drawn)


def other(example: Example, *answer: int, nll: float | None = None) -> Alternative:
    tokens = (*example.tokens[: example.prompt_length], *answer)
    return Alternative(Example(tokens, example.prompt_length, example.index), nll)


def test_alternatives_go_row_by_row_with_their_examples():
    examples = [Example((7, 8, 9, 5, 2), 3, 0), Example((4, 6, 2), 1, 1), Example((3, 5, 2), 2, 2)]
    alternatives = [
        other(examples[0], 2, nll=1.0),
        other(examples[1], 8, 2, nll=2.0),
        other(examples[2], 6, 6, 2, nll=4.0),
    ]
    batch = collate(examples, 0, torch.tensor([1.5, 2.5, 3.5]), alternatives)
    assert batch.tokens_in_step == 2 + 2 + 1 and batch.examples_in_step == 3
    assert batch.alternative.input_ids.tolist() == [[7, 8, 9, 2, 0], [4, 8, 2, 0, 0], [3, 5, 6, 6, 2]]
    assert batch.alternative.labels.tolist() == [[X, X, X, 2, X], [X, 8, 2, X, X], [X, X, 6, 6, 2]]
    assert batch.alternative.reference_nll.tolist() == [1, 2, 4]
    assert batch.alternative.tokens_in_step == 1 + 2 + 3 and batch.alternative.examples_in_step == 3
    assert batch.alternative.alternative is None
    moved = batch.to("meta")
    assert {moved.alternative.labels.device.type, moved.alternative.reference_nll.device.type} == {"meta"}

    short, long = micro_batches(examples, 2, 0, torch.tensor([1.5, 2.5, 3.5]), alternatives)  # 1 2, 0
    assert (short.index.tolist(), long.index.tolist()) == ([1, 2], [0])
    assert short.alternative.index.tolist() == [1, 2]
    assert (short.reference_nll.tolist(), short.alternative.reference_nll.tolist()) == ([2.5, 3.5], [2, 4])
    assert long.alternative.input_ids.tolist() == [[7, 8, 9, 2]]
    assert {(b.tokens_in_step, b.examples_in_step) for b in (short, long)} == {(5, 3)}
    assert {(b.alternative.tokens_in_step, b.alternative.examples_in_step) for b in (short, long)} == {(6, 3)}


def test_alternatives_without_reference_values():
    (example,) = make_examples([(2, 2)])
    batch = collate([example], 0, None, [other(example, 5, 2)])
    assert batch.alternative.reference_nll is None
    assert collate([example], 0).alternative is None


def test_alternatives_that_do_not_fit_the_examples_are_an_error():
    examples = make_examples([(2, 2), (2, 3)])
    pair = [other(example, 5, 2) for example in examples]
    for wrong in (pair[:1], pair[::-1]):
        with pytest.raises(ValueError, match="one alternative to each example, in the same order"):
            collate(examples, 0, None, wrong)
    half = [pair[0], other(examples[1], 5, 2, nll=1.0)]
    with pytest.raises(ValueError, match="1 of 2 alternatives have a reference NLL"):
        collate(examples, 0, None, half)
