"""Pretraining as fine-tuning on packed text: windows of a stream of tokens, all but the first token learned.

    L = mean NLL of tokens 2 to C of each window of C tokens

Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2; windows that
cross the ends of documents as in Brown et al. 2020, arXiv 2005.14165, appendix B.

Trap: the held-out windows are cut from the same documents as those that are learned, so their perplexity says
how well the model continues such text, not text of another kind.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pipeline_lib.data.batching import Example, collate
from pipeline_lib.models.corpus import held_out_count
from pipeline_lib.models.forward import summed_nll


class Windows(Sequence[Example]):
    """Rows of `tokens` (N, C) as examples, each made when it is asked for."""

    def __init__(self, tokens: torch.Tensor) -> None:
        self.tokens = tokens

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return Windows(self.tokens[place])
        return Example(tuple(self.tokens[place].tolist()), 1, place)

    def __iter__(self) -> Iterator[Example]:
        return (self[place] for place in range(len(self)))


def divided(stream: torch.Tensor, context: int, share: float) -> tuple[Windows, Windows]:
    """(learned, held out) windows of `context` tokens of a stream (L,); the last, shorter one is left out.

    Those that are held out lie evenly over the stream, so that every document of some length has its part.
    """
    count = len(stream) // context
    windows = stream[: count * context].view(count, context)
    kept = held_out_count(count, share)
    held = torch.zeros(count, dtype=torch.bool)
    held[[(2 * place + 1) * count // (2 * kept) for place in range(kept)]] = True
    return Windows(windows[~held]), Windows(windows[held])


@dataclass(frozen=True)
class HeldOut:
    """What a model makes of windows that it did not learn. `nll`: nats, summed over `tokens`.

    `bytes`: of the text of these tokens, end tokens left out.
    """

    windows: int
    tokens: int
    bytes: int
    nll: float

    def described(self) -> dict[str, float | int]:
        """With perplexity = exp(nll / tokens) and bits_per_byte = nll / (bytes ln 2); lower is better.

        The second does not depend on the tokenizer.
        """
        return {
            "windows": self.windows,
            "tokens": self.tokens,
            "bytes": self.bytes,
            "nll": self.nll,
            "perplexity": math.exp(self.nll / self.tokens),
            "bits_per_byte": self.nll / (self.bytes * math.log(2)),
        }


@torch.no_grad()
def held_out(model: Any, tokenizer: Any, windows: Windows, batch_size: int) -> HeldOut:
    """Likelihood of the windows, in the precision of the weights, `batch_size` of them at a time."""
    model.eval()
    place = next(model.parameters()).device
    batches = (
        collate(list(windows[start : start + batch_size]), tokenizer.pad_token_id)
        for start in range(0, len(windows), batch_size)
    )
    parts = [summed_nll(model, batch.to(place)).double() for batch in batches]
    predicted = windows.tokens[:, 1:]  # (N, C - 1)
    special = set(tokenizer.all_special_ids)
    # Byte-level tokens are spelled with one character for each byte.
    sizes = torch.tensor(
        [
            0 if token in special else len(spelled)
            for token, spelled in enumerate(tokenizer.convert_ids_to_tokens(list(range(len(tokenizer)))))
        ]
    )
    return HeldOut(
        len(windows), predicted.numel(), int(sizes[predicted.long()].sum()), float(torch.cat(parts).sum())
    )
