"""The average of several models: parameters, element by element.

    theta = sum_i w_i theta_i / sum_i w_i

Source: model soups, Wortsman et al. 2022, arXiv 2203.05482, section 2 (uniform), with weights as in
linear merging. The parents must be models of one architecture and vocabulary, which models of one label of
the suite are. Sums are computed in fp32, whatever the parents were trained in.

Trap: an average of an unlearned model with one that still knows is a point on the way between the two; read
forgetting and utility of the parents beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from pipeline_lib.core.blocks import Fault, Positive
from pipeline_lib.stages.base import Made, Stage, Work


class Average(Stage):
    """A new row, whose method is the stage's label."""

    kind: Literal["average"]
    several: ClassVar[bool] = True
    weights: list[Positive] | None = Field(
        None, description="One a model of `of`, in its order; default: all the same"
    )

    def faults(self, parents: int) -> Iterator[Fault]:
        if self.weights is not None and len(self.weights) != parents:
            count = "1 number" if len(self.weights) == 1 else f"{len(self.weights)} numbers"
            yield "weights", f"found {count}; expected {parents}, one for each model of `of`"

    def make(self, work: Work) -> Made:
        import torch

        from pipeline_lib.models.folder import load_model_folder

        weights = self.weights or [1.0] * (1 + len(work.others))
        shares = [weight / sum(weights) for weight in weights]
        total = dict(work.first.model.float().named_parameters())
        with torch.no_grad():
            for parameter in total.values():
                parameter.mul_(shares[0])
            for folder, share in zip(work.others, shares[1:], strict=True):
                for name, parameter in load_model_folder(folder)[0].named_parameters():
                    total[name].add_(parameter.to(total[name]), alpha=share)
        return Made()
