"""A smaller model before unlearning: pruned by magnitude, or with 8-bit weights under trainable adapters.

Both act on the linear layers of the decoder; embeddings, output embedding and norms stay. Shapes: a layer's
weight W is (out, in).

Pruned: in each W the share `sparsity` of the smallest |w| becomes 0 (Han et al. 2015, arXiv 1506.02626;
Jia et al. 2023, arXiv 2304.04934, prune before they unlearn). Training keeps zeros at 0 by masking gradients.

8 bits: each row of W is rounded to whole multiples of max|w| / 127, so a weight moves by at most half of that
(symmetric, no zero point, weights alone: activations stay as they are). A layer in memory takes 1 byte a
weight; it is widened while it multiplies and once more in the backward pass, never as a whole model.
bitsandbytes rounds rows the same way, but its product on a GPU rounds activations too, so that the function
it trains is not that of the fp32 files. Here the merged fp32 weights are the function that was trained.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch

from pipeline_lib.core.errors import UserError
from pipeline_lib.models.base_rules import base_fault
from pipeline_lib.models.products import multiply

if TYPE_CHECKING:
    from pipeline_lib.models.settings import BaseSettings

LEVELS = 127
AT_ONCE = 1 << 18  # weights that are rounded together, which bounds the memory this needs


def reduce_model(model: Any, base: BaseSettings | None) -> dict[str, Any]:
    """Prune the weights, or round them to 8-bit values, in place; returns facts for run.json.

    None changes nothing. The weights keep their type: the files of an 8-bit base are fp32 files of 8-bit
    values.
    """
    if base is None:
        return {}
    if base.kind == "pruned":
        change_weights(model, lambda _, weight: without_smallest(weight, base.sparsity))
    else:
        change_weights(model, lambda _, weight: widen_rows(*round_rows(weight.float())))
    return base_facts(model, base.model_dump())


class Changes:
    """New weights in place of old ones, and how far that moves them."""

    def __init__(self) -> None:
        self._zeros = self._size = 0
        self._moved = self._before = 0.0

    @torch.no_grad()
    def put(self, layer: Any, changed: torch.Tensor) -> None:
        """Give the linear layer these weights."""
        weight = layer.weight
        changed = changed.to(weight)
        self._moved += float((changed - weight).double().square().sum())
        self._before += float(weight.double().square().sum())
        self._zeros += int((changed == 0).sum())
        self._size += weight.numel()
        weight.copy_(changed)

    def facts(self) -> dict[str, Any]:
        """For run.json: `zeros`, their share afterwards, and `distance`, |W' - W| / |W|, over all W."""
        distance = math.sqrt(self._moved / self._before) if self._before else 0.0
        return {"zeros": self._zeros / self._size, "distance": distance}


def change_weights(model: Any, change: Callable[[str, torch.Tensor], torch.Tensor]) -> dict[str, Any]:
    """Put `change(name, W)` in place of each W of `linear_layers`; returns facts for run.json."""
    changes = Changes()
    for name, layer in linear_layers(model):
        changes.put(layer, change(name, layer.weight.detach()))
    return changes.facts()


def without_smallest(weight: torch.Tensor, sparsity: float) -> torch.Tensor:
    """A copy with this share of its weights, those of the smallest size, at 0."""
    changed = weight.clone(memory_format=torch.contiguous_format)
    flat = changed.view(-1)
    flat[flat.abs().argsort()[: round(sparsity * flat.numel())]] = 0
    return changed


def base_facts(model: Any, base: dict[str, Any] | None) -> dict[str, Any]:
    """{"base": what a model's weights are now}, for run.json; {} without a base.

    `base`: the settings, or what the parent's run.json says of it. Besides the settings: `zeros`, their share
    in linear layers, and the type of the weights in files and in evaluation. An unlearned model has as many
    zeros as its base if all weights were trained; merged adapters fill them.
    """
    if base is None:
        return {}
    weights = [layer.weight for _, layer in linear_layers(model)]
    zeros = sum(int((weight == 0).sum()) for weight in weights) / sum(weight.numel() for weight in weights)
    return {"base": {**base, "zeros": zeros, "stored_and_evaluated_as": "float32"}}


