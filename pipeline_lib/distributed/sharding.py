"""Fully sharded training: the model before and after. The work is in `distributed.parts`."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from pipeline_lib.distributed.group import Group


@contextmanager
def in_parts(model: Any, group: Group) -> Iterator[tuple[Any, Group]]:
    """What to train in place of `model`, and the group to train it with. Afterwards `model` has the result.

    Where `group` does not shard, these are the two themselves; else a sharded copy and its group, while
    `model` waits in the machine's memory.
    """
    if not group.shards:
        yield model, group
        return
    from pipeline_lib.distributed.parts import Parts, shard  # imports much of torch, which few runs need

    place = next(model.parameters()).device
    model.to("cpu")
    working = shard(copy.deepcopy(model), place)
    parts = Parts(working)
    yield working, parts
    with torch.no_grad():
        trained = dict(working.named_parameters())
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:  # the same on every process, because all of them must gather
                parameter.copy_(parts.whole(trained[name], trained[name].detach()))
    model.to(place)


def shard_reference(model: Any, group: Group) -> Any:
    """A frozen model that a run reads beside its own, divided where the run's is."""
    if not group.sharded:
        return model
    from pipeline_lib.distributed.parts import shard

    return shard(model, next(model.parameters()).device)
