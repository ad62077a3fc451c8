"""CUDA's autocast for a device written in Python: which operations run in half precision and which in fp32.

The lists are those of torch's documentation ("CUDA Ops that can autocast"), as far as language models use
them. Those of the CPU's autocast are others: it leaves exponentials and sums in half precision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils._pytree import tree_leaves, tree_map

HALF = ("linear", "matmul", "mm", "bmm", "addmm", "baddbmm", "mv", "scaled_dot_product_attention")
FULL = (
    *("exp", "expm1", "log", "log1p", "reciprocal", "rsqrt", "softplus", "layer_norm", "cosine_similarity"),
    *("pow.Tensor_Scalar", "pow.Tensor_Tensor", "pow.Scalar", "nll_loss", "kl_div", "mse_loss", "logsumexp"),
    *("softmax.int", "log_softmax.int", "cumsum", "prod", "sum", "sum.dim_IntList", "linalg_vector_norm"),
)
WIDEST = ("addcmul", "addcdiv", "dot", "index_put", "scatter_add")  # of the types of their arguments


def operation(name: str) -> Any:
    """An operation of aten by its name, with or without an overload."""
    name, _, overload = name.partition(".")
    return getattr(getattr(torch.ops.aten, name), overload or "default")


def kernels(device_type: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Each operation's name and what it does under the autocast of `device_type`."""
    rules: list[tuple[tuple[str, ...], Callable[[list[torch.Tensor]], torch.dtype]]] = [
        (HALF, lambda _: torch.get_autocast_dtype(device_type)),
        (FULL, lambda _: torch.float32),
        (WIDEST, lambda tensors: max((x.dtype for x in tensors), key=lambda dtype: dtype.itemsize)),
    ]
    for names, dtype_for in rules:
        for name in names:
            yield name, _kernel(operation(name), dtype_for, device_type)


def _kernel(
    func: Any, dtype_for: Callable[[list[torch.Tensor]], torch.dtype], device_type: str
) -> Callable[..., Any]:
    key = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)

    def eligible(x: Any) -> bool:
        there = isinstance(x, torch.Tensor) and x.device.type == device_type
        return there and x.is_floating_point() and x.dtype != torch.float64

    def kernel(*args: Any, **kwargs: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(key):
            found = [x for x in tree_leaves((args, kwargs)) if eligible(x)]
            if found:
                dtype = dtype_for(found)
                args, kwargs = tree_map(lambda x: x.to(dtype) if eligible(x) else x, (args, kwargs))
            return func(*args, **kwargs)

    return kernel
