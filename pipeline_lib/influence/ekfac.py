"""EK-FAC through curvlinops (optional extra `ekfac`).

Shapes: P elements of all parameters.
"""

from __future__ import annotations

import importlib
from collections import Counter, UserDict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

from pipeline_lib.core.errors import UserError
from pipeline_lib.influence.diagonal import sampled_diagonal
from pipeline_lib.influence.solvers import Batch, Generator, Report, Solver, System, Tensor, report_on


class EKFAC(Solver):
    """See `ekfac_direction`; the report holds the residual of the whole system."""

    kind: Literal["ekfac"]

    vectors: ClassVar[float] = 5.0

    def solve(self, system: System, right: Tensor) -> tuple[Tensor, Report]:
        x = ekfac_direction(
            system.model, system.batches, system.parameters, right, system.damping, system.generator
        )
        x = system.group.broadcast_(x)  # one answer for all, should their eigenvectors differ in a bit
        return x, report_on(
            system.operator, right, x, system.damping, system.tolerance, 1, "EK-FAC is an approximation"
        )


def ekfac_direction(
    model: Any,
    batches: Sequence[Batch],
    parameters: Sequence[Tensor],
    gradient: Tensor,
    damping: float,
    generator: Generator,
) -> Tensor:
    """(E + damping I)^-1 `gradient`, (P,), with E the EK-FAC approximation of G.

    Source: George et al. 2018, arXiv 1806.03884; for influence Grosse et al. 2023, arXiv 2308.03296,
    section 2.2. E has a block for each linear layer within the model. The block's eigenvectors are the
    Kronecker product of those of the layer's inputs and of its outputs' gradients (labels drawn from the
    model), its eigenvalues the second moments of the gradient in that basis, one draw an example. Embeddings,
    the output embedding (its factor would be vocabulary by vocabulary), norm scales and whatever is used
    twice get `sampled_diagonal`. Padding enters the factors of inputs, so the basis depends a little on the
    batches.
    Memory: the factors and their eigenvectors (for SmolLM2-135M about 2.4 vectors of size P each) and
    the corrected eigenvalues (one vector). Raises `UserError` where curvlinops is not installed.
    """
    import torch

    from pipeline_lib.influence.vectors import parts

    try:
        curvlinops = importlib.import_module("curvlinops")
    except ImportError as error:
        raise UserError(
            f"the solver ekfac needs the package curvlinops-for-pytorch ({error}); install it with "
            "`pip install 'unlearning-pipeline[ekfac]'`, or choose the solver conjugate_gradient"
        ) from error
    layered = _in_linear_layers(model, parameters)
    inside = [p for p, chosen in zip(parameters, layered, strict=True) if chosen]
    outside = [p for p, chosen in zip(parameters, layered, strict=True) if not chosen]
    gradients = parts(gradient, parameters)
    result = torch.empty_like(gradient)
    places = parts(result, parameters)
    if outside:
        diagonal = iter(parts(sampled_diagonal(model, batches, outside, generator), outside))
    tokens = sum(batch.answer_tokens for batch in batches)
    seed = int(torch.randint(2**31, (1,), generator=generator, device=generator.device))
    if inside:
        # Of the summed loss: the library's mean takes all rows for equally long.
        approximation = curvlinops.EKFACLinearOperator(
            _as_module(model),
            torch.nn.CrossEntropyLoss(reduction="sum"),
            inside,
            [_pair(batch) for batch in batches],
            batch_size_fn=lambda inputs: inputs["batch"].answer_tokens,
            num_data=tokens,
            num_per_example_loss_terms=1,
            check_deterministic=False,
            seed=seed,
        )
        inverse = curvlinops.KFACInverseLinearOperator(
            approximation, damping=damping * tokens, use_exact_damping=True
        )
        solved = iter(inverse @ [g for g, chosen in zip(gradients, layered, strict=True) if chosen])
    for place, value, chosen in zip(places, gradients, layered, strict=True):
        place.copy_(next(solved) * tokens if chosen else value / (next(diagonal) + damping))
    return result


def _in_linear_layers(model: Any, parameters: Sequence[Tensor]) -> list[bool]:
    """For each parameter, whether it belongs to one linear layer alone that is not the output embedding."""
    import torch

    from pipeline_lib.models.products import FastLinear

    uses = Counter(id(p) for _, p in model.named_parameters(remove_duplicate=False))
    inside = {
        id(p)
        for module in model.modules()
        if type(module) in (torch.nn.Linear, FastLinear) and module is not model.get_output_embeddings()
        for p in module.parameters()
        if uses[id(p)] == 1
    }
    return [id(p) in inside for p in parameters]


def _pair(batch: Batch) -> tuple[UserDict[str, Batch], Tensor]:
    """Inputs and labels of the answer positions, as curvlinops takes them."""
    import torch

    from pipeline_lib.data.batching import IGNORED

    targets = batch.labels[:, 1:]
    # Naming hidden tokens, none here, keeps texts apart: the library takes each row for an example.
    rows = replace(batch, hidden=torch.zeros_like(batch.attention_mask))
    return UserDict(batch=rows), targets[targets != IGNORED]


def _as_module(model: Any) -> Any:
    """`answer_logits` as a module of such inputs, which is what curvlinops differentiates."""
    from pipeline_lib.influence.gauss_newton import AnswerLogits

    class Answers(AnswerLogits):
        def forward(self, inputs: UserDict[str, Batch]) -> Tensor:  # type: ignore[override]
            return super().forward(inputs["batch"])

    return Answers(model)
