"""Memory and time of an evaluation for which a soft prompt is learned first (engine/soft_prompt.py)."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline_lib.operations.plan.measuring import Evaluating, Phases
from pipeline_lib.operations.plan.sizes import PADDING, Lengths
from pipeline_lib.stages.ask import SoftPrompt


@dataclass(frozen=True)
class Softening(Evaluating):
    """`learned`: the forget set, whose first groups are taught. `ways`: of asking, each with its own."""

    soft: SoftPrompt
    learned: Lengths
    ways: int

    @property
    def _rows(self) -> int:
        """Questions of a step."""
        return min(self.soft.batch_size, self.learned.records)

    def phases(self) -> Phases:
        shape, rows = self.shape, self._rows
        saved = 10 * shape.hidden + 4 * shape.intermediate  # of a layer and token, for the backward pass
        return {
            **super().phases(),
            "soft prompt": {
                "weights": self.weights,
                "activations": 4.0 * rows * self.learned.longest * shape.layers * saved,
                "logits": 2 * 4.0 * rows * self.learned.answer * shape.vocab,
            },
        }

    def seconds(self) -> float:
        """A step goes forward and back, without gradients of weights; before and after it all are scored."""
        passes = 2 * self.soft.steps * self._rows + 2 * self.learned.records
        tokens, answers = passes * self.learned.whole * PADDING, passes * self.learned.answer
        return super().seconds() + self.ways * self.forward(tokens, answers)