def hold_reduced(
    model: Any, base: dict[str, Any] | None, lora: bool, weights: str, optimizer: str, moves_zeros: bool
) -> None:
    """Make a reduced model ready to be trained, in place: call it before adapters are attached.

    Pruned weights: zeros get no gradient, so elementwise optimisers leave them. 8 bits: linear layers become
    `Int8Linear`; `adapters.detach` makes them plain layers again. The other parameters are those of
    `base_fault`, `optimizer` for messages. Raises `UserError` for settings that would undo the reduction.
    """
    if base is None:
        return
    if fault := base_fault(base["kind"], lora, weights, optimizer, moves_zeros):
        raise UserError(fault)
    if base["kind"] == "int8":
        for name in [name for name, _ in linear_layers(model)]:
            model.set_submodule(name, Int8Linear(model.get_submodule(name)))
        for parameter in model.parameters():  # else the fp32 remainder would keep the whole file in memory
            parameter.data = parameter.data.clone()
    elif not lora:
        for _, layer in linear_layers(model):
            layer.weight.register_post_accumulate_grad_hook(_keep_zeros)


def linear_layers(model: Any) -> Iterator[tuple[str, Any]]:
    """The decoder's linear layers with their names in `model`, without the output embedding.

    `UserError` if a layer is a Conv1D (GPT-2), whose rows are not outputs.
    """
    inside = {id(module) for module in model.get_decoder().modules()}
    output = model.get_output_embeddings()
    for name, module in model.named_modules():
        if id(module) not in inside or module is output:
            continue
        if type(module).__name__ == "Conv1D":
            raise UserError(
                f"expected linear layers; {name} of {type(model).__name__} is a Conv1D. Leave out what makes "
                "their weights smaller (`base`, or a stage that quantises or prunes)."
            )
        if isinstance(module, torch.nn.Linear):
            yield name, module


@torch.no_grad()
def _keep_zeros(weight: torch.Tensor) -> None:
    assert weight.grad is not None
    weight.grad.mul_(weight != 0)


class Int8Linear(torch.nn.Linear):
    """x W^T + b with W in 8 bits and a scale a row; W is no parameter and never learns."""

    scale: torch.Tensor

    def __init__(self, layer: torch.nn.Linear):
        super().__init__(layer.in_features, layer.out_features, bias=False, device="meta")
        values, scale = round_rows(layer.weight.detach().float())
        del self.weight
        self.register_buffer("weight", values)  # (out, in), int8
        self.register_buffer("scale", scale)  # (out, 1), fp32
        self.bias = layer.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., in) -> (..., out), in the type of x, or autocast's; the wide W is not kept for backward."""
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))
        product = _Product.apply(x, self.weight, self.scale, False)
        return product if self.bias is None else product + self.bias.to(x.dtype)

    @torch.no_grad()
    def plain(self) -> torch.nn.Linear:
        """The same layer with fp32 weights."""
        layer = torch.nn.Linear(self.in_features, self.out_features, bias=False, device="meta")
        layer.weight = torch.nn.Parameter(widen_rows(self.weight, self.scale))
        layer.bias = self.bias
        return layer


class _Product(torch.autograd.Function):
    """x W^T, or x W with `back`, with W widened for the product alone.

    W never learns, so the derivative is the other product and needs neither x nor the wide W.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, values: torch.Tensor, scale: torch.Tensor, back: bool) -> Any:
        ctx.weight, ctx.back = (values, scale), back
        wide = widen_rows(values, scale).to(x.dtype)
        return multiply(x, wide.t() if back else wide)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        return _Product.apply(gradient, *ctx.weight, not ctx.back), None, None, None


def round_rows(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """int8 values (out, in) of W in fp32, and the scale of each row (out, 1); twice is as once."""
    values = torch.empty_like(weight, dtype=torch.int8, memory_format=torch.contiguous_format)
    scale = torch.maximum(weight.amax(1, keepdim=True), -weight.amin(1, keepdim=True)) / LEVELS
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))  # a row of zeros
    rows = max(AT_ONCE // weight.shape[1], 1)
    for part, of, wide in zip(values.split(rows), scale.split(rows), weight.split(rows), strict=True):
        part.copy_((wide / of).round_())
    return values, scale


def widen_rows(values: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """What `round_rows` gave, in fp32."""
    return values.to(torch.float32).mul_(scale)
