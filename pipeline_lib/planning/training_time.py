"""Time of fine-tuning and unlearning."""

from __future__ import annotations

import math

from pipeline_lib.planning.device import DISK_BANDWIDTH, HOST_BANDWIDTH, START_SECONDS
from pipeline_lib.planning.sizes import PADDING, Lengths
from pipeline_lib.planning.training import Training, held_bytes, offloaded_bytes
from pipeline_lib.planning.traits import curvature_of, traits_of

DOUBLE_BACKWARD = 3.0  # work of Hutchinson's products against a plain gradient's


def training_seconds(job: Training) -> float:
    """Time of a training job.

    Operations: 2 a parameter and token forward, 4 backward (2 where nothing learns but adapters), of the
    layers for every padded token and of the output projection for answer tokens; attention on top. An
    estimate of the curvature costs a forward and a backward pass every k steps, Hutchinson's three times as
    much; a reference model one forward pass a step. An optimiser step reads and writes all it holds.
    """
    shape, device = job.shape, job.device
    loading = START_SECONDS + 2 * 4.0 * shape.parameters / DISK_BANDWIDTH  # read and written
    if job.steps == 0:
        return loading
    traits = traits_of(job.objective)
    back = (2.0 if job.lora is not None else 4.0) + (2.0 if job.checkpointing else 0.0)
    rows = job.batch_size * job.accumulation

    def once(lengths: Lengths | None, factor: float, rows: int = rows) -> float:
        """Seconds of `factor` x (operations a parameter and token) over one step's rows of a set."""
        if lengths is None:
            return 0.0
        count = min(rows, lengths.records)
        tokens, answers = count * lengths.whole * PADDING, count * lengths.answer
        layers = job.layers_run / shape.layers
        operations = factor * (shape.body * layers * tokens + shape.head * answers)
        attention = factor * 2 * shape.heads * shape.head_size * lengths.whole * tokens * job.layers_run
        passes = math.ceil(count / job.batch_size)
        read = passes * factor / 2 * job.width * job.matrices
        launches = passes * factor / 2 * job.layers_run
        return device.seconds(operations + attention, read, launches, job.compute)

    sets = [job.forget] * traits.forget + ([job.retain] if traits.retain else [])
    step = sum(once(lengths, 2 + back) for lengths in sets)
    for name, lengths in (("forget", job.forget), ("retain", job.retain)):
        if traits.reference in (name, "both"):
            step += once(lengths, 2.0)
    whole = 0.0
    main = job.forget or job.retain
    epoch = 1.0 if main is None else main.records / rows
    if traits.cached:
        whole += once(job.forget, 2.0) * epoch * traits.forget
    if job.objective["kind"] == "WHP":
        whole += once(job.forget, 6.0) * epoch * job.objective["reinforce_epochs"]
        whole += 2 * once(job.forget, 2.0) * epoch
    if job.optimizer["kind"] == "influence":
        # The whole gradient, then products with the curvature, each about three gradients of its examples.
        sweeps = max(epoch, 1.0 if job.retain is None else job.retain.records / rows)
        products = job.optimizer["max_iterations"] * job.optimizer["curvature_examples"] / rows
        return loading + sweeps * step + 3 * products * once(job.retain or job.forget, 6.0)
    estimated = curvature_of(job.optimizer)
    if estimated is not None:
        estimator, every = estimated
        chosen = {"forget": [job.forget], "retain": [job.retain]}.get(job.optimizer["curvature_data"], sets)
        factor = {"empirical_fisher": 0.0}.get(estimator, 6.0)
        factor *= DOUBLE_BACKWARD if estimator.startswith("hutchinson") else 1
        measured = min(rows, job.optimizer.get("curvature_examples") or rows)
        step += sum(once(lengths, factor, measured) for lengths in chosen) / every
    held = held_bytes(job)
    moved = 2 * (held["optimiser"] + 2 * job.width * job.trained)
    step += device.seconds(0.0, moved, 0.0, "fp32")
    if job.offload and device.kind == "cuda":
        step += 2 * offloaded_bytes(job) / HOST_BANDWIDTH
    return loading + whole + job.steps * step
