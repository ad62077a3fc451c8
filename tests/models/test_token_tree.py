"""Trees of tokens worked out by hand, and the two maps between nodes and texts with all their derivatives."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import forward_ad

from pipeline_lib.models.token_tree import TokenTree, build_tree, count_nodes

# 5 - 6 - 7, and 8 - 9 after the same 6; one text ends at that 6, and the last is the first again.
TEXTS = [[5, 6, 7], [5, 6, 8, 9], [5, 6], [5, 6, 7]]
NODES = [[0, 1, 2], [0, 1, 3, 4], [0, 1], [0, 1, 2]]
KINDS = {
    "a small tree": TEXTS,
    "rows that are all the same": [[3, 4]] * 3,
    "a text and its beginning": [[3, 4, 5], [3]],
    "a beginning and its text": [[3], [3, 4, 5]],
    "a single text": [[3, 3, 3]],
    "a single token": [[3]],
    "nothing in common": [[3, 4], [4, 3, 3]],
}
every_kind = pytest.mark.parametrize("texts", KINDS.values(), ids=KINDS)
texts_of_few_tokens = st.lists(
    st.lists(st.integers(0, 2), min_size=1, max_size=5), min_size=1, max_size=6
)  # so that most share a beginning


def matrices(texts: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """`spread` (B * T, N) and `pick` (N, B * T) from beginnings, which are what a node stands for."""
    width = max(map(len, texts))
    beginnings = {tuple(text[: end + 1]): None for text in texts for end in range(len(text))}
    numbers = {beginning: node for node, beginning in enumerate(beginnings)}
    spread = torch.zeros(len(texts) * width, len(numbers), dtype=torch.float64)
    for row, text in enumerate(texts):
        for end in range(len(text)):
            spread[row * width + end, numbers[tuple(text[: end + 1])]] = 1
    pick = torch.zeros_like(spread).T
    for node, column in enumerate(spread.T):
        pick[node, column.argmax()] = 1
    return spread, pick


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


@given(texts=texts_of_few_tokens)
def test_nodes_are_counted_without_the_tree(texts: list[list[int]]) -> None:
    assert count_nodes(texts) == len(build_tree(texts).tokens)


def test_by_hand() -> None:
    tree = build_tree(TEXTS)
    assert count_nodes(TEXTS) == 5
    assert tree.tokens.tolist() == [5, 6, 7, 8, 9]
    assert tree.depths.tolist() == [0, 1, 2, 2, 3]
    assert [row[: len(text)] for row, text in zip(tree.nodes.tolist(), TEXTS, strict=True)] == NODES
    # Places of 4 texts that are 4 wide: 0 to 3, 4 to 7, 8 to 11, 12 to 15.
    assert tree.first.tolist() == [0, 1, 2, 6, 7]
    assert tree.padding.tolist() == [3, 10, 11, 15]
    assert tree.not_first.tolist() == [3, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15]
    repeats = {len(places[0]): (nodes.tolist(), places.tolist()) for nodes, places in tree.repeats}
    assert repeats == {4: ([0, 1], [[0, 4, 8, 12], [1, 5, 9, 13]]), 2: ([2], [[2, 14]])}


def test_values_by_hand() -> None:
    tree = build_tree([[5, 6], [5]])
    of_nodes = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert tree.spread(of_nodes).tolist() == [[1, 2], [3, 4], [1, 2], [0, 0]]
    of_places = torch.tensor([[1.0], [2.0], [30.0], [40.0]])
    assert tree.pick(of_places).tolist() == [[1], [2]]


@given(texts_of_few_tokens)
def test_a_node_is_a_beginning(texts: list[list[int]]) -> None:
    tree = build_tree(texts)
    beginnings = {tuple(text[: end + 1]) for text in texts for end in range(len(text))}
    assert len(tree.tokens) == len(tree.depths) == len(beginnings)
    for text, nodes in zip(texts, tree.nodes.tolist(), strict=True):
        own = nodes[: len(text)]
        assert tree.tokens[own].tolist() == text
        assert tree.depths[own].tolist() == list(range(len(text)))
    by_first_use = [
        node for row, text in zip(tree.nodes.tolist(), texts, strict=True) for node in row[: len(text)]
    ]
    assert list(dict.fromkeys(by_first_use)) == list(range(len(beginnings)))


@given(texts_of_few_tokens)
def test_both_maps_and_their_transposes(texts: list[list[int]]) -> None:
    """Small whole numbers, so that every sum is exact."""
    tree, (spread, pick) = build_tree(texts), matrices(texts)
    for function, matrix in ((tree.spread, spread), (tree.pick, pick)):
        source = torch.randint(-9, 9, (matrix.shape[1], 3)).double().requires_grad_()
        found = function(source)
        assert torch.equal(found, matrix @ source)
        upstream = torch.randint(-9, 9, found.shape).double()
        (gradient,) = torch.autograd.grad(found, source, upstream)
        assert torch.equal(gradient, matrix.T @ upstream)


@every_kind
@pytest.mark.parametrize("name", ["spread", "pick"])
def test_derivatives_forwards_backwards_and_twice(texts: list[list[int]], name: str) -> None:
    tree = build_tree(texts)
    rows = len(tree.tokens) if name == "spread" else tree.nodes.numel()

    def cubed(source: torch.Tensor) -> torch.Tensor:  # a linear map alone has no second derivative
        return getattr(tree, name)(source**3)

    assert torch.autograd.gradcheck(cubed, random(rows, 2), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(cubed, random(rows, 2), check_fwd_over_rev=True)


def test_a_tangent_goes_with_its_value() -> None:
    tree, (spread, _) = build_tree(TEXTS), matrices(TEXTS)
    value, tangent = torch.randn(2, 5, 3, dtype=torch.float64)
    with forward_ad.dual_level():
        found = forward_ad.unpack_dual(tree.spread(forward_ad.make_dual(value, tangent)))
    assert torch.equal(found.primal, spread @ value) and torch.equal(found.tangent, spread @ tangent)


def test_a_source_that_is_not_contiguous() -> None:
    tree, (spread, pick) = build_tree(TEXTS), matrices(TEXTS)
    nodes, places = random(3, 5).T, random(3, 16).T
    assert torch.equal(tree.spread(nodes), spread @ nodes)
    assert torch.equal(tree.pick(places), pick @ places)
    upstream = random(3, 16).T
    (gradient,) = torch.autograd.grad(tree.spread(nodes), nodes, upstream)
    assert torch.allclose(gradient, spread.T @ upstream, rtol=1e-14)


def test_the_source_is_left_as_it_was() -> None:
    tree = build_tree(TEXTS)
    nodes, places = torch.ones(5, 2), torch.ones(16, 2)
    tree.spread(nodes).zero_()
    tree.pick(places).zero_()
    assert bool(nodes.all()) and bool(places.all())


def test_sums_over_many_texts_are_wide_in_bf16() -> None:
    """One after the other, ones in bf16 would add up to 256 and no further."""
    tree = build_tree([[3]] * 300)
    of_node = torch.zeros(1, 1, dtype=torch.bfloat16, requires_grad=True)
    tree.spread(of_node).sum().backward()
    assert of_node.grad is not None
    assert of_node.grad.dtype == torch.bfloat16 and float(of_node.grad) == 300


def test_padding_gives_no_gradient() -> None:
    """What is computed behind the end of a text reaches no node, also not the first, which fills its row."""
    tree = build_tree([[3, 4, 5], [3]])
    of_nodes = random(3, 1)
    upstream = torch.zeros(6, 1, dtype=torch.float64)
    upstream[[4, 5]] = float("nan")
    (gradient,) = torch.autograd.grad(tree.spread(of_nodes), of_nodes, upstream)
    assert gradient.tolist() == [[0], [0], [0]]


def test_all_of_it_moves() -> None:
    def devices(tree: TokenTree) -> set[str]:
        tensors = [getattr(tree, field.name) for field in fields(tree) if field.name != "repeats"]
        return {tensor.device.type for tensor in (*tensors, *(t for pair in tree.repeats for t in pair))}

    tree = build_tree(TEXTS)
    moved = tree.to("meta")
    assert devices(tree) == {"cpu"} and devices(moved) == {"meta"}
    assert [t.shape for pair in moved.repeats for t in pair] == [
        t.shape for pair in tree.repeats for t in pair
    ]


@pytest.mark.parametrize("texts", [[], [[]], [[3], []]])
def test_without_a_token_there_is_no_tree_of_it(texts: list[list[int]]) -> None:
    if texts and any(texts):  # an empty text beside others is all padding
        assert build_tree(texts).padding.tolist() == [1]
        return
    with pytest.raises((ValueError, RuntimeError, IndexError)):
        build_tree(texts)
