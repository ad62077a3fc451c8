"""Log-probabilities of answer tokens, with logits only where an answer token is predicted.

Shapes: B examples, T tokens, N answer tokens of the whole batch, D hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from pipeline_lib.core.system_errors import out_of_memory
from pipeline_lib.data.batching import IGNORED, Batch
from pipeline_lib.models.head import Head, output_head
from pipeline_lib.models.token_tree import TokenTree, build_tree
from pipeline_lib.models.tree_attention import reads_trees, tree_hidden

# fp32 logits that exist at the same time: 64 MiB. Up to that, (N, V) is one piece and computed once.
LOGITS_AT_ONCE = 1 << 24

Value = TypeVar("Value")


def position_ids(attention_mask: torch.Tensor) -> torch.Tensor:
    """(B, T) positions that count real tokens only, so that padding on either side changes nothing."""
    return (attention_mask.cumsum(-1) - 1).clamp(min=0)


def context_length(model) -> int | None:
    """Positions the model has, or None where its configuration names no limit."""
    config = model.config.get_text_config()
    return getattr(config, "max_position_embeddings", None) or getattr(config, "max_seq_len", None)  # MPT


def pad_token(tokenizer) -> int:
    """The token that pads batches; it is masked everywhere, so the end token can serve."""
    return tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id


def answer_hidden(model, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Last hidden states that predict the answer tokens (N, D), the labels (N,) and their rows (N,).

    `rows` says which row of the batch each belongs to; all in row-major order.
    """
    targets = batch.labels[:, 1:]  # (B, T-1): position t is predicted from t-1
    # Here, before the decoder, and only once: the program waits for the GPU to count them.
    rows, places = (targets != IGNORED).nonzero(as_tuple=True)  # (N,)
    hidden = last_hidden(model, batch)[:, :-1]  # (B, T-1, D)
    return hidden[rows, places], targets[rows, places], rows


def last_hidden(model, batch: Batch) -> torch.Tensor:
    """Last hidden states of every position (B, T, D); those of padding have no meaning.

    Texts that begin alike share their beginning where the model reads trees; inside `read_together`, the
    batches named there are one such pass.
    """
    together = _TOGETHER.get()
    if together is not None and together.holds(model, batch):
        return together.states(batch)
    if batch.hidden is None and reads_trees(model):
        return _in_one_pass(model, [batch])[0]
    return _apart(model, batch)


def _apart(model, batch: Batch) -> torch.Tensor:
    """Last hidden states (B, T, D) of texts that are padded and read one beside the other."""
    return model.get_decoder()(
        input_ids=batch.input_ids,
        attention_mask=batch.visible,
        position_ids=position_ids(batch.attention_mask),
        use_cache=False,
    ).last_hidden_state


def tree_of(batches: Sequence[Batch]) -> TokenTree:
    """One tree of all rows of the batches, in their order, on their device."""
    width = max(batch.input_ids.shape[1] for batch in batches)
    texts = [batch.input_ids.masked_fill(batch.attention_mask == 0, -1) for batch in batches]
    rows = torch.cat([F.pad(text, (0, width - text.shape[1]), value=-1) for text in texts])
    # The program waits for a GPU here, once for all batches.
    tree = build_tree([[token for token in row if token >= 0] for row in rows.tolist()])
    return tree.to(rows.device)


def _in_one_pass(model, batches: Sequence[Batch]) -> list[torch.Tensor]:
    """`last_hidden` of each batch."""
    tree = tree_of(batches)
    states = tree.spread(tree_hidden(model, tree)).view(*tree.nodes.shape, -1)
    parts = states.split([len(batch.input_ids) for batch in batches])
    # A batch may be wider than its own longest text, and than the tree.
    return [
        F.pad(part, (0, 0, 0, batch.input_ids.shape[1] - part.shape[1]))
        for part, batch in zip(parts, batches, strict=True)
    ]


