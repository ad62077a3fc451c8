"""Memory and time of fine-tuning and unlearning, part by part.

What is held at the same time, phase by phase; the peak is the largest phase. Bytes throughout.

- forward: weights, optimiser state, the saved activations of every graph that one backward pass will need
  (an objective runs its forget and its retain batch before it goes back), log-probabilities of the answer
  tokens, and with accumulation the gradients so far;
- backward: gradients as they fill up, with the graphs that are left: torch goes through the graphs one after
  the other, last first, and while a parameter waits for its other graph, what has come so far lies in a
  buffer of its own;
- curvature: a second set of gradients beside those of the step, with the graph of one set;
- step: all gradients, and with stochastic rounding their copies in fp32;
- checkpoint (on a CPU): tensors are copied to bytes before they are written.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from pipeline_lib.planning.device import DISK_BANDWIDTH, START_SECONDS, Device
from pipeline_lib.planning.shape import Shape
from pipeline_lib.planning.sizes import PADDING, Lengths
from pipeline_lib.planning.traits import OBJECTIVES, SOLVER_VECTORS, curvature_of, state_bytes

DOUBLE_BACKWARD = 3.0  # graphs of Hutchinson's products against a plain one
COMPILED_FROM = 1 << 24  # trained parameters from which an optimiser's step is compiled, and by what:
ELEMENTWISE = frozenset({"sgd", "signum", "lion", "sophia", "sophia_as_released"})
COMPILER = 1.0e8  # bytes it holds, on a CPU


@dataclass(frozen=True)
class Memory:
    """The largest phase of a job: bytes by part, and its name."""

    phase: str
    parts: dict[str, float]

    @property
    def total(self) -> float:
        return sum(self.parts.values())


@dataclass(frozen=True)
class Training:
    """One training job. `forget` is None when fine-tuning; `objective`, `optimizer`: settings with `kind`."""

    shape: Shape
    device: Device
    forget: Lengths | None
    retain: Lengths | None
    objective: dict[str, Any]
    optimizer: dict[str, Any]
    weights: str
    lora: dict[str, Any] | None
    batch_size: int
    accumulation: int
    epochs: float
    compute: str
    checkpoint_seconds: float

    @property
    def width(self) -> int:
        """Bytes of a weight."""
        return 4 if self.weights == "fp32" else 2

    @property
    def matrices(self) -> float:
        """Parameters that a forward pass multiplies by, the output projection among them."""
        return self.shape.body + self.shape.head

    @property
    def steps(self) -> int:
        """Optimiser steps, as training/loop.step_count counts them."""
        main = self.forget or self.retain
        if main is None or self.optimizer["kind"] == "none":
            return 0
        if self.optimizer["kind"] == "influence":
            return 1
        size = self.batch_size * self.accumulation
        return max(1, round(self.epochs * math.ceil(main.records / size)))

    @property
    def trained(self) -> float:
        """Parameters that learn."""
        shape = self.shape
        if self.lora is not None:
            return adapter_parameters(shape, self.lora)
        if self.objective["kind"] == "RMU":
            layers = min(self.objective["update_layers"], self.objective["layer"] + 1, shape.layers)
            return float(layers * shape.hidden * shape.intermediate)
        return float(shape.parameters)

    @property
    def layers_run(self) -> int:
        """Layers of a forward pass: RMU stops after its own."""
        if self.objective["kind"] == "RMU":
            return min(self.objective["layer"] + 1, self.shape.layers)
        return self.shape.layers


def adapter_parameters(shape: Shape, lora: dict[str, Any]) -> float:
    """Parameters of low-rank adapters: rank x (inputs + outputs) of each matrix that gets one."""
    queries, keys = shape.heads * shape.head_size, shape.kv_heads * shape.head_size
    hidden, inner = shape.hidden, shape.intermediate
    matrices = {
        "q_proj": hidden + queries,
        "k_proj": hidden + keys,
        "v_proj": hidden + keys,
        "o_proj": queries + hidden,
        "gate_proj": hidden + inner if shape.gated else 0,
        "up_proj": hidden + inner,
        "down_proj": inner + hidden,
    }
    target = lora["target"]
    wanted = matrices if target == "all-linear" else [name for name in target if name in matrices]
    ends: float = sum(matrices[name] for name in wanted)
    if target != "all-linear":  # names of other families: an average matrix each
        ends += (len(target) - len(wanted)) * sum(matrices.values()) / len(matrices)
    return float(lora["rank"] * ends * shape.layers)


def activation_bytes(job: Training, rows: int, length: float) -> float:
    """What a forward pass saves for the backward one, of `rows` sequences padded to `length` tokens.

    Per token and layer, with D hidden size, Q = heads x head size, F intermediate size, T tokens, of the
    layers of Llama as transformers writes them. fp32: each norm saves its input, the normalised input and
    its product with the scale, which the next matrices read (3 D); attention saves queries, repeated keys and
    values and its result (4 Q), plain attention also the T weights of each head; the gated feed-forward part
    saves gate, its activation, the other branch and their product (4 F). Under autocast the norms stay fp32
    and every matrix casts its own input to bf16. What is frozen saves less: RMU trains single matrices.
    """
    shape = job.shape
    hidden, queries, inner = shape.hidden, shape.heads * shape.head_size, shape.intermediate
    branches = 4 if shape.gated else (1 if shape.relu else 2)
    readers = 2 if shape.gated else 1  # matrices that read the second norm's result
    scores = 0.0 if job.device.fused_attention else shape.heads * length
    pushed = job.objective["kind"] == "RMU"
    scaled = float(shape.gated and job.lora is None and not pushed)  # a frozen scale saves nothing
    read = float(not pushed)  # nor do frozen matrices without adapters
    if job.compute == "bf16" and job.width == 4:
        norms = 2 * 4 * (1 + scaled) * hidden + 2 * (3 + readers) * read * hidden
        layer = norms + 2 * (3 + read) * queries + 2 * branches * inner + 6 * scores
    elif job.width == 2:
        norms = 2 * (4 + 2 * scaled + 2 * read) * hidden
        layer = norms + 2 * (3 + read) * queries + 2 * branches * inner + 6 * scores
    else:
        layer = 4 * (2 * (1 + scaled + read) * hidden + (3 + read) * queries + branches * inner + scores)
    if pushed:  # the graph begins at the first matrix that learns, the last one of its layer
        learning = min(job.objective["update_layers"], job.layers_run)
        return rows * length * (layer * (learning - 1) + 4 * inner)
    outside = 4 * 4 * hidden  # embedding, last norm
    return rows * length * (layer * shape.layers + outside)


def training_memory(job: Training) -> Memory:
    """The largest phase of a training job."""
    phases = {"saving": _saving(job)}
    if job.steps:
        phases |= _influence_phases(job) if job.optimizer["kind"] == "influence" else _phases(job)
    return largest(job.device, phases)


def largest(device: Device, phases: dict[str, dict[str, float]]) -> Memory:
    """The phase that holds most, with what the device adds to it."""
    named = [
        Memory(name, device.whole({part: size for part, size in parts.items() if size}))
        for name, parts in phases.items()
    ]
    return max(named, key=lambda memory: memory.total)


def _saving(job: Training) -> dict[str, float]:
    """Weights are written as fp32, and copied to bytes in the machine's memory first.

    What is mirrored at the weights before training reads these then, into the machine's memory.
    """
    whole = 4.0 * job.shape.parameters
    mirrored = OBJECTIVES[job.objective["kind"]].original
    # Adapters are merged, and a change is mirrored, in fp32.
    width = job.width if job.steps and job.lora is None and not mirrored else 4
    wider = whole if width == 2 else 0.0
    on_machine = 0.0 if job.device.kind == "cuda" else whole
    original = on_machine if mirrored else 0.0
    weights = float(width * job.shape.parameters)
    return {"weights": weights, "copy": wider + on_machine, "original weights": original}


def _graphs(job: Training) -> list[dict[str, float]]:
    """Activations and log-probabilities of each graph of a micro-batch, in the order they are built.

    The longest records of two sets seldom meet in one step, so one set is at its longest and the others at
    their usual width.
    """
    traits = OBJECTIVES[job.objective["kind"]]
    sets = [job.forget] * traits.forget + ([job.retain] if traits.retain else [])
    present = [lengths for lengths in sets if lengths is not None]
    rows = job.batch_size
    wide = [lengths.longest for lengths in present]
    usual = [lengths.usual(min(rows, lengths.records)) for lengths in present]
    gains = [a - b for a, b in zip(wide, usual, strict=True)]
    longest = gains.index(max(gains))
    predicts = job.objective["kind"] != "RMU"
    return [
        {
            "activations": activation_bytes(job, rows, wide[i] if i == longest else usual[i]),
            "logits": 4.0 * job.shape.vocab * lengths.answers(rows) * predicts,
        }
        for i, lengths in enumerate(present)
    ]


def _held(job: Training) -> dict[str, float]:
    """What stays through the whole run."""
    shape, traits = job.shape, OBJECTIVES[job.objective["kind"]]
    state = state_bytes(job.optimizer["kind"], job.trained, shape.embedding, job.width)
    held = {"weights": float(job.width * shape.parameters), "optimiser": state}
    if job.weights == "bf16_stochastic":
        state = state_bytes(job.optimizer["kind"], job.trained, shape.embedding, 4)
        held["optimiser"] = state + 4.0 * job.trained  # with the weights' working copies
    if job.lora is not None:
        held["weights"] += job.width * job.trained
    elif traits.reference is not None:
        held["reference model"] = 4.0 * (shape.parameters - shape.body * (1 - job.layers_run / shape.layers))
    if job.device.kind == "cpu" and job.trained >= COMPILED_FROM and job.optimizer["kind"] in ELEMENTWISE:
        held["compiler"] = COMPILER
    return held


def _casts(job: Training, graphs: int) -> float:
    """bf16 copies of the fp32 matrices under autocast: kept for all graphs, of frozen ones for each graph."""
    if job.compute != "bf16" or job.width != 4:
        return 0.0
    share = job.layers_run / job.shape.layers
    return 2.0 * (job.shape.body * share + job.shape.head) * (graphs if job.lora is not None else 1)


def _phases(job: Training) -> dict[str, dict[str, float]]:
    held, graphs = _held(job), _graphs(job)
    traits = OBJECTIVES[job.objective["kind"]]
    gradients = float(job.width * job.trained)
    so_far = gradients if job.accumulation > 1 else 0.0
    casts = {"bf16 copies": _casts(job, len(graphs))}
    logits = [graph["logits"] for graph in graphs]
    # The graph that goes back first holds, beside the saved log-probabilities, two gradients of their size.
    forward = {
        "gradients": so_far,
        **casts,
        "activations": sum(graph["activations"] for graph in graphs),
        "logits": sum(logits) + 2 * logits[-1] + traits.distributions * max(logits),
    }
    phases = {"forward": {**held, **forward}}
    # When the first graph's turn comes, the others have left their gradients in buffers. An embedding that is
    # tied to the output has two gradients, which are added into a third tensor.
    waiting = len(graphs) > 1
    whole = job.trained == job.shape.parameters
    tied = 2.0 * job.width * job.shape.embedding if job.shape.tied and whole else 0.0
    # Under autocast the gradients of the bf16 copies wait, and become fp32 at the end.
    buffered = gradients / 2 if casts["bf16 copies"] else gradients
    phases["backward"] = {
        **held,
        "gradients": (so_far + buffered if waiting else gradients) + tied,
        **casts,
        "activations": graphs[0]["activations"] if waiting else 0.0,
        "logits": 3 * logits[0] if waiting else 0.0,
    }
    phases["end of backward"] = {**held, "gradients": gradients + tied, **casts}
    estimated = curvature_of(job.optimizer)
    if estimated is not None:
        phases["curvature"] = {
            **held,
            "gradients": gradients,
            **_curvature(job, estimated[0], graphs, gradients),
        }
    phases["step"] = {**held, "gradients": gradients}
    if job.weights == "bf16_stochastic":  # gradients in fp32, and the largest tensor while it is rounded
        phases["step"] |= {"gradients": gradients + 4.0 * job.trained, "rounding": 12.0 * job.shape.embedding}
    if job.device.kind == "cpu" and training_seconds(job) > job.checkpoint_seconds:
        kept = {name: held[name] for name in ("weights", "optimiser")}
        phases["checkpoint"] = {**held, "copy": sum(kept.values())}
    if job.width == 2:
        phases["loading"] = {**held, "weights": 4.0 * job.shape.parameters}
    if job.objective["kind"] == "WHP" and job.lora is None:
        second = 4.0 * job.shape.parameters
        first = graphs[0]
        phases["reinforcing"] = {
            "weights": 2 * second,
            "optimiser": 2 * second,
            "gradients": second,
            "activations": first["activations"],
            "logits": 3 * first["logits"],
        }
    return phases


def _curvature(
    job: Training, estimator: str, graphs: list[dict[str, float]], gradients: float
) -> dict[str, float]:
    """What an estimate adds: a list of its own, and the graph of one set at a time."""
    widest = max(graphs, key=lambda graph: graph["activations"] + 4 * graph["logits"])
    if estimator == "empirical_fisher":
        return {"curvature": gradients}
    if estimator.startswith("hutchinson"):
        return {
            "curvature": 3 * gradients,  # probes, the gradient with its graph, products
            "bf16 copies": _casts(job, 1),
            "activations": DOUBLE_BACKWARD * widest["activations"],
            "logits": DOUBLE_BACKWARD * widest["logits"],
        }
    return {
        "curvature": gradients,
        "bf16 copies": _casts(job, 1),
        "activations": widest["activations"],
        "logits": 4 * widest["logits"],  # distribution, its sums, slope, the logits themselves
    }


def _influence_phases(job: Training) -> dict[str, dict[str, float]]:
    """One damped Newton step: the gradient, the solver's vectors, and products with the curvature."""
    graphs = _graphs(job)
    vector = 4.0 * job.trained
    held = {"weights": 4.0 * job.shape.parameters}
    activations = sum(graph["activations"] for graph in graphs)
    widest = max(graph["activations"] for graph in graphs)
    logits = max(graph["logits"] for graph in graphs)
    return {
        "gradient": {**held, "gradients": vector, "activations": activations, "logits": 4 * logits},
        "solver": {
            **held,
            "gradients": vector,
            "solver": SOLVER_VECTORS[job.optimizer["solver"]] * vector,
            "activations": 2 * widest,
            "logits": 4 * logits,
        },
    }


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
    traits = OBJECTIVES[job.objective["kind"]]
    back = 2.0 if job.lora is not None else 4.0
    rows = job.batch_size * job.accumulation

    def once(lengths: Lengths | None, factor: float) -> float:
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
    if traits.reference is not None:
        step += once(job.forget if traits.reference == "forget" else job.retain, 2.0)
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
        step += sum(once(lengths, factor) for lengths in chosen) / every
    held = _held(job)
    moved = 2 * (held["optimiser"] + 2 * job.width * job.trained)
    step += device.seconds(0.0, moved, 0.0, "fp32")
    return loading + whole + job.steps * step
