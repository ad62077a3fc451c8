"""transformers' call of torch's fused attention, each time in the kind that the device computes fastest.

CUDA has no fused kernel in fp32 for heads that share keys and values; it gets a copy of them for each head.
On a CPU, the backward pass of the fused kernel in bf16 multiplies many small matrices, which costs four times
what it costs in fp32 where texts are short (docs/speed.md), so training computes it in fp32 there: its
results are the more exact for it. Answers have no backward pass and stay in bf16.

Shapes: B texts, T tokens of the longest text, H heads, G heads of keys and values, F head size.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward

SHORT = 256  # tokens: up to here fp32 is the faster in training on a CPU; from about 400 bf16 is


def fused_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """query (B, H, T, F), key and value (B, G, T, F) -> (B, T, H, F), in value's type."""
    groups = query.shape[1] // key.shape[1]
    if groups > 1 and _no_fused_groups(query):
        key, value = (heads.repeat_interleave(groups, dim=1) for heads in (key, value))
        module = SimpleNamespace(is_causal=getattr(module, "is_causal", True))  # type: ignore[assignment]
    if not _training_in_bf16(query) or key.shape[2] > SHORT:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    if attention_mask is not None and attention_mask.is_floating_point():
        attention_mask = attention_mask.float()
    with torch.autocast("cpu", enabled=False):
        wide = (query.float(), key.float(), value.float())
        found = sdpa_attention_forward(module, *wide, attention_mask, **options)[0]
    return found.to(value.dtype), None


def _no_fused_groups(query: torch.Tensor) -> bool:
    return query.device.type == "cuda" and query.dtype == torch.float32


def _training_in_bf16(query: torch.Tensor) -> bool:
    """On a CPU; queries are fp32 under autocast, which would narrow them."""
    if query.device.type != "cpu" or not torch.is_grad_enabled():
        return False
    narrow = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else query.dtype
    return narrow == torch.bfloat16
