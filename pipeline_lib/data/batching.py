"""From records to token batches: answer-only labels, right padding, length buckets.

Shapes: B examples, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence

IGNORED = -100  # the label of a position that is not scored; torch's cross-entropy default


@dataclass(frozen=True)
class Example:
    """A tokenised pair: `tokens[:prompt_length]` is the prompt, the rest the answer with its end token.

    `prompt_length` is at least 1, as nothing predicts the first token. `hidden`: places of tokens to which
    no token attends, as in some published code; they keep their positions and their labels.
    """

    tokens: tuple[int, ...]
    prompt_length: int
    index: int  # row of the record in its split
    hidden: tuple[int, ...] = ()

    @property
    def answer_length(self) -> int:
        return len(self.tokens) - self.prompt_length


@dataclass(frozen=True)
class Batch:
    """Right-padded examples.

    `labels[b, t]` is the token at position t if it belongs to the answer, else `IGNORED`; it is
    predicted from position t - 1. `tokens_in_step` and `examples_in_step` count the whole
    accumulated step of which this may be one micro-batch: losses divide by them, so that the sum
    over micro-batches equals the loss of one large batch. `alternative` holds, row by row, another
    answer to the same prompts, with reference values and counts of its own.
    """

    input_ids: torch.Tensor  # (B, T) int64
    attention_mask: torch.Tensor  # (B, T) int64, 1 = real token
    labels: torch.Tensor  # (B, T) int64
    index: torch.Tensor  # (B,) int64
    tokens_in_step: int
    examples_in_step: int
    reference_nll: torch.Tensor | None = None  # (B,) summed NLL under the model before unlearning
    alternative: Batch | None = None
    hidden: torch.Tensor | None = None  # (B, T) int64, 1 = a real token to which no token attends

    @property
    def answer_tokens(self) -> int:
        return int((self.labels != IGNORED).sum())

    @property
    def visible(self) -> torch.Tensor:
        """(B, T) int64, 1 = a token that is attended to: the mask for the model."""
        return self.attention_mask if self.hidden is None else self.attention_mask - self.hidden

    def rows(self, chosen: slice) -> Batch:
        """These rows alone; the counts of the step stay."""
        return replace(
            self,
            input_ids=self.input_ids[chosen],
            attention_mask=self.attention_mask[chosen],
            labels=self.labels[chosen],
            index=self.index[chosen],
            reference_nll=None if self.reference_nll is None else self.reference_nll[chosen],
            alternative=None if self.alternative is None else self.alternative.rows(chosen),
            hidden=None if self.hidden is None else self.hidden[chosen],
        )

    def to(self, device: torch.device | str) -> Batch:
        return replace(
            self,
            input_ids=self.input_ids.to(device),
            attention_mask=self.attention_mask.to(device),
            labels=self.labels.to(device),
            index=self.index.to(device),
            reference_nll=None if self.reference_nll is None else self.reference_nll.to(device),
            alternative=None if self.alternative is None else self.alternative.to(device),
            hidden=None if self.hidden is None else self.hidden.to(device),
        )


@dataclass(frozen=True)
class Alternative:
    """Another answer to an example's prompt; `reference_nll` as in `Batch`, None where it is not needed."""

    example: Example
    reference_nll: float | None = None


def collate(
    examples: Sequence[Example],
    pad_id: int,
    reference_nll: torch.Tensor | None = None,
    alternatives: Sequence[Alternative] | None = None,
) -> Batch:
    """Pad to the longest example of the batch. `reference_nll` (N,) is indexed by `Example.index`.

    `alternatives[i]` belongs to `examples[i]`; either all of them have a reference value or none.
    """
    texts = [torch.tensor(example.tokens) for example in examples]
    input_ids = pad_sequence(texts, batch_first=True, padding_value=pad_id)  # (B, T)
    places = torch.arange(input_ids.shape[1])  # (T,)
    attention_mask = (places < torch.tensor([[len(text)] for text in texts])).long()
    in_prompt = places < torch.tensor([[example.prompt_length] for example in examples])
    labels = input_ids.masked_fill(in_prompt | (attention_mask == 0), IGNORED)
    hidden = torch.zeros_like(attention_mask)
    for row, example in enumerate(examples):
        hidden[row, list(example.hidden)] = 1
    index = torch.tensor([example.index for example in examples])
    return Batch(
        input_ids,
        attention_mask,
        labels,
        index,
        tokens_in_step=sum(example.answer_length for example in examples),
        examples_in_step=len(examples),
        reference_nll=None if reference_nll is None else reference_nll[index],
        alternative=None if alternatives is None else _collate_alternatives(examples, alternatives, pad_id),
        hidden=hidden if any(example.hidden for example in examples) else None,
    )


