"""Fine-tuning of a finished model on other data, as a user of an unlearned model may do.

    theta = argmin_theta mean NLL of the answer tokens of one split, from the parent's weights, with AdamW

Source: relearning by benign fine-tuning, Hu et al. 2024, arXiv 2406.13356, section 3; the loss and its units
(nats a token) are those of `original` (training/loop.py).

With `groups` it learns the first groups of the split alone. Of the forget set (relearning from a part of what
was forgotten, as in RTT, Deeb and Roger 2024, arXiv 2410.08827) the other groups then judge what comes back:
metrics/recovery.py.

With `points` the model is judged by likelihood alone after so many of its steps: the curve of one run. At a
rate that decays it is no row of shorter runs.

Trap: a model that answers the forget set again after this may have been taught it anew: keep the split
disjoint from the forget set, or learn a part of its groups, and fine-tune `retrained` in the same way beside
it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field

from pipeline_lib.core.blocks import Count, Fault, Fraction, Name
from pipeline_lib.stages.base import Made, Stage, Work
from pipeline_lib.training.settings import FineTune

if TYPE_CHECKING:
    import torch

    from pipeline_lib.distributed.group import Group


class FineTuned(Stage, FineTune):
    """Learns the answers of one split as `original` learns its data; settings as in `finetune`."""

    kind: Literal["finetune"]
    task: Name | None = Field(None, description="The task whose data it learns; default: the model's own")
    split: Name = Field("retain", description="Which of that task's splits")
    groups: Count | Fraction | None = Field(
        None,
        description="Learn its first so many groups alone, or this share of them, rounded up; of the forget "
        "set the others judge the recovery",
    )

    points: Annotated[Count, Field(ge=2)] | None = Field(
        None,
        description="Judge the forget set by likelihood alone after so many of its steps, evenly spread "
        "after the warm-up, the last among them; default: the finished model alone",
        exclude_if=lambda points: points is None,
    )

    def data_of(self, task: str) -> str:
        return self.task or task

    def splits(self) -> tuple[str, ...]:
        return (self.split,)

    def first_groups(self) -> float | None:
        return self.groups

    def learned_groups(self, task: str) -> float:
        own = self.split == "forget" and self.data_of(task) == task
        return self.groups or 0 if own else 0

    def judged(self) -> int | None:
        return self.points

    def faults(self, parents: int) -> Iterator[Fault]:
        if self.points is not None and self.weights != "fp32":
            found = f"found {self.weights!r}: scores are those of fp32"
            yield "points", f"needs `weights: fp32`, {found}; leave one of the two out"

    def training(self) -> FineTune:
        return self

    def on(self, device: torch.device, group: Group) -> Self:
        from pipeline_lib.training.compute import with_compute

        return with_compute(self, device, group)

    def make(self, work: Work) -> Made:
        from pipeline_lib.data.splits import of_first_groups
        from pipeline_lib.data.task_folder import load_splits
        from pipeline_lib.distributed.group import current
        from pipeline_lib.models.released_encoding import encode_answers
        from pipeline_lib.optimizers.adamw import AdamW
        from pipeline_lib.training.batches import MiniBatches
        from pipeline_lib.training.checkpoint import Kept
        from pipeline_lib.training.data import TrainingData
        from pipeline_lib.training.fine_tuning import fine_tuned

        first, records = work.first, load_splits(work.data, [self.split])[self.split]
        if self.groups is not None:
            records = of_first_groups(records, self.groups, self.split)
        examples = encode_answers(
            self.encoding, records, first.tokenizer, first.prompt_format, work.max_length, learn=True
        )
        data = TrainingData(forget=[], retain=examples, pad_id=first.tokenizer.pad_token_id)
        stepper = AdamW(kind="adamw", learning_rate=self.learning_rate, weight_decay=self.weight_decay)
        course, kept = MiniBatches(data, self, work.seed), Kept(work.folder, work.mark)
        judge = None if work.judge is None else work.judge(course.steps, self.warmup)
        outcome, learning = fine_tuned(first.model, stepper, self, course, kept, current(), judge)
        return Made(
            (self.split,),
            outcome.log,
            outcome.status,
            outcome.diverged_step,
            outcome.steps,
            outcome.train_time_s,
            learning,
        )
