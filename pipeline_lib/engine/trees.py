"""Several texts after one prompt as one tree of tokens, which holds a beginning that texts share only once.

Each token sees only its own ancestors (a block attention mask) and sits at its depth (position ids), so every
text is read exactly as if it were alone.

Shapes: B trees, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from pipeline_lib.data.batching import Example


@dataclass
class PrefixTree:
    """The sequences of one record merged at their common beginnings; node 0 is the first prompt token."""

    tokens: list[int] = field(default_factory=list)  # (T,)
    parents: list[int] = field(default_factory=list)  # (T,) node before, -1 for the first
    depths: list[int] = field(default_factory=list)  # (T,) position in the sequence
    # for each sequence the nodes that predict its answer tokens, and those tokens
    paths: list[tuple[list[int], list[int]]] = field(default_factory=list)
    distribution: bool = False  # whether mean and spread are wanted along the first sequence

    @property
    def is_chain(self) -> bool:
        """Whether every token follows the one before it, so that causal attention is right."""
        return all(parent == node - 1 for node, parent in enumerate(self.parents))


def build_tree(sequences: Sequence[Example], distribution: bool = False) -> PrefixTree:
    """Merge sequences that begin alike. The last token of each predicts nothing and is left out."""
    tree = PrefixTree(distribution=distribution)
    children: dict[tuple[int, int], int] = {}
    for sequence in sequences:
        if sequence.prompt_length < 1:
            raise ValueError("the first answer token needs a prompt token that predicts it")
        node = -1
        predictors = []
        for depth, token in enumerate(sequence.tokens):
            if depth >= sequence.prompt_length:
                predictors.append(node)
            if depth == len(sequence.tokens) - 1:
                break
            if (node, token) not in children:
                children[node, token] = len(tree.tokens)
                tree.tokens.append(token)
                tree.parents.append(node)
                tree.depths.append(depth)
            node = children[node, token]
        tree.paths.append((predictors, list(sequence.tokens[sequence.prompt_length :])))
    return tree


def nodes_of(tree: PrefixTree, tokens: Sequence[int]) -> list[int]:
    """The nodes of the path of `tokens` from the first; `ValueError` where the tree has no such path."""
    children = {(tree.parents[node], token): node for node, token in enumerate(tree.tokens)}
    path: list[int] = []
    for token in tokens:
        node = children.get((path[-1] if path else -1, token))
        if node is None:
            raise ValueError(f"token {token} does not follow after {len(path)} tokens of the tree")
        path.append(node)
    return path


def tree_inputs(
    trees: Sequence[PrefixTree], pad_id: int, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Token ids (B, T), positions (B, T) and what may be attended, right-padded.

    The mask is the usual (B, T) of real tokens where all trees are chains, else the additive
    (B, 1, T, T) of each token's ancestors.
    """
    width = max(len(tree.tokens) for tree in trees)
    input_ids = torch.full((len(trees), width), pad_id)
    positions = torch.zeros((len(trees), width), dtype=torch.int64)
    real = torch.zeros((len(trees), width), dtype=torch.int64)
    for b, tree in enumerate(trees):
        length = len(tree.tokens)
        input_ids[b, :length] = torch.tensor(tree.tokens)
        positions[b, :length] = torch.tensor(tree.depths)
        real[b, :length] = 1
    if all(tree.is_chain for tree in trees):
        return input_ids, positions, real
    visible = torch.eye(width, dtype=torch.bool).repeat(len(trees), 1, 1)  # (B, T, T) [b, query, key]
    for b, tree in enumerate(trees):
        for node, parent in enumerate(tree.parents):
            if parent >= 0:
                visible[b, node] |= visible[b, parent]
    mask = torch.zeros(visible.shape, dtype=dtype).masked_fill(~visible, torch.finfo(dtype).min)
    return input_ids, positions, mask[:, None]


def greedy_beginning(
    texts: Sequence[Sequence[int]], predicted: Sequence[Sequence[int]], end_ids: frozenset[int]
) -> list[int]:
    """The first tokens of the greedy answer, as far as scored texts after the same prompt show them.

    `predicted[i][t]` is the argmax after `texts[i][:t]`. The greedy answer is followed from the prompt for
    as long as it agrees with one of the texts; the token at which it leaves the last of them is still
    known. It ends with an end token if that is reached.
    """
    tokens: list[int] = []
    agreeing = list(range(len(texts)))
    while agreeing:
        tokens.append(predicted[agreeing[0]][len(tokens)])
        if tokens[-1] in end_ids:
            break
        agreeing = [
            i for i in agreeing if len(texts[i]) > len(tokens) and texts[i][len(tokens) - 1] == tokens[-1]
        ]
    return tokens
