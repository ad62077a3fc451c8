"""A model whose parameters are divided among processes, and what an optimiser sees of it.

torch's `fully_shard` (FSDP2; torch 2.8 or newer) gathers the weights of one layer just before the layer runs,
and adds up and divides its gradients just after. A part is a range of rows. Two things differ here: gradients
are summed and not averaged, because losses divide by the counts of the whole step; and the optimiser works on
plain tensors, the parts, so that an optimiser that treats all coordinates alike need not know about it.

A weight that is both input and output embedding belongs to no single layer: every process keeps all of it and
of its gradient, but only a part of its optimiser states.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard

from pipeline_lib.core.errors import UserError
from pipeline_lib.distributed.group import Replicas


def shard(model: Any, place: torch.device) -> Any:
    """Divide the model's parameters among all processes, in place, and return it. All processes call this."""
    from torch.distributed import fsdp

    if not hasattr(getattr(fsdp, "FSDPModule", None), "set_force_sum_reduction_for_comms"):
        raise UserError(
            f"resources.sharding full needs torch 2.8 or newer, found {torch.__version__}; upgrade torch, or "
            "set resources.sharding: none"
        )
    mesh = init_device_mesh(place.type, (dist.get_world_size(),))
    decoder, output = model.get_decoder(), model.get_output_embeddings()
    inside = {id(parameter) for parameter in decoder.parameters()}
    tied = {p for p in output.parameters() if id(p) in inside} if output is not None else set()
    layers = [
        layer for child in decoder.children() if isinstance(child, torch.nn.ModuleList) for layer in child
    ]
    for module in layers if tied or output is None else [*layers, output]:
        fsdp.fully_shard(module, mesh=mesh)
    fsdp.fully_shard(
        decoder, mesh=mesh, ignored_params=tied
    )  # what is in no layer: embeddings, the last norm
    model.to(place)  # what is not divided: a tied embedding, buffers
    for module in model.modules():
        if isinstance(module, fsdp.FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)  # gloo knows no other reduction
    return model


class Parts(Replicas):
    """Each process holds a range of the rows of every parameter that learns.

    `held` gives the optimiser's tensor for one of the model's; the two share memory. The model's tensors are
    torch's sharded parameters, or plain ones of which every process has the whole.
    """

    sharded = True
    shards = False  # it has been done

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self._leaves: dict[int, torch.Tensor] = {}  # id of the optimiser's tensor -> the model's
        self._held: dict[int, torch.nn.Parameter] = {}  # id of the model's tensor -> the optimiser's
        self._mesh = next(p.device_mesh for p in model.parameters() if isinstance(p, DTensor))
        for leaf in model.parameters():
            if leaf.requires_grad:
                own = leaf.to_local() if isinstance(leaf, DTensor) else leaf[self._rows(leaf)]
                held = torch.nn.Parameter(own.detach())
                self._leaves[id(held)], self._held[id(leaf)] = leaf, held

    def held(self, leaf):
        return self._held[id(leaf)]

    def leaves(self, parameters):
        return [self._leaves[id(parameter)] for parameter in parameters]

    def backward(self, output, slope, parameters):
        torch.autograd.backward(output, slope)  # with `inputs`, it would not find sharded leaves

    def take_gradients(self, parameters):
        for parameter in parameters:
            parameter.grad = self._taken(parameter)

    def collected(self, parameters):
        found = [self._taken(parameter) for parameter in parameters]
        return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]

    def _taken(self, parameter: torch.Tensor) -> torch.Tensor | None:
        """This process's part of the summed gradient, taken off the model's tensor."""
        leaf = self._leaves[id(parameter)]
        gradient, leaf.grad = leaf.grad, None
        if gradient is None or isinstance(gradient, DTensor):
            return None if gradient is None else gradient.to_local()  # summed in the backward pass
        self.sum_([gradient])
        return gradient[self._rows(leaf)].clone()

    def over_parts(self, numbers):
        return list(self.sums({str(i): number for i, number in enumerate(numbers)}).values())

    def norm(self, parameters):
        (total,) = self.over_parts([float(super(Replicas, self).norm(parameters)) ** 2])
        return torch.tensor(total**0.5, device=parameters[0].device)

    def stepped(self):
        with torch.no_grad():
            for leaf in self._leaves.values():
                if not isinstance(leaf, DTensor):
                    leaf.copy_(self.whole(self.held(leaf), self.held(leaf)))

    def whole(self, parameter, values):
        if isinstance(values, DTensor):
            return values.full_tensor()
        leaf = self._leaves.get(id(parameter))
        if leaf is None or values.shape != parameter.shape:  # it is whole already, or a number that all have
            return values
        strides = torch.empty(leaf.shape, device="meta").stride()
        placed = DTensor.from_local(
            values.detach().contiguous(), self._mesh, [Shard(0)], shape=leaf.shape, stride=strides
        )
        return placed.full_tensor()

    def part(self, parameter, values):
        leaf = self._leaves.get(id(parameter), parameter)
        if values.shape != leaf.shape or (leaf is parameter and not isinstance(leaf, DTensor)):
            return values
        own = values[self._rows(leaf)].to(leaf.device)
        if leaf is not parameter:
            return own.clone()
        return DTensor.from_local(own, self._mesh, [Shard(0)], shape=leaf.shape, stride=leaf.stride())

    def _rows(self, leaf: torch.Tensor) -> slice:
        """As torch divides them: the same number of rows each, fewer or none for the last processes."""
        each = -(-leaf.shape[0] // self.size)
        start = min(self.rank * each, leaf.shape[0])
        return slice(start, min(start + each, leaf.shape[0]))
