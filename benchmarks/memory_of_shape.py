"""The planner's estimate for a GPU against tensors of a large model's width, measured without a GPU.

    python -m benchmarks.memory_of_shape            every case below; some minutes and up to 16 GB each
    python -m benchmarks.memory_of_shape NAME ...   these cases
    python -m benchmarks.memory_of_shape --parts    with the peak of every part of a step

A case is a training job of Llama-2-7B's shape. It is measured at full width with 1, 2 and 3 layers: real
steps on a CPU, with random weights, every tensor counted as torch allocates and frees it and rounded up to
512 bytes as the allocator of a GPU does (tests/operations/plan/measured_training.py). Each part of a
step grows by the same bytes with every layer and is continued to 32 layers; the largest is held against the
estimate.
"line" is how far one layer lies from the line through two and three, in the part where it is most; "-" where
one and two layers were measured.

Why tensors on a CPU stand for those on a GPU: the same operations run in the same order and save the same
tensors. Where the two differ: attention runs on torch's fused kernel and in the type of its inputs, as on a
GPU, not on the plain kernel or in fp32 as some training on a CPU; it saves its inputs, its result and one
number a token and head. What the curvature's drift needs is taken for whole tensors, as on a GPU, not in
pieces. An offloaded optimiser is left out: its states lie in the machine's memory. Workspaces of the GPU's
kernels, its context (the plan's `runtime`) and fragmentation are counted on neither side.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from typing import Any

from pipeline_lib.objectives import OBJECTIVES
from pipeline_lib.objectives.finetuning import FineTuning
from pipeline_lib.operations.plan.device import Device
from pipeline_lib.operations.plan.shape import _of_config
from pipeline_lib.operations.plan.sizes import Lengths
from pipeline_lib.operations.plan.training import Training
from pipeline_lib.operations.plan.training_memory import phases_of
from pipeline_lib.optimizers import OPTIMIZERS
from pipeline_lib.training.settings import Unlearn

LAYERS = 32
ALLOCATED = 512  # bytes: a GPU's tensors take multiples of it
CONFIG = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
}
RATE: dict[str, Any] = {"learning_rate": 1e-5, "weight_decay": 0.0}
ADAMW = {"kind": "adamw", "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, **RATE}
SOPHIA = {
    "kind": "sophia",
    "beta1": 0.96,
    "beta2": 0.99,
    "gamma": 0.05,
    "clipped_target": None,
    "eps": 1e-12,
    "estimator": "gauss_newton_bartlett",
    "update_every": 1,
    "drift_target": None,
    "curvature_data": "both",
    "curvature_examples": None,
    **RATE,
}
# Prompt and answer tokens of TOFU with Llama 2, the longest record to forget and a usual one to retain; and
# those of the passages of config/paper.yaml.
TOFU = {"forget": (20, 118), "retain": (19, 36)}
PASSAGES = {"forget": (102, 413), "retain": (102, 413)}
PLAIN: dict[str, Any] = {
    **TOFU,
    "config": CONFIG,
    "measured": (1, 2, 3),  # layers
    "attention": "sdpa",
    "objective": {"kind": "GradDiff", "gamma": 1.0},
    "optimizer": ADAMW,
    "weights": "bf16",
    "lora": None,
    "reference": False,
    "batch_size": 4,
    "accumulation": 1,
    "compute": "bf16",
    "checkpointing": False,
    "offload": False,
}
PAPER = {"batch_size": 1, "accumulation": 4}
LORA = {"rank": 8, "alpha": 16.0, "dropout": 0.0, "target": "all-linear"}
SOUL = {"optimizer": SOPHIA}
ON_HOST = {"weights": "fp32", "offload": True, "checkpointing": True}
NPO = {"objective": {"kind": "NPO", "beta": 0.1, "alpha": 1.0}}
KL = {"objective": {"kind": "KL", "gamma": 1.0}, "reference": True}
TUNING = {"forget": None, "objective": {"kind": "FineTuning"}}
TWO = {"measured": (1, 2)}
CASES: dict[str, dict[str, Any]] = {
    "GradDiff AdamW, bf16 weights": {},
    "GradDiff AdamW, bf16 weights, checkpointing": {"checkpointing": True},
    "GradDiff AdamW, bf16 weights, 4 x batch 1": PAPER,
    "GradDiff AdamW, bf16 weights, 4 x batch 1, passages": {**PAPER, **PASSAGES, **TWO},
    "GradDiff AdamW, bf16_stochastic, 4 x batch 1": {"weights": "bf16_stochastic", **PAPER, **TWO},
    "GradDiff AdamW, bf16_stochastic, 4 x batch 1, offload": {
        "weights": "bf16_stochastic",
        "offload": True,
        **PAPER,
        **TWO,
    },
    "GradDiff Sophia, bf16 weights": SOUL,
    "GradDiff Sophia, bf16 weights, checkpointing": {**SOUL, "checkpointing": True},
    "GradDiff Sophia, bf16 weights, 4 x batch 1": {**SOUL, **PAPER},
    "GradDiff Sophia, bf16_stochastic, 4 x batch 1": {
        **SOUL,
        "weights": "bf16_stochastic",
        **PAPER,
        **TWO,
    },
    "GradDiff Sophia, fp32, bf16 compute, offload, checkpointing": {**SOUL, **ON_HOST, **TWO},
    "GradDiff AdamW, fp32, offload, checkpointing": {"compute": "fp32", **ON_HOST, **TWO},
    "GradDiff LoRA on fp32, bf16 compute": {"lora": LORA, "weights": "fp32"},
    "GradDiff LoRA on bf16": {"lora": LORA},
    "NPO AdamW, bf16 weights": {**NPO, **TWO},
    "KL AdamW, bf16 weights": {**KL, **TWO},
    "fine-tuning, bf16 weights": {**TUNING, **TWO},
    "fine-tuning, fp32, bf16 compute, 2 x batch 4, offload": {
        **TUNING,
        "weights": "fp32",
        "offload": True,
        "accumulation": 2,
        **TWO,
    },
}

Peaks = dict[str, int]  # part of a step -> bytes


def extrapolated(few: tuple[int, Peaks], more: tuple[int, Peaks], layers: int) -> dict[str, float]:
    """The peak of each part with `layers` layers, on the line through two measurements (layers, peaks).

    A model of one layer has no first one beside its last. The gradient passes those between at bytes that are
    again linear in the place, so that they hold no more than the larger of the two ends.
    """
    (fewer, low), (larger, high) = few, more
    found = {}
    for part, size in high.items():
        before = low.get(part, low.get(part.replace("first", "last")))
        if before is not None:
            found[part] = size + (size - before) / (larger - fewer) * (layers - larger)
    return found


def deviation(measured: dict[int, Peaks]) -> float | None:
    """How far the smallest of three models lies from the line through the others, as a share of its peak.

    In the part where it is most; None with fewer measurements. What a single layer does stands in one part.
    """
    if len(measured) < 3:
        return None
    (layers, found), second, third = sorted(measured.items())[:3]
    line = extrapolated(second, third, layers)
    if layers == 1:
        line = {part: max(size, line.get(part.replace("last", "first"), 0.0)) for part, size in line.items()}
    return max(abs(line[part] - size) for part, size in found.items()) / max(found.values())


def job_of(case: dict[str, Any], layers: int) -> Training:
    """The case as the planner reads it, on a GPU."""
    shape = _of_config({"model_type": "llama", **case["config"], "num_hidden_layers": layers}, "benchmark")
    assert shape is not None

    def lengths(size: tuple[int, int] | None) -> Lengths | None:
        return None if size is None else Lengths(400, size[0], size[1], sum(size), 1, "both")

    return Training(
        shape=shape,
        device=Device("cuda", None, 1, None),
        forget=lengths(case["forget"]),
        retain=lengths(case["retain"]),
        objective=FineTuning() if case["forget"] is None else OBJECTIVES.parse(case["objective"]),
        optimizer=OPTIMIZERS.parse(case["optimizer"]),
        settings=Unlearn.model_validate({name: case[name] for name in case.keys() & Unlearn.model_fields}),
        base=None,
    )


def estimated(case: dict[str, Any], layers: int) -> tuple[str, float, dict[str, float]]:
    """The plan's largest phase of the steps, without the runtime: its name, bytes, and its parts."""
    phases = {n: p for n, p in phases_of(job_of(case, layers)).items() if n not in ("saving", "loading")}
    name = max(phases, key=lambda phase: sum(phases[phase].values()))
    return name, sum(phases[name].values()), phases[name]


