"""Texts that begin alike, as one tree of tokens: what they share is read once, and nothing is padded.

Row `b` of a batch is a path from the tree's beginning, so a node knows all that its token attends to. Linear
layers see the N nodes. Attention sees the texts as they are, (B, T): `spread` lays the nodes out in rows and
its derivative adds up what the rows of one node ask of it; `pick` takes each node's result from the first row
that it stands in. All of it is copies and sums in a fixed order, forwards and backwards: the same bits on
every call, and the plain reading up to the order of rounding.

Shapes: N nodes, B texts, T tokens of the longest text, F features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import takewhile
from typing import Any

import torch


@dataclass(frozen=True)
class TokenTree:
    """`repeats`: nodes (S,) that stand in k rows each, and the places (S, k) where, one pair for each k > 1.

    A place counts through (B, T) row by row. What is computed behind a text's end is
    thrown away.
    """

    tokens: torch.Tensor  # (N,) int64
    depths: torch.Tensor  # (N,) int64, the place of each token in its texts
    nodes: torch.Tensor  # (B, T) int64, the node of each token
    first: torch.Tensor  # (N,) int64, the first place of each node
    not_first: torch.Tensor  # (B * T - N,) int64, the other places
    padding: torch.Tensor  # int64, those of them behind a text's end
    repeats: tuple[tuple[torch.Tensor, torch.Tensor], ...]

    def to(self, device: torch.device | str) -> TokenTree:
        moved = {
            field.name: value.to(device)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), torch.Tensor)
        }
        repeats = tuple((nodes.to(device), places.to(device)) for nodes, places in self.repeats)
        return replace(self, **moved, repeats=repeats)

    def spread(self, of_nodes: torch.Tensor) -> torch.Tensor:
        """(N, F) -> (B * T, F): each place has its node's row, padding has 0."""
        return _Spread.apply(of_nodes, self)

    def pick(self, of_places: torch.Tensor) -> torch.Tensor:
        """(B * T, F) -> (N, F): each node has the row of its first place."""
        return _Pick.apply(of_places, self)


def build_tree(texts: Sequence[Sequence[int]]) -> TokenTree:
    """The tree of these texts, each of at least one token; its nodes are in the order of the texts."""
    children: dict[tuple[int, int], int] = {}
    tokens: list[int] = []
    depths: list[int] = []
    rows: list[list[int]] = []
    width = max(map(len, texts))
    places: list[list[int]] = []
    for row, text in enumerate(texts):
        path, node = [], -1
        for depth, token in enumerate(text):
            key = (node, token)
            node = children.setdefault(key, len(tokens))
            if node == len(tokens):
                tokens.append(token)
                depths.append(depth)
                places.append([])
            places[node].append(row * width + depth)
            path.append(node)
        rows.append(path + [0] * (width - len(path)))
    first = torch.tensor([own[0] for own in places])
    other = torch.ones(len(texts) * width, dtype=torch.bool)
    other[first] = False
    padding = torch.arange(width) >= torch.tensor([[len(text)] for text in texts])  # (B, T)
    alike: dict[int, list[int]] = {}
    for node, own in enumerate(places):
        if len(own) > 1:
            alike.setdefault(len(own), []).append(node)
    repeats = tuple(
        (torch.tensor(nodes), torch.tensor([places[node] for node in nodes])) for nodes in alike.values()
    )
    return TokenTree(
        torch.tensor(tokens),
        torch.tensor(depths),
        torch.tensor(rows),
        first,
        other.nonzero()[:, 0],
        padding.flatten().nonzero()[:, 0],
        repeats,
    )


def count_nodes(texts: Sequence[Sequence[int]]) -> int:
    """How many nodes `build_tree` makes of these texts."""
    total, before = 0, tuple[int, ...]()
    for text in sorted(map(tuple, texts)):
        alike = (one == other for one, other in zip(text, before, strict=False))
        total += len(text) - sum(takewhile(bool, alike))
        before = text
    return total


class _Linear(torch.autograd.Function):
    """A linear map that a tree gives; gradients go through the `transposed` one, so all derivatives exist."""

    transposed: type[_Linear]
    value: Callable[[torch.Tensor, TokenTree], torch.Tensor]  # the map itself

    @classmethod
    def forward(cls, ctx: Any, of: torch.Tensor, tree: TokenTree) -> torch.Tensor:
        ctx.tree = tree
        return cls.value(of, tree)

    @classmethod
    def backward(cls, ctx: Any, gradient: torch.Tensor) -> Any:
        return cls.transposed.apply(gradient, ctx.tree), None

    @classmethod
    def jvp(cls, ctx: Any, tangent: torch.Tensor, _: None) -> torch.Tensor:
        return cls.apply(tangent, ctx.tree)


class _Spread(_Linear):
    """(N, F) -> (B * T, F): at every place the row of its node, and 0 behind the end of a text."""

    @staticmethod
    def value(of: torch.Tensor, tree: TokenTree) -> torch.Tensor:
        return of.index_select(0, tree.nodes.flatten()).index_fill_(0, tree.padding, 0)


class _Total(_Linear):
    """(B * T, F) -> (N, F): the sum over each node's places."""

    @staticmethod
    def value(of: torch.Tensor, tree: TokenTree) -> torch.Tensor:
        total = of.index_select(0, tree.first)
        for nodes, places in tree.repeats:
            rows = of.index_select(0, places.flatten()).view(*places.shape, -1)
            total.index_copy_(0, nodes, rows.sum(1).to(of.dtype))
        return total


class _Pick(_Linear):
    """(B * T, F) -> (N, F): the row of each node's first place."""

    @staticmethod
    def value(of: torch.Tensor, tree: TokenTree) -> torch.Tensor:
        return of.index_select(0, tree.first)


class _Put(_Linear):
    """(N, F) -> (B * T, F): each node's row at its first place, and 0 elsewhere."""

    @staticmethod
    def value(of: torch.Tensor, tree: TokenTree) -> torch.Tensor:
        return of.index_select(0, tree.nodes.flatten()).index_fill_(0, tree.not_first, 0)


for _one, _other in ((_Spread, _Total), (_Pick, _Put)):
    _one.transposed, _other.transposed = _other, _one
