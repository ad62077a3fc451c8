"""Norm of the gradient of one example's loss, a membership signal (GradNorm)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from pipeline_lib.core.errors import UserError
from pipeline_lib.data.batching import Example, collate
from pipeline_lib.models.forward import answer_nll
from pipeline_lib.models.memory import halve_on_out_of_memory


def gradient_norms(
    model, examples: Sequence[Example], pad_id: int, on_progress: Callable[[int], object] = lambda done: None
) -> list[float]:
    """||d NLL / d theta||_2 of each example, NLL the mean over its answer tokens in nats; 0 or more.

    theta are all parameters, tied ones once. Lower on members, whose loss is near a minimum (Wang et al.
    2024, "Pandora's White-Box", arXiv 2402.17012; p = 2). Examples run one at a time: the norm of each is
    wanted, not that of their sum.
    """
    parameters = list(model.parameters())
    wanted = [parameter.requires_grad for parameter in parameters]

    def norm(example: Example) -> float:
        device = model.get_input_embeddings().weight.device
        nll, _ = answer_nll(model, collate([example], pad_id).to(device))
        gradients = torch.autograd.grad(nll.mean(), parameters, allow_unused=True)
        squares = [g.float().square().sum(dtype=torch.float64) for g in gradients if g is not None]
        return math.sqrt(sum(torch.stack(squares).tolist()))  # a GPU waits once

    norms = []
    try:
        for parameter in parameters:
            parameter.requires_grad_(True)
        for example in examples:
            norms += halve_on_out_of_memory([example], lambda one: [norm(one[0])])
            if not math.isfinite(norms[-1]):
                raise UserError(
                    "the gradient's norm is not a finite number. The model's weights are broken (a diverged "
                    "run): train it again with a lower learning rate."
                )
            on_progress(1)
    finally:
        for parameter, before in zip(parameters, wanted, strict=True):
            parameter.requires_grad_(before)
    return norms
