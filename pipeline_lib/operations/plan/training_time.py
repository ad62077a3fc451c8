"""Time of fine-tuning and unlearning."""

from __future__ import annotations

import math

from pipeline_lib.operations.plan.device import DISK_BANDWIDTH, HOST_BANDWIDTH, START_SECONDS
from pipeline_lib.operations.plan.sizes import PADDING, Lengths
from pipeline_lib.operations.plan.training import Training, held_bytes, offloaded_bytes

DRAWS = 3  # of each direction of a zeroth-order step
DRAW = 400.0  # operations in whose time a CPU draws a normal number (6 ns where it multiplies 74 GFLOP/s)
DOUBLE_BACKWARD = 3.0  # work of a gradient that is differentiated again, against a plain one's


def training_seconds(job: Training) -> float:
    """Time of a training job.

    Operations: 2 a parameter and token forward, 4 backward (2 where only adapters learn), in the layers for
    every padded token and in the output projection for answer tokens, plus attention. An
    estimate of the curvature costs a forward and a backward pass every k steps, three times as much where it
    differentiates twice, nothing where it is made from the step's gradient; a reference model one forward
    pass for each of the model's. A zeroth-order step has forward passes alone, and draws its directions. Each
    pass of a smoothing reads all batches and goes back through one term. An optimiser step reads and writes
    all it holds.
    """
    shape, device = job.shape, job.device
    loading = START_SECONDS + 2 * 4.0 * shape.parameters / DISK_BANDWIDTH  # read and written
    if job.steps == 0 or job.optimizer is None:
        return loading
    objective, optimizer = job.objective, job.optimizer
    back = (2.0 if job.settings.lora is not None else 4.0) + (2.0 if job.settings.checkpointing else 0.0)
    rows = job.settings.batch_size * job.settings.accumulation

    def once(lengths: Lengths | None, factor: float, rows: int = rows) -> float:
        """Seconds of `factor` x (operations a parameter and token) over one step's rows of a set."""
        if lengths is None:
            return 0.0
        count = min(rows, lengths.records)
        tokens, answers = count * lengths.whole * PADDING, count * lengths.answer
        operations = factor * (shape.body * (job.layers_run / shape.layers) * tokens + shape.head * answers)
        attention = factor * 2 * shape.heads * shape.head_size * lengths.whole * tokens * job.layers_run
        passes = math.ceil(count / job.settings.batch_size) * factor / 2
        read = passes * job.width * (shape.body + shape.head)
        return device.seconds(operations + attention, read, passes * job.layers_run, job.settings.compute)

    sets = [job.forget] * objective.forget_graphs + ([job.retain] if objective.uses_retain else [])
    reading = sum(once(lengths, 2.0) for lengths in sets)
    for name, lengths in (("forget", job.forget), ("retain", job.retain)):
        if name in objective.reference_sets:
            reading += once(lengths, 2.0)
    going_back = sum(once(lengths, back) for lengths in sets)
    # Of the steps that each of several optimisers takes, or of this one's.
    taking = optimizer.members or (optimizer,)
    step = sum(
        member.forward_passes * reading if member.forward_passes else reading + going_back
        for member in taking
    ) / len(taking)
    if optimizer.smoothing is not None:
        through_forget = objective.forget_graphs * once(job.forget, back)
        step += optimizer.smoothing.forget_passes * (reading + through_forget)
        step -= through_forget if optimizer.smoothing.last_part == "retain" else 0.0
    whole = 0.0
    main = job.forget or job.retain
    epoch = 1.0 if main is None else main.records / rows
    if objective.needs_reference_nll:
        whole += once(job.forget, 2.0) * epoch * objective.forget_graphs
    if objective.reinforcing is not None:
        whole += once(job.forget, 6.0) * epoch * objective.reinforcing.epochs
        whole += 2 * once(job.forget, 2.0) * epoch
    if optimizer.one_shot:
        # The whole gradient, then products with the curvature, each about three gradients of its examples.
        sweeps = max(epoch, 1.0 if job.retain is None else job.retain.records / rows)
        products = optimizer.solver_examples / rows
        return loading + sweeps * step + 3 * products * once(job.retain or job.forget, 6.0)
    curvature = optimizer.curvature
    if curvature is not None and not curvature.estimator.at_hand:
        chosen = {"forget": [job.forget], "retain": [job.retain]}.get(curvature.data, sets)
        factor = 6.0 * (DOUBLE_BACKWARD if curvature.estimator.double_backward else 1)
        measured = min(rows, curvature.examples or rows)
        step += sum(once(lengths, factor, measured) for lengths in chosen) / curvature.steps_between
    moved = 2 * (held_bytes(job)["optimiser"] + 2 * job.width * job.trained)
    drawn = sum(DRAWS * m.forward_passes / 2 for m in taking) / len(taking) * job.trained
    step += device.seconds(drawn * (DRAW if device.kind == "cpu" else 0.0), moved, 0.0, "fp32")
    if job.settings.offload and device.kind == "cuda":
        step += 2 * offloaded_bytes(job) / HOST_BANDWIDTH
    return loading + whole + job.steps * step
