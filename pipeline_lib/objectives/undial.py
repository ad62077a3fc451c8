"""Cross-entropy to the distribution of the model before unlearning in which the true token is held down.

Shapes: B examples, T tokens, N positions that count, D hidden size, V vocabulary.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from pipeline_lib.core.blocks import NonNegative
from pipeline_lib.objectives.base import Batch, Losses
from pipeline_lib.objectives.retain import RETAIN, TwoTerms, option


class UNDIAL(TwoTerms):
    """L = forget_weight mean_t CE(softmax(z_ref - beta onehot(y_t)), softmax(z)) + alpha retain.

    Source: Dong et al. 2024, arXiv 2402.10052, eq. 2. z: logits (V,) that predict answer token y_t;
    z_ref: those of the model before unlearning, which runs too (`reference_model`). The mean is over all
    answer tokens of the step. Bounded below by the entropy of the adjusted distribution. With alpha 0, as
    in the paper, the retain set is not read.

    `positions` "all" is what OpenUnlearning does, except for padding: every token after the first is
    distilled, in prompts with token V - 100 held down in place of y_t (its label -100 counts from the
    vocabulary's end), and a micro-batch weighs by its examples, whatever number of tokens it has.
    """

    kind: Literal["UNDIAL"]
    beta: NonNegative = Field(10.0, description="Taken from the true token's logit; 3 to 30 are usual")
    alpha: NonNegative = Field(0.0, description=f"{RETAIN}; the paper uses no retain set")
    positions: Literal["predicting", "all"] = option(
        "predicting",
        "Where the model is distilled: where an answer token is predicted, or, as in OpenUnlearning, at "
        "every token but padding",
    )

    @property
    def read_sets(self) -> tuple[Literal["forget", "retain"], ...]:
        return super().read_sets if self.alpha else ("forget",)

    @property
    def reference_sets(self) -> tuple[Literal["forget", "retain"], ...]:
        return ("forget", *super().reference_sets)

    @property
    def distributions(self) -> int:
        return 3

    def loss_of(self, model: Any, forget: Batch | None, retain: Batch | None) -> Losses:
        import torch
        import torch.nn.functional as F

        from pipeline_lib.data.batching import IGNORED
        from pipeline_lib.models.forward import last_hidden, over_vocabulary
        from pipeline_lib.models.head import output_head

        assert forget is not None and retain is not None
        labels = forget.labels[:, 1:]  # (B, T-1): position t is predicted from t-1
        predicting = self.positions == "predicting"
        counted = labels != IGNORED if predicting else forget.attention_mask[:, 1:] == 1
        places = counted.nonzero(as_tuple=True)  # before the decoder runs: a GPU's program waits here
        targets = labels[places]  # (N,)
        with self._reference() as before, torch.no_grad():
            reference = last_hidden(before, forget)[:, :-1][places]  # (N, D)
            reference_head = output_head(before, without_adapter=True)

        def sums(logits, targets, reference):
            forget_loss = F.cross_entropy(logits.detach(), targets, reduction="sum")  # of answer tokens alone
            if not predicting:
                targets = targets.where(targets != IGNORED, logits.shape[-1] + IGNORED)
            with torch.no_grad():
                z = reference_head(reference).float()  # (n, V)
                lower = torch.full_like(targets[:, None], -self.beta, dtype=z.dtype)
                wanted = z.scatter_add(-1, targets[:, None], lower).softmax(-1)
            return F.cross_entropy(logits, wanted, reduction="sum"), forget_loss

        hidden, head = last_hidden(model, forget)[:, :-1][places], output_head(model)
        loss, forget_loss = over_vocabulary(head, hidden, sums, targets, reference)
        by_examples = len(forget.index) / forget.examples_in_step
        loss = loss / forget.tokens_in_step if predicting else loss / len(targets) * by_examples
        forget_loss = forget_loss / forget.tokens_in_step
        if not self.alpha:
            total = self.forget_weight * loss
            return Losses(total, forget_loss, None, total)
        return self.losses(loss, forget_loss, self.alpha, model, retain)
