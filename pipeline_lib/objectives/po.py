"""Learning other answers to the forget prompts: refusals (SOUL's PO), or answers to other questions."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from pipeline_lib.core.blocks import NonNegative
from pipeline_lib.objectives.base import Alternatives, Batch, ForgetAnswers, Losses, mean_nll
from pipeline_lib.objectives.retain import RETAIN, TwoTerms


class _OtherAnswer(TwoTerms):
    """L = forget_weight CE(y' given x_f) + gamma retain; the forget batch holds y' in place of the answer."""

    gamma: NonNegative = Field(1.0, description=RETAIN)

    forget_answers: ClassVar[ForgetAnswers] = "alternative"

    def loss_of(self, model: Any, forget: Batch | None, retain: Batch | None) -> Losses:
        assert forget is not None and retain is not None
        other_loss = mean_nll(model, forget)
        return self.losses(other_loss, other_loss, self.gamma, model, retain)


class PO(_OtherAnswer):
    """L = CE(refusal given x_f) + gamma lm_r (SOUL eq. 6, arXiv 2404.18239; "IDK" in TOFU).

    Refusals have their end token. In SOUL's released code they have none, so that the model never learns to
    stop after one, and the last token of the prompt is trained as well: `unlearn.encoding: soul_as_released`
    (models/released_encoding.py) does the same.
    """

    kind: Literal["PO"]

    @property
    def teaches(self) -> Alternatives:
        return "refusals"


class RandomLabels(_OtherAnswer):
    """L = CE(y' given x_f) + gamma lm_r, with y' the answer to another forget question.

    Source: relabelling, Golatkar et al. 2020, arXiv 1911.04933, section 5; a random mismatch of text as in
    Yao et al. 2023, arXiv 2310.10683. Each record has one wrong answer for the whole run, and no
    answer is used twice. SOUL's code reads its labels from the retain batch, from the token at which the
    forget answer begins, so that they start and end anywhere, and has no retain term (gamma 0).
    """

    kind: Literal["RandomLabels"]
    gamma: NonNegative = Field(1.0, description=f"{RETAIN}; SOUL's code has none (0)")

    @property
    def teaches(self) -> Alternatives:
        return "random_labels"