def measure(case: dict[str, Any], layers: int) -> Peaks:
    """Peaks of the parts of a step with so many layers, in this process."""
    import torch

    from pipeline_lib.models import fused_attention
    from pipeline_lib.optimizers import elementwise
    from tests.operations.plan.measured_training import peaks

    torch.set_num_threads(1)
    torch.manual_seed(0)
    elementwise.CHUNK = 1 << 40  # tensors whole, as on a GPU
    fused_attention.SHORT = 0  # and bf16 attended to in bf16
    found = peaks(
        {**case, "config": {**case["config"], "num_hidden_layers": layers}}, ALLOCATED, first_is_short=True
    )
    kernels = [kernel.function for kernel in elementwise.COMPILED.values()]
    if None in kernels:  # a GPU's step has no temporaries; without a compiler it would have
        raise SystemExit("the optimiser's step was not compiled, see above: install a C++ compiler")
    return found


def in_a_process(case: dict[str, Any], layers: int) -> Peaks:
    """`measure` in a process of its own, which gives all memory back."""
    asked = json.dumps([[case, layers]])
    command = [sys.executable, "-m", "benchmarks.memory_of_shape", "--measure", asked]
    done = subprocess.run(command, capture_output=True, check=False, text=True)  # noqa: S603  # itself
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    return json.loads(done.stdout.splitlines()[-1])[0]