def _collate_alternatives(
    examples: Sequence[Example], alternatives: Sequence[Alternative], pad_id: int
) -> Batch:
    if [a.example.index for a in alternatives] != [e.index for e in examples]:
        raise ValueError("`alternatives` must hold one alternative to each example, in the same order")
    batch = collate([alternative.example for alternative in alternatives], pad_id)
    values = [a.reference_nll for a in alternatives if a.reference_nll is not None]
    if len(values) not in (0, len(alternatives)):
        raise ValueError(f"{len(values)} of {len(alternatives)} alternatives have a reference NLL; want all")
    return replace(batch, reference_nll=torch.tensor(values)) if values else batch


def micro_batches(
    examples: Sequence[Example],
    size: int,
    pad_id: int,
    reference_nll: torch.Tensor | None = None,
    alternatives: Sequence[Alternative] | None = None,
) -> list[Batch]:
    """Cut one step's examples into micro-batches of at most `size`, neighbours in length together.

    `alternatives[i]` goes with `examples[i]`. Each micro-batch carries the counts of the whole step.
    """
    order = sorted(range(len(examples)), key=lambda i: (len(examples[i].tokens), examples[i].index))
    return _with_counts_of_all(
        [
            collate(
                [examples[i] for i in rows],
                pad_id,
                reference_nll,
                None if alternatives is None else [alternatives[i] for i in rows],
            )
            for rows in (order[start : start + size] for start in range(0, len(order), size))
        ]
    )


def _with_counts_of_all(batches: Sequence[Batch]) -> list[Batch]:
    """Batches of one step: with its counts, and read in one way, whatever each of them holds.

    Where one hides tokens, all are read apart (models/forward.py): processes that share a step, and gather a
    sharded model in each pass, must make the same passes.
    """
    if any(batch.hidden is not None for batch in batches):
        batches = [
            batch
            if batch.hidden is not None
            else replace(batch, hidden=torch.zeros_like(batch.attention_mask))
            for batch in batches
        ]
    tokens = sum(batch.tokens_in_step for batch in batches)
    examples = sum(batch.examples_in_step for batch in batches)
    others = [batch.alternative for batch in batches if batch.alternative is not None]
    alternatives: Sequence[Batch | None] = _with_counts_of_all(others) if others else [None] * len(batches)
    return [
        replace(batch, tokens_in_step=tokens, examples_in_step=examples, alternative=alternative)
        for batch, alternative in zip(batches, alternatives, strict=True)
    ]


def draw_examples(batches: Sequence[Batch], count: int, generator: torch.Generator) -> list[Batch]:
    """`count` examples of a step's micro-batches, drawn without repetition; all where there are no more.

    They keep their order, in micro-batches no larger than the largest given, padded to their own longest,
    with counts of their own: what is drawn is a smaller step. `generator` draws.
    """
    rows = [batch.rows(slice(row, row + 1)) for batch in batches for row in range(len(batch.index))]
    if count >= len(rows):
        return list(batches)
    order = torch.randperm(len(rows), generator=generator, device=generator.device)
    drawn = [rows[i] for i in sorted(order[:count].tolist())]
    size = max(len(batch.index) for batch in batches)
    return _with_counts_of_all([_joined(drawn[start : start + size]) for start in range(0, count, size)])


def _joined(rows: Sequence[Batch]) -> Batch:
    """One batch made of batches of one row each, padded to the longest; its counts are its own."""
    width = max(int(row.attention_mask.sum()) for row in rows)

    def stacked(name: str, padding: int) -> torch.Tensor:
        columns = [getattr(row, name)[:, :width] for row in rows]
        return torch.cat([F.pad(column, (0, width - column.shape[1]), value=padding) for column in columns])

    references = [row.reference_nll for row in rows if row.reference_nll is not None]
    others = [row.alternative for row in rows if row.alternative is not None]
    labels = stacked("labels", IGNORED)
    masked = any(row.hidden is not None for row in rows)
    if masked:
        rows = [replace(row, hidden=row.attention_mask - row.visible) for row in rows]
    return Batch(
        stacked("input_ids", 0),
        stacked("attention_mask", 0),
        labels,
        torch.cat([row.index for row in rows]),
        tokens_in_step=int((labels != IGNORED).sum()),
        examples_in_step=len(rows),
        reference_nll=torch.cat(references) if references else None,
        alternative=_joined(others) if others else None,
        hidden=stacked("hidden", 0) if masked else None,
    )


def token_budget_batches(examples: Sequence[Example], max_tokens: int) -> list[list[Example]]:
    """Group examples of similar length so that padded size B * T stays within `max_tokens`.

    Longest first, so that a batch that does not fit in memory fails at once. An example longer
    than the budget gets a batch of its own.
    """
    groups: list[list[Example]] = []
    for example in sorted(examples, key=lambda e: (-len(e.tokens), e.index)):
        if groups and (len(groups[-1]) + 1) * len(groups[-1][0].tokens) <= max_tokens:
            groups[-1].append(example)
        else:
            groups.append([example])
    return groups
