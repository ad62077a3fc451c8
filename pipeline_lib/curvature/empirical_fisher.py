"""The empirical Fisher: the squared gradient of what is minimised, as the paper's code takes it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from pipeline_lib.core.blocks import Fault
from pipeline_lib.core.errors import UserError
from pipeline_lib.curvature.base import Estimator, StepData, Tensor, own_gradients


class EmpiricalFisher(Estimator):
    """N g^2, with g the gradient of the unlearning objective itself on the step.

    Source: the released code of SOUL (OPTML-Group/SOUL, src/optim/sophia.py) squares the gradient of the
    step, without a factor for N and after clipping; here g is not clipped, and N, the answer tokens that the
    objective looks at, gives it the scale of Gauss-Newton-Bartlett. It is not a curvature: labels are the
    data's and not the model's, so its mean is no Fisher matrix (Kunstner et al. 2019, arXiv 1905.12558;
    Martens 2020, arXiv 1412.1193); the mean of g is not zero, and its square does not fall with N as that of
    a sum of independent draws does; and a square has no sign: a loss that should rise counts like one that
    should fall. It is the control for the estimators that are a curvature. It costs nothing where the caller
    hands over the gradient of the step, else one forward and one backward pass.
    """

    kind: Literal["empirical_fisher"]

    at_hand: ClassVar[bool] = True

    def faults(self, data: str, examples: int | None) -> Iterator[Fault]:
        if data != "both":
            yield (
                "curvature_data",
                f"{self.kind} squares the gradient of the unlearning loss itself, so `curvature_data` must "
                f"be both; found {data!r}",
            )
        if examples is not None:
            yield (
                "curvature_examples",
                f"{self.kind} squares the step's own gradient, which is of all its examples: leave it out",
            )

    def estimate(self, model, objective, step, parameters, generator, gradient=None, group=None):
        import torch

        from pipeline_lib.distributed.group import ALONE

        for _, fault in self.faults(step.data, None):
            raise UserError(fault)
        forget = step.forget if objective.uses_forget else []
        retain = step.retain if objective.uses_retain else []
        _, tokens = StepData(forget, retain, step.data).chosen(self.kind)
        if gradient is None:
            gradient = _gradient(model, objective, forget, retain, parameters, group or ALONE)
        return [
            torch.zeros_like(p) if g is None else g.square().mul_(tokens)
            for p, g in zip(parameters, gradient, strict=True)
        ]


def _gradient(model, objective, forget, retain, parameters, group) -> list[Tensor]:
    from pipeline_lib.distributed.pieces import pieces

    forget, retain = ([piece.batch for piece in pieces(batches, group)] for batches in (forget, retain))
    with own_gradients(group.leaves(parameters)):
        for i in range(max(len(forget), len(retain))):
            losses = objective(model, forget[i] if forget else None, retain[i] if retain else None)
            group.backward(losses.total, None, parameters)
        return group.collected(parameters)
