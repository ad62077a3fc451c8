"""Products of fp32 matrices by oneDNN, on CPUs and for shapes where torch's default is slower.

torch multiplies fp32 matrices with MKL, which uses AVX-512 on Intel's CPUs only; on AMD's its registers are
half as wide. oneDNN, which torch includes too and uses for bf16, uses what the CPU has: about twice as fast,
forwards and backwards (docs/evaluation.md). On AMD's CPUs without AVX-512, and on Intel's with it, the two
are about equal, but for few rows and many columns: greedy answers, and the vocabulary a piece at a time.
oneDNN sums in another order, so results differ by rounding, as they do between CPUs anyway. Which of the two
is used depends on the CPU and on the shapes alone: the same machine gives the same bits.

Trap: oneDNN compiles code for every new shape of a product and keeps it, half a megabyte to one each, by
default 1024 of them. Texts of many lengths are many shapes: a run would grow by a gigabyte. `KEPT` bounds
that.

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

# Weights for which it pays to compile code for each new shape, about half a millisecond.
LARGE, WIDE = 1 << 16, 192  # numbers, and the smaller of M and K

# Where the two are about equal: packed weights are multiplied 1.1 (layers) to 1.7 times (vocabulary) as fast.
FEW, TALL = 128, 1024  # rows of x at most, M at least

# Shapes that are kept: a step has about 20, forwards and backwards; 32 are as fast as 1024, within 2 %.
# oneDNN and torch's layer above it read these variables when they first multiply; a user's values stay.
KEPT = 32
for _name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
    os.environ.setdefault(_name, str(KEPT))

_ONEDNN: Any = torch.ops.mkldnn
PACKED_BYTES = 1 << 30
PACKED_FOR = 64  # rows; the order of the weights is the same from 2 rows to thousands
CPU_FACTS = Path("/proc/cpuinfo")


@cache
def onednn_is_faster() -> bool:
    """Whether this CPU has AVX-512, MKL does not use it (AMD), and torch has both libraries."""
    return faster_on_few_rows() and _capability() == "AVX512" and _maker_is_amd()


@cache
def faster_on_few_rows() -> bool:
    """Whether oneDNN is faster at least for `FEW` rows: with AVX-512, or on AMD's CPUs, if torch has both."""
    return (
        platform.machine() in ("x86_64", "AMD64")
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and (_capability() == "AVX512" or (_capability() == "AVX2" and _maker_is_amd()))
        and torch.backends.mkl.is_available()
        and torch.backends.mkldnn.is_available()
    )


def _capability() -> str:
    return torch.backends.cpu.get_cpu_capability()


def _maker_is_amd() -> bool:
    try:
        return "AuthenticAMD" in CPU_FACTS.read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        return False


def use_fast_products(model: Any) -> Any:
    """Use oneDNN's products in the model's large linear layers, in place, if that is faster.

    Parameters, their names and everything else stay. What is not fp32 on the CPU is computed as before.
    """
    if faster_on_few_rows():
        for name, layer in list(model.named_modules()):
            if type(layer) is torch.nn.Linear and _pays(layer.weight) and layer.weight.device.type == "cpu":
                model.set_submodule(name, FastLinear(layer))
    return model


@contextmanager
def packed_weights(model: Any) -> Iterator[None]:
    """Inside, fast layers keep a copy of their weights in the order in which oneDNN reads them.

    Otherwise the weights are reordered for every product, which is slow for few rows (greedy answers): 16
    rows are multiplied 1.5 times as fast with the copy. With AVX-512 the bits are the same. For inference,
    while the weights do not change. At most `PACKED_BYTES` are kept; further layers have no copy.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, FastLinear)]
    room = PACKED_BYTES
    try:
        for layer in layers:
            if not onednn_is_faster() and layer.out_features < TALL:
                continue
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
        few = x.numel() <= FEW * x.shape[-1] or onednn_is_faster()
        if self.packed is not None and few and not torch.is_grad_enabled() and _is_ours(x, self.weight):
            product = _ONEDNN._linear_pointwise(x, self.packed, None, "none", [], "")
        elif onednn_is_faster():
            product = multiply(x, self.weight)
        else:
            return F.linear(x, self.weight, self.bias)
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
    """fp32 on the CPU, and more than one row: for a single row MKL's product is faster."""
    return (
        x.dtype == weight.dtype == torch.float32
        and x.device.type == weight.device.type == "cpu"
        and x.numel() > x.shape[-1]
        and not torch.is_autocast_enabled("cpu")
    )


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
