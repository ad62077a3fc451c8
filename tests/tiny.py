"""A tiny random Llama and token examples without a tokenizer, shared by the numerical tests."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM, LlamaConfig

from pipeline_lib.curvature import gauss_newton
from pipeline_lib.data.batching import IGNORED, Batch, Example

VOCAB, PAD, END = 64, 0, 2


def tiny_model(seed: int = 0, dtype: torch.dtype = torch.float32, **changes):
    """A Llama of two layers whose predictions are far from uniform.

    Weights come from a generator of their own, drawn in fp64 in the order of their names, so that golden
    numbers outlive a change in how the library initialises. In fp64 the norms are torch's, because
    Llama's own round to fp32.
    """
    sizes = {
        "vocab_size": VOCAB,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "tie_word_embeddings": True,
    }
    config = LlamaConfig(**{**sizes, **changes}, pad_token_id=PAD, bos_token_id=1, eos_token_id=END)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")
    model.get_input_embeddings().padding_idx = None
    if dtype == torch.float64:
        for name, module in list(model.named_modules()):
            if type(module).__name__ == "LlamaRMSNorm":
                width, eps = module.weight.shape, module.variance_epsilon
                model.set_submodule(name, torch.nn.RMSNorm(width, eps, dtype=dtype))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, parameter in sorted(model.named_parameters()):
            drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(0.3 * drawn if parameter.dim() == 2 else 1 + 0.1 * drawn)
    return model.eval()


def make_examples(lengths: Sequence[tuple[int, int]], seed: int = 0) -> list[Example]:
    """Random examples of these prompt and answer lengths; every answer ends with the end token."""
    source = random.Random(seed)
    examples = []
    for index, (prompt, answer) in enumerate(lengths):
        tokens = [source.randrange(3, VOCAB) for _ in range(prompt + answer - 1)]
        examples.append(Example((*tokens, END), prompt, index))
    return examples


def random_examples(n: int, seed: int = 0) -> list[Example]:
    """`n` examples of 3 to 14 tokens."""
    source = random.Random(f"lengths {seed}")
    return make_examples([(source.randint(2, 6), source.randint(1, 8)) for _ in range(n)], seed)


def pad_right(batch: Batch, extra: int, token: int) -> Batch:
    """The batch, and its alternative, with `extra` columns of padding, which hold `token`."""
    return replace(
        batch,
        alternative=None if batch.alternative is None else pad_right(batch.alternative, extra, token),
        input_ids=F.pad(batch.input_ids, (0, extra), value=token),
        attention_mask=F.pad(batch.attention_mask, (0, extra)),
        labels=F.pad(batch.labels, (0, extra), value=IGNORED),
    )


def flat(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """One vector (copied) of all elements."""
    return torch.cat([tensor.detach().reshape(-1).clone() for tensor in tensors])


class Bigram(torch.nn.Module):
    """The simplest language model: row v of `table` holds the log-probabilities of what follows token v.

    It has the joints the library uses, so that every number of a test can be worked out on paper; its one
    layer changes nothing, so that hidden states are the rows of the table.
    """

    class _Decoder(torch.nn.Module):
        def __init__(self, table: torch.nn.Parameter):
            super().__init__()
            self.table = table
            self.layers = torch.nn.ModuleList([torch.nn.Identity()])

        def forward(self, input_ids, **_ignored):
            class Output:
                last_hidden_state = self.layers[0](self.table[input_ids])  # (B, T, V)

            return Output

    def __init__(self, probabilities: Sequence[Sequence[float]]):
        super().__init__()
        self.table = torch.nn.Parameter(torch.tensor(probabilities, dtype=torch.float64).log())
        self.decoder = self._Decoder(self.table)

    def get_decoder(self) -> torch.nn.Module:
        return self.decoder

    def get_output_embeddings(self) -> torch.nn.Module:
        return torch.nn.Identity()


def labels_without_chance(patch: pytest.MonkeyPatch) -> None:
    """Curvature labels that depend on a position's own distribution alone: its least likely token."""

    def least_likely(probabilities, place):
        assert len(place) == len(probabilities)
        return probabilities.argmin(-1)

    patch.setattr(gauss_newton, "draw_labels", least_likely)


@contextmanager
def in_float64() -> Iterator[None]:
    """Everything in fp64, also what the library casts with `.float()`: an equation then holds to 1e-12.

    Also a decorator.
    """
    default = torch.get_default_dtype()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "float", torch.Tensor.double)
        torch.set_default_dtype(torch.float64)
        try:
            yield
        finally:
            torch.set_default_dtype(default)