class _Together:
    """Batches that the same model reads in one pass, when the first of them is asked for."""

    def __init__(self, model, batches: Sequence[Batch]):
        self._model, self._batches = model, batches
        self._left: dict[int, torch.Tensor] | None = None  # states that were not asked for yet
        self._with_graph = False

    def holds(self, model, batch: Batch) -> bool:
        return model is self._model and any(batch is own for own in self._batches)

    def states(self, batch: Batch) -> torch.Tensor:
        place = next(place for place, own in enumerate(self._batches) if own is batch)
        # Read again where a gradient is wanted of what was first read without one.
        if self._left is None or (torch.is_grad_enabled() and not self._with_graph):
            self._left = dict(enumerate(_in_one_pass(self._model, self._batches)))
            self._with_graph = torch.is_grad_enabled()
        if place not in self._left:  # asked for again, and the model may be another by now
            return _in_one_pass(self._model, [batch])[0]
        return self._left.pop(place)


_TOGETHER: ContextVar[_Together | None] = ContextVar("together", default=None)


@contextmanager
def read_together(model, batches: Sequence[Batch]) -> Iterator[None]:
    """Inside, `last_hidden` of this model for any of these batches reads all of them in one pass.

    What they share, a system prompt or a question with two answers, is computed once, forwards and backwards.
    With a single batch, or a model that does not read trees, nothing changes. `apart` suspends it.
    """
    several = len(batches) > 1 and all(batch.hidden is None for batch in batches) and reads_trees(model)
    token = _TOGETHER.set(_Together(model, batches) if several else None)
    try:
        yield
    finally:
        _TOGETHER.reset(token)


@contextmanager
def apart(context: AbstractContextManager[Value]) -> Iterator[Value]:
    """`context`, inside which nothing is read together: it may put the same model in another state."""
    token = _TOGETHER.set(None)
    try:
        with context as value:
            yield value
    finally:
        _TOGETHER.reset(token)


