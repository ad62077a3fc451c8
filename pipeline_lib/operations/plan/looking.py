"""Memory and time of looking into the layers of a finished model (engine/inside.py)."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline_lib.operations.plan.device import DISK_BANDWIDTH
from pipeline_lib.operations.plan.measuring import Asking, Phases
from pipeline_lib.operations.plan.sizes import PADDING, Lengths
from pipeline_lib.operations.plan.training_memory import LOGITS_AT_ONCE


@dataclass(frozen=True)
class Looking(Asking):
    """The states of `looked` layers of one model read, and where `patched` put into `original`, one by one.

    `asked`: the records, of which each has its true answer alone.
    """

    looked: int
    asked: Lengths
    patched: bool

    def phases(self) -> Phases:
        tokens = min(float(self.evaluation.max_tokens_per_batch), self.asked.records * self.asked.whole)
        answers = tokens * self.asked.answer / self.asked.whole
        second = {"original": self.weights} if self.patched else {}
        return {
            "looking": {
                "weights": self.weights,
                **second,
                **self.scoring(tokens),
                "logits": 2 * 4.0 * min(float(LOGITS_AT_ONCE), answers * self.shape.vocab),
                "states of layers": 4.0 * self.looked * answers * self.shape.hidden,
            }
        }

    def seconds(self) -> float:
        tokens = self.asked.records * self.asked.whole * PADDING
        answers = self.asked.records * self.asked.answer
        total = self.loading + self.forward(tokens, self.looked * answers)
        if self.patched:  # once as it is, then once a layer
            total += self.weights / DISK_BANDWIDTH + (self.looked + 1) * self.forward(tokens, answers)
        return total
