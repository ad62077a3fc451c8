"""One optimiser step on the parameter shapes of SmolLM2-135M: 272 tensors, 134.5 M parameters, fp32.

Every optimiser is timed in turn with torch's fused AdamW, step by step, so that whatever else the
machine does slows both: read the ratio, and the milliseconds only on a quiet machine. CPU with two
threads, or the GPU where there is one.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from statistics import median
from typing import Any

import torch

from pipeline_lib.distributed.group import ALONE
from pipeline_lib.optimizers import OPTIMIZERS, elementwise

HIDDEN, INTERMEDIATE, LAYERS, KEYS, VOCABULARY = 576, 1536, 30, 192, 49152
LAYER = [
    (HIDDEN, HIDDEN),
    (KEYS, HIDDEN),
    (KEYS, HIDDEN),
    (HIDDEN, HIDDEN),
    (INTERMEDIATE, HIDDEN),
    (INTERMEDIATE, HIDDEN),
    (HIDDEN, INTERMEDIATE),
    (HIDDEN,),
    (HIDDEN,),
]
SHAPES = [(VOCABULARY, HIDDEN), *LAYER * LAYERS, (HIDDEN,)]
THREADS = 2
ROUNDS = 9
LR, DECAY = 1e-5, 0.1


class PlainAsReleased:
    """The released algorithm as whole-tensor operations, one tensor after the other."""

    def __init__(self, parameters: list[torch.nn.Parameter]):
        self.parameters = parameters
        self.momentum = [torch.zeros_like(p) for p in parameters]
        self.curvature = [torch.zeros_like(p) for p in parameters]

    @torch.no_grad()
    def step(self) -> None:
        for theta, m, h in zip(self.parameters, self.momentum, self.curvature, strict=True):
            g = theta.grad
            h.mul_(0.95).addcmul_(g, g, value=0.05)
            m.mul_(0.9).add_(g, alpha=0.1)
            theta.mul_(1 - LR * DECAY)
            m.mul_(0.9).add_(g, alpha=0.1)
            ratio = (m.abs() / (0.04 * 5120 * h + 1e-15)).clamp(None, 1)
            theta.addcmul_(m.sign(), ratio, value=-LR)


def adamw(parameters: list[torch.nn.Parameter], **form: bool) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=LR, weight_decay=DECAY, **form)


def ours(parameters: list[torch.nn.Parameter], kind: str, **settings: Any) -> torch.optim.Optimizer:
    given = {"kind": kind, "learning_rate": LR, "weight_decay": DECAY, **settings}
    return OPTIMIZERS.parse(given).build([{"params": parameters}], ALONE)


# How it is made, and the bytes a parameter that a step has to move: theta, gradient and states read,
# theta and the states that change written; SOAP's products with its bases apart.
WAYS: dict[str, tuple[Callable, int]] = {
    "torch AdamW, fused": (lambda p: adamw(p, fused=True), 28),
    "torch AdamW, foreach": (lambda p: adamw(p, foreach=True), 28),
    "Sophia": (
        lambda p: ours(p, "sophia", gamma="auto", clipped_target=0.5),
        24,
    ),
    "SophiaAsReleased": (
        lambda p: ours(p, "sophia_as_released"),
        28,
    ),
    "Signum": (lambda p: ours(p, "signum"), 20),
    "Lion": (lambda p: ours(p, "lion"), 20),
    "SGD": (lambda p: ours(p, "sgd"), 20),
    "Quantised SGD, 4 bits": (lambda p: ours(p, "quantised_sgd"), 20),
    "AdamW, 4 bits": (lambda p: ours(p, "adamw_4bit"), 14),
    "released form, per tensor": (PlainAsReleased, 28),
}
if find_spec("pytorch_optimizer") is not None:  # an optional package
    WAYS["SOAP"] = (lambda p: ours(p, "soap"), 28)


def seconds(call: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def state_bytes(optimizer: object, size: int) -> float:
    """A parameter; counters of a step apart."""
    if isinstance(optimizer, PlainAsReleased):
        return 8.0
    states = optimizer.state_dict()["state"].values()
    held = [t for state in states for t in state.values() if torch.is_tensor(t) and t.dim() > 0]
    return sum(t.numel() * t.element_size() for t in held) / size


def main() -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(THREADS)
    size = sum(torch.Size(shape).numel() for shape in SHAPES)
    parameters = [torch.nn.Parameter(0.02 * torch.randn(shape, device=device)) for shape in SHAPES]
    for parameter in parameters:
        parameter.grad = 1e-3 * torch.randn_like(parameter)
    place = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {THREADS} threads"
    print(f"{len(SHAPES)} tensors, {size / 1e6:.1f} M parameters, fp32, {place}, {ROUNDS} rounds")
    print(
        f"{'':<28}{'ms/step median':>15}{'min':>8}{'/ fused AdamW':>15}{'state B/param':>15}"
        f"{'GB/s':>7}{'of copying':>12}{'compile s':>11}"
    )
    source, target = torch.randn(size, device=device), torch.empty(size, device=device)
    reference = WAYS["torch AdamW, fused"][0](parameters)
    reference.step()
    for name, (make, traffic) in WAYS.items():
        optimizer, known = make(parameters), set(elementwise.COMPILED)
        if "estimates" in getattr(optimizer, "param_groups", [{}])[0]:
            optimizer.update_curvature([parameter.grad.square() for parameter in parameters])
        optimizer.step()
        compiling = sum(elementwise.COMPILED[key].seconds for key in set(elementwise.COMPILED) - known)
        ours, theirs, copying = [], [], []
        for _ in range(ROUNDS):
            theirs.append(seconds(reference.step, device))
            ours.append(seconds(optimizer.step, device))
            copying.append(seconds(lambda: target.copy_(source), device))
        rate, copy_rate = size * traffic / min(ours), size * 8 / min(copying)
        print(
            f"{name:<28}{1e3 * median(ours):>15.1f}{1e3 * min(ours):>8.1f}"
            f"{median(ours) / median(theirs):>15.2f}{state_bytes(optimizer, size):>15.1f}"
            f"{rate / 1e9:>7.1f}{rate / copy_rate:>12.0%}{f'{compiling:.1f}' if compiling else '-':>11}",
            flush=True,
        )
        del optimizer
    torch._dynamo.reset()
    elementwise.COMPILED.clear()
    for make, _ in WAYS.values():
        if isinstance(optimizer := make(parameters), elementwise.ElementwiseOptimizer):
            optimizer.step()
            times = ", ".join(f"{entry.seconds:.1f}" for entry in elementwise.COMPILED.values())
        del optimizer
    print(f"compiled again with torch's cache on disk and its compiler loaded, in the same order: {times} s")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as empty:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = empty  # so that the compile times are those of a first run
        os.environ["TRITON_CACHE_DIR"] = os.path.join(empty, "triton")
        main()
