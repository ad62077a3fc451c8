"""Preference optimisation with pairs: another answer is preferred to the one to forget."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from pipeline_lib.core.blocks import NonNegative, Positive
from pipeline_lib.objectives.base import Alternatives, Batch, ForgetAnswers, Losses, reference_nll
from pipeline_lib.objectives.retain import RETAIN, TwoTerms


class _Pairs(TwoTerms):
    """L = -w (2 / beta) mean_i log sigmoid(beta [(l_i - l_ref,i) - (l'_i - l'_ref,i)]) + alpha retain.

    w: `forget_weight`. l_i: SUMMED NLL of the answer to forget, l'_i that of the alternative that one step
    draws for it, in nats; ref: under the model before unlearning, two numbers an example, so no second model
    is kept. The mean is over the examples of the step. The factor 2 / beta is that of NPO and of
    OpenUnlearning (Rafailov et al. and TOFU's code have none); without alternatives L would be NPO.
    """

    beta: Positive = 0.1
    alpha: NonNegative = Field(1.0, description=RETAIN)

    forget_answers: ClassVar[ForgetAnswers] = "both"
    needs_reference_nll: ClassVar[bool] = True

    def loss_of(self, model: Any, forget: Batch | None, retain: Batch | None) -> Losses:
        import torch.nn.functional as F

        from pipeline_lib.models.forward import summed_nll

        assert forget is not None and retain is not None
        other = forget.alternative
        if other is None:
            raise ValueError(f"{self.kind} needs `Batch.alternative` of the forget batch")
        references = reference_nll(self, forget), reference_nll(self, other)
        summed = summed_nll(model, forget)  # (B,)
        difference = (summed - references[0]) - (summed_nll(model, other) - references[1])  # (B,)
        loss = -(2 / self.beta) * F.logsigmoid(self.beta * difference).sum() / forget.examples_in_step
        return self.losses(loss, summed.sum() / forget.tokens_in_step, self.alpha, model, retain)


class DPO(_Pairs):
    """Direct preference optimisation (Rafailov et al. 2023, arXiv 2305.18290, eq. 7), pairs as said above.

    `alternatives`: "records" for the task's own alternative answers, "refusals" for IdkDPO.
    """

    kind: Literal["DPO"]
    alternatives: Literal["records", "refusals"] = Field(
        "records", description="What is preferred: the task's alternative answers, or its refusals"
    )

    @property
    def teaches(self) -> Alternatives:
        return self.alternatives


class IdkDPO(_Pairs):
    """DPO that prefers refusals (TOFU, arXiv 2401.06121; Zhang et al. 2024, arXiv 2404.05868)."""

    kind: Literal["IdkDPO"]

    @property
    def teaches(self) -> Alternatives:
        return "refusals"


class AltPO(_Pairs):
    """DPO that prefers plausible answers of the same domain (Mekala et al. 2024, arXiv 2409.13474).

    The alternatives are the records' own. The paper samples five for each question from the model itself
    at temperature 1, so that they sound like it.
    """

    kind: Literal["AltPO"]

    @property
    def teaches(self) -> Alternatives:
        return "records"
