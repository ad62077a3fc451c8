"""How long and in what pieces models are trained. Readable without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline_lib.core.blocks import Block, Count, NonNegative, Positive, Share, Switch
from pipeline_lib.models.prompt_settings import PretrainedPromptSettings

Weights = Literal["fp32", "bf16", "bf16_stochastic"]


# A setting that is off is left out of the resolved settings, so that runs that never asked for it keep their
# identity.
def _off(value: object) -> bool:
    return not value


def _plain(value: object) -> bool:
    return value in ("fp32", "exact")


class LoRA(Block):
    """Low-rank adapters (arXiv 2106.09685), trained in place of the weights and merged in at the end."""

    rank: Count = 8
    alpha: Positive = Field(16.0, description="Adapters are scaled by alpha / rank")
    dropout: Share = Field(0.0, description="Of what the adapters read, in training")
    target: Literal["all-linear"] | list[str] = Field(
        "all-linear",
        min_length=1,
        description="Layers that get adapters: all linear ones but the output embedding, or the last parts "
        "of their names, such as [q_proj, v_proj]",
    )


class Training(Block):
    """How long and in what pieces a model is trained, and what is held in memory meanwhile."""

    epochs: Positive = Field(5.0, description="Of the forget set; of the training data when fine-tuning")
    batch_size: Count = 8
    accumulation: Count = 1
    warmup: Share = 0.0
    decay: Literal["constant", "linear", "cosine"] = "constant"
    max_grad_norm: Positive = 1.0
    compute: Literal["fp32", "bf16", "auto"] = Field(
        "fp32",
        description="Of forward and backward; weights stay as they are. auto: bf16 where the machine of the "
        "job multiplies it faster, else fp32; run.json has which",
    )
    checkpoint_seconds: NonNegative = Field(300.0, description="Time between checkpoints; 0 = every step")
    checkpointing: Switch = Field(
        False,
        description="Keep each layer's input alone for the backward pass and compute the rest again: the "
        "same result from less memory, in about a third more time",
        exclude_if=_off,
    )
    offload: Switch = Field(
        False,
        description="Keep the optimiser's states in the machine's memory and take its steps on the CPU: the "
        "GPU holds weights, gradients and activations; about 12 bytes a parameter and seconds a step more "
        "for the machine",
        exclude_if=_off,
    )


class Unlearn(Training):
    """How unlearning runs are trained."""

    weights: Weights = Field(
        "fp32",
        description="Precision of weights and optimiser states; bf16 rounds each step to the nearest, "
        "bf16_stochastic rounds weights up or down at random, right in the mean",
    )
    lora: LoRA | None = Field(None, description="Default: all weights are trained")
    encoding: Literal["exact", "soul_tofu", "soul_detox", "open_unlearning"] = Field(
        "exact",
        description="Which tokens are trained and attended to; the others repeat what the code of SOUL and "
        "of OpenUnlearning does (docs/paper.md)",
        exclude_if=_plain,
    )
    prompt: PretrainedPromptSettings | None = Field(
        None,
        description="How prompts are put, in these runs and to the models they make, where it is another way "
        "than the model's",
        exclude_if=_off,
    )


class FineTune(Training):
    """How the target and the retrained model are made, with AdamW."""

    epochs: Positive = 5.0
    learning_rate: Positive = 1e-5
    weight_decay: NonNegative = 0.0
    weights: Weights = Field(
        "fp32", description="As in `unlearn`; the finished model is written in fp32", exclude_if=_plain
    )
    lora: LoRA | None = Field(
        None, description="As in `unlearn`; default: all weights are trained", exclude_if=_off
    )
    encoding: Literal["exact", "open_unlearning"] = Field(
        "exact", description="As in `unlearn`", exclude_if=_plain
    )
