"""What this machine computes in a second on one thread, what a computation asks of it, and kinds of work."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

SHAPES = ((600, 576, 1536), (600, 1536, 576), (600, 576, 576), (2048, 2048, 2048))
KINDS = {
    "products": ("aten::mm", "aten::addmm", "aten::bmm", "mkldnn::_linear_pointwise"),
    "attention": ("scaled_dot_product",),
    "softmax of the vocabulary": ("softmax", "logsumexp", "nll_loss", "argmax", "aten::max"),
    "copies": ("aten::copy_", "index", "aten::cat", "gather", "aten::fill_", "aten::embedding"),
}


def rate(function: Callable[[], object], work: float, tries: int = 7) -> float:
    """`work` a CPU second, of the fastest try."""
    function()
    seconds = []
    for _ in range(tries):
        started = time.process_time()
        function()
        seconds.append(time.process_time() - started)
    return work / min(seconds)


def rates() -> dict[str, float]:
    """GFLOP/s of products by kind, the best of the shapes; GB/s of a copy and of reading."""
    found: dict[str, float] = defaultdict(float)
    onednn = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    for n, k, m in SHAPES:
        a, b = torch.randn(n, k), torch.randn(m, k)
        ways: dict[str, Callable[[], object]] = {"fp32, MKL": lambda a=a, b=b: a @ b.t()}
        if onednn is not None:
            ways["fp32, oneDNN"] = lambda a=a, b=b: onednn(a, b, None, "none", [], "")
        if has_bf16():
            half = a.bfloat16(), b.bfloat16()
            ways["bf16"] = lambda half=half: half[0] @ half[1].t()
        for name, way in ways.items():
            found[name] = max(found[name], rate(way, 2 * n * k * m / 1e9))
    found["fp32"] = max(value for name, value in found.items() if name.startswith("fp32"))
    source = torch.ones(1 << 27)
    target = torch.empty_like(source)
    found["copy"] = rate(lambda: target.copy_(source), 2 * source.nbytes / 1e9)
    matrix, row = source.view(-1, 1 << 10), torch.ones(1 << 10)
    found["read"] = rate(lambda: matrix @ row, source.nbytes / 1e9)
    return dict(found)


def cpu_facts() -> dict[str, str]:
    lines = Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def has_bf16() -> bool:
    return bool({"avx512_bf16", "amx_bf16"} & set(cpu_facts()["flags"].split()))


@contextmanager
def operations(model: Any) -> Iterator[list[tuple[float, float]]]:
    """Lists the products of all linear layers, forwards: operations, and bytes of the weight."""
    found: list[tuple[float, float]] = []

    def counted(layer: Any, inputs: Any, output: torch.Tensor) -> None:
        found.append((2 * output.numel() * layer.in_features, layer.weight.nbytes))

    handles = [
        layer.register_forward_hook(counted)
        for layer in model.modules()
        if isinstance(layer, torch.nn.Linear)
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def kinds(work: Callable[[], object]) -> dict[str, float]:
    """Shares of the CPU time by kind of operation."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]) as record:
        work()
    shares: dict[str, float] = defaultdict(float)
    for event in record.key_averages():
        kind = next((k for k, names in KINDS.items() if any(n in event.key for n in names)), "the rest")
        shares[kind] += event.self_cpu_time_total
    whole = sum(shares.values())
    return {kind: shares[kind] / whole for kind in (*KINDS, "the rest")}


def shown(shares: dict[str, float]) -> str:
    return ", ".join(f"{kind} {share:.1%}" for kind, share in shares.items())
