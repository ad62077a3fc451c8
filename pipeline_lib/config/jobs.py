"""How long and in what pieces models are trained, and what a job asks for."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline_lib.blocks import (
    Block,
    Count,
    CountOrZero,
    Faults,
    NonNegative,
    Positive,
    Share,
    Switch,
)
from pipeline_lib.config.models import PretrainedPromptSettings

Weights = Literal["fp32", "bf16", "bf16_stochastic"]


# What is left off is left out of resolved settings: runs that never asked for it keep their identity.
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
    compute: Literal["fp32", "bf16"] = Field(
        "fp32", description="Of forward and backward; weights stay as they are"
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


RetryFactor = Annotated[float, Field(ge=1, le=4, allow_inf_nan=False)]


class Resources(Block):
    """What one job asks for."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    gpus: CountOrZero = Field(
        0, description="GPUs a job requests on each of its machines; evaluation uses one of them"
    )
    processes: Count | None = Field(
        None,
        description="Processes on one machine that train one model together; default: one for each GPU, or "
        "one (docs/distributed.md)",
    )
    nodes: Count = Field(1, description="Machines that train one model together, through SLURM")
    sharding: Literal["none", "full"] = Field(
        "none",
        description="full: in training each process holds a part of weights, gradients and optimiser states, "
        "not all of them",
    )
    threads: Count = 1
    memory_mb: Count = Field(
        2000,
        description="Memory of the machine, in MiB, that a job asks a cluster for at its first try; where a "
        "suite does not say, each job asks for what the plan estimates (docs/cluster.md)",
    )
    minutes: Count = Field(60, description="Time that a job asks a cluster for, likewise")
    retry_factor: RetryFactor = Field(
        1.5, description="A job that is tried again asks for so many times more memory and time"
    )
    memory_limit_mb: Count | None = Field(
        None, description="No try asks for more: the memory of the cluster's nodes; default: no limit"
    )
    minutes_limit: Count | None = Field(
        None,
        description="No try asks for more: the longest time of the cluster's partition; default: no limit",
    )
    gpu_memory_gb: Positive | None = Field(
        None, description="Memory of one GPU in GB (1e9 bytes): the plan marks what will not fit"
    )
    tflops: Positive | None = Field(
        None,
        description="Peak of the device a job runs on, in 1e12 operations a second, for estimates of time; "
        "default by kind of device (docs/planning.md)",
    )
    keep_models: Switch = Field(True, description="False deletes unlearned models once they are evaluated")

    @property
    def per_node(self) -> int:
        """Processes of a training job on each of its machines."""
        return self.processes or max(self.gpus, 1)

    @model_validator(mode="after")
    def _processes_fit(self) -> Resources:
        if self.gpus and self.device != "cpu" and self.per_node > self.gpus:
            allowed = f"every process needs a GPU of its own, and `gpus` is {self.gpus}"
            raise Faults([("processes", f"found {self.per_node}; {allowed}")])
        if self.sharding != "none" and self.per_node * self.nodes == 1:
            cure = "set `gpus` or `processes` above 1, or leave `sharding` out"
            raise Faults([("sharding", f"needs more than one process to divide a model among; {cure}")])
        return self
