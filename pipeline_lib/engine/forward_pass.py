"""One forward pass over several trees of texts: likelihoods of every text, and states to go on from.

The model runs in its own dtype, the log-softmax in fp32 (for fp64 weights in fp64). One pass gives everything
that is read from the next-token distribution: the likelihood, the argmax and, where asked for, mean and
spread. Where a greedy answer goes on from a scored text, its keys and values are kept (see cache.States).

Shapes: B trees or sequences, T tokens, N positions that predict an answer token, D hidden size, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from pipeline_lib.engine.cache import States, keeping_cache, states_of
from pipeline_lib.engine.choosing import likeliest
from pipeline_lib.engine.trees import PrefixTree, nodes_of, tree_inputs
from pipeline_lib.models.head import Head, output_head

# Rows of the vocabulary projection at once, whatever the batch holds: 128 x 50k x 4 bytes = 25 MB, which fit
# into a CPU's caches. A GPU needs more work at a time.
LOGIT_ROWS = 128
LOGIT_ROWS_GPU = 512
SUM_ROWS = 32  # of them, summed together on a CPU
LOWEST = -1e4  # nats; a forbidden token has -inf, and -inf times its probability 0 would not be a number


@dataclass(frozen=True)
class TextLikelihood:
    """One text after its prompt, a number for each of its tokens.

    `token_nll`: nats. `argmax`: the most likely token; `argmax_correct`: 1 where that is the text's token.
    `token_mean` and `token_std`: mean and standard deviation of log p(v) for v drawn from the next-token
    distribution p there, in nats; None where they were not asked for.
    """

    token_nll: list[float]
    argmax_correct: list[int]
    argmax: list[int] = field(default_factory=list)
    token_mean: list[float] | None = None
    token_std: list[float] | None = None

    @property
    def nll(self) -> float:
        return math.fsum(self.token_nll)

    @property
    def tokens(self) -> int:
        return len(self.token_nll)


@torch.inference_mode()
def tree_likelihoods_and_states(
    model,
    trees: Sequence[PrefixTree],
    pad_id: int,
    wanted: Callable[[int, list[TextLikelihood]], Sequence[int]] | None = None,
) -> list[tuple[list[TextLikelihood], States | None]]:
    """For each tree the likelihoods of its sequences, and keys and values of the tokens that are `wanted`.

    `wanted` is given a tree's place and likelihoods and returns the first tokens of one of its sequences.
    Without it, or where the model's layers keep no plain keys and values, there are no states.
    """
    embedding = model.get_input_embeddings().weight
    device = embedding.device
    input_ids, positions, mask = tree_inputs(trees, pad_id, embedding.dtype)
    cache = None if wanted is None else keeping_cache(model.config)
    hidden = model.get_decoder()(
        input_ids=input_ids.to(device),
        attention_mask=mask.to(device),
        position_ids=positions.to(device),
        past_key_values=cache,
        use_cache=cache is not None,
    ).last_hidden_state  # (B, T, D)
    nodes: dict[int, int] = {}  # flat position in (B, T) -> its row among the N logits
    labels: list[int] = []
    rows: list[int] = []
    described: list[bool] = []
    for b, tree in enumerate(trees):
        for number, (predictors, targets) in enumerate(tree.paths):
            labels += targets
            rows += [nodes.setdefault(b * hidden.shape[1] + node, len(nodes)) for node in predictors]
            described += [tree.distribution and number == 0] * len(targets)
    predicting = hidden.flatten(0, 1)[torch.tensor(list(nodes), device=device)]  # (N, D)
    likelihoods = _cut(_of_labels(output_head(model), predicting, rows, labels, described), trees)
    if cache is None or wanted is None:
        return [(own, None) for own in likelihoods]
    return [
        (own, states_of(cache, place, nodes_of(tree, wanted(place, own))))
        for place, (tree, own) in enumerate(zip(trees, likelihoods, strict=True))
    ]


def _of_labels(
    head: Head,
    hidden: torch.Tensor,
    rows: list[int],
    labels: list[int],
    described: list[bool],
) -> tuple[list[float], list[int], list[float], list[float]]:
    """NLL in nats, argmax, mean and standard deviation at each label, read from `hidden` (N, D) at `rows[i]`.

    Mean and deviation are 0 where a label is not `described`.
    """
    row = torch.tensor(rows, device=hidden.device)
    label = torch.tensor(labels, device=hidden.device)
    wide = torch.tensor(described, device=hidden.device)
    nll, mean, std = torch.zeros(3, len(labels), dtype=_wide(hidden[:0]).dtype, device=hidden.device)
    argmax = torch.empty(len(labels), dtype=torch.int64, device=hidden.device)
    on_cpu = hidden.device.type == "cpu"
    size = LOGIT_ROWS if on_cpu else LOGIT_ROWS_GPU
    for start in range(0, len(hidden), size):
        logits = _wide(head(hidden[start : start + size]))  # (<= size, V)
        inside = (row >= start) & (row < start + size)
        here = inside.nonzero()[:, 0]
        local, target = row[here] - start, label[here]
        # on a CPU ten times as close to fp64 as fp32 cross_entropy over a large vocabulary
        parts = logits.split(SUM_ROWS if on_cpu else size)
        normalizer = torch.cat([part.logsumexp(-1) for part in parts])  # (<= size,)
        nll[here] = normalizer[local] - logits[local, target]
        argmax[here] = likeliest(logits)[local]
        here = (inside & wide).nonzero()[:, 0]
        if len(here):
            local = row[here] - start
            log_p = (logits[local] - normalizer[local, None]).clamp_min_(LOWEST)  # (n, V)
            p = log_p.exp()
            mean[here] = (p * log_p).sum(-1)
            std[here] = (p * (log_p - mean[here, None]).square()).sum(-1).sqrt()
    return nll.tolist(), argmax.tolist(), mean.tolist(), std.tolist()


def _wide(values: torch.Tensor) -> torch.Tensor:
    """At least fp32: a model with fp64 weights is scored in fp64."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _cut(
    columns: tuple[list[float], list[int], list[float], list[float]],
    trees: Sequence[PrefixTree],
) -> list[list[TextLikelihood]]:
    """Give the flat numbers back to the trees and sequences they belong to."""
    results: list[list[TextLikelihood]] = []
    start = 0
    for tree in trees:
        results.append([])
        for number, (_, targets) in enumerate(tree.paths):
            end = start + len(targets)
            nll, argmax = columns[0][start:end], columns[1][start:end]
            correct = [int(guess == target) for guess, target in zip(argmax, targets, strict=True)]
            spread = (
                [column[start:end] for column in columns[2:]] if tree.distribution and number == 0 else []
            )
            results[-1].append(TextLikelihood(nll, correct, argmax, *spread))
            start = end
    return results
