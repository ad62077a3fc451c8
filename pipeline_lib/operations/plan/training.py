"""One job of fine-tuning or unlearning: what it does, and what it holds in memory throughout (bytes)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipeline_lib.objectives import Objective
from pipeline_lib.operations.plan.device import Device
from pipeline_lib.operations.plan.shape import Shape
from pipeline_lib.operations.plan.sizes import Lengths
from pipeline_lib.optimizers import Optimizer
from pipeline_lib.training.settings import FineTune, LoRA, Unlearn

COMPILED_FROM = 1 << 24  # trained parameters from which an elementwise optimiser's step is compiled
ROUNDED_AT_ONCE = 1 << 26  # elements, as optimizers/rounding.py has it
COMPILER = 0.7e8  # bytes that the compiler holds, on a CPU


@dataclass(frozen=True)
class Training:
    """One training job. `forget` is None for fine-tuning, `optimizer` where no step is taken.

    `block`: where the suite sets its training, if not in `finetune` or `unlearn`. `judging`: seconds in which
    it is judged on its way.
    """

    shape: Shape
    device: Device
    forget: Lengths | None
    retain: Lengths | None
    objective: Objective
    optimizer: Optimizer | None
    settings: FineTune | Unlearn
    base: str | None  # "pruned" or "int8"
    block: str | None = None
    judging: float = 0.0

    @property
    def width(self) -> int:
        """Bytes of a weight."""
        return 4 if self.settings.weights == "fp32" else 2

    @property
    def steps(self) -> int:
        """Optimiser steps, as training/loop.step_count counts them."""
        main = self.forget or self.retain
        if main is None or self.optimizer is None:
            return 0
        if self.optimizer.one_shot:
            return 1
        size = self.settings.batch_size * self.settings.accumulation
        return max(1, round(self.settings.epochs * math.ceil(main.records / size)))

    @property
    def trained(self) -> float:
        """Parameters that learn."""
        shape = self.shape
        if self.settings.lora is not None:
            return adapter_parameters(shape, self.settings.lora)
        if self.objective.trained_outputs is not None:
            layers = min(self.objective.trained_outputs, shape.layers)
            return float(layers * shape.hidden * shape.intermediate)
        if self.stops_early:  # what lies above has no gradient
            return float(shape.embedding + shape.body * self.layers_run / shape.layers)
        return float(shape.parameters)

    @property
    def matrices(self) -> list[tuple[int, int]]:
        """Rows and columns of every trained matrix."""
        shape, layer = self.shape, layer_matrices(self.shape)
        if self.settings.lora is not None:
            rank = self.settings.lora.rank
            pairs = [
                ((rank, inputs), (outputs, rank)) for outputs, inputs in adapted(shape, self.settings.lora)
            ]
            return [side for pair in pairs for side in pair] * shape.layers
        if self.objective.trained_outputs is not None:
            return [layer["down_proj"]] * min(self.objective.trained_outputs, shape.layers)
        outside = 1 if shape.tied or self.stops_early else 2
        return [(shape.vocab, shape.hidden)] * outside + [*layer.values()] * self.layers_run

    def state_bytes(self, width: int) -> float:
        """Bytes of the optimiser's state, with `width` bytes a number."""
        if self.optimizer is None:
            return 0.0
        every = self.optimizer.state_bytes(self.trained, self.shape.embedding, width)
        return every + sum(self.optimizer.matrix_bytes(*shape, width) for shape in self.matrices)

    @property
    def stops_early(self) -> bool:
        """Whether every forward pass stops before the last layer, without a prediction."""
        return self.objective.reference_depth is not None

    @property
    def layers_run(self) -> int:
        """Layers of a forward pass."""
        return min(self.objective.reference_depth or self.shape.layers, self.shape.layers)


def layer_matrices(shape: Shape) -> dict[str, tuple[int, int]]:
    """Rows and columns of a layer's matrices, by the last part of their usual name; no gate is 0 x 0."""
    queries, keys = shape.heads * shape.head_size, shape.kv_heads * shape.head_size
    hidden, inner = shape.hidden, shape.intermediate
    return {
        "q_proj": (queries, hidden),
        "k_proj": (keys, hidden),
        "v_proj": (keys, hidden),
        "o_proj": (hidden, queries),
        "gate_proj": (inner, hidden) if shape.gated else (0, 0),
        "up_proj": (inner, hidden),
        "down_proj": (hidden, inner),
    }


def adapted(shape: Shape, lora: LoRA) -> list[tuple[int, int]]:
    """Rows and columns of a layer's matrices that get adapters; an unknown name counts as average."""
    matrices = layer_matrices(shape)
    average = round(sum(sum(sides) for sides in matrices.values()) / len(matrices) / 2)
    target = matrices if lora.target == "all-linear" else lora.target
    return [matrices.get(name, (average, average)) for name in target]


def adapter_parameters(shape: Shape, lora: LoRA) -> float:
    """Parameters of low-rank adapters: rank x (inputs + outputs) of each matrix that has one."""
    return float(lora.rank * sum(sum(sides) for sides in adapted(shape, lora)) * shape.layers)


def held_bytes(job: Training) -> dict[str, float]:
    """Bytes by part of what a job holds through the whole run."""
    shape = job.shape
    width = 4 if job.settings.weights == "bf16_stochastic" else job.width
    held = {"weights": weight_bytes(job), "optimiser": job.state_bytes(width)}
    if job.settings.offload:
        held["optimiser"] = 0.0 if job.device.kind == "cuda" else offloaded_bytes(job) - of_the_step(job)
    if job.optimizer is not None and job.optimizer.smoothing is not None:
        held["mean of weights"] = 4.0 * job.optimizer.smoothing.kept * job.trained
    if job.settings.lora is not None:
        held["weights"] += job.width * job.trained
    elif job.objective.needs_reference_model:
        reads = shape.parameters - shape.body * (1 - job.layers_run / shape.layers)
        held["reference model"] = job.width * reads
    compiled = job.optimizer is not None and job.optimizer.elementwise and job.trained >= COMPILED_FROM
    if job.device.kind == "cpu" and compiled:
        held["compiler"] = COMPILER
    return held


def weight_bytes(job: Training) -> float:
    """Bytes of the weights in training; an 8-bit base has its linear layers in 8 bits, the rest in fp32."""
    if job.base == "int8" and job.settings.lora is not None:
        return job.shape.body + 4.0 * (job.shape.parameters - job.shape.body)
    return float(job.width * job.shape.parameters)


def offloaded_bytes(job: Training) -> float:
    """Bytes in the machine's memory of an optimiser that steps there: states, and copies of weights and
    gradients; 0 where it does not.
    """
    if not job.settings.offload:
        return 0.0
    width = 4 if job.settings.weights == "bf16_stochastic" else job.width
    return job.state_bytes(width) + job.width * job.trained + of_the_step(job)


def of_the_step(job: Training) -> float:
    """The part of `offloaded_bytes` that exists only during the step: copies of gradients, and rounding."""
    return job.width * job.trained + rounding_bytes(job)


def rounding_bytes(job: Training) -> float:
    """Bytes that a randomly rounded step takes temporarily; 0 for other steps.

    They are fp32 copies of a block's weights and gradients, and the noise and rounded weights of its largest
    tensor.
    """
    if job.settings.weights != "bf16_stochastic":
        return 0.0
    largest = min(job.shape.embedding, job.trained)
    return 8.0 * min(job.trained, max(ROUNDED_AT_ONCE, largest)) + 12.0 * largest
