"""Muon where processes hold parts of the matrices."""

from __future__ import annotations

import torch

from pipeline_lib.distributed.group import Group
from tests.methods import make_optimizer
from tests.optimizers.kinds import SETTINGS, take_step
from tests.tiny import tiny_model


class Gathering(Group):
    """One process whose parts are copies of the whole, so that nothing is shared by accident."""

    sharded = True

    def whole(self, parameter: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        return values.detach().clone()

    def part(self, parameter: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        return values.detach().clone()


def test_matrices_that_are_gathered_take_the_same_steps() -> None:
    models = tiny_model(), tiny_model()
    settings = {"learning_rate": 1e-2, "weight_decay": 0.25, **SETTINGS["muon"]}
    optimizers = (
        make_optimizer("muon", models[0], **settings),
        make_optimizer("muon", models[1], group=Gathering(), **settings),
    )
    for step in range(3):  # the momentum of the earlier steps counts
        for model, optimizer in zip(models, optimizers, strict=True):
            take_step(optimizer, model, step)
    for whole, gathered in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(whole, gathered)
    for optimizer in optimizers:
        optimizer.step()  # without gradients nothing moves
    for whole, gathered in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(whole, gathered)
