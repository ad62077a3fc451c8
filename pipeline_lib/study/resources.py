"""What a job asks for, and what shows the study while it runs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline_lib.core.blocks import Block, Count, CountOrZero, Faults, Positive, Switch

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
        description="Memory of the machine, in MiB, that a job asks a cluster for at its first try; default: "
        "what the plan estimates for each job (docs/cluster.md)",
    )
    minutes: Count = Field(60, description="Minutes that a job asks a cluster for, likewise")
    retry_factor: RetryFactor = Field(
        1.5, description="Factor by which each further try of a job asks for more memory and time"
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

    @property
    def in_all(self) -> int:
        """Processes of a training job on all of its machines."""
        return self.per_node * self.nodes

    @model_validator(mode="after")
    def _processes_fit(self) -> Resources:
        if self.gpus and self.device != "cpu" and self.per_node > self.gpus:
            allowed = f"every process needs a GPU of its own, and `gpus` is {self.gpus}"
            raise Faults([("processes", f"found {self.per_node}; {allowed}")])
        if self.sharding != "none" and self.in_all == 1:
            cure = "set `gpus` or `processes` above 1, or leave `sharding` out"
            raise Faults([("sharding", f"needs more than one process to divide a model among; {cure}")])
        return self


class Tracking(Block):
    """What shows the study while it runs. It reads results and changes none of them."""

    kind: Literal["tensorboard"] = "tensorboard"
    every_seconds: Count = Field(
        30, description="How often new steps and metrics are looked for; steps come with each checkpoint"
    )
