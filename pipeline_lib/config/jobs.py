"""How long and in what pieces models are trained, and what a job asks for."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline_lib.blocks import (
    Block,
    Count,
    CountOrZero,
    NonNegative,
    Positive,
    Share,
    Switch,
)


class Training(Block):
    """How long and in what pieces a model is trained."""

    epochs: Positive = Field(5.0, description="Of the forget set; of the training data when fine-tuning")
    batch_size: Count = 8
    accumulation: Count = 1
    warmup: Share = 0.0
    decay: Literal["constant", "linear", "cosine"] = "constant"
    max_grad_norm: Positive = 1.0
    compute: Literal["fp32", "bf16"] = Field(
        "fp32", description="Of forward and backward; weights stay as they are"
    )
    checkpoint_seconds: NonNegative = Field(300.0, description="Time between checkpoints; 0 = every step")


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


class Unlearn(Training):
    """How unlearning runs are trained."""

    weights: Literal["fp32", "bf16", "bf16_stochastic"] = Field(
        "fp32",
        description="Precision of weights and optimiser states; bf16 rounds each step to the nearest, "
        "bf16_stochastic rounds weights up or down at random, right in the mean",
    )
    lora: LoRA | None = Field(None, description="Default: all weights are trained")


class FineTune(Training):
    """How the target and the retrained model are made, with AdamW."""

    epochs: Positive = 5.0
    learning_rate: Positive = 1e-5
    weight_decay: NonNegative = 0.0


class Resources(Block):
    """What one job asks for."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    gpus: CountOrZero = Field(0, description="GPUs a training or evaluation job requests")
    threads: Count = 1
    memory_mb: Count = 2000
    minutes: Count = 60
    gpu_memory_gb: Positive | None = Field(
        None, description="Memory of one GPU in GB (1e9 bytes): the plan marks what will not fit"
    )
    tflops: Positive | None = Field(
        None,
        description="Peak of the device a job runs on, in 1e12 operations a second, for estimates of time; "
        "default by kind of device (docs/planning.md)",
    )
    keep_models: Switch = Field(True, description="False deletes unlearned models once they are evaluated")
