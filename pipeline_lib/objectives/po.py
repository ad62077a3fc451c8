"""Learning another answer to the forget prompts: refusals (SOUL's PO), or answers to other questions."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline_lib.data.batching import Batch
from pipeline_lib.objectives.base import Losses, Objective, mean_nll


@dataclass(frozen=True)
class _OtherAnswer(Objective):
    """L = CE(y' given x_f) + gamma lm_r, with y' what the forget batch holds in place of the answer."""

    gamma: float
    forget_answers = "alternative"

    def __call__(self, model, forget: Batch | None, retain: Batch | None) -> Losses:
        assert forget is not None and retain is not None
        other_loss, retain_loss = mean_nll(model, forget), mean_nll(model, retain)
        return Losses(other_loss + self.gamma * retain_loss, other_loss.detach(), retain_loss.detach())


@dataclass(frozen=True)
class PO(_OtherAnswer):
    """L = CE(refusal given x_f) + gamma lm_r (SOUL eq. 6, arXiv 2404.18239; "IDK" in TOFU).

    Refusals are whole and have their end token (the released code loses the first word and never
    learns to stop).
    """

    alternatives = "refusals"


@dataclass(frozen=True)
class RandomLabels(_OtherAnswer):
    """L = CE(y' given x_f) + gamma lm_r, with y' the answer to another forget question.

    Source: relabelling, Golatkar et al. 2020, arXiv 1911.04933, section 5; a random mismatch of text as in
    Yao et al. 2023, arXiv 2310.10683. Each record has one wrong answer for the whole run, and no
    answer is used twice. SOUL's code reads its labels from the retain batch, from the token at which the
    forget answer begins, so that they start and end anywhere, and has no retain term (gamma 0).
    """

    alternatives = "random_labels"
