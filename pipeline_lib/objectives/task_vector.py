"""Task vectors: learn what is to be forgotten, then walk the same way back."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from pipeline_lib.core.blocks import Positive
from pipeline_lib.objectives.base import Batch, Losses, Objective, Tensor, mean_nll


class TaskVector(Objective):
    """theta = theta_0 - scale (theta_ft - theta_0), with theta_ft trained from theta_0 on L = lm_f.

    Source: Ilharco et al. 2023, arXiv 2212.04089, section 3 (negation). lm_f is the mean NLL per answer
    token of the forget set, in nats: training goes down, and `finish` mirrors the change at theta_0.
    The paper picks the scale on held-out data (its section 3 tries 0 to 1 in steps of 0.05); 1 is the whole
    vector. Traps: the optimiser's weight decay and the noise of short runs are in the vector too; the logged
    loss falls although the result unlearns, so the log says nothing about forgetting. `unlearn.epochs` and
    the optimiser determine how long and how the model learns the forget set.
    """

    kind: Literal["TaskVector"]
    scale: Positive = Field(1.0, description="How much of the change is taken back, at the original model")

    uses_retain: ClassVar[bool] = False
    needs_original_weights: ClassVar[bool] = True

    def loss_of(self, model: Any, forget: Batch | None, retain: Batch | None) -> Losses:
        assert forget is not None
        loss = mean_nll(model, forget)
        return Losses(loss, loss.detach(), None)

    def finish(self, model: Any, original: dict[str, Tensor]) -> None:
        import torch

        with torch.no_grad():
            for name, parameter in model.named_parameters():
                before = original[name].to(parameter)
                parameter.copy_(before - self.scale * (parameter - before))
