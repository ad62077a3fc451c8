"""EK-FAC: what it says when it is not installed, and its blocks where it is."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch

from pipeline_lib.core.errors import UserError
from pipeline_lib.data.batching import Example, micro_batches
from pipeline_lib.influence.diagonal import sampled_diagonal
from pipeline_lib.influence.newton import newton_direction
from pipeline_lib.models import forward
from tests.influence.cases import dense_gauss_newton, small_examples, small_model
from tests.tiny import PAD, in_float64


def direction(model, examples, gradient, kind, damping=0.05):
    return newton_direction(
        model,
        micro_batches(examples, 4, PAD),
        list(model.parameters()),
        gradient,
        SimpleNamespace(solver=kind, damping=damping, max_iterations=1, tolerance=0.5),
        torch.Generator().manual_seed(0),
        lambda: None,
    )


def test_without_the_package_the_command_that_installs_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "curvlinops", None)
    model = small_model()
    gradient = torch.ones(sum(p.numel() for p in model.parameters()), dtype=torch.float64)
    with pytest.raises(UserError, match=r"pip install 'unlearning-pipeline\[ekfac\]'"):
        direction(model, small_examples(2), gradient, "ekfac")


class OneLayer(torch.nn.Module):
    """Logits of token x: a linear layer of the same feature for every x. G is a Kronecker product."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 4, bias=False, dtype=torch.float64)
        self.register_buffer("feature", torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64))
        with torch.no_grad():
            self.layer.weight.copy_(torch.linspace(-1, 1, 12, dtype=torch.float64).view(4, 3))

    def get_decoder(self):
        return lambda input_ids, **_: SimpleNamespace(
            last_hidden_state=self.layer(self.feature.expand(*input_ids.shape, 3))
        )

    def get_output_embeddings(self) -> torch.nn.Module:
        return torch.nn.Identity()


@in_float64()
def test_exact_but_for_sampling_where_the_matrix_is_a_kronecker_product():
    model, examples = OneLayer(), [Example((0, 1), 1, i) for i in range(1000)]
    gradient = torch.randn(12, generator=torch.Generator().manual_seed(0))
    dense = dense_gauss_newton(model, examples[:1], [model.layer.weight])
    exact = torch.linalg.solve(dense + 0.05 * torch.eye(12), gradient)
    misses = {
        name: float((direction(model, examples, gradient, name)[0] - exact).norm() / exact.norm())
        for name in ("ekfac", "diagonal")
    }
    assert misses["ekfac"] < 0.1
    assert misses["diagonal"] > 3 * misses["ekfac"]


@in_float64()
def test_a_language_model_has_blocks_in_its_linear_layers_and_the_diagonal_elsewhere():
    model, examples = small_model(), small_examples(24)
    parameters = list(model.parameters())
    dense = dense_gauss_newton(model, examples, parameters)
    gradient = torch.randn(len(dense), generator=torch.Generator().manual_seed(0))
    x, report = direction(model, examples, gradient, "ekfac")
    again, _ = direction(model, examples, gradient, "ekfac")
    assert torch.equal(x, again)
    assert report.iterations == 1
    true = (gradient - dense @ x - 0.05 * x).norm() / gradient.norm()
    assert torch.isclose(true, torch.tensor(report.relative_residual))
    outside = torch.cat([torch.full((p.numel(),), p.dim() == 1 or len(p) == 7) for p in parameters])
    diagonal = sampled_diagonal(
        model,
        micro_batches(examples, 4, PAD),
        [p for p in parameters if p.dim() == 1 or len(p) == 7],
        torch.Generator().manual_seed(0),
    )
    assert torch.allclose(x[outside], gradient[outside] / (diagonal + 0.05))
    # Layer by layer the blocks are nearer to the matrix's own blocks than the diagonal is.
    plain, _ = direction(model, examples, gradient, "diagonal")
    misses = {"ekfac": 0.0, "diagonal": 0.0}
    start = 0
    for p in parameters:
        here = slice(start, start := start + p.numel())
        if p.dim() == 2 and len(p) != 7:
            block = dense[here, here] + 0.05 * torch.eye(p.numel())
            exact = torch.linalg.solve(block, gradient[here])
            misses["ekfac"] += float((x[here] - exact).square().sum())
            misses["diagonal"] += float((plain[here] - exact).square().sum())
    assert misses["ekfac"] < 0.7 * misses["diagonal"]


@in_float64()
@pytest.mark.parametrize("damping", [0.02, 0.5, 10.0])
def test_the_damping_is_that_of_a_mean_over_tokens(damping):
    """Where the matrix is a Kronecker product E = G, so x is the dense solution at each damping."""
    model, examples = OneLayer(), [Example((0, 1), 1, i) for i in range(1000)]
    gradient = torch.randn(12, generator=torch.Generator().manual_seed(0))
    dense = dense_gauss_newton(model, examples[:1], [model.layer.weight])
    exact = torch.linalg.solve(dense + damping * torch.eye(12), gradient)
    found = direction(model, examples, gradient, "ekfac", damping)[0]
    assert float((found - exact).norm() / exact.norm()) < 0.1
    # Outside the span of what the layer reads there is no curvature at all: x = gradient / damping exactly.
    flat_part = torch.eye(3) - torch.outer(model.feature, model.feature) / model.feature.square().sum()
    outside = (found.view(4, 3) @ flat_part) * damping
    assert torch.allclose(outside, gradient.view(4, 3) @ flat_part, atol=1e-8)


def test_a_weight_of_two_layers_has_no_factors_of_its_own():
    from pipeline_lib.influence.ekfac import _in_linear_layers

    one, two, other = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3, bias=False), torch.nn.Linear(3, 3)
    two.weight = one.weight
    model = torch.nn.Sequential(one, two, other)
    model.get_output_embeddings = lambda: None
    names = dict(model.named_parameters())
    chosen = _in_linear_layers(model, list(names.values()))
    assert dict(zip(names, chosen, strict=True)) == {
        "0.weight": False, "0.bias": True, "2.weight": True, "2.bias": True,
    }  # fmt: skip


@in_float64()
def test_each_text_is_an_example_also_of_a_model_that_reads_them_as_one(monkeypatch):
    """The library's second moments are those of rows; one row of all texts would be one example."""
    model, examples = small_model(), small_examples(24)
    assert forward.reads_trees(model)
    gradient = torch.randn(
        sum(p.numel() for p in model.parameters()), generator=torch.Generator().manual_seed(0)
    )
    found, _ = direction(model, examples, gradient, "ekfac")
    monkeypatch.setattr(forward, "reads_trees", lambda model: False)
    expected, _ = direction(model, examples, gradient, "ekfac")
    assert torch.allclose(found, expected, rtol=1e-8, atol=1e-10)
