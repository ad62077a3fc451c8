"""Training on the retain set alone: ordinary fine-tuning, and fine-tuning towards sparse weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pipeline_lib.data.batching import Batch
from pipeline_lib.objectives.base import Losses, Objective, mean_nll, share_of_step


@dataclass(frozen=True)
class FineTuning(Objective):
    """L = lm_r: mean NLL per answer token of the training data, handed over as the retain batch.

    It makes the `target` and the `retrained` model.
    """

    uses_forget = False

    def __call__(self, model, forget: Batch | None, retain: Batch | None) -> Losses:
        assert retain is not None
        loss = mean_nll(model, retain)
        return Losses(loss, None, loss.detach())


@dataclass(frozen=True)
class L1Sparse(Objective):
    """L = lm_r + strength ||theta||_1 (Jia et al. 2023, arXiv 2304.04934, eq. 3; in SOUL's code too).

    The forget set is not read: what only it holds is to be pruned away. theta are the parameters that
    learn (with LoRA the adapters). The norm is a sum over all of them, so a useful `strength` falls with
    their number: the gradient of each is +-strength, to be held against the gradient of lm_r. The paper
    uses 5e-4 on image classifiers of 1e7 parameters.
    """

    strength: float
    uses_forget = False

    def __call__(self, model, forget: Batch | None, retain: Batch | None) -> Losses:
        assert retain is not None
        loss = mean_nll(model, retain)
        learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
        norm = torch.stack([parameter.float().abs().sum() for parameter in learning]).sum()
        return Losses(loss + self.strength * share_of_step(retain) * norm, None, loss.detach())
