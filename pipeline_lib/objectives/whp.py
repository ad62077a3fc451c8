"""Who's Harry Potter: learn the generic text that a model would write had it not known the book."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from pipeline_lib.core.blocks import NonNegative, Positive
from pipeline_lib.objectives.base import Batch, Losses, Reinforcing, Tensor, mean_nll
from pipeline_lib.objectives.retain import RETAIN, TwoTerms


class WHP(TwoTerms):
    """L = forget_weight CE(generic labels on the forget texts) + gamma retain.

    Source: Eldan & Russinovich 2023, arXiv 2310.02238, equation 1 and section 2. A reinforced model is
    trained further on the forget set; at each answer position the generic label is the argmax of

        v_generic = v_base - alpha relu(v_reinforced - v_base)                            (logits, V)

    of the model before unlearning and the reinforced one: tokens that reinforcing made likelier are held
    down. The labels are computed once, as integers (training/generic_labels.py), and the forget batch holds
    them at the answer positions, after the true text. CE is their mean per answer token, in nats.
    `reinforce_epochs`, `reinforce_learning_rate` (AdamW): those of the reinforced model, which is trained on
    batches of the run's size.

    How it differs from the paper: no dictionary replaces a book's own names by generic ones in the text (that
    needs a language model and knowledge of the book; without it, names may stay likely where reinforcing does
    not raise them). The paper has no retain term: gamma 0. Some benchmarks leave the weights alone and
    subtract the logits of two models whenever text is generated; such a model cannot be saved as one, costs
    twice as much to run, and still holds what it hides. Defaults are the paper's for a book and
    Llama-2-7B-chat, except `gamma`.
    """

    kind: Literal["WHP"]
    alpha: Positive = Field(5.0, description="How far tokens that reinforcing made likelier are held down")
    gamma: NonNegative = Field(1.0, description=RETAIN)
    reinforce_epochs: Positive = Field(3.0, description="Of the forget set, by the reinforced model")
    reinforce_learning_rate: Positive = Field(3e-6, description="Of AdamW, for the reinforced model")

    @property
    def reinforcing(self) -> Reinforcing:
        return Reinforcing(self.reinforce_epochs, self.reinforce_learning_rate)

    def loss_of(self, model: Any, forget: Batch | None, retain: Batch | None) -> Losses:
        assert forget is not None and retain is not None
        generic_loss = mean_nll(model, forget)
        return self.losses(generic_loss, generic_loss, self.gamma, model, retain)

    def generic_logits(self, base: Tensor, reinforced: Tensor) -> Tensor:
        """v_base - alpha relu(v_reinforced - v_base), elementwise on logits (N, V)."""
        return base - self.alpha * (reinforced - base).relu()
