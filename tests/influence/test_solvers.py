"""Solvers against dense solutions; what they report against what is true."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from pipeline_lib.core.errors import UserError
from pipeline_lib.curvature.gauss_newton import GaussNewtonBartlett
from pipeline_lib.data.batching import micro_batches
from pipeline_lib.distributed.group import Group
from pipeline_lib.influence import lissa as lissa_module
from pipeline_lib.influence.conjugate_gradient import conjugate_gradient
from pipeline_lib.influence.diagonal import sampled_diagonal, solve_diagonal
from pipeline_lib.influence.lissa import largest_eigenvalue, lissa
from pipeline_lib.influence.newton import newton_direction
from tests.influence.cases import dense_gauss_newton, small_examples, small_model
from tests.methods import solver
from tests.tiny import PAD, flat, in_float64

LARGEST = 4.0


def spectrum(*eigenvalues: float) -> torch.Tensor:
    """A symmetric matrix with these eigenvalues in a random basis."""
    n = len(eigenvalues)
    basis = torch.linalg.qr(torch.randn(n, n, generator=torch.Generator().manual_seed(0)))[0]
    return basis @ torch.tensor(eigenvalues, dtype=basis.dtype).diag() @ basis.T


def random_vector(n: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(n, generator=torch.Generator().manual_seed(seed))


def residual(matrix: torch.Tensor, damping: float, x: torch.Tensor, right: torch.Tensor) -> float:
    return float((right - matrix @ x - damping * x).norm() / right.norm())


@in_float64()
@pytest.mark.parametrize(
    ("kind", "damping", "tolerance", "iterations"),
    [("conjugate_gradient", 0.1, 1e-7, 400), ("lissa", 3.0, 1e-3, 400)],
)
def test_the_direction_of_a_language_model_equals_the_dense_solution(kind, damping, tolerance, iterations):
    model, examples = small_model(), small_examples(4)
    parameters = list(model.parameters())
    dense = dense_gauss_newton(model, examples, parameters)
    gradient = random_vector(len(dense))
    products = []
    x, report = newton_direction(
        model,
        micro_batches(examples, 3, PAD),
        parameters,
        gradient,
        SimpleNamespace(solver=kind, damping=damping, max_iterations=iterations, tolerance=tolerance),
        torch.Generator(),
        lambda: products.append(1),
    )
    exact = torch.linalg.solve(dense + damping * torch.eye(len(dense)), gradient)
    assert report.converged
    assert report.reason == ""
    assert residual(dense, damping, x, gradient) <= tolerance
    assert math.isclose(report.relative_residual, residual(dense, damping, x, gradient), rel_tol=1e-4)
    # The smallest eigenvalue is the damping, so that the error is at most this:
    assert (x - exact).norm() <= tolerance * gradient.norm() / damping
    assert 1 < report.iterations < iterations
    assert report.iterations <= len(products) <= report.iterations + 21


@in_float64()
def test_the_diagonal_of_a_language_model_is_sampled_and_its_miss_is_reported():
    model, examples = small_model(), small_examples(4)
    parameters, batches = list(model.parameters()), micro_batches(examples, 3, PAD)
    dense = dense_gauss_newton(model, examples, parameters)
    gradient = random_vector(len(dense))
    generator = torch.Generator().manual_seed(0)
    draws = torch.stack([sampled_diagonal(model, batches, parameters, generator) for _ in range(100)])
    error = draws.std(0) / len(draws) ** 0.5
    traces = draws.sum(1)
    assert (traces.mean() - dense.trace()).abs() < 3 * traces.std() / len(draws) ** 0.5
    assert traces.std() / len(draws) ** 0.5 < 0.06 * dense.trace()
    z = ((draws.mean(0) - dense.diagonal()) / error)[dense.diagonal() > 0]
    assert (z.abs() < 4).double().mean() > 0.99
    x, report = newton_direction(
        model,
        batches,
        parameters,
        gradient,
        SimpleNamespace(solver="diagonal", damping=0.1, max_iterations=1, tolerance=0.5),
        torch.Generator().manual_seed(0),
        lambda: None,
    )
    assert torch.allclose(x, gradient / (draws[0] + 0.1))
    assert math.isclose(report.relative_residual, residual(dense, 0.1, x, gradient), rel_tol=1e-9)
    assert not report.converged
    assert report.reason == "the diagonal is an approximation"


@in_float64()
def test_all_solvers_are_exact_on_a_diagonal_problem():
    diagonal, right = torch.linspace(0, LARGEST, 9), random_vector(9)

    def operator(v):
        return diagonal * v

    exact = right / (diagonal + 0.5)
    for x, report in (
        solve_diagonal(operator, right, 0.5, 1e-12, diagonal),
        conjugate_gradient(operator, right, 0.5, 20, 1e-10),
        lissa(operator, right, 0.5, 500, 1e-10),
    ):
        assert report.converged
        assert torch.allclose(x, exact, atol=1e-9)
    assert solve_diagonal(operator, right, 0.5, 1e-12, diagonal)[1].iterations == 1


@in_float64()
def test_conjugate_gradients_need_one_iteration_an_eigenvalue():
    matrix, right = spectrum(0, 0, 1, 1, 1, LARGEST), random_vector(6)
    assert conjugate_gradient(matrix.mv, right, 0.1, 50, 1e-10)[1].iterations == 3


@in_float64()
@pytest.mark.parametrize("limit", [1, 2, 5])
def test_not_converging_is_said_with_the_true_residual(limit):
    matrix, right = spectrum(*torch.logspace(-4, 1, 20).tolist()), random_vector(20)
    for x, report in (
        conjugate_gradient(matrix.mv, right, 1e-3, limit, 1e-8),
        lissa(matrix.mv, right, 1e-3, limit, 1e-8),
    ):
        assert not report.converged
        assert report.iterations == limit
        assert report.reason == f"stopped at max_iterations = {limit}"
        assert math.isclose(report.relative_residual, residual(matrix, 1e-3, x, right), rel_tol=1e-9)
        assert report.relative_residual > 1e-3


def test_rounding_is_not_taken_for_convergence():
    """In fp32 at condition 1e6 the recurrence falls below 1e-4, where the true residual stays above 1e-3.

    A residual computed in fp32 has itself an error of that order, hence the factor of 2.
    """
    matrix, right = spectrum(*torch.logspace(-3, 3, 30).tolist()), random_vector(30)
    x, report = conjugate_gradient(matrix.mv, right, 1e-3, 700, 1e-4)
    true = residual(matrix.double(), 1e-3, x.double(), right.double())
    assert true > 1e-3
    assert 0.5 < report.relative_residual / true < 2
    assert not report.converged
    assert report.iterations == 700


@in_float64()
def test_lissa_recovers_from_a_scale_that_is_too_small(monkeypatch):
    matrix, right = spectrum(0.5, 1, 2, LARGEST), random_vector(4)
    assert math.isclose(largest_eigenvalue(matrix.mv, right), LARGEST, rel_tol=0.02)
    monkeypatch.setattr(lissa_module, "largest_eigenvalue", lambda operator, start: LARGEST / 50)
    x, report = lissa(matrix.mv, right, 0.1, 300, 1e-8)
    assert report.converged
    assert torch.allclose(x, torch.linalg.solve(matrix + 0.1 * torch.eye(4), right))


@in_float64()
def test_lissa_by_hand(monkeypatch):
    """1 x 1: G = 3, damping 1, b = 8. With s = 1 the residual grows from 24 to 72, and s doubles."""
    monkeypatch.setattr(lissa_module, "largest_eigenvalue", lambda operator, start: 0.0)

    def found(most):
        return lissa(lambda v: 3 * v, torch.tensor([8.0]), 1.0, most, 1e-9)

    # x = b / s = 8, residual 8 - 4 * 8 = -24; x = 8 - 24 / 1 = -16, residual 72; x = -16 + 72 / 2 = 20
    for most, x, relative in ((1, 8.0, 3.0), (2, -16.0, 9.0), (3, 20.0, 9.0)):
        assert (found(most)[0].tolist(), found(most)[1].relative_residual) == ([x], relative)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_curvature_that_is_not_finite_in_the_series_is_not_converged(monkeypatch, value):
    monkeypatch.setattr(lissa_module, "largest_eigenvalue", lambda operator, start: 1.0)
    _, report = lissa(lambda v: v * value, torch.ones(2), 0.5, 9, 1e-3)
    assert (report.converged, report.iterations) == (False, 1)
    assert report.reason == "met non-finite curvature in iteration 1"


@in_float64()
def test_nothing_to_solve():
    for solve in (
        lambda b: conjugate_gradient(spectrum(1, 2).mv, b, 0.1, 9, 1e-3),
        lambda b: lissa(spectrum(1, 2).mv, b, 0.1, 9, 1e-3),
    ):
        x, report = solve(torch.zeros(2))
        assert x.tolist() == [0, 0]
        assert (report.iterations, report.relative_residual, report.converged) == (0, 0.0, True)


@in_float64()
def test_nonpositive_curvature_stops_conjugate_gradients_and_is_said():
    matrix, right = spectrum(1, 2, -3), random_vector(3)
    x, report = conjugate_gradient(matrix.mv, right, 0.1, 50, 1e-8)
    assert not report.converged
    assert report.finite
    assert "non-positive curvature (-" in report.reason
    assert report.iterations < 3
    assert math.isclose(report.relative_residual, residual(matrix, 0.1, x, right), rel_tol=1e-9)


@in_float64()
@pytest.mark.parametrize("after", [0, 2])
def test_nonfinite_curvature_is_said(after):
    matrix, right = spectrum(0.1, 1, 2, LARGEST), random_vector(4)
    for name in ("conjugate_gradient", "lissa", "diagonal"):
        calls = []

        def operator(v, calls=calls, name=name):
            calls.append(1)
            return matrix @ v * (math.nan if len(calls) > after or name == "diagonal" else 1)

        if name == "conjugate_gradient":
            report = conjugate_gradient(operator, right, 0.1, 50, 1e-8)[1]
        elif name == "lissa":
            report = lissa(operator, right, 0.1, 50, 1e-8)[1]
        else:
            report = solve_diagonal(operator, right, 0.1, 1e-8, torch.ones(4))[1]
        assert math.isnan(report.relative_residual)
        assert not report.finite
        assert not report.converged
        assert report.reason


@pytest.mark.parametrize("damping", [0.0, -1.0, math.nan, math.inf])
def test_damping_must_be_positive(damping):
    right = torch.ones(2)
    for solve in (
        lambda: conjugate_gradient(lambda v: v, right, damping, 9, 1e-3),
        lambda: lissa(lambda v: v, right, damping, 9, 1e-3),
        lambda: solve_diagonal(lambda v: v, right, damping, 1e-3, right),
    ):
        with pytest.raises(ValueError, match="damping must be a positive number"):
            solve()


def test_other_settings_must_make_sense():
    with pytest.raises(ValueError, match="max_iterations must be at least 1, found 0"):
        conjugate_gradient(lambda v: v, torch.ones(2), 1.0, 0, 1e-3)
    with pytest.raises(ValueError, match="tolerance must lie between 0 and 1, found"):
        lissa(lambda v: v, torch.ones(2), 1.0, 9, 1.5)
    with pytest.raises(UserError, match=r"found 'newton'; allowed: conjugate_gradient, diagonal, "):
        solver("newton")


@in_float64()
@pytest.mark.parametrize("processes", [2, 3])
def test_the_diagonal_is_shared_out_and_draws_what_one_process_draws(processes, monkeypatch):
    """Each example is drawn in one process alone; the shares add up to the diagonal of a single process."""
    model, examples = small_model(), small_examples(7)
    gradient = torch.ones(sum(p.numel() for p in model.parameters()))
    drawn, shares = [], []
    estimate = GaussNewtonBartlett.estimate

    def counted(self, model, objective, step, *rest):
        drawn.append(flat([step.forget[0].input_ids.double()]).tolist())
        return estimate(self, model, objective, step, *rest)

    class Member(Group):
        """One of several processes that run one after the other, so that nothing is summed."""

        def __init__(self, rank: int, size: int) -> None:
            self.rank, self.size = rank, size

        def sum_(self, tensors):
            if not shares:  # the diagonal comes first, then the product with G for the report
                shares.append(tensors[0].clone())

    def share(rank: int, size: int) -> torch.Tensor:
        shares.clear()
        batches, generator = micro_batches(examples, 4, PAD), torch.Generator().manual_seed(3)
        parameters = list(model.parameters())
        newton_direction(
            model,
            batches,
            parameters,
            gradient,
            SimpleNamespace(solver="diagonal", damping=1.0, max_iterations=1, tolerance=0.5),
            generator,
            list,
            Member(rank, size),
        )
        return shares[0]

    monkeypatch.setattr(GaussNewtonBartlett, "estimate", counted)
    whole = share(0, 1)
    everything = list(drawn)
    drawn.clear()
    parts = [share(rank, processes) for rank in range(processes)]
    assert len(everything) == 7 and sorted(drawn) == sorted(everything)
    assert torch.allclose(sum(parts), whole, rtol=1e-12)
    assert all(0 < part.sum() < whole.sum() for part in parts)


def test_the_power_iteration_starts_at_unit_length():
    """On an eigenvector the first product gives the eigenvalue, and the second one says that it stays."""
    products = []

    def operator(vector):
        products.append(vector.clone())
        return 4.0 * vector

    assert largest_eigenvalue(operator, torch.tensor([3.0, 0.0])) == pytest.approx(4.0)
    assert [float(vector.norm()) for vector in products] == [1.0, 1.0]


def test_power_iteration_goes_on_where_the_first_product_is_of_length_one():
    matrix = torch.tensor([[1.0, 0.0], [0.0, 4.0]])
    assert largest_eigenvalue(matrix.mv, torch.tensor([1.0, 0.03])) == pytest.approx(4.0, rel=0.02)


def test_power_iteration_ends_after_twenty_products():
    lengths = iter([1.0, 2.0] * 50)  # never within 1 % of the one before
    assert largest_eigenvalue(lambda v: v / v.norm() * next(lengths), torch.ones(3)) == pytest.approx(2.0)
    assert next(lengths) == 1.0 and len(list(lengths)) == 100 - 21


@pytest.mark.parametrize("name", ["diagonal", "ekfac"])
def test_every_solver_refuses_damping_that_is_not_positive(name):
    model, examples = small_model(), small_examples(3)
    settings = SimpleNamespace(solver=name, damping=0.0, max_iterations=3, tolerance=0.1)
    right = torch.ones(sum(p.numel() for p in model.parameters()), dtype=torch.float64)
    with pytest.raises(ValueError, match="damping"):
        newton_direction(
            model, micro_batches(examples, 3, PAD), list(model.parameters()), right, settings,
            torch.Generator().manual_seed(0), lambda: None,
        )  # fmt: skip