def main(given: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help="default: all")
    parser.add_argument("--parts", action="store_true", help="print the peak of every part of a step")
    parser.add_argument("--measure", metavar="JSON", help="measure these [case, layers] here, print JSON")
    asked = parser.parse_args(given)
    if asked.measure:
        print(json.dumps([measure(case, layers) for case, layers in json.loads(asked.measure)]))
        return
    head = f"{'case':<60}{'phase':>17}{'estimate GB':>13}{'measured GB':>13}{'ratio':>7}{'line':>8}"
    print(f"{head}  largest part", flush=True)
    for name in asked.cases or CASES:
        case, started = {**PLAIN, **CASES[name]}, time.monotonic()
        measured = {layers: in_a_process(case, layers) for layers in case["measured"]}
        *_, few, more = sorted(measured.items())
        parts = extrapolated(few, more, LAYERS)
        largest = max(parts, key=lambda part: parts[part])
        phase, estimate, guessed = estimated(case, LAYERS)
        off = deviation(measured)
        line = "-" if off is None else f"{100 * off:.2f}%"
        sizes = f"{estimate / 1e9:>13.1f}{parts[largest] / 1e9:>13.1f}{estimate / parts[largest]:>7.3f}"
        print(f"{name:<60}{phase:>17}{sizes}{line:>8}  {largest}", flush=True)
        if asked.parts:
            told = ", ".join(f"{part} {size / 1e9:.2f}" for part, size in guessed.items() if size)
            print(f"    plan: {told}; measured in {time.monotonic() - started:.0f} s")
            for part, size in parts.items():
                few_layers = "".join(f"{peaks.get(part, 0) / 1e9:>9.3f}" for peaks in measured.values())
                print(f"    {part:<45}{few_layers}{size / 1e9:>9.2f}", flush=True)


if __name__ == "__main__":
    main()
