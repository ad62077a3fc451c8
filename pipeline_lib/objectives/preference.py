"""Preference optimisation with pairs: another answer is preferred to the one to forget."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch.nn.functional as F

from pipeline_lib.data.batching import Batch
from pipeline_lib.models.forward import summed_nll
from pipeline_lib.objectives.base import Alternatives, Losses, reference_nll
from pipeline_lib.objectives.retain import TwoTerms


@dataclass(frozen=True)
class _Pairs(TwoTerms):
    """L = -w (2 / beta) mean_i log sigmoid(beta [(l_i - l_ref,i) - (l'_i - l'_ref,i)]) + alpha retain.

    w: `forget_weight`.

    l_i: SUMMED NLL of the answer to forget, l'_i of the alternative that one step draws for it, in nats;
    ref: under the model before unlearning, two numbers an example, so no second model is kept. The mean
    is over the examples of the step. The factor 2 / beta is that of NPO and of OpenUnlearning (Rafailov et
    al. and TOFU's code have none); without alternatives L would be NPO.
    """

    beta: float
    alpha: float
    forget_answers = "both"
    needs_reference_nll = True

    def __call__(self, model, forget: Batch | None, retain: Batch | None) -> Losses:
        assert forget is not None and retain is not None
        other = forget.alternative
        if other is None:
            raise ValueError(f"{type(self).__name__} needs `Batch.alternative` of the forget batch")
        references = reference_nll(self, forget), reference_nll(self, other)
        summed = summed_nll(model, forget)  # (B,)
        difference = (summed - references[0]) - (summed_nll(model, other) - references[1])  # (B,)
        preference = F.logsigmoid(self.beta * difference)
        loss = -(2 / self.beta) * preference.sum() / forget.examples_in_step
        kept, retain_loss = self.retain_term(model, retain)
        forget_loss = summed.detach().sum() / forget.tokens_in_step
        return Losses(self.forget_weight * loss + self.alpha * kept, forget_loss, retain_loss)


@dataclass(frozen=True)
class DPO(_Pairs):
    """Direct preference optimisation (Rafailov et al. 2023, arXiv 2305.18290, eq. 7), pairs as said above.

    `alternatives`: "records" for the task's own alternative answers, "refusals" for IdkDPO.
    """

    alternatives: Alternatives = field()  # type: ignore[assignment]  # no default: settings have them


@dataclass(frozen=True)
class IdkDPO(_Pairs):
    """DPO that prefers refusals (TOFU, arXiv 2401.06121; Zhang et al. 2024, arXiv 2404.05868)."""

    alternatives = "refusals"


@dataclass(frozen=True)
class AltPO(_Pairs):
    """DPO that prefers plausible answers of the same domain (Mekala et al. 2024, arXiv 2409.13474).

    The alternatives are the records' own. The paper samples five for each question from the model itself
    at temperature 1, so that they sound like it.
    """

    alternatives = "records"
