"""Models small enough for the whole Gauss-Newton matrix, and a convex one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from pipeline_lib.data.batching import Batch, Example, collate
from pipeline_lib.models.forward import answer_logits
from tests.tiny import random_examples, tiny_model

VOCAB = 7


def small_model(**changes):
    """About 460 parameters in fp64, embeddings tied."""
    sizes = {
        "vocab_size": VOCAB,
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
    }
    return tiny_model(0, torch.float64, **{**sizes, **changes})


def small_examples(n: int, seed: int = 0) -> list[Example]:
    return [replace(e, tokens=tuple(token % VOCAB for token in e.tokens)) for e in random_examples(n, seed)]


def dense_gauss_newton(
    model, examples: Sequence[Example], parameters: Sequence[torch.Tensor]
) -> torch.Tensor:
    """G (P, P) from whole Jacobians by reverse mode, one answer position after the other."""
    logits = answer_logits(model, collate(examples, 0))[0]  # (N, V)
    total = torch.zeros(2 * (sum(p.numel() for p in parameters),))
    for row in logits:
        rows = [
            torch.autograd.grad(
                logit, parameters, retain_graph=True, allow_unused=True, materialize_grads=True
            )
            for logit in row
        ]
        jacobian = torch.stack([torch.cat([part.flatten() for part in parts]) for parts in rows])  # (V, P)
        p = row.detach().softmax(-1)
        total += jacobian.T @ (p.diag() - torch.outer(p, p)) @ jacobian
    return total / len(logits)


class Regression(torch.nn.Module):
    """Softmax regression with the two joints of a language model: token x reads row x of `features`.

    The example (x, y) has prompt x and answer y. For logits that are linear in the weights the
    Gauss-Newton matrix is the Hessian.
    """

    def __init__(self, features: torch.Tensor, classes: int) -> None:
        super().__init__()
        self.register_buffer("features", features)  # (n, D)
        self.head = torch.nn.Linear(features.shape[1], classes, bias=False, dtype=features.dtype)
        torch.nn.init.zeros_(self.head.weight)

    def get_decoder(self):
        class Output:
            last_hidden_state: torch.Tensor

        def decode(input_ids, **_ignored):
            output = Output()
            output.last_hidden_state = self.features[input_ids]
            return output

        return decode

    def get_output_embeddings(self) -> torch.nn.Module:
        return self.head


class Untraceable(torch.autograd.Function):
    """The identity, with a gradient but without a forward derivative."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient


def without_answers(batch: Batch) -> Batch:
    return replace(batch, labels=torch.full_like(batch.labels, -100))
