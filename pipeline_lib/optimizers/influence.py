"""Influence unlearning: one damped Newton step on the objective, in place of a training loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from pipeline_lib.core.blocks import Count, Fraction, Positive
from pipeline_lib.core.families import Method
from pipeline_lib.core.runs import Order
from pipeline_lib.influence import SOLVERS, Solver
from pipeline_lib.optimizers.base import CurvatureData, Optimizer

if TYPE_CHECKING:
    SolverName = str
else:
    SolverName = SOLVERS.names()


class Influence(Optimizer):
    """One damped Newton step on the objective, theta - learning_rate (G + damping I)^-1 grad."""

    kind: Literal["influence"]
    learning_rate: Positive = Field(1.0, description="Length of the step; 1 is the whole Newton step")
    solver: SolverName = "conjugate_gradient"
    damping: Positive = Field(1e-1, description="Added to the curvature, in its units (nats a token)")
    max_iterations: Count = Field(50, description="Of conjugate gradients and LiSSA")
    tolerance: Fraction = Field(1e-2, description="Relative residual at which the solver has converged")
    curvature_data: CurvatureData = "retain"
    curvature_examples: Count = Field(128, description="Examples on which the curvature is measured")

    order: ClassVar[Order] = "SO"
    display: ClassVar[str] = "Influence"
    taken_by: ClassVar[str | None] = "pipeline_lib.training.newton"
    one_shot: ClassVar[bool] = True
    moves_zeros: ClassVar[bool] = True
    needs_fp32: ClassVar[str | None] = "it solves a linear system"
    on_device: ClassVar[str | None] = "it keeps no states"
    in_parts: ClassVar[str | None] = (
        "its solvers work with vectors over all parameters and with forward-mode derivatives, which sharded "
        "layers do not have"
    )

    @property
    def solver_vectors(self) -> float:
        return self._solver.vectors

    @property
    def solver_examples(self) -> int:
        return self.max_iterations * self.curvature_examples

    @property
    def _solver(self) -> Solver:
        return SOLVERS.parse({"kind": self.solver})

    def involved(self) -> tuple[Method, ...]:
        return self, self._solver

    def state_bytes(self, trained: float, embedding: float, width: int) -> float:
        return 0.0
