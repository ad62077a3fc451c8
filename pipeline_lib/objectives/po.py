"""Learning another answer to the forget prompts: refusals (SOUL's PO), or answers to other questions."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline_lib.data.batching import Batch
from pipeline_lib.objectives.base import Losses, mean_nll
from pipeline_lib.objectives.retain import TwoTerms


@dataclass(frozen=True)
class _OtherAnswer(TwoTerms):
    """L = forget_weight CE(y' given x_f) + gamma retain; the forget batch holds y' in place of the answer."""

    gamma: float
    forget_answers = "alternative"

    def __call__(self, model, forget: Batch | None, retain: Batch | None) -> Losses:
        assert forget is not None and retain is not None
        other_loss, (kept, retain_loss) = mean_nll(model, forget), self.retain_term(model, retain)
        total = self.forget_weight * other_loss + self.gamma * kept
        return Losses(total, other_loss.detach(), retain_loss)


@dataclass(frozen=True)
class PO(_OtherAnswer):
    """L = CE(refusal given x_f) + gamma lm_r (SOUL eq. 6, arXiv 2404.18239; "IDK" in TOFU).

    Refusals have their end token. In SOUL's released code they have none, so that the model never learns to
    stop after one, and the last token of the prompt is trained as well: `unlearn.encoding: soul_as_released`
    (data/released_encoding.py) does the same.
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
