"""Products of fp32 matrices by oneDNN, on CPUs whose wide instructions torch's own choice leaves unused.

torch multiplies fp32 matrices with MKL, which takes AVX-512 on Intel's CPUs alone; on AMD's it stays with
registers half as wide. oneDNN, which torch carries too and takes for bf16, uses what the CPU has: about twice
as fast, forwards and backwards (docs/evaluation.md). Sums are taken in another order, so results differ by
rounding, as they do between CPUs anyway. Which of both is taken depends on the CPU and on the layer's shape
alone: the same machine gives the same bits.

Trap: oneDNN writes code for every new shape of a product and keeps it, half a megabyte to one each, 1024 of
them if nobody says otherwise. Texts of many lengths are many shapes: a run would grow by a gigabyte. `KEPT`
bounds that.

Shapes: x (..., K), W (M, K), y (..., M).
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

# A weight for which it pays: oneDNN writes code for each new shape, about half a millisecond.
LARGE, WIDE = 1 << 16, 192  # numbers, and the smaller of M and K

# Shapes that are kept: those of a step forwards and backwards are some 20; 32 are as fast as 1024, to 2 %.
# Read by oneDNN and by torch's layer above it when they first multiply; what a user has set stays.
KEPT = 32
for _name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
    os.environ.setdefault(_name, str(KEPT))

_ONEDNN: Any = torch.ops.mkldnn
PACKED_BYTES = 1 << 30
PACKED_FOR = 64  # rows; the order is the same from 2 to thousands
CPU_FACTS = Path("/proc/cpuinfo")


@cache
def onednn_is_faster() -> bool:
    """Whether this is a CPU with AVX-512 for which MKL does not use it, and torch has both libraries."""
    if platform.machine() not in ("x86_64", "AMD64") or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    libraries = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
    wide = torch.backends.cpu.get_cpu_capability() == "AVX512"
    try:
        facts = CPU_FACTS.read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        return False
    return libraries and wide and "AuthenticAMD" in facts


def use_fast_products(model: Any) -> Any:
    """Give the model's large linear layers oneDNN's products, in place, where that is faster; the model.

    Parameters, their names and everything else stay. What is not fp32 on the CPU is computed as before.
    """
    if onednn_is_faster():
        for name, layer in list(model.named_modules()):
            linear = type(layer) is torch.nn.Linear and _pays(layer.weight)
            if linear and layer.weight.device.type == "cpu":
                model.set_submodule(name, FastLinear(layer))
    return model


@contextmanager
def packed_weights(model: Any) -> Iterator[None]:
    """Inside, fast layers keep a copy of their weights in the order in which oneDNN reads them.

    Otherwise it is put into that order for every product, which few rows (greedy answers) do not repay: 16 of
    them are multiplied 1.5 times as fast with it. The same bits. For inference without a change of weights.
    At most `PACKED_BYTES` are kept; further layers do without.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, FastLinear)]
    room = PACKED_BYTES
    try:
        for layer in layers:
            room -= layer.weight.nbytes
            if room >= 0 and layer.weight.dtype == torch.float32 and layer.weight.device.type == "cpu":
                layer.packed = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), PACKED_FOR)
        yield
    finally:
        for layer in layers:
            layer.packed = None


class FastLinear(torch.nn.Linear):
    """x W^T + b with the weight and bias of a plain layer."""

    def __init__(self, layer: torch.nn.Linear):
        super().__init__(layer.in_features, layer.out_features, bias=False, device="meta")
        self.weight, self.bias = layer.weight, layer.bias
        self.train(layer.training)

    packed: torch.Tensor | None = None  # the weight in oneDNN's own order, see `packed_weights`

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.packed is not None and not torch.is_grad_enabled() and _is_ours(x, self.weight):
            product = _ONEDNN._linear_pointwise(x, self.packed, None, "none", [], "")
        else:
            product = multiply(x, self.weight)
        return product if self.bias is None else product + self.bias


def multiply(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """x W^T. Derivatives of every order, forwards and backwards, are such products again."""
    if not _pays(weight) or not onednn_is_faster() or not _is_ours(x, weight):
        return F.linear(x, weight)
    product = _Product.apply(x.reshape(-1, x.shape[-1]), weight)
    return product.view(*x.shape[:-1], weight.shape[0])


def _pays(weight: torch.Tensor) -> bool:
    return weight.numel() >= LARGE and min(weight.shape) >= WIDE


def _is_ours(x: torch.Tensor, weight: torch.Tensor) -> bool:
    """fp32 on the CPU, and more than one row: of a single one MKL's product is the faster."""
    if not x.dtype == weight.dtype == torch.float32 or not x.device.type == weight.device.type == "cpu":
        return False
    return x.numel() > x.shape[-1] and not torch.is_autocast_enabled("cpu")


class _Product(torch.autograd.Function):
    """a (N, K), b (M, K) -> a b^T (N, M)."""

    @staticmethod
    def forward(ctx: Any, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        needs_a, needs_b = ctx.needs_input_grad
        ctx.save_for_backward(a if needs_b else None, b if needs_a else None)
        ctx.save_for_forward(a, b)
        return _ONEDNN._linear_pointwise(a, b, None, "none", [], "")

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        a, b = ctx.saved_tensors
        return (
            None if b is None else _Product.apply(gradient, b.t()),
            None if a is None else _Product.apply(gradient.t(), a.t()),
        )

    @staticmethod
    def jvp(ctx: Any, da: torch.Tensor | None, db: torch.Tensor | None) -> torch.Tensor:
        a, b = ctx.saved_tensors
        parts = ([] if da is None else [_Product.apply(da, b)]) + (
            [] if db is None else [_Product.apply(a, db)]
        )
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]
