"""A model between a finished one and another, on the straight line between their weights.

    theta = (1 - share) theta_finished + share theta_other, in fp32

Source: linear mode connectivity, Frankle et al. 2020, arXiv 1912.05671, section 2; mixing an unlearned model
back toward the one before unlearning asks how far away what it knew still lies. A few shares draw the line.

Trap: at a share near 1 the model is the other one. Recovery is told by small shares, held against the same
share of `retrained`: a model that never saw the data comes back too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from pipeline_lib.core.blocks import Fault
from pipeline_lib.stages.base import Made, Reference, Stage, Work


class Interpolate(Stage):
    """Goes a share of the way to another model of the same seed."""

    kind: Literal["interpolate"]
    share: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.25, description="How far to go: 0 is the model itself, 1 the other"
    )
    toward: Reference = Field("original", description="The other model, named as in `of`")

    def partners(self) -> dict[str, Reference]:
        return {"toward": self.toward}

    def faults(self, parents: int) -> Iterator[Fault]:
        if self.toward in (self.of or ()):
            yield "toward", f"{self.toward} is one of the models of `of`; it lies on no way to itself"

    def make(self, work: Work) -> Made:
        import torch

        from pipeline_lib.models.folder import load_model_folder

        theirs = dict(load_model_folder(work.others[0])[0].named_parameters())
        with torch.no_grad():
            for name, parameter in work.first.model.float().named_parameters():
                parameter.lerp_(theirs[name].to(parameter), self.share)
        return Made()
