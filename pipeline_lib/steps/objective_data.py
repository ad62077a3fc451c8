"""What one objective trains on: token examples, other answers, and numbers of the model before unlearning."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from pipeline_lib.core.files import read_json
from pipeline_lib.data.batching import Example, collate, token_budget_batches
from pipeline_lib.data.records import Record
from pipeline_lib.models.forward import summed_nll
from pipeline_lib.models.prompt import PromptFormat
from pipeline_lib.models.released_encoding import encode_answers, encode_others
from pipeline_lib.objectives import Objective
from pipeline_lib.objectives.alternatives import alternative_answers
from pipeline_lib.training.batches import Course
from pipeline_lib.training.data import TrainingData, drawn_pairs

TOKENS = 2048  # of one forward pass, padding included


@dataclass(frozen=True)
class Encoder:
    """How records become tokens. `encoding`: see models/released_encoding.py; `max_length`: in tokens."""

    tokenizer: Any
    prompt_format: PromptFormat
    max_length: int
    encoding: str = "exact"

    def answers(self, records: list[Record], learn: bool) -> list[Example]:
        """The true answers; with `learn` running text is learned as a whole."""
        return encode_answers(
            self.encoding, records, self.tokenizer, self.prompt_format, self.max_length, learn
        )

    def others(self, record: Record, texts: Sequence[str], row: int) -> list[Example]:
        """Other answers to the record in this row."""
        return encode_others(
            self.encoding, record, texts, self.tokenizer, self.prompt_format, self.max_length, row
        )


def objective_data(
    objective: Objective,
    splits: dict[str, list[Record]],
    data_dir: Path,
    encoder: Encoder,
    seed: int,
) -> TrainingData:
    """The forget and the retain set of `splits` as `objective` learns them.

    Running text is learned as a whole, except where the true answer is paired with another one: then only
    what follows the prompt is compared.
    """
    paired = objective.forget_answers == "both"
    data = TrainingData(
        forget=encoder.answers(splits["forget"], learn=not paired),
        retain=encoder.answers(splits["retain"], learn=True),
        pad_id=encoder.tokenizer.pad_token_id,
        paired=paired,
    )
    if objective.forget_answers == "answer":
        return data
    refusals = read_json(data_dir / "refusals.json") if objective.teaches == "refusals" else []
    answers = alternative_answers(objective, splits["forget"], refusals, seed)
    options = [
        encoder.others(record, texts, row)
        for row, (record, texts) in enumerate(zip(splits["forget"], answers, strict=True))
    ]
    return replace(data, forget_alternatives=options)


def with_reference_nll(model: Any, data: TrainingData, course: Course) -> TrainingData:
    """The data with the summed NLL, under `model`, of every answer that the run compares with it.

    Of the alternatives, only those that some step of the `course` draws: the draws follow from the seed.
    """
    data = replace(data, reference_nll=summed_nlls(model, data.forget, data.pad_id))
    if not data.forget_alternatives:
        return data
    steps = [(course.forget_rows(step), step) for step in range(course.steps)]
    pairs = drawn_pairs(data, steps, course.seed)
    texts = [data.forget_alternatives[row][pick] for row, pick in pairs]
    # Numbered anew: one row may have several alternatives.
    examples = [replace(example, index=place) for place, example in enumerate(texts)]
    values = summed_nlls(model, examples, data.pad_id).tolist()
    return replace(data, alternative_nll=dict(zip(pairs, values, strict=True)))


@torch.no_grad()
def summed_nlls(model: Any, examples: Sequence[Example], pad_id: int) -> torch.Tensor:
    """Summed NLL of each example's answer in nats, in fp32 on the CPU, (len(examples),), by `index`."""
    model.eval()
    place = next(model.parameters()).device
    values = torch.full((len(examples),), math.nan)
    for group in token_budget_batches(examples, TOKENS):
        batch = collate(group, pad_id).to(place)
        values[batch.index.cpu()] = summed_nll(model, batch).float().cpu()
    return values
