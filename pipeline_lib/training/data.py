"""What a run trains on, and which alternative answers its steps draw."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from pipeline_lib.data.batching import IGNORED, Alternative, Batch, Example, micro_batches
from pipeline_lib.training.sampling import derived_seed

Pair = tuple[int, int]  # row of the forget set, and which of its alternatives


@dataclass(frozen=True)
class TrainingData:
    """Examples of the two sets. Fine-tuning has no forget set.

    `forget_alternatives[i]` are other answers to forget row i, of which every step draws one: in place of
    the true answer, or beside it (`paired`). `reference_nll` (rows,) and `alternative_nll` are numbers of
    the model before unlearning, of the true answers and of those alternatives that the run draws.
    `forget_labels[i]`: tokens to predict in place of row i's own, one for each of its labels; what the
    model reads stays.
    """

    forget: Sequence[Example]
    retain: Sequence[Example]
    pad_id: int
    forget_alternatives: Sequence[Sequence[Example]] = ()
    paired: bool = False
    reference_nll: torch.Tensor | None = None
    alternative_nll: Mapping[Pair, float] = field(default_factory=dict)
    forget_labels: Sequence[Sequence[int]] = ()


def drawn(data: TrainingData, rows: Sequence[int], step: int, seed: int) -> list[int]:
    """Which alternative each of `rows` has in `step`: a pure function of seed, step and the rows' order."""
    counts = [len(data.forget_alternatives[row]) for row in rows]
    generator = torch.Generator().manual_seed(derived_seed(seed, "alternative", step))
    bound = min(math.lcm(*counts), 2**62)  # a remainder of it is as likely as any other
    places = torch.randint(bound, (len(rows),), generator=generator).tolist()
    return [place % count for place, count in zip(places, counts, strict=True)]


def drawn_pairs(data: TrainingData, steps: Iterable[tuple[Sequence[int], int]], seed: int) -> list[Pair]:
    """Every (row, alternative) that these steps draw, each once, in order; a step is (rows, its number)."""
    pairs = {pair for rows, step in steps for pair in zip(rows, drawn(data, rows, step, seed), strict=True)}
    return sorted(pairs)


def forget_examples(data: TrainingData, rows: Sequence[int], step: int, seed: int) -> list[Example]:
    """The forget rows as the objective learns them: with a drawn alternative where it takes their place."""
    if data.paired or not data.forget_alternatives:
        return [data.forget[row] for row in rows]
    pairs = zip(rows, drawn(data, rows, step, seed), strict=True)
    return [data.forget_alternatives[row][pick] for row, pick in pairs]


def forget_batches(data: TrainingData, rows: Sequence[int], step: int, seed: int, size: int) -> list[Batch]:
    """Micro-batches of at most `size` of these forget rows, with all that the objective needs of them."""
    examples = forget_examples(data, rows, step, seed)
    reference, alternatives = data.reference_nll, None
    if data.forget_alternatives:
        pairs = list(zip(rows, drawn(data, rows, step, seed), strict=True))
        if data.paired:
            alternatives = [
                Alternative(data.forget_alternatives[row][pick], data.alternative_nll.get((row, pick)))
                for row, pick in pairs
            ]
        elif data.alternative_nll:
            reference = torch.full((len(data.forget),), math.nan)
            reference[list(rows)] = torch.tensor([data.alternative_nll[pair] for pair in pairs])
    batches = micro_batches(examples, size, data.pad_id, reference, alternatives)
    return [_relabelled(batch, data.forget_labels) for batch in batches] if data.forget_labels else batches


def _relabelled(batch: Batch, labels: Sequence[Sequence[int]]) -> Batch:
    """The batch with other tokens to predict at the same positions."""
    wanted = torch.tensor([token for row in batch.index.tolist() for token in labels[row]])
    places = batch.labels != IGNORED
    if len(wanted) != int(places.sum()):
        raise ValueError(f"expected {int(places.sum())} labels for this batch, got {len(wanted)}")
    return replace(batch, labels=batch.labels.masked_scatter(places, wanted))
