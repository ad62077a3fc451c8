"""SOAP: its steps against the equations of its paper, and what is said where its package is missing."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch

from pipeline_lib.core.errors import UserError
from pipeline_lib.optimizers import OPTIMIZERS
from tests.methods import make_optimizer
from tests.optimizers.kinds import needs_pytorch_optimizer
from tests.tiny import tiny_model

RATE, DECAY, BETA1, BETA2, EPS = 0.01, 0.25, 0.9, 0.8, 1e-8


def gradients(shape: tuple[int, ...], steps: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(steps)]


def moved(start: torch.Tensor, grads: list[torch.Tensor], **settings: Any) -> list[torch.Tensor]:
    """The tensor after each step of the optimiser."""
    model = torch.nn.ParameterList([torch.nn.Parameter(start.clone())])
    given = {"beta1": BETA1, "beta2": BETA2, "eps": EPS, "basis_every": 2, "weight_decay": DECAY, **settings}
    optimizer = make_optimizer("soap", model, learning_rate=RATE, **given)
    found = []
    for grad in grads:
        model[0].grad = grad.clone()
        optimizer.step()
        found.append(model[0].detach().clone())
    return found


def eigenbasis(matrix: torch.Tensor) -> torch.Tensor:
    """Columns by falling eigenvalue."""
    return torch.linalg.eigh(matrix).eigenvectors.flip(1)


def by_the_equations(start: torch.Tensor, grads: list[torch.Tensor], sides: tuple[bool, bool]) -> list[Any]:
    """Algorithm 3 of arXiv 2409.11321 in explicit matrices; `sides`: whether rows, columns get a basis."""
    theta, (rows, columns) = start.clone(), start.shape
    left, right = torch.zeros(rows, rows).double(), torch.zeros(columns, columns).double()
    ql, qr = torch.eye(rows).double(), torch.eye(columns).double()
    m, v, found = torch.zeros_like(start), torch.zeros_like(start), []
    for number, g in enumerate(grads):
        if number:
            turned = ql.T @ g @ qr
            m = BETA1 * m + (1 - BETA1) * g
            v = BETA2 * v + (1 - BETA2) * turned**2
            correction = (1 - BETA2**number) ** 0.5 / (1 - BETA1**number)
            n = (ql.T @ m @ qr) / (v.sqrt() + EPS)
            theta = (1 - RATE * DECAY) * (theta - RATE * correction * ql @ n @ qr.T)
        left = BETA2 * left + (1 - BETA2) * g @ g.T
        right = BETA2 * right + (1 - BETA2) * g.T @ g
        if number == 0:
            ql = eigenbasis(left) if sides[0] else ql
            qr = eigenbasis(right) if sides[1] else qr
        elif number % 2 == 0:  # one power iteration, v in the order of the new columns
            if sides[0]:
                order = (ql * (left @ ql)).sum(0).argsort(descending=True)
                ql, v = torch.linalg.qr(left @ ql[:, order]).Q, v[order]
            if sides[1]:
                order = (qr * (right @ qr)).sum(0).argsort(descending=True)
                qr, v = torch.linalg.qr(right @ qr[:, order]).Q, v[:, order]
        found.append(theta)
    return found


@needs_pytorch_optimizer
@pytest.mark.parametrize(
    ("largest_side", "sides"), [(10, (True, True)), (3, (True, False)), (2, (False, False))]
)
def test_its_steps_are_those_of_the_paper(largest_side: int, sides: tuple[bool, bool]) -> None:
    start, grads = torch.arange(12.0, dtype=torch.float64).view(3, 4), gradients((3, 4), 6)
    ours = moved(start, grads, largest_side=largest_side)
    for number, (found, expected) in enumerate(zip(ours, by_the_equations(start, grads, sides), strict=True)):
        assert torch.allclose(found, expected, rtol=0, atol=1e-6), number  # QR in fp32, as the package does
        assert torch.equal(found, start) == (number == 0)


@needs_pytorch_optimizer
def test_vectors_take_adamws_steps_one_later() -> None:
    start, (first, *grads) = torch.ones(5, dtype=torch.float64), gradients((5,), 4)
    ours = moved(start, [first, *grads], weight_decay=0.0)[1:]
    plain = torch.nn.Parameter(start.clone())
    adamw = torch.optim.AdamW([plain], lr=RATE, betas=(BETA1, BETA2), eps=EPS, weight_decay=0.0)
    for grad, found in zip(grads, ours, strict=True):
        plain.grad = grad.clone()
        adamw.step()
        assert torch.allclose(
            found, plain.detach(), rtol=0, atol=1e-7
        )  # eps before the correction, and after


@needs_pytorch_optimizer
def test_its_checkpoints_hold_tensors_by_name() -> None:
    model = tiny_model(vocab_size=128)
    optimizer = make_optimizer("soap", model, learning_rate=1e-3, largest_side=64)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    names = {tuple(sorted(state)) for state in optimizer.state_dict()["state"].values()}
    bases = [basis for state in optimizer.state.values() for basis in state["Q"] if len(basis)]
    assert bases and all(basis.is_contiguous() for basis in bases)  # as they come back
    averages = ("exp_avg", "exp_avg_sq")
    assert names == {
        averages,  # of vectors
        ("GG.1", "Q.1", *averages),  # of the embedding, whose 128 rows get no basis
        ("GG.0", "GG.1", "Q.0", "Q.1", *averages),
    }


def test_bytes_of_the_bases_of_a_matrix() -> None:
    method = OPTIMIZERS.parse({"kind": "soap", "learning_rate": 1e-3, "largest_side": 100})
    assert method.matrix_bytes(30, 100, 4) == 2 * 4 * (900 + 10_000)  # of each side average and basis
    assert method.matrix_bytes(30, 101, 4) == 2 * 4 * 900


def test_without_its_package_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_optimizer", None)  # importing it fails
    with pytest.raises(UserError, match=r'install it: pip install "pytorch-optimizer>='):
        make_optimizer("soap", tiny_model(), learning_rate=1e-3)


def test_bf16_weights_are_refused_where_steps_go_block_by_block() -> None:
    with pytest.raises(UserError, match="it counts one step for all tensors"):
        make_optimizer("soap", tiny_model(dtype=torch.bfloat16), stochastic_rounding=True, learning_rate=1e-3)