def answer_logits(model, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits that predict the answer tokens.

    Returns logits (N, V), the labels they predict (N,) and the row of the batch each belongs to (N,),
    in row-major order. The vocabulary projection runs on these N positions alone: prompts and
    padding cost no (T, V) product.
    """
    hidden, targets, rows = answer_hidden(model, batch)
    return output_head(model)(hidden), targets, rows


def over_vocabulary(
    head: Head,
    hidden: torch.Tensor,
    function: Callable[..., tuple[torch.Tensor, ...]],
    *columns: torch.Tensor,
) -> tuple[torch.Tensor, ...]:
    """`function(logits, *columns)` of the logits `head(hidden)` (N, V) in fp32, a few positions at a time.

    `columns` have N rows each, as `hidden` (N, D). The results of the pieces are joined: sums (scalars) are
    added, values for each position (N,) are concatenated. `function` must treat every position alike and
    independently, and read nothing that changes before the backward pass.

    Above `LOGITS_AT_ONCE` numbers the logits are computed in pieces. Where they are together larger than the
    output embedding (N > D), they never exist as a whole: each piece is thrown away after the forward pass
    and computed again for the backward pass (torch.utils.checkpoint), at the cost of one more product with
    the output embedding. Loss and gradients are the same up to the order of rounding; under autocast the
    gradients of the output embedding of pieces computed again are added in bf16, unlike those of
    micro-batches. The cuts depend on N and V alone, so that the same run gives the same bits. Second
    derivatives work.
    """
    weight = getattr(head, "weight", None)  # a head without one is assumed to keep the width
    size = max(1, LOGITS_AT_ONCE // (hidden.shape[-1] if weight is None else weight.shape[0]))
    again = torch.is_grad_enabled() and len(hidden) > hidden.shape[-1]

    def piece(hidden: torch.Tensor, *columns: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return function(head(hidden).float(), *columns)

    if len(hidden) <= size:
        return piece(hidden, *columns)
    parts = [
        checkpoint(piece, *rows, use_reentrant=False, preserve_rng_state=False) if again else piece(*rows)
        for rows in zip(*(tensor.split(size) for tensor in (hidden, *columns)), strict=True)
    ]
    return tuple(
        torch.stack(values).sum() if values[0].dim() == 0 else torch.cat(values)
        for values in zip(*parts, strict=True)
    )


def token_nll(logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor]:
    """NLL in nats (N,) of `targets` (N,) under `logits` (N, V)."""
    return (F.cross_entropy(logits, targets, reduction="none"),)


def answer_nll(model, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Negative log-likelihood in nats of every answer token (N,), in fp32, and its row (N,)."""
    hidden, targets, rows = answer_hidden(model, batch)
    (nll,) = over_vocabulary(output_head(model), hidden, token_nll, targets)
    return nll, rows


def summed_nll(model, batch: Batch) -> torch.Tensor:
    """Summed NLL in nats of each example's answer, (B,)."""
    nll, rows = answer_nll(model, batch)
    return torch.zeros(len(batch.input_ids), dtype=nll.dtype, device=nll.device).index_add(0, rows, nll)


def check_selected_logits(model) -> None:
    """Raise `ValueError` unless this file gives the model's own logits, whatever else is in the batch.

    A short text with padding on its right, on its left, with another last token, and continued from a cache
    is compared with the model's forward pass over the text alone, which has no padding, no positions and no
    cache. So an architecture that counts padding as text, reads ahead, forgets its cache or hides its decoder
    is noticed when it is loaded, and not in the numbers.
    """
    kind = type(model).__name__
    device = next(model.parameters()).device
    text = torch.arange(5, device=device) % model.config.get_text_config().vocab_size  # (T,)
    padding = text.new_zeros(2)
    rows = [
        torch.cat([text, padding]),
        torch.cat([padding, text]),
        torch.cat([text[:-1], text[1:2], padding]),  # another last token
    ]
    mask = torch.cat([torch.ones_like(text), padding])
    masks = torch.stack([mask, mask.flip(0), mask])  # (3, T + 2)
    labels = torch.stack(rows).masked_fill(masks == 0, IGNORED)
    labels[1, 2] = IGNORED  # the first token of the text, which padding would predict
    batch = Batch(torch.stack(rows), masks, labels, torch.arange(3, device=device), 12, 3)
    with torch.no_grad():
        try:
            ours = output_head(model)(_apart(model, batch)[:, :-1][batch.labels[:, 1:] != IGNORED]).float()
            whole = model(input_ids=text[None], use_cache=False).logits[0].float()  # (5, V)
            last = _read_on(model, text)  # (V,)
        except (AttributeError, TypeError, ValueError, RuntimeError, IndexError) as error:
            if out_of_memory(error):
                raise
            raise ValueError(
                f"{kind} does not run as a decoder and an output embedding do ({error}); it is not supported"
            ) from error
    told = ("beside padding on the right", "beside padding on the left", "before another last token")
    pairs = [(words, logits, whole[:-1]) for words, logits in zip(told, ours.split(4), strict=True)]
    near = 1e-3 * min(1.0, float(whole.abs().max()))
    for words, logits, expected in [*pairs, ("read on from a cache", last, whole[-1])]:
        if not torch.allclose(logits, expected, rtol=1e-3, atol=near):
            raise ValueError(
                f"{kind} gives a text other logits {words} than alone (largest difference "
                f"{float((logits - expected).abs().max()):.3g}), so its numbers would depend on how they "
                "are computed; it is not supported"
            )


def _read_on(model, text: torch.Tensor) -> torch.Tensor:
    """Logits (V,) after `text` (T,), whose last token is read with the others in a cache, as in answers."""
    from transformers import DynamicCache

    cache = DynamicCache(config=model.config)
    places = torch.arange(len(text), device=text.device)
    for part in (slice(0, -1), slice(-1, None)):
        output = model(
            input_ids=text[None, part],
            attention_mask=torch.ones_like(text[None, : places[part][-1] + 1]),
            position_ids=places[None, part],
            past_key_values=cache,
            use_cache=True,
        )
    return output.logits[0, -1].float()
