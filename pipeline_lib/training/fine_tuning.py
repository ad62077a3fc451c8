"""Fine-tuning: the loss of a language model on one set, with AdamW. How anchors and stages are trained."""

from __future__ import annotations

from typing import Any

import torch

from pipeline_lib.distributed.group import Group
from pipeline_lib.distributed.sharding import in_parts
from pipeline_lib.models import adapters
from pipeline_lib.models.recompute import activations_again
from pipeline_lib.objectives.finetuning import FineTuning
from pipeline_lib.optimizers.adamw import AdamW
from pipeline_lib.training.batches import MiniBatches
from pipeline_lib.training.checkpoint import Kept
from pipeline_lib.training.loop import Judge, Outcome, train
from pipeline_lib.training.sampling import derived_seed
from pipeline_lib.training.settings import FineTune
from pipeline_lib.training.updates import gradient_update


def fine_tuned(
    model: Any,
    stepper: AdamW,
    finetune: FineTune,
    course: MiniBatches,
    kept: Kept,
    group: Group,
    judge: Judge | None = None,
) -> tuple[Outcome, int]:
    """Fine-tune, in place; the outcome, and how many parameters were trained. `judge`: see `train`."""
    if finetune.lora:
        seed = derived_seed(course.seed, "adapters")
        adapters.attach(model, **finetune.lora.model_dump(), seed=seed)
    if finetune.weights != "fp32":
        model.to(torch.bfloat16)
    with activations_again(model, finetune.checkpointing), in_parts(model, group) as (working, together):
        rounding = finetune.weights == "bf16_stochastic"
        update = gradient_update(
            stepper, working, finetune.max_grad_norm, together, rounding, finetune.offload
        )
        outcome = train(working, FineTuning(), update, course, kept, together, judge)
    learning = sum(p.numel() for p in model.parameters() if p.requires_grad)
    if finetune.lora:
        adapters.detach(model.float(), merge=outcome.status == "ok")
    return outcome, learning
