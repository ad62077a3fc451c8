"""Trees of tokens: common beginnings once, and the greedy answer as far as they show it."""

from __future__ import annotations

import pytest
import torch

from pipeline_lib.data.batching import Example
from pipeline_lib.engine.trees import build_tree, greedy_beginning, tree_inputs

END = 0


def test_tree_merges_common_beginnings():
    # prompt 7 8; answers "1 2 3", "1 2 4", "5"
    tree = build_tree([Example((7, 8, *answer), 2, 0) for answer in ((1, 2, 3), (1, 2, 4), (5,))])
    assert tree.tokens == [7, 8, 1, 2]  # last tokens predict nothing
    assert tree.parents == [-1, 0, 1, 2]
    assert tree.depths == [0, 1, 2, 3]
    assert tree.paths == [([1, 2, 3], [1, 2, 3]), ([1, 2, 3], [1, 2, 4]), ([1], [5])]
    assert tree.is_chain


def test_tree_keeps_an_answer_that_begins_another():
    tree = build_tree([Example((7, 1, 2, 3), 1, 0), Example((7, 1, 2), 1, 0)])
    assert tree.tokens == [7, 1, 2]
    assert tree.paths == [([0, 1, 2], [1, 2, 3]), ([0, 1], [1, 2])]


def test_tree_needs_a_prompt():
    with pytest.raises(ValueError, match="prompt token"):
        build_tree([Example((1, 2), 0, 0)])


def test_branches_see_their_ancestors_only():
    # 7 then 1 2 or 3 4: nodes 7, 1, 2, 3, 4 and one of padding in the other tree
    tree = build_tree([Example((7, 1, 2, END), 1, 0), Example((7, 3, 4, END), 1, 0)])
    assert not tree.is_chain
    ids, positions, mask = tree_inputs([tree, build_tree([Example((9, 9, 9), 1, 0)])], 5, torch.float32)
    assert ids.tolist() == [[7, 1, 2, 3, 4], [9, 9, 5, 5, 5]]
    assert positions.tolist() == [[0, 1, 2, 1, 2], [0, 1, 0, 0, 0]]
    assert (mask[0, 0] == 0).long().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 0, 0, 1, 0],
        [1, 0, 0, 1, 1],
    ]


def test_chains_take_the_usual_mask():
    trees = [build_tree([Example((7, 1, 2), 1, 0)]), build_tree([Example((9, 9, 9, 9), 1, 0)])]
    _, _, mask = tree_inputs(trees, 5, torch.float32)
    assert mask.tolist() == [[1, 1, 0], [1, 1, 1]]


@pytest.mark.parametrize(
    ("texts", "predicted", "expected"),
    [
        ([[4, 5, END]], [[4, 5, END]], [4, 5, END]),  # known by heart
        ([[4, 5, END]], [[4, 6, END]], [4, 6]),  # leaves the text: what follows 6 is not known
        ([[4, 5, END]], [[9, 5, END]], [9]),
        ([[4, 5, 6, END], [4, 7, END]], [[4, 7, 1, 1], [4, 7, END]], [4, 7, END]),  # goes over to the other
        ([[4, 5, 6, END], [4, END]], [[4, END, 6, END], [4, END]], [4, END]),  # ends before the text does
        ([[4, 5]], [[4, 5]], [4, 5]),  # the text's last token is known too, though it has no end
    ],
)
def test_greedy_beginning(texts, predicted, expected):
    assert greedy_beginning(texts, predicted, frozenset([END])) == expected
