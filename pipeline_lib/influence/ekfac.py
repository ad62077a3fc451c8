"""EK-FAC through curvlinops (optional extra `ekfac`).

Shapes: P elements of all parameters.
"""

from __future__ import annotations

import importlib
from collections import Counter, UserDict
from collections.abc import Sequence
from typing import Any

import torch

from pipeline_lib.data.batching import IGNORED, Batch
from pipeline_lib.errors import UserError
from pipeline_lib.influence.diagonal import sampled_diagonal
from pipeline_lib.influence.vectors import parts
from pipeline_lib.models.forward import answer_logits
from pipeline_lib.models.products import FastLinear


def ekfac_direction(
    model: torch.nn.Module,
    batches: Sequence[Batch],
    parameters: Sequence[torch.Tensor],
    gradient: torch.Tensor,
    damping: float,
    generator: torch.Generator,
) -> torch.Tensor:
    """(E + damping I)^-1 `gradient`, (P,), with E the EK-FAC approximation of G.

    Source: George et al. 2018, arXiv 1806.03884; for influence Grosse et al. 2023, arXiv 2308.03296,
    section 2.2. E has a block for each linear layer within the model: its eigenvectors are the Kronecker
    product of those of the layer's inputs and of its outputs' gradients (labels drawn from the model), its
    eigenvalues the second moments of the gradient in that basis, one draw an example. Embeddings, the output
    embedding (its factor would be vocabulary by vocabulary), norm scales and whatever is used twice get
    `sampled_diagonal`.
    Padding enters the factors of inputs, so the basis depends a little on the batches.
    Memory: the factors and their eigenvectors (for SmolLM2-135M about 2.4 vectors of size P each) and
    the corrected eigenvalues (one vector). Raises `UserError` where curvlinops is not installed.
    """
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
            _Answers(model),
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


def _in_linear_layers(model: Any, parameters: Sequence[torch.Tensor]) -> list[bool]:
    """For each parameter, whether it belongs to one linear layer alone that is not the output embedding."""
    uses = Counter(id(p) for _, p in model.named_parameters(remove_duplicate=False))
    inside = {
        id(p)
        for module in model.modules()
        if type(module) in (torch.nn.Linear, FastLinear) and module is not model.get_output_embeddings()
        for p in module.parameters()
        if uses[id(p)] == 1
    }
    return [id(p) in inside for p in parameters]


def _pair(batch: Batch) -> tuple[UserDict[str, Batch], torch.Tensor]:
    """Inputs and labels of the answer positions, as curvlinops takes them."""
    targets = batch.labels[:, 1:]
    return UserDict(batch=batch), targets[targets != IGNORED]


class _Answers(torch.nn.Module):
    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: UserDict[str, Batch]) -> torch.Tensor:
        return answer_logits(self.model, inputs["batch"])[0]
