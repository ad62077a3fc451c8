"""What the layers of a model know of each answer: by the logit lens, and by what they do in `original`.

Logit lens (nostalgebraist 2020, "interpreting GPT: the logit lens"): a layer's hidden state goes through what
the model itself does after its last layer, the final norm and the output embedding; the log-probability of
the answer is read there. For the last layer this is the model's own.

Activation patching (Lee, Kim and Jo 2026, arXiv 2605.24614, eq. 1 and 3; gnueaj/unlearning-depth-score at
fc31639, compute_uds.py): the states of one layer of the judged model take the place of the same layer's in
`original`, at the positions that predict answer tokens, teacher forced. The drop of `original`'s mean
log-probability of these tokens says how much of the answer the judged model lacks there;
metrics/depth_score.py makes the Unlearning Depth Score of the drops.

Not as there: the authors score the tokens of a hand-marked entity, and patch there alone; records have no
such mark, so the whole answer counts, its end token too (their `full` span). Their last layer's state comes
from transformers' list of hidden states, whose last entry has passed the final norm, and passes it again in
`original`; here it is what the layer itself gives.

Where two models ask in other prompts (an instruction before the question), positions are paired by answer
token. Trap: hidden states compare only between models that come from the same weights.

Shapes: B questions, T tokens, N answer tokens of a batch, D hidden size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.meter import Meter
from pipeline_lib.data.batching import IGNORED, Batch, Example, collate, token_budget_batches
from pipeline_lib.data.records import Record
from pipeline_lib.engine.likelihoods import NotFiniteError
from pipeline_lib.engine.rows import Row
from pipeline_lib.engine.settings import ScoringSettings
from pipeline_lib.models.chosen_layers import Every, chosen_layers, layers_fault
from pipeline_lib.models.encoding import encode_records
from pipeline_lib.models.forward import last_hidden, over_vocabulary, pad_token, token_nll
from pipeline_lib.models.head import output_head
from pipeline_lib.models.layers import decoder_layers
from pipeline_lib.models.memory import halve_on_out_of_memory

if TYPE_CHECKING:
    from pipeline_lib.models.prompt import PromptFormat

WHO = "`evaluation.inside`"
SPLIT = "forget"

Hook = Callable[..., Any]
Look = tuple[list[float], list[float]]  # of one question: by layer, log-probability by the lens, and drop


@dataclass(frozen=True)
class Answering:
    """A model, and every record's answer after its prompt as this model reads it."""

    model: Any
    examples: list[Example]
    pad_id: int

    @classmethod
    def of(
        cls, model, tokenizer, prompt_format: PromptFormat, records: Sequence[Record], max_length: int
    ) -> Answering:
        """`UserError` for a record that is too long."""
        examples = encode_records(records, tokenizer, prompt_format, max_length, learn=False)
        return cls(model, examples, pad_token(tokenizer))

    def batch(self, places: Sequence[int]) -> Batch:
        """These records as a batch in which every text is read for itself: hooks see (B, T, D)."""
        batch = collate([self.examples[place] for place in places], self.pad_id)
        apart = batch if batch.hidden is not None else replace(batch, hidden=torch.zeros_like(batch.labels))
        return apart.to(self.model.get_input_embeddings().weight.device)


def look_inside(
    own: Answering,
    original: Answering | None,
    records: Sequence[Record],
    settings: ScoringSettings,
    every: Every,
    progress: bool = True,
) -> list[Row]:
    """A row a record, in order; `original`: whose layers are patched, None where nothing is.

    Row: `split`, `id`, `group`, `layers` (numbers from 0), `lens`, the log-probability of the answer in nats
    per token that each of them shows, and with `original` `drop`, what `original` loses of its own with the
    layer's states in the place of its own, in nats per token. Models run in the dtype of their weights.

    Raises `UserError` for more layers than there are, another tokenizer, and an architecture that does more
    after its last layer than to norm and project; `NotFiniteError` for a broken model.
    """
    count = len(decoder_layers(own.model, WHO))
    if fault := layers_fault(every, count):
        raise UserError(f"{WHO}.layers: {fault}")
    layers = chosen_layers(every, count)
    if original is not None:
        _check_same_answers(own, original, records)
    found: dict[int, Look] = {}

    def look(places: Sequence[int]) -> list[Look]:
        return _look(own, original, places, layers)

    with Meter(len(records), "question", "inside", show=progress) as meter:
        for batch in token_budget_batches(own.examples, settings.max_tokens_per_batch):
            places = [example.index for example in batch]
            found.update(zip(places, halve_on_out_of_memory(places, look), strict=True))
            meter.update(len(places))
    return [
        _row(record, layers, *found[place], patched=original is not None)
        for place, record in enumerate(records)
    ]


def _row(record: Record, layers: list[int], lens: list[float], drop: list[float], patched: bool) -> Row:
    if not all(map(math.isfinite, (*lens, *drop))):
        raise NotFiniteError(
            f"split {SPLIT!r}, record {record.id!r}: a layer gives a log-probability that is not a finite "
            "number. The model's weights are broken: train it again with a lower learning rate or in fp32."
        )
    row = {"split": SPLIT, "id": record.id, "group": record.group, "layers": layers, "lens": lens}
    return {**row, "drop": drop} if patched else row


