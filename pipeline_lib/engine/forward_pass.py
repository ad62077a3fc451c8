"""One forward pass over several texts: likelihoods of each, and states to go on from.

The model runs in its own dtype, the log-softmax in fp32 (for fp64 weights in fp64). One pass gives everything
that is read from the next-token distribution: the likelihood, the argmax and, where asked for, mean and
spread. Where a greedy answer goes on from a scored text, its keys and values are kept (see cache.States).

Shapes: B texts, T tokens of the longest, M tokens that were read, N positions that predict an answer token,
D hidden size, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch.nn.utils.rnn import pad_sequence

from pipeline_lib.data.batching import Example
from pipeline_lib.engine.cache import States, keeping_cache, states_of
from pipeline_lib.engine.choosing import likeliest
from pipeline_lib.models.forward import position_ids
from pipeline_lib.models.head import Head, output_head
from pipeline_lib.models.token_tree import build_tree
from pipeline_lib.models.tree_attention import reads_trees, tree_hidden

if TYPE_CHECKING:
    from transformers import DynamicCache

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


class Reading:
    """What one pass over several texts showed: `likelihoods`, and on demand keys and values to go on from."""

    def __init__(self, likelihoods: list[TextLikelihood], places: torch.Tensor, cache: DynamicCache | None):
        self.likelihoods = likelihoods
        self._places, self._cache = places, cache

    def states(self, text: int, length: int) -> States | None:
        """Of the first `length` tokens of a text; None where the model's layers keep no plain ones."""
        return None if self._cache is None else states_of(self._cache, self._places[text, :length])


def read_tokens(text: Example) -> tuple[int, ...]:
    """The tokens that a pass reads: all but the last, which predicts nothing."""
    return text.tokens[: max(1, len(text.tokens) - 1)]


@torch.inference_mode()
def read_texts(
    model, texts: Sequence[Example], described: Sequence[bool], pad_id: int, keep: bool
) -> Reading:
    """Read texts in one pass: as one tree, in which they share their beginnings, where the model reads trees.

    `described`: the texts of which mean and spread
    are wanted. `keep`: whether keys and values will be asked for.
    """
    if any(text.prompt_length < 1 for text in texts):
        raise ValueError("the first answer token needs a prompt token that predicts it")
    device = model.get_input_embeddings().weight.device
    cache = keeping_cache(model.config) if keep else None
    options = {"past_key_values": cache, "use_cache": cache is not None}
    read = [read_tokens(text) for text in texts]
    if reads_trees(model):
        tree = build_tree(read)
        hidden = tree_hidden(model, tree.to(device), **options)  # (M, D)
        places = tree.nodes  # (B, T) into M
    else:
        ids = pad_sequence([torch.tensor(tokens) for tokens in read], True, pad_id)  # (B, T)
        mask = torch.arange(ids.shape[1]) < torch.tensor([[len(tokens)] for tokens in read])
        positions = position_ids(mask.long()).to(device)
        hidden = model.get_decoder()(
            input_ids=ids.to(device), attention_mask=mask.long().to(device), position_ids=positions, **options
        ).last_hidden_state.flatten(0, 1)
        places = torch.arange(ids.numel()).view(ids.shape)
    found: dict[int, int] = {}  # row of `hidden` -> its row among the N logits
    labels: list[int] = []
    rows: list[int] = []
    wide: list[bool] = []
    for text, own, spread in zip(texts, places.tolist(), described, strict=True):
        answer = text.tokens[text.prompt_length :]
        predicting = own[text.prompt_length - 1 : len(text.tokens) - 1]
        labels += answer
        rows += [found.setdefault(place, len(found)) for place in predicting]
        wide += [spread] * len(answer)
    predicting_states = hidden[torch.tensor(list(found), dtype=torch.int64, device=device)]  # (N, D)
    columns = _of_labels(output_head(model), predicting_states, rows, labels, wide)
    return Reading(_cut(columns, texts, described), places, cache)


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
    texts: Sequence[Example],
    described: Sequence[bool],
) -> list[TextLikelihood]:
    """Give the flat numbers back to the texts they belong to."""
    results: list[TextLikelihood] = []
    start = 0
    for text, wide in zip(texts, described, strict=True):
        targets = text.tokens[text.prompt_length :]
        end = start + len(targets)
        nll, argmax = columns[0][start:end], columns[1][start:end]
        correct = [int(guess == target) for guess, target in zip(argmax, targets, strict=True)]
        spread = [column[start:end] for column in columns[2:]] if wide else []
        results.append(TextLikelihood(nll, correct, argmax, *spread))
        start = end
    return results
