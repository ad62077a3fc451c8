"""Fine-tuning on the retain set towards sparse weights."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from pipeline_lib.core.blocks import NonNegative
from pipeline_lib.objectives.base import Batch, Losses, Objective, mean_nll, share_of_step


class L1Sparse(Objective):
    """L = lm_r + strength ||theta||_1 (Jia et al. 2023, arXiv 2304.04934, eq. 3; in SOUL's code too).

    The forget set is not read: what it alone holds should be pruned away. theta are the parameters that
    learn (with LoRA the adapters). The norm is a sum over all of them, so a useful `strength` falls with
    their number: it adds +-strength to each gradient, to be compared with the gradient of lm_r. The paper
    uses 5e-4 on image classifiers of 1e7 parameters.
    """

    kind: Literal["L1Sparse"]
    strength: NonNegative = Field(
        1e-6,
        description="Weight of the sum of absolute weights. The paper's 5e-4 is for networks of 1e7 weights; "
        "with 1e9 the norm of its gradient would be 16, so this default is ours",
    )

    uses_forget: ClassVar[bool] = False
    in_parts: ClassVar[str | None] = (
        "its penalty reads all weights at once, outside the layers that gather them"
    )

    def loss_of(self, model: Any, forget: Batch | None, retain: Batch | None) -> Losses:
        import torch

        assert retain is not None
        loss = mean_nll(model, retain)
        learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
        norm = torch.stack([parameter.float().abs().sum() for parameter in learning]).sum()
        return Losses(loss + self.strength * share_of_step(retain) * norm, None, loss.detach())