def _check_same_answers(own: Answering, original: Answering, records: Sequence[Record]) -> None:
    for record, one, other in zip(records, own.examples, original.examples, strict=True):
        if one.tokens[one.prompt_length :] != other.tokens[other.prompt_length :]:
            raise UserError(
                f"record {record.id!r}: its answer has other tokens in `original`, whose layers can only be "
                "patched token by token; leave `depth` out for this task"
            )


@torch.inference_mode()
def _look(
    own: Answering, original: Answering | None, places: Sequence[int], layers: Sequence[int]
) -> list[Look]:
    """What a batch of records shows."""
    batch = own.batch(places)
    states = layer_states(own.model, batch, layers)
    lens = [_by_question(_log_p(own.model, batch, shown), batch) for shown in states.after_the_last()]
    drops: list[list[float]] = []
    if original is not None:
        patched = original.batch(places)
        rows, positions = _predicting(patched)
        whole = last_hidden(original.model, patched)[rows, positions]  # (N, D)
        known = _by_question(_log_p(original.model, patched, whole), patched)
        for layer, given in zip(layers, states.given, strict=True):
            with _putting(original.model, layer, given, rows, positions):
                hidden = last_hidden(original.model, patched)[rows, positions]
            left = _by_question(_log_p(original.model, patched, hidden), patched)
            drops.append([before - after for before, after in zip(known, left, strict=True)])
    return [
        ([of_layer[place] for of_layer in lens], [of_layer[place] for of_layer in drops])
        for place in range(len(places))
    ]


@dataclass(frozen=True)
class LayerStates:
    """`given`: what each chosen layer gives at the predicting positions, (N, D), the last layer at the end.

    `after`: the modules that run after the last layer.
    """

    given: list[torch.Tensor]
    after: list[torch.nn.Module]

    def after_the_last(self) -> Iterator[torch.Tensor]:
        """The states of each layer as if it were the last one, (N, D): what the output embedding reads."""
        for hidden in self.given:
            for module in self.after:
                hidden = module(hidden)
            yield hidden


def layer_states(model: Any, batch: Batch, layers: Sequence[int]) -> LayerStates:
    """What these layers give in one pass; the last of the model's layers is the last of `layers`.

    What follows the last layer is seen while the model runs, so no architecture's names are needed. It is
    tried on the last layer: `UserError` where it does not give what the model itself does.
    """
    decoder, every = model.get_decoder(), decoder_layers(model, WHO)
    rows, positions = _predicting(batch)
    given: dict[int, torch.Tensor] = {}
    after: list[torch.nn.Module] = []

    def keep(layer: int) -> Hook:
        def kept(_module: Any, _inputs: Any, output: Any) -> None:
            given[layer] = _hidden(output)[rows, positions]

        return kept

    hooks: list[tuple[torch.nn.Module, Hook]] = [(every[layer], keep(layer)) for layer in layers]
    hooks += [(child, lambda module, *_: after.append(module)) for child in decoder.children()]
    hooks.append((every[len(every) - 1], lambda *_: after.clear()))  # what ran before it
    with _hooked(hooks):
        last = last_hidden(model, batch)[rows, positions]  # (N, D)
    states = LayerStates([given[layer] for layer in layers], list(after))
    *_, shown = states.after_the_last()
    if shown.shape != last.shape or not torch.allclose(shown, last, rtol=1e-3, atol=1e-3, equal_nan=True):
        raise UserError(
            f"{WHO}: {type(model).__name__} does more after its last layer than its parts show, so a layer "
            "cannot be read as if it were the last; leave `inside` out for this model"
        )
    return states


@contextmanager
def _putting(
    model: Any, layer: int, states: torch.Tensor, rows: torch.Tensor, positions: torch.Tensor
) -> Iterator[None]:
    """Inside, `layer` gives `states` (N, D) at these places, and what it gives anyway at all others."""

    def put(_module: Any, _inputs: Any, output: Any) -> Any:
        hidden = _hidden(output).clone()
        hidden[rows, positions] = states.to(hidden)
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    with _hooked([(decoder_layers(model, WHO)[layer], put)]):
        yield


@contextmanager
def _hooked(hooks: Sequence[tuple[torch.nn.Module, Hook]]) -> Iterator[None]:
    handles = [module.register_forward_hook(hook) for module, hook in hooks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hidden(output: Any) -> torch.Tensor:
    """The hidden states (B, T, D) in what a layer returns."""
    hidden: torch.Tensor = output[0] if isinstance(output, tuple) else output
    return hidden


def _predicting(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows and positions (N,) that predict an answer token, row by row."""
    rows, positions = (batch.labels[:, 1:] != IGNORED).nonzero(as_tuple=True)
    return rows, positions


def _log_p(model: Any, batch: Batch, hidden: torch.Tensor) -> torch.Tensor:
    """Log-probability in nats (N,) of the answer tokens, from the states (N, D) that the head reads."""
    targets = batch.labels[:, 1:]
    (nll,) = over_vocabulary(output_head(model), hidden, token_nll, targets[targets != IGNORED])
    return -nll


def _by_question(log_p: torch.Tensor, batch: Batch) -> list[float]:
    """Mean over the answer tokens of each question, B numbers."""
    rows, _ = _predicting(batch)
    zeros = torch.zeros(len(batch.labels), dtype=torch.float64, device=log_p.device)
    total = zeros.index_add(0, rows, log_p.double())
    return (total / zeros.index_add(0, rows, torch.ones_like(log_p, dtype=torch.float64))).tolist()
