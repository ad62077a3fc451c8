"""Free embeddings after the prompt, learned so that the model answers: an attack that changes no weight.

Source: Schwinn et al. 2024, arXiv 2402.09063, section 3, the universal attack (SchwinnL/LLM_Embedding_Attack,
`universal_attack`): signed gradient descent on S embeddings that all questions share,

    e <- e - eta r sign(dL / de),

L: mean NLL of the tokens of a batch's targets. r: root mean square of the embeddings with which it begins,
so that eta does not depend on a model's scale; there the step is 0.001, in the units of Llama 2. They are
those of S tokens drawn from the vocabulary; there, of a row of "!". Weights are frozen, nothing is dropped.

Targets are the answers of the first forget groups, or for the control as many random tokens in place of each.
The groups that are left judge: their answers were not taught.

Trap: on what they were learned, a few free embeddings elicit anything, random text too. Only the other
groups, beside `retrained` attacked alike, say that something was still there.

Shapes: S soft tokens, D hidden size.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.meter import Meter
from pipeline_lib.data.batching import Example, collate
from pipeline_lib.data.records import Record
from pipeline_lib.data.splits import of_first_groups
from pipeline_lib.engine.generation import seed_of
from pipeline_lib.engine.likelihoods import group_likelihoods
from pipeline_lib.engine.rows import Row
from pipeline_lib.engine.settings import ScoringSettings
from pipeline_lib.metrics.definition import FORGET_SPLIT
from pipeline_lib.models.encoding import encode_records
from pipeline_lib.models.forward import answer_nll, pad_token
from pipeline_lib.models.memory import halve_on_out_of_memory
from pipeline_lib.models.plain_text import decoded
from pipeline_lib.models.prompt import PromptFormat
from pipeline_lib.models.soft_tokens import SoftPromptFormat, soft_numbers, soft_tokens

Slope = tuple[float, torch.Tensor]


@dataclass(frozen=True)
class Softening:
    """A model in evaluation mode. `settings`: the block `soft_prompt` of a stage `ask`."""

    settings: Mapping[str, Any]
    model: Any
    tokenizer: Any
    seed: int

    @contextmanager
    def learned(
        self, prompt_format: PromptFormat, forget: Sequence[Record], scoring: ScoringSettings
    ) -> Iterator[tuple[SoftPromptFormat, dict[str, Row]]]:
        """Inside, the model reads the learned embeddings wherever this format puts them.

        With it, for the id of each question that was learned, its `target`, and the target's NLL under the
        first embeddings and under the last, in nats per token. The same seed gives the same bits. `UserError`
        where no forget group is left, for a text that is too long, and for numbers that are not finite.
        """
        taught = of_first_groups(forget, self.settings["groups"], FORGET_SPLIT)
        numbers = soft_numbers(self.model, self.settings["tokens"])
        fields = prompt_format.to_dict()
        asked = SoftPromptFormat(**fields, soft=numbers)
        examples = encode_records(taught, self.tokenizer, asked, scoring.max_length, learn=False)
        if self.settings["targets"] == "random":
            examples = self._random(examples, taught)
        generator = torch.Generator().manual_seed(seed_of(f"soft prompt/{self.seed}"))
        start = torch.tensor(self._tokens())[self._drawn(len(numbers), generator)]
        layer = self.model.get_input_embeddings()
        vectors = layer(start.to(layer.weight.device)).detach().clone()  # (S, D)
        with soft_tokens(self.model, vectors):
            before = self._nll(examples, scoring)
            self._learn(vectors, examples, generator)
            after = self._nll(examples, scoring)
            told = {
                record.id: {
                    "target": decoded(self.tokenizer, example.tokens[example.prompt_length :]),
                    "nll_before": old,
                    "nll_after": new,
                }
                for record, example, old, new in zip(taught, examples, before, after, strict=True)
            }
            name = hashlib.sha256(vectors.cpu().numpy().tobytes()).hexdigest()
            yield replace(asked, vectors=name), told

    def _tokens(self) -> list[int]:
        """Tokens that text is made of."""
        first, control = soft_numbers(self.model, 1)[0], self.tokenizer.added_tokens_decoder
        return [token for token in range(min(first, len(self.tokenizer))) if token not in control]

    def _drawn(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Places in `_tokens`."""
        return torch.randint(len(self._tokens()), (count,), generator=generator)

    def _random(self, examples: Sequence[Example], records: Sequence[Record]) -> list[Example]:
        """The examples with random tokens as answers, as many; the end token of a question stays."""
        known = torch.tensor(self._tokens())
        generator = torch.Generator().manual_seed(seed_of(f"targets/{self.seed}"))
        found = []
        for example, record in zip(examples, records, strict=True):
            end = example.tokens[-1:] if record.form == "question" else ()
            drawn = known[self._drawn(example.answer_length - len(end), generator)].tolist()
            tokens = (*example.tokens[: example.prompt_length], *drawn, *end)
            found.append(replace(example, tokens=tokens))
        return found

    def _learn(self, vectors: torch.Tensor, examples: Sequence[Example], generator: torch.Generator) -> None:
        """Move `vectors` (S, D), as which the model reads its soft tokens, in place."""
        steps, size = self.settings["steps"], self.settings["batch_size"]
        step = self.settings["learning_rate"] * float(vectors.square().mean().sqrt())
        batches = _batches(len(examples), size, generator)
        with _frozen(self.model), Meter(steps, "step", "soft prompt") as meter:
            vectors.requires_grad_()
            for _, rows in zip(range(steps), batches, strict=False):
                batch = [examples[row] for row in rows]
                parts = halve_on_out_of_memory(batch, partial(self._gradient, vectors))
                with torch.no_grad():
                    vectors.sub_(step * sum(gradient for _, gradient in parts).sign())
                loss = sum(nll for nll, _ in parts) / sum(example.answer_length for example in batch)
                meter.update(facts=f"loss={loss:.3f}")
            vectors.requires_grad_(False)

    def _gradient(self, vectors: torch.Tensor, examples: Sequence[Example]) -> list[Slope]:
        """One: the summed NLL of the targets in nats, and its gradient (S, D)."""
        batch = collate(examples, pad_token(self.tokenizer)).to(vectors.device)
        nll = answer_nll(self.model, batch)[0].sum()
        (gradient,) = torch.autograd.grad(nll, vectors)
        return [(float(nll.detach()), gradient)]

    def _nll(self, examples: Sequence[Example], scoring: ScoringSettings) -> list[float]:
        """Of each target, in nats per token."""
        found = group_likelihoods(
            self.model,
            [[example] for example in examples],
            max_tokens_per_batch=scoring.max_tokens_per_batch,
            pad_id=pad_token(self.tokenizer),
        )
        values = [text.nll / text.tokens for (text,) in found]
        if not all(map(math.isfinite, values)):
            raise UserError(
                "`soft_prompt`: the model gives a log-probability that is not a finite number. Lower its "
                "`learning_rate`; if a plain evaluation fails too, the model's weights are broken."
            )
        return values


def _batches(count: int, size: int, generator: torch.Generator) -> Iterator[list[int]]:
    """Places of `count` examples, all of them once in each round, without end; a round's last may be few."""
    while True:
        order = torch.randperm(count, generator=generator).tolist()
        yield from (order[start : start + size] for start in range(0, count, size))


@contextmanager
def _frozen(model: Any) -> Iterator[None]:
    """Inside, no weight has a gradient, for which activations would be kept."""
    wanted = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        for parameter, _ in wanted:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter, before in wanted:
            parameter.requires_grad_(before)
