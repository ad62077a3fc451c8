"""Which examples each step of a run sees: a pure function of the seed and of the step's number."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from pipeline_lib.data.batching import Batch, micro_batches
from pipeline_lib.distributed.pieces import weightless
from pipeline_lib.objectives import Objective
from pipeline_lib.training.data import TrainingData, forget_batches
from pipeline_lib.training.sampling import epoch_rows, rows_before, stream_rows
from pipeline_lib.training.settings import Training

Batches = tuple[list[Batch], list[Batch]]  # forget and retain micro-batches of one step


@dataclass(frozen=True)
class MiniBatches:
    """The walk of stochastic gradient descent: epochs of the one set, and round and round the other.

    The one set is the forget set, or when fine-tuning the training data, which is called retain set. Steps
    are counted from 0, and the same step gives the same batches.
    """

    data: TrainingData
    settings: Training
    seed: int

    @property
    def size(self) -> int:
        """Examples of a step, of each set."""
        return self.settings.batch_size * self.settings.accumulation

    @property
    def steps(self) -> int:
        n = len(self.data.forget) or len(self.data.retain)
        return max(1, round(self.settings.epochs * math.ceil(n / self.size)))

    @property
    def epochs(self) -> float:
        return self.settings.epochs

    def forget_rows(self, step: int) -> list[int]:
        """Rows of the forget set that the step sees."""
        return epoch_rows(len(self.data.forget), self.size, step, self.seed)

    def batches(self, step: int) -> Batches:
        """The micro-batches of the step."""
        data, size = self.data, self.settings.batch_size
        if not data.forget:
            rows = epoch_rows(len(data.retain), self.size, step, self.seed)
            return [], micro_batches([data.retain[i] for i in rows], size, data.pad_id)
        rows = self.forget_rows(step)
        start = rows_before(len(data.forget), self.size, step)
        retain = [data.retain[i] for i in stream_rows(len(data.retain), start, len(rows), self.seed)]
        return (
            forget_batches(data, rows, step, self.seed, size),
            micro_batches(retain, size, data.pad_id),
        )


@dataclass(frozen=True)
class WholeSets:
    """One step over the whole sets that the objective uses, with its means over whole sets.

    The sets are cut into equally many micro-batches where their sizes allow it; where one set has fewer, it
    is filled up with micro-batches that weigh nothing, because objectives want both sets at every call.
    """

    data: TrainingData
    settings: Training
    seed: int
    objective: Objective

    steps: ClassVar[int] = 1
    epochs: ClassVar[float] = 1.0

    @property
    def size(self) -> int:
        return max(len(self.data.forget), len(self.data.retain))

    def forget_rows(self, step: int) -> range:
        return range(len(self.data.forget))

    def batches(self, step: int) -> Batches:
        data = self.data
        forget = self.forget_rows(step) if self.objective.uses_forget else range(0)
        retain = data.retain if self.objective.uses_retain else []
        count = max(math.ceil(len(rows) / self.settings.batch_size) for rows in (forget, retain))
        size_f, size_r = (max(math.ceil(len(rows) / count), 1) for rows in (forget, retain))
        cut_f = forget_batches(data, forget, step, self.seed, size_f) if forget else []
        return _filled(cut_f, count), _filled(micro_batches(retain, size_r, data.pad_id), count)


Course = MiniBatches | WholeSets  # the steps of a run


def _filled(batches: list[Batch], count: int) -> list[Batch]:
    return [*batches, *[weightless(batches[0])] * (count - len(batches))] if batches else []
