"""SOAP, AdamW in the eigenbases of Shampoo, from the optional package pytorch-optimizer."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from pipeline_lib.core.blocks import Count, NonNegative, Positive, Share
from pipeline_lib.core.errors import UserError
from pipeline_lib.optimizers.base import Optimizer
from pipeline_lib.optimizers.update import Group, Groups, TorchOptimizer


class Soap(Optimizer):
    """AdamW on gradients turned into the eigenbases of the averages of g g^T and g^T g; extra `soap`.

    Vyas et al. 2024, arXiv 2409.11321, algorithm 3. For a matrix with gradient g: L = b2 L + (1 - b2) g g^T,
    R = b2 R + (1 - b2) g^T g, with eigenbases Ql and Qr; m is the average of g, v that of (Ql^T g Qr)^2;
    theta = (1 - lr wd) (theta - lr c Ql ((Ql^T m Qr) / (sqrt(v) + eps)) Qr^T), c being Adam's correction of
    both averages for their start at zero. L and R take g after the step, and the bases follow every
    `basis_every` steps by one power iteration and a QR decomposition. Vectors take AdamW's step. As in the
    authors' code the first step only starts L, R and the bases: no weight moves.
    """

    kind: Literal["soap"]
    beta1: Share = 0.95
    beta2: Share = Field(0.95, description="Of the average of squares, and of L and R")
    eps: Positive = 1e-8
    basis_every: Count = Field(10, description="Steps between two updates of the bases")
    largest_side: Count = Field(10_000, description="Sides longer than this keep the identity as their basis")
    weight_decay: NonNegative = 0.0

    display: ClassVar[str] = "SOAP"
    moves_zeros: ClassVar[bool] = True
    in_parts: ClassVar[str | None] = "it needs the products of whole matrices, and these are cut apart"
    needs_fp32: ClassVar[str | None] = (
        "it counts one step for all tensors, and its bases have the type of the weights"
    )

    def state_bytes(self, trained: float, embedding: float, width: int) -> float:
        return 2.0 * trained * width

    def matrix_bytes(self, rows: int, columns: int, width: int) -> float:
        return 2.0 * width * sum(side**2 for side in (rows, columns) if side <= self.largest_side)

    def build(self, groups: Groups, parts: Group) -> TorchOptimizer:
        try:
            import pytorch_optimizer
        except ImportError as error:
            raise UserError(
                f"optimiser soap needs pytorch-optimizer ({error}); install it: "
                'pip install "pytorch-optimizer>=4.1,<5"'
            ) from error

        class WithPlainStates(pytorch_optimizer.SOAP):
            """Its state dictionary is one that checkpoints can hold: no lists, and no settings by tensor."""

            LISTS: ClassVar = ("GG", "Q")  # a matrix for each side, or [] for a side without a basis

            def update_pre_conditioner(self, grad: Any, state: Any, *args: Any, **settings: Any) -> None:
                super().update_pre_conditioner(grad, state, *args, **settings)
                # In the order in memory that a checkpoint gives back: last bits of products may depend on it.
                state["Q"] = [basis.contiguous() if len(basis) else basis for basis in state["Q"]]

            def state_dict(self) -> dict[str, Any]:
                content = super().state_dict()
                content["state"] = {
                    index: {
                        "exp_avg": state["exp_avg"],
                        "exp_avg_sq": state["exp_avg_sq"],
                        **{
                            f"{name}.{side}": matrix
                            for name in self.LISTS
                            for side, matrix in enumerate(state[name])
                            if len(matrix)
                        },
                    }
                    for index, state in content["state"].items()
                }
                return content

            def load_state_dict(self, state_dict: dict[str, Any]) -> None:
                super().load_state_dict(state_dict)
                settings = self.param_groups[0]
                for parameter, state in self.state.items():
                    for name in self.LISTS:
                        sides = (f"{name}.{side}" for side in range(parameter.dim()))
                        state[name] = [state.pop(side, []) for side in sides]
                    state["precondition_frequency"] = settings["precondition_frequency"]
                    state["shampoo_beta"] = settings["betas"][1]

        return WithPlainStates(
            groups,
            lr=self.learning_rate,
            betas=(self.beta1, self.beta2),
            eps=self.eps,
            weight_decay=self.weight_decay,
            precondition_frequency=self.basis_every,
            max_precondition_dim=self.largest_side,
        )
