"""Cross-entropy to the model's own distribution without the true token.

Shapes: N positions that count, V vocabulary.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

from pydantic import Field

from pipeline_lib.core.blocks import Switch
from pipeline_lib.objectives.base import Batch, Losses, Objective


class CEU(Objective):
    """L = mean_t CE(softmax(z with z_y at minus infinity), softmax(z)), the first without gradient.

    Source: Yang 2025, arXiv 2503.01224. The gradient in the logits is p_y at the true token y and
    -p_k p_y / (1 - p_y) at any other k: it fades as y is forgotten and stays bounded where y is certain.
    With `skip_first_token`, as in a footnote of the paper, the first token of each answer is left out, so
    that the model still begins an answer; the mean is over the others. There is no retain term.
    """

    kind: Literal["CEU"]
    skip_first_token: Switch = Field(True, description="Leave out the first token of each answer")

    uses_retain: ClassVar[bool] = False
    terms_apart: ClassVar[bool] = True

    @property
    def distributions(self) -> int:
        return 1

    def loss_of(self, model: Any, forget: Batch | None, retain: Batch | None) -> Losses:
        import torch
        import torch.nn.functional as F

        from pipeline_lib.models.forward import answer_hidden, over_vocabulary
        from pipeline_lib.models.head import output_head

        assert forget is not None
        hidden, targets, rows = answer_hidden(model, forget)
        counted = torch.ones_like(rows, dtype=torch.bool)  # (N,)
        count: float = forget.tokens_in_step
        if self.skip_first_token:
            counted = F.pad(rows[1:] == rows[:-1], (1, 0), value=False)
            if math.isfinite(count):
                count = max(count - forget.examples_in_step, 1)  # 1: answers of a single token add nothing

        def sums(logits, targets, counted):
            forget_loss = F.cross_entropy(logits.detach(), targets, reduction="sum")
            if self.skip_first_token:
                logits, targets = logits[counted], targets[counted]
            wanted = logits.detach().scatter(-1, targets[:, None], -math.inf).softmax(-1)
            return F.cross_entropy(logits, wanted, reduction="sum"), forget_loss

        loss, forget_loss = over_vocabulary(output_head(model), hidden, sums, targets, counted)
        total = loss / count
        return Losses(total, forget_loss / forget.tokens_in_step, None, total)
