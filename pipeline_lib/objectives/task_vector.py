"""Task vectors: learn what is to be forgotten, then walk the same way back."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pipeline_lib.data.batching import Batch
from pipeline_lib.objectives.base import Losses, Objective, mean_nll


@dataclass(frozen=True)
class TaskVector(Objective):
    """theta = theta_0 - scale (theta_ft - theta_0), with theta_ft trained from theta_0 on L = lm_f.

    Source: Ilharco et al. 2023, arXiv 2212.04089, section 3 (negation). lm_f is the mean NLL per answer
    token of the forget set, in nats: training goes down, and `finish` mirrors the change at theta_0.
    The paper picks the scale on held-out data (its section 3 tries 0 to 1 in steps of 0.05); 1 is
    the whole vector. Traps: the optimiser's weight decay and the noise of short runs are in the vector too;
    loss curves fall while the result unlearns, so the log says nothing about forgetting.
    """

    scale: float

    uses_retain = False
    needs_original_weights = True

    def __call__(self, model, forget: Batch | None, retain: Batch | None) -> Losses:
        assert forget is not None
        loss = mean_nll(model, forget)
        return Losses(loss, loss.detach(), None)

    @torch.no_grad()
    def finish(self, model: torch.nn.Module, original: dict[str, torch.Tensor]) -> None:
        for name, parameter in model.named_parameters():
            before = original[name].to(parameter)
            parameter.copy_(before - self.scale * (parameter - before))
