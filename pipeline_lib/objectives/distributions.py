"""Cross-entropy to a whole distribution in which the true token is suppressed: UNDIAL and CE-U.

Shapes: B examples, T tokens, N positions that count, D hidden size, V vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from pipeline_lib.data.batching import IGNORED, Batch
from pipeline_lib.models.forward import answer_hidden, last_hidden, over_vocabulary
from pipeline_lib.models.head import output_head
from pipeline_lib.objectives.base import Losses, Objective
from pipeline_lib.objectives.retain import TwoTerms


@dataclass(frozen=True)
class UNDIAL(TwoTerms):
    """L = forget_weight mean_t CE(softmax(z_ref - beta onehot(y_t)), softmax(z)) + alpha retain.

    Source: Dong et al. 2024, arXiv 2402.10052, eq. 2. z: logits (V,) that predict answer token y_t;
    z_ref: those of the model before unlearning, which runs too (`reference_model`). The mean is over all
    answer tokens of the step. Bounded below by the entropy of the adjusted distribution. With alpha 0, as
    in the paper, the retain set is not read.

    `positions` "all" is what OpenUnlearning does, but for padding: every token after the first is distilled,
    those of prompts with token V - 100 held down in place of y_t (its label -100 counts from the vocabulary's
    end), and a micro-batch weighs by its examples, whatever number of tokens it has.
    """

    beta: float
    alpha: float
    positions: str = "predicting"
    needs_reference_model = True

    def __call__(self, model, forget: Batch | None, retain: Batch | None) -> Losses:
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
        if predicting:
            loss = loss / forget.tokens_in_step
        else:
            loss = loss / len(targets) * (len(forget.index) / forget.examples_in_step)
        forget_loss = forget_loss / forget.tokens_in_step
        if not self.alpha:
            return Losses(self.forget_weight * loss, forget_loss, None)
        kept, retain_loss = self.retain_term(model, retain)
        return Losses(self.forget_weight * loss + self.alpha * kept, forget_loss, retain_loss)


@dataclass(frozen=True)
class CEU(Objective):
    """L = mean_t CE(softmax(z with z_y at minus infinity), softmax(z)), the first without gradient.

    Source: Yang 2025, arXiv 2503.01224. The gradient in the logits is p_y at the true token y and
    -p_k p_y / (1 - p_y) at any other k: it fades as y is forgotten and stays bounded where y is certain.
    With `skip_first_token`, as in a footnote of the paper, the first token of each answer is left out, so
    that the model still begins an answer; the mean is over the others. There is no retain term.
    """

    skip_first_token: bool
    uses_retain = False

    def __call__(self, model, forget: Batch | None, retain: Batch | None) -> Losses:
        assert forget is not None
        hidden, targets, rows = answer_hidden(model, forget)
        counted = torch.ones_like(rows, dtype=torch.bool)  # (N,)
        count: float = forget.tokens_in_step
        if self.skip_first_token:
            counted = F.pad(rows[1:] == rows[:-1], (1, 0), value=False)
            if math.isfinite(count):
                count = max(count - forget.examples_in_step, 1)  # 1: answers of one token alone add nothing

        def sums(logits, targets, counted):
            forget_loss = F.cross_entropy(logits.detach(), targets, reduction="sum")
            if self.skip_first_token:
                logits, targets = logits[counted], targets[counted]
            wanted = logits.detach().scatter(-1, targets[:, None], -math.inf).softmax(-1)
            return F.cross_entropy(logits, wanted, reduction="sum"), forget_loss

        head = output_head(model)
        loss, forget_loss = over_vocabulary(head, hidden, sums, targets, counted)
        return Losses(loss / count, forget_loss / forget.tokens_in_step, None)
