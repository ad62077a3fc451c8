"""Tokens of context and continuation, windows and truncation, by hand."""

from __future__ import annotations

import pytest

from pipeline_lib.benchmarks.encoding import encode_pair, fit, rolling_pairs, text_tokens
from pipeline_lib.benchmarks.likelihoods import merge
from pipeline_lib.core.errors import UserError


class Words:
    """Words are tokens, a space belongs to the word after it; "in"+"to" is one token. 1 begins, 2 ends."""

    bos_token_id, eos_token_id = 1, 2
    begins, ends = True, False

    def __init__(self):
        self.ids = {}

    def encode(self, text, add_special_tokens):
        words = text.replace(" ", "| ").replace("into", "in-to").split("|")
        tokens = [3 + self.ids.setdefault(word, len(self.ids)) for word in words if word]
        if not add_special_tokens:
            return tokens
        return [1] * self.begins + tokens + [2] * self.ends

    def decode(self, tokens):
        return "<s>"


def test_spaces_at_the_end_belong_to_the_continuation():
    tokenizer = Words()
    assert encode_pair(tokenizer, "the cat ", "sat") == encode_pair(tokenizer, "the cat", " sat")
    given, scored = encode_pair(tokenizer, "the cat", " sat down")
    assert given == [1, *tokenizer.encode("the cat", False)]
    assert scored == tokenizer.encode(" sat down", False)


def test_what_merges_over_the_boundary_is_scored_as_one_text():
    """ "in" + "to x" is tokenised as "into x"; beyond the one token of "in" only " x" is left."""
    tokenizer = Words()
    given, scored = encode_pair(tokenizer, "in", "to x")
    assert given == [1, *tokenizer.encode("in", False)]
    assert scored == tokenizer.encode(" x", False)


@pytest.mark.parametrize("context", ["", " "])
def test_without_context_the_begin_token_stands_there(context):
    tokenizer = Words()
    assert encode_pair(tokenizer, context, "cat") == ([1], tokenizer.encode(context + "cat", False))


def test_begin_token_once():
    tokenizer = Words()
    assert text_tokens(tokenizer, "cat")[0] == 1
    assert text_tokens(tokenizer, "<s>cat") == tokenizer.encode("<s>cat", False)


def test_tokenizer_that_ends_every_text_is_refused():
    tokenizer = Words()
    tokenizer.ends = True
    with pytest.raises(UserError, match="add_eos_token"):
        encode_pair(tokenizer, "the", " cat")


def test_fit_cuts_the_context_from_the_left():
    # the last token is not read: with 4 positions 5 tokens fit
    assert fit(([1, 2, 3], [4, 5]), 4, "q") == (([1, 2, 3], [4, 5]), False)
    assert fit(([0, 1, 2, 3], [4, 5]), 4, "q") == (([1, 2, 3], [4, 5]), True)
    assert fit(([1, 2], [3, 4, 5, 6]), 4, "q") == (([2], [3, 4, 5, 6]), True)
    with pytest.raises(UserError, match="q: the continuation has 5 tokens, but the model reads 4"):
        fit(([1], [2, 3, 4, 5, 6]), 4, "q")
    with pytest.raises(UserError, match="q: nothing is left to score"):
        fit(([1], []), 4, "q")


def test_rolling_windows():
    """Ten tokens, four positions: each is predicted once, the last window looks further back."""
    assert rolling_pairs(range(10), 99, 4) == [
        ([99], [0, 1, 2, 3]),
        ([3], [4, 5, 6, 7]),
        ([5, 6, 7], [8, 9]),
    ]
    assert rolling_pairs([7, 8], 99, 4) == [([99], [7, 8])]
    assert rolling_pairs([], 99, 4) == []


def test_merge_neighbours_that_share_half():
    shared = list(range(300))
    pairs = [([*shared, 1000 + i], [5]) for i in range(4)]
    assert merge(pairs, 4096) == [[0, 1, 2, 3]]
    assert merge(pairs, 303) == [[0], [1], [2], [3]]  # no room for the two tokens of a second question
    assert merge(pairs, 304) == [[0, 1], [2, 3]]
    assert merge([([1, 2], [3]), ([1, 9, 9], [3])], 4096) == [[0], [1]]  # a quarter is not worth it
    long = [([*shared, *range(i, i + 250)], [5]) for i in (1000, 2000, 3000)]
    assert merge(long, 4096) == [[0, 1, 2]]  # 551 + 251 + 251 tokens, twice 551 at most
    assert merge([*long, ([*shared, *range(4000, 4250)], [5])], 4096) == [[0, 1, 2], [3]]
    # three questions with three choices each: the words of a question count once, 501 + 2 + 2 * (201 + 2)
    choices = [([*shared, *range(i, i + 200)], [c]) for i in (1000, 2000, 3000) for c in (5, 6, 7)]
    assert merge(choices, 4096) == [list(range(9))]
