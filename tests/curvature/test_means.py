"""Many estimates against exact curvature: by hand, and of a small transformer by autograd."""

from __future__ import annotations

import pytest
import torch

from pipeline_lib.curvature.gauss_newton import draw_labels
from pipeline_lib.data.batching import Example, collate, micro_batches
from tests.curvature.cases import agrees, draws, estimate, small_examples, small_model
from tests.curvature.exact import gauss_newton_diagonal, hessian, hessian_diagonal
from tests.methods import estimator
from tests.tiny import Bigram, flat, in_float64

HUTCHINSON = ["hutchinson_rademacher", "hutchinson_gaussian"]
DIAGONAL = {
    "gauss_newton_bartlett": gauss_newton_diagonal,
    "hutchinson_rademacher": hessian_diagonal,
    "hutchinson_gaussian": hessian_diagonal,
}


@pytest.fixture(scope="module")
def study():
    """(model, examples)."""
    return small_model(), small_examples()


# --- by hand --------------------------------------------------------------------------------------

TABLE = [[1 / 2, 1 / 4, 1 / 8, 1 / 8], [1 / 4] * 4, [1 / 8, 1 / 8, 1 / 3, 5 / 12], [1 / 4] * 4]
EXAMPLES = [Example((0, 2, 1), 1, 0), Example((3, 0, 0), 1, 1)]  # predicted after 0, 2, 3, 0


def by_hand() -> torch.Tensor:
    """Logits are parameters themselves: at row v the diagonal is v's share of the positions times p (1 - p).

    The NLL's Hessian in its logits, diag(p) - p p^T, has no label in it: here both matrices are one.
    """
    p = torch.tensor(TABLE)
    return (p * (1 - p) * torch.tensor([2 / 4, 0, 1 / 4, 1 / 4])[:, None]).reshape(-1)


@in_float64()
def test_exact_diagonals_by_hand():
    model = Bigram(TABLE)
    for batches in ([collate(EXAMPLES, 0)], micro_batches(EXAMPLES, 1, 0)):
        for exact in (gauss_newton_diagonal, hessian_diagonal):
            assert torch.allclose(flat(exact(model, batches, [model.table])), by_hand(), rtol=1e-12)


@in_float64()
def test_the_exact_hessian_by_hand():
    model, p = Bigram([[1 / 2, 1 / 2], [1 / 4, 3 / 4]]), [1 / 2, 3 / 16]  # p (1 - p): 1/4 and 3/16
    found = hessian(model, [collate([Example((0, 1, 1), 1, 0)], 0)], [model.table])  # after 0 and 1
    expected = torch.block_diag(*(q / 2 * torch.tensor([[1.0, -1], [-1, 1]]) for q in (p[0] / 2, p[1])))
    assert torch.allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("name", DIAGONAL)
@pytest.mark.parametrize("size", [1, 2])
@in_float64()
def test_means_by_hand(name, size):
    rows = draws(name, Bigram(TABLE), micro_batches(EXAMPLES, size, 0), 1500)
    assert agrees(rows, by_hand())
    assert not agrees(rows, 1.1 * by_hand())  # the judgement has teeth


# --- a transformer --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DIAGONAL)
@in_float64()
def test_the_mean_is_the_exact_diagonal_of_a_language_model(name, study):
    model, examples = study
    exact = flat(DIAGONAL[name](model, [collate(examples, 0)], list(model.parameters())))
    rows = draws(name, model, micro_batches(examples, 3, 0), 600 if name == "gauss_newton_bartlett" else 300)
    assert agrees(rows, exact)
    assert not agrees(rows, 1.5 * exact) and not agrees(rows, 0.6 * exact)
    assert (rows >= 0).all() == (name == "gauss_newton_bartlett")


@in_float64()
def test_the_two_exact_diagonals_differ_where_the_model_is_not_linear(study):
    model, examples = study
    parameters, batches = list(model.parameters()), [collate(examples, 0)]
    one, other = (
        flat(gauss_newton_diagonal(model, batches, parameters)),
        flat(hessian_diagonal(model, batches, parameters)),
    )
    assert (one >= 0).all() and one.max() > 0.05
    assert (other < 0).any()
    assert not torch.allclose(one, other, rtol=0.1)


@pytest.mark.parametrize("name", HUTCHINSON)
@in_float64()
def test_hutchinson_is_the_probe_times_the_exact_product(name, study):
    """For the probe it draws: z * (H z) with the exact Hessian, to rounding."""
    model, examples = study
    parameters = list(model.parameters())
    exact = hessian(model, [collate(examples, 0)], parameters)
    assert torch.allclose(exact, exact.T, atol=1e-12)
    found = estimate(name, model, micro_batches(examples, 2, 0), parameters, torch.Generator().manual_seed(5))
    generator = torch.Generator().manual_seed(5)
    probe = flat([estimator(name)._probe(parameter, generator) for parameter in parameters])
    assert torch.allclose(found, probe * (exact @ probe), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", HUTCHINSON)
def test_probes_have_mean_0_and_variance_1(name):
    parameter = torch.zeros(400, 250)
    probe = estimator(name)._probe(parameter, torch.Generator().manual_seed(0))
    assert probe.shape == parameter.shape and probe.dtype == parameter.dtype
    assert abs(float(probe.mean())) < 3 / 1e5**0.5
    assert float(probe.square().mean()) == pytest.approx(1, abs=3 * (2 / 1e5) ** 0.5)
    assert set(probe.unique().tolist()) == {-1, 1} or name == "hutchinson_gaussian"


# --- labels ---------------------------------------------------------------------------------------


def test_labels_are_drawn_with_their_probabilities():
    p = torch.tensor([[0.5, 0.0, 0.3, 0.2], [0.0, 0.0, 1.0, 0.0], [0.1, 0.9, 0.0, 0.0]])
    n = 20_000
    labels = draw_labels(
        p.repeat_interleave(n, 0), torch.rand((3 * n, 1), generator=torch.Generator().manual_seed(0))
    ).view(3, n)
    shares = torch.nn.functional.one_hot(labels, 4).double().mean(1)  # (3, 4)
    assert ((shares - p).abs() <= 4 * (p * (1 - p) / n).sqrt()).all()  # none where there is no chance


def test_labels_of_nan_are_labels():
    """The estimate is then not finite, which the loop looks for; a crash would end the study."""
    p = torch.full((3, 5), torch.nan)
    assert all(0 <= label < 5 for label in draw_labels(p, torch.rand(3, 1)).tolist())
