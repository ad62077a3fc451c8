"""Memory of fine-tuning and unlearning, part by part.

Each phase lists what is held at the same time; the peak is the largest phase. All sizes are bytes.

- forward: weights, optimiser state, the saved activations of every graph that one backward pass will need
  (an objective runs its forget and its retain batch before it goes back), log-probabilities of the answer
  tokens, and with accumulation the gradients so far;
- backward: gradients as they fill up, with the remaining graphs: torch walks through the graphs one after
  another, last first, and while a parameter waits for another graph, its partial gradient lies in a buffer of
  its own;
- curvature: a set of gradients, with the graph of one set of examples, before the step's own gradients exist;
  an estimate made from the step's gradient lies beside it;
- step: all gradients, and with stochastic rounding a block's copies in fp32;
- a zeroth-order step has the forward phase alone, which saves nothing for a backward pass;
- forward and backward: what a smoothing keeps of weights and gradients between its passes;
- loading and saving: fp32 weights, whatever is trained.

With `checkpointing` a graph holds only the input of each layer, and the backward pass recomputes one layer at
a time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pipeline_lib.operations.plan.device import CPU_HEAP, CPU_HEAP_FORWARD, Device
from pipeline_lib.operations.plan.training import Training, held_bytes, of_the_step, rounding_bytes
from pipeline_lib.optimizers import Optimizer
from pipeline_lib.optimizers.base import Curvature

AGAIN = 1.5  # of a layer's activations while they are computed again and go back, with their gradients
GRAPH_OF_GRADIENT = 2.6  # what both graphs hold where a gradient is differentiated again, against a plain one
LOGITS_AT_ONCE = 1 << 24  # as models/forward.py has it: more, and more than the output embedding, come again
SHORT = 256  # tokens, as models/fused_attention.py has it


@dataclass(frozen=True)
class Memory:
    """The largest phase of a job: bytes by part, and its name."""

    phase: str
    parts: dict[str, float]

    @property
    def total(self) -> float:
        return sum(self.parts.values())


def training_memory(job: Training) -> Memory:
    """The largest phase of a training job; under `compute: auto`, of the kind that needs more."""
    if job.settings.compute == "auto":
        return max(map(training_memory, _either(job)), key=lambda memory: memory.total)
    phases = phases_of(job)
    if job.device.kind == "cpu":
        phases = {name: {**parts, "heap": _heap(name, phases)} for name, parts in phases.items()}
    return largest(job.device, phases)


def _either(job: Training) -> list[Training]:
    """The job as each of the kinds that `compute: auto` may become."""
    return [
        replace(job, settings=job.settings.model_copy(update={"compute": compute}))
        for compute in ("fp32", "bf16")
    ]


def phases_of(job: Training) -> dict[str, dict[str, float]]:
    """Bytes by part of each phase, of what the job itself holds."""
    phases = {"saving": _saving(job)}
    if job.steps and job.optimizer is not None:
        for optimizer in job.optimizer.members or (job.optimizer,):
            for name, parts in _phases_of(job, optimizer).items():
                before = phases.get(name, {})
                phases[name] = max(before, parts, key=lambda held: sum(held.values()))
    return phases


def _phases_of(job: Training, optimizer: Optimizer) -> dict[str, dict[str, float]]:
    """Those of the steps that this optimiser takes."""
    if optimizer.forward_passes:
        return _phases_without_gradient(job)
    return _one_shot_phases(job, optimizer) if optimizer.one_shot else _phases(job, optimizer)


def _heap(name: str, phases: dict[str, dict[str, float]]) -> float:
    """Freed memory that a process keeps on a CPU.

    Gradients do not fit into the holes that the smaller activations leave, so at the end of the backward pass
    most of the forward pass is still resident; otherwise it is a share of what is held.
    """
    parts = phases[name]
    if name == "forward":
        return CPU_HEAP_FORWARD * sum(parts.values())
    share = CPU_HEAP * sum(parts.values())
    if name in ("saving", "loading") or "forward" not in phases:
        return share

    def passing(of: dict[str, float]) -> float:
        return of.get("activations", 0.0) + of.get("logits", 0.0)

    # With large batches the holes are large too, and are reused.
    return max(share, min(passing(phases["forward"]) - passing(parts), parts["gradients"]))


def largest(device: Device, phases: dict[str, dict[str, float]]) -> Memory:
    """The phase that holds most, including what the device adds."""
    named = [
        Memory(name, device.whole({part: size for part, size in parts.items() if size}))
        for name, parts in phases.items()
    ]
    return max(named, key=lambda memory: memory.total)


def activation_bytes(job: Training, rows: int, length: float) -> tuple[float, float]:
    """Bytes that a forward pass saves for the backward pass, as a whole and for one layer.

    `rows`: sequences, each padded to `length` tokens.

    Per token and layer, with D hidden size, Q = heads x head size, F intermediate size, of the layers of
    Llama as transformers writes them. fp32: each norm saves its input, the normalised input and its product
    with the scale, which the next matrices read (3 D); attention saves queries, repeated keys and values and
    its result (4 Q); the gated feed-forward part saves gate, its activation, the other branch and their
    product (4 F). Under autocast the norms stay fp32 and every matrix casts its own input to bf16. In bf16
    on a CPU, attention to short texts saves fp32 (models/fused_attention.py). Frozen layers save less where
    only single matrices learn. Texts are counted apart and padded, as models need them that read no trees
    (models/tree_attention.py); others take less.
    """
    shape = job.shape
    hidden, queries, inner = shape.hidden, shape.heads * shape.head_size, shape.intermediate
    branches = 4 if shape.gated else (1 if shape.relu else 2)
    readers = 2 if shape.gated else 1  # matrices that read the second norm's result
    pushed = job.objective.trained_outputs is not None
    scaled = float(shape.gated and job.settings.lora is None and not pushed)  # a frozen scale saves nothing
    read = float(not pushed)  # nor do frozen matrices without adapters
    widened = job.device.kind == "cpu" and length <= SHORT
    attention = 4 * 4 + 2 * read if widened else 2 * (3 + read)  # bytes a number
    if job.settings.compute == "bf16" and job.width == 4:
        norms = 2 * 4 * (1 + scaled) * hidden + 2 * (3 + readers) * read * hidden
        layer = norms + attention * queries + 2 * branches * inner
    elif job.width == 2:
        norms = 2 * (4 + 2 * scaled + 2 * read) * hidden
        layer = norms + attention * queries + 2 * branches * inner
    else:
        layer = 4 * (2 * (1 + scaled + read) * hidden + (3 + read) * queries + branches * inner)
    if job.objective.trained_outputs is not None:  # the graph begins at the first of them, its layer's last
        learning = min(job.objective.trained_outputs, job.layers_run)
        return rows * length * (layer * (learning - 1) + 4 * inner), rows * length * layer
    outside = 4 * 4 * hidden  # embedding, last norm
    return rows * length * (layer * job.layers_run + outside), rows * length * layer


def _saving(job: Training) -> dict[str, float]:
    """Weights become fp32 one after another and are written from where they are.

    An objective that uses the weights before training then reads them into the machine's memory.
    """
    whole = 4.0 * job.shape.parameters
    mirrored = job.objective.needs_original_weights and job.device.kind == "cpu"
    return {"weights": whole, "original weights": whole if mirrored else 0.0}


def _graphs(job: Training) -> list[dict[str, float]]:
    """Activations and log-probabilities of each graph of a micro-batch, in the order in which they are built.

    The longest records of two sets seldom meet in one step, so one set has its longest record and the others
    their usual width.
    """
    sets = [job.forget] * job.objective.forget_graphs + ([job.retain] if job.objective.uses_retain else [])
    present = [lengths for lengths in sets if lengths is not None]
    rows = job.settings.batch_size
    wide = [lengths.longest for lengths in present]
    usual = [lengths.usual(min(rows, lengths.records)) for lengths in present]
    gains = [a - b for a, b in zip(wide, usual, strict=True)]
    longest = gains.index(max(gains))
    graphs = []
    for i, lengths in enumerate(present):
        length = wide[i] if i == longest else usual[i]
        whole, layer = activation_bytes(job, rows, length)
        inputs = rows * length * job.width * job.shape.hidden * (job.layers_run + 1)
        number = job.shape.vocab * lengths.answers(rows) * (not job.stops_early)
        in_pieces = number > max(LOGITS_AT_ONCE, job.shape.vocab * job.shape.hidden)
        graphs.append(
            {
                "activations": min(inputs, whole) if job.settings.checkpointing else whole,
                "layer": layer,
                "again": layer if job.settings.checkpointing else 0.0,
                "not checkpointed": whole,
                "logits": 0.0 if in_pieces else 4.0 * number,
                "piece": 4.0 * min(number, LOGITS_AT_ONCE),
                "distribution": 4.0 * (min(number, LOGITS_AT_ONCE) if in_pieces else number),
                # a piece is computed again, and adds its own gradient of the output embedding
                "pieces": 4.0 * LOGITS_AT_ONCE + 4.0 * job.shape.head if in_pieces else 0.0,
                "all logits": 4.0 * number,
            }
        )
    return graphs


def _casts(job: Training, graphs: int) -> float:
    """bf16 copies of the fp32 matrices under autocast: one for all graphs, of frozen matrices one a graph."""
    if job.settings.compute != "bf16" or job.width != 4:
        return 0.0
    share = (
        job.layers_run / job.shape.layers * (job.base != "int8" or job.settings.lora is None)
    )  # never kept wide
    return 2.0 * (job.shape.body * share + job.shape.head) * (graphs if job.settings.lora is not None else 1)


def _phases(job: Training, optimizer: Optimizer) -> dict[str, dict[str, float]]:
    held, graphs = held_bytes(job), _graphs(job)
    gradients = float(job.width * job.trained)
    so_far = gradients if job.settings.accumulation > 1 else 0.0
    casts = {"bf16 copies": _casts(job, len(graphs))}
    pieces = [graph["piece"] for graph in graphs]
    # The graph that goes back first holds, beside the saved log-probabilities, two gradients of their size.
    forward = {
        "gradients": so_far,
        **casts,
        "activations": sum(graph["activations"] for graph in graphs),
        "logits": sum(graph["logits"] for graph in graphs)
        + 2 * pieces[-1]
        + job.objective.distributions * max(graph["distribution"] for graph in graphs)
        + graphs[-1]["pieces"],
    }
    phases = {"forward": {**held, **forward}}
    if (
        job.settings.checkpointing
    ):  # the last layer of the graph that goes back first, once its logits are gone
        kept = sum(graph["activations"] for graph in graphs) + AGAIN * graphs[-1]["again"]
        phases["recomputing"] = {**held, "gradients": so_far, **casts, "activations": kept}
    # When the first graph's turn comes, the others have left their gradients in buffers. An embedding that is
    # tied to the output has two gradients, which are added into a third tensor.
    waiting = len(graphs) > 1
    whole = job.trained == job.shape.parameters
    tied = 2.0 * job.width * job.shape.embedding if job.shape.tied and whole else 0.0
    # Under autocast the gradients of the bf16 copies wait, and become fp32 at the end.
    buffered = gradients / 2 if casts["bf16 copies"] else gradients
    # The logits are gone when the layers' activations are computed again: the larger of the two counts.
    last_logits = graphs[0]["logits"] + 2 * pieces[0] + graphs[0]["pieces"] if waiting else 0.0
    again = graphs[0]["again"]
    phases["backward"] = {
        **held,
        "gradients": (so_far + buffered if waiting else gradients) + tied,
        **casts,
        "activations": (graphs[0]["activations"] if waiting else 0.0) + again,
        "logits": max(last_logits - again, 0.0),
    }
    phases["end of backward"] = {**held, "gradients": gradients + tied, **casts}
    if optimizer.smoothing is not None:
        copies = {"smoothing": optimizer.smoothing.copies * gradients}
        phases = {name: {**parts, **copies} for name, parts in phases.items()}
    if optimizer.curvature is not None:
        of_gradient = gradients if optimizer.curvature.estimator.at_hand else 0.0
        for name, parts in _curvature(job, optimizer.curvature, graphs, gradients, tied).items():
            phases[name] = {**held, "gradients": of_gradient, **parts}
    phases["step"] = {**held, "gradients": gradients}
    if not job.settings.offload:
        phases["step"]["rounding"] = rounding_bytes(job)
    elif job.device.kind == "cpu":
        phases["step"]["copies"] = of_the_step(job)
    if job.width == 2:
        phases["loading"] = {**held, "weights": 4.0 * job.shape.parameters}
    elif (
        job.base == "int8" and job.device.kind == "cpu"
    ):  # for a GPU too it is rounded in the machine's memory
        phases["loading"] = {"weights": 4.0 * job.shape.parameters + job.shape.body}
    if job.objective.needs_generic_labels and job.settings.lora is None:
        second, first = 4.0 * job.shape.parameters, graphs[0]
        phases["reinforcing"] = {
            "weights": 2 * second,
            "optimiser": 2 * second,
            "gradients": second,
            "activations": first["activations"] + 2 * first["again"],
            "logits": first["logits"] + 2 * first["piece"] + first["pieces"],
        }
    return phases


def _curvature(
    job: Training, curvature: Curvature, graphs: list[dict[str, float]], gradients: float, tied: float
) -> dict[str, dict[str, float]]:
    """What an estimate adds to the phases: a list of its own, and the graph of one set at a time."""
    examples = curvature.examples or job.settings.batch_size
    share = min(1.0, examples / job.settings.batch_size)
    widest = max(graphs, key=lambda graph: graph["activations"] + 4 * graph["all logits"])
    widest = {part: share * size for part, size in widest.items()}
    if curvature.estimator.at_hand:
        return {"curvature": {"curvature": gradients}}
    if curvature.estimator.double_backward:

        def products(lists: float, graphs: float) -> dict[str, float]:
            """What was recomputed stays, because the second pass goes through it."""
            return {
                "curvature": lists,
                "bf16 copies": _casts(job, 1),
                "activations": graphs * widest["not checkpointed"],
                "logits": graphs * widest["all logits"],
            }

        return {
            # probes, the gradient with its graph, products; then products that wait for their other half
            "curvature": products(3 * gradients, GRAPH_OF_GRADIENT),
            "end of curvature": products(4 * gradients + tied, 2.0),
        }
    # of log-probabilities: distribution, its sums, slope, the logits themselves
    logits = max(4 * widest["all logits"] - 2 * widest["again"], 0.0)
    activations = widest["activations"] + 2 * widest["again"]
    casts = {"bf16 copies": _casts(job, 1)}
    return {
        "curvature": {"curvature": gradients, **casts, "activations": activations, "logits": logits},
        "end of curvature": {"curvature": gradients + tied, **casts},
    }


def _phases_without_gradient(job: Training) -> dict[str, dict[str, float]]:
    """A zeroth-order step: forward passes that save nothing; directions are drawn in small pieces."""
    held, graphs = held_bytes(job), _graphs(job)
    widest = max(graphs, key=lambda graph: graph["layer"] + graph["logits"])
    return {
        "forward": {
            **held,
            "bf16 copies": _casts(job, 1),
            "activations": widest["layer"],
            "logits": widest["logits"] + 2 * widest["piece"],
        }
    }


def _one_shot_phases(job: Training, optimizer: Optimizer) -> dict[str, dict[str, float]]:
    """One damped Newton step: the gradient, the solver's vectors, and products with the curvature."""
    graphs = _graphs(job)
    vector = 4.0 * job.trained
    held = {"weights": 4.0 * job.shape.parameters}
    activations = sum(graph["activations"] + graph["again"] for graph in graphs)
    widest = max(graph["activations"] + graph["again"] for graph in graphs)
    logits = max(graph["all logits"] for graph in graphs)
    return {
        "gradient": {**held, "gradients": vector, "activations": activations, "logits": 4 * logits},
        "solver": {
            **held,
            "gradients": vector,
            "solver": optimizer.solver_vectors * vector,
            "activations": 2 * widest,
            "logits": 4 * logits,
        },
    }
