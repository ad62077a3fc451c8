"""Every objective with settings that are not 1, and how the tests run one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from pipeline_lib.data.batching import Batch
from pipeline_lib.objectives import FineTuning, Objective, make_objective
from tests.tiny import flat

GAMMA, BETA, ALPHA = 0.7, 0.2, 0.6
CASES: dict[str, Callable[..., Objective]] = {  # name -> objective of a reference model
    "FineTuning": lambda reference: FineTuning(),
    "GradAscent": lambda reference: make_objective("GradAscent"),
    "GradDiff": lambda reference: make_objective("GradDiff", gamma=GAMMA),
    "KL": lambda reference: make_objective("KL", gamma=GAMMA, reference_model=reference),
    "PO": lambda reference: make_objective("PO", gamma=GAMMA),
    "NPO": lambda reference: make_objective("NPO", beta=BETA, alpha=ALPHA),
}


def loss_and_gradient(
    objective: Objective, model, forget: Sequence[Batch], retain: Sequence[Batch]
) -> tuple[dict[str, float | None], torch.Tensor]:
    """Losses and the gradient (one vector) summed over the micro-batches of one step."""
    model.zero_grad(set_to_none=True)
    sums: dict[str, float | None] = {"total": None, "forget": None, "retain": None}
    for pair in zip(forget, retain, strict=True):
        losses = objective(model, *pair)
        losses.total.backward()
        for name, before in sums.items():
            value = getattr(losses, name)
            if value is not None:
                sums[name] = (before or 0.0) + float(value.detach())
                assert name == "total" or not value.requires_grad  # for the log only
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
    return sums, flat(gradients)
